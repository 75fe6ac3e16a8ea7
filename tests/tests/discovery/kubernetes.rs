//! Kubernetes: what its API says of endpoints is done, and what goes wrong with it takes nobody away.

use std::collections::BTreeMap;

use evenkeel_tests::{
    http::Connection,
    load::{Load, Pattern},
    servers::big_file,
    settings::Settings,
    stage::Stage,
    topology::{Family, Lab, Wiring},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    WHILE, addresses, api::Api, await_active, await_alert, await_problem, await_well,
    configuration, discovering, members, those,
};

const ONE: &str = "10.0.0.11";
const TWO: &str = "10.0.0.12";
const THREE: &str = "10.0.0.13";
const SOURCE: &str = "\"kubernetes:shop/web:http\"";

fn ready() -> Value {
    json!({ "ready": true, "serving": true, "terminating": false })
}

/// An API on the edge, and a balancer with so many backends that asks it; the directory has its kubeconfig.
fn asking(backends: usize) -> (TempDir, Api, Stage) {
    let lab = Lab::new(Wiring::Switched, backends).unwrap();
    let api = Api::start(&lab.edge.namespace).unwrap();
    let directory = tempfile::Builder::new().prefix("evenkeel-kubernetes-").tempdir().unwrap();
    let kubeconfig = api.kubeconfig(directory.path()).unwrap();
    let head = format!("[discovery]\nkubeconfig = \"{}\"\n", kubeconfig.display());
    let settings = Settings::new(&lab).with(discovering("web", Family::V4, SOURCE));
    let stage = Stage::on_text(lab, &configuration(&head, &settings)).unwrap();
    (directory, api, stage)
}

#[test]
fn endpoints_do_what_their_conditions_say() {
    let (_directory, api, mut stage) = asking(3);
    let at = |stage: &Stage, hosts: &[usize]| addresses(&stage.lab, Family::V4, hosts);
    await_active(&stage.balancer, "web", &at(&stage, &[0, 1]));
    let asked = api.asked();
    let (path, bearer) = &asked[0];
    assert!(
        path.starts_with("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?"),
        "{path}"
    );
    assert!(path.contains("labelSelector=kubernetes.io%2Fservice-name%3Dweb"), "{path}");
    assert_eq!(bearer, "Bearer secret");
    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();
    load.proceed(WHILE).unwrap();

    // A pod is added; then one terminates, and finishes what it has.
    api.say(&BTreeMap::from([(ONE, ready()), (TWO, ready()), (THREE, ready())]));
    await_active(&stage.balancer, "web", &at(&stage, &[0, 1, 2]));
    big_file(&stage.files().join("big"), 2).unwrap();
    let downloads: Vec<_> = (0..6)
        .map(|_| {
            let ask = || {
                let mut connection = Connection::open(Family::V4.service(80))?;
                let length = connection.begin("/slow/big")?;
                Ok((connection, length))
            };
            stage.client().run(ask).unwrap()
        })
        .collect();
    let finishing = json!({ "ready": false, "serving": true, "terminating": true });
    api.say(&BTreeMap::from([(ONE, ready()), (TWO, finishing), (THREE, ready())]));
    await_active(&stage.balancer, "web", &at(&stage, &[0, 2]));
    let draining = those(&stage.balancer, "web", "state", &"drain".into()).unwrap();
    assert_eq!(draining, at(&stage, &[1]));
    let before = stage.nginx[1].served("/").unwrap();
    load.proceed(WHILE).unwrap();
    assert!(stage.nginx[1].served("/").unwrap() <= before + 8, "it still gets connections");
    for (mut connection, length) in downloads {
        let (mut got, mut buffer) = (0, vec![0; 1 << 16]);
        while got < length {
            let read = connection.read(&mut buffer).unwrap();
            assert!(read > 0, "the download broke off after {got} of {length}");
            got += read;
        }
    }

    // It is gone; another one is not ready (nothing else is said of it).
    api.say(&BTreeMap::from([(ONE, ready()), (THREE, json!({ "ready": false }))]));
    await_active(&stage.balancer, "web", &at(&stage, &[0]));
    assert_eq!(members(&stage.balancer, "web"), at(&stage, &[0, 2]));
    let out = those(&stage.balancer, "web", "state", &"out".into()).unwrap();
    assert_eq!(out, at(&stage, &[2]));
    // Nil means ready.
    api.say(&BTreeMap::from([(ONE, ready()), (TWO, json!({})), (THREE, Value::Null)]));
    await_active(&stage.balancer, "web", &at(&stage, &[0, 1, 2]));
    load.proceed(WHILE).unwrap();

    // The watch is too old, and what changed meanwhile is only in the list.
    api.forget(&BTreeMap::from([(ONE, ready()), (TWO, ready())]));
    await_active(&stage.balancer, "web", &at(&stage, &[0, 1]));
    await_well(&stage.balancer, "web");
    load.stop().unwrap().flawless().unwrap();
    stage.balancer.terminate().unwrap();
}

#[test]
fn an_api_that_fails_takes_nobody_away() {
    let (_directory, api, mut stage) = asking(2);
    let both = addresses(&stage.lab, Family::V4, &[0, 1]);
    await_active(&stage.balancer, "web", &both);
    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();

    api.fail();
    await_problem(&stage.balancer, "web", "503");
    await_alert(&stage.balancer, "web", Some("503"));
    stage.balancer.terminate().unwrap();
    stage.balancer.run().unwrap();
    await_problem(&stage.balancer, "web", "503");
    await_active(&stage.balancer, "web", &both);
    load.proceed(WHILE).unwrap();
    api.recover();
    await_well(&stage.balancer, "web");

    // The service has no slice any more: all at once is nothing that is believed.
    api.delete();
    await_problem(&stage.balancer, "web", "no EndpointSlice");
    // Nor is there anybody to ask.
    drop(api);
    await_problem(&stage.balancer, "web", "refused");
    assert_eq!(members(&stage.balancer, "web"), both);
    load.proceed(WHILE).unwrap();
    load.stop().unwrap().flawless().unwrap();
}
