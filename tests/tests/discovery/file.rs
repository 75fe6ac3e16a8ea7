//! A file in the shape of `EndpointSlices`, JSON or YAML, edited under load.

use std::fs;

use evenkeel_tests::{
    load::{Load, Pattern},
    servers::PORT,
    settings::Settings,
    stage::Stage,
    topology::{Family, Host, Lab, Wiring},
};
use serde_json::json;

use super::{
    WHILE, addresses, await_active, await_alert, await_problem, await_well, configuration,
    discovering, members, those, told,
};

/// A slice of these hosts as JSON, each with the conditions given.
fn slice(hosts: &[(&Host, serde_json::Value)]) -> String {
    let endpoint = |(host, conditions): &(&Host, serde_json::Value)| json!({ "addresses": [host.v4.to_string()], "hostname": host.name, "conditions": conditions });
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": "web" },
        "ports": [{ "name": "http", "port": PORT }, { "name": "metrics", "port": 9100 }],
        "endpoints": hosts.iter().map(endpoint).collect::<Vec<_>>(),
    })
    .to_string()
}

/// Two slices of these hosts as YAML.
fn yaml(hosts: &[&Host]) -> String {
    let one = |host: &&Host| {
        format!(
            "kind: EndpointSlice\naddressType: IPv4\nports:\n- name: http\n  port: {PORT}\n\
             endpoints:\n- addresses: [{}]\n  hostname: {}\n",
            host.v4, host.name
        )
    };
    hosts.iter().map(one).collect::<Vec<_>>().join("---\n")
}

#[test]
fn a_file_is_followed_however_it_is_edited() {
    let lab = Lab::new(Wiring::Switched, 3).unwrap();
    let directory = tempfile::Builder::new().prefix("evenkeel-file-").tempdir().unwrap();
    let path = directory.path().join("web.json");
    let ready = json!({ "ready": true });
    let host = |index: usize| &lab.backends[index];
    fs::write(&path, slice(&[(host(0), ready.clone()), (host(1), ready.clone())])).unwrap();
    let sources = format!("[\"file:{}:http\"]", path.display());
    let settings = Settings::new(&lab).with(discovering("web", Family::V4, &sources));
    // `check` has nothing against a service whose backends come later.
    let stage = Stage::on_text(lab, &configuration("", &settings)).unwrap();
    let (balancer, lab) = (&stage.balancer, &stage.lab);
    let host = |index: usize| &lab.backends[index];
    let check = balancer.check(&balancer.config_path()).unwrap();
    assert!(check.code == 0 && !check.stderr.contains("backend"), "{check:?}");
    await_active(balancer, "web", &addresses(lab, Family::V4, &[0, 1]));
    assert_eq!(balancer.backends("web").unwrap(), ["web-01", "web-02"], "named by their hostnames");
    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();
    load.proceed(WHILE).unwrap();

    // In place; one finishes what it has, one serves nobody.
    let finishing = json!({ "ready": false, "serving": true, "terminating": true });
    let away = json!({ "ready": false });
    let all = [(host(0), ready.clone()), (host(1), finishing), (host(2), away)];
    fs::write(&path, slice(&all)).unwrap();
    await_active(balancer, "web", &addresses(lab, Family::V4, &[0]));
    assert_eq!(
        those(balancer, "web", "state", &"drain".into()).unwrap(),
        addresses(lab, Family::V4, &[1])
    );
    let out = balancer.backend_status("web", "web-03").unwrap();
    assert_eq!((&out["state"], &out["admin"]), (&"out".into(), &"ready".into()), "{out}");
    assert!(out["reason"].as_str().unwrap().contains("does not serve"), "{out}");
    load.proceed(WHILE).unwrap();

    // By renaming another one over it, in the other format.
    let fresh = directory.path().join("fresh");
    fs::write(&fresh, yaml(&[host(0), host(1), host(2)])).unwrap();
    fs::rename(&fresh, &path).unwrap();
    await_active(balancer, "web", &addresses(lab, Family::V4, &[0, 1, 2]));

    // Invalid, empty, gone: who was known stays.
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("8080", "eight", 1)).unwrap();
    await_problem(balancer, "web", "line 5, column 9");
    await_alert(balancer, "web", Some("line 5, column 9"));
    fs::write(&path, yaml(&[])).unwrap();
    await_problem(balancer, "web", "no server");
    fs::remove_file(&path).unwrap();
    await_problem(balancer, "web", "No such file");
    assert_eq!(members(balancer, "web"), addresses(lab, Family::V4, &[0, 1, 2]));
    fs::write(&path, text).unwrap();
    await_well(balancer, "web");
    await_alert(balancer, "web", None);
    assert_eq!(told(balancer, "web").unwrap()["sources"][0]["backends"], 3);
    load.stop().unwrap().flawless().unwrap();
}
