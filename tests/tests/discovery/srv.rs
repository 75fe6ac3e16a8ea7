//! SRV: ports, weights and priorities are the records', and a host that cannot be looked up keeps what it had.

use std::fmt::Write as _;

use evenkeel_tests::{
    load::{Load, Pattern},
    servers::{Nsd, PORT},
    settings::Settings,
    stage::Stage,
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};

use super::{
    WHILE, addresses, await_active, await_problem, await_well, configuration, discovering, told,
};

/// `web-01`, `web-02` and `web-03` with these weights; the third of a higher priority number.
fn zone(lab: &Lab, weights: [u16; 3], hosts: &[usize]) -> String {
    let priorities = [10, 10, 20];
    let mut zone = String::new();
    for ((host, weight), priority) in (1..=3).zip(weights).zip(priorities) {
        writeln!(zone, "_http._tcp.web 1 IN SRV {priority} {weight} {PORT} web-0{host}").unwrap();
    }
    for host in hosts.iter().map(|host| &lab.backends[*host]) {
        writeln!(zone, "{} 1 IN A {}", host.name, host.v4).unwrap();
    }
    zone
}

#[test]
fn records_say_ports_weights_and_who_stands_by() {
    let lab = Lab::new(Wiring::Switched, 3).unwrap();
    let directory = tempfile::Builder::new().prefix("evenkeel-srv-").tempdir().unwrap();
    let records = zone(&lab, [3, 1, 0], &[0, 1, 2]);
    let mut server = Nsd::start(&lab.backends[0], directory.path(), &records).unwrap();
    let head = format!("[discovery]\ndns_servers = [\"{}:53\"]\n", lab.backends[0].v4);
    let settings =
        Settings::new(&lab).with(discovering("web", Family::V4, "\"dns:_http._tcp.web.internal\""));
    let mut stage = Stage::on_text(lab, &configuration(&head, &settings)).unwrap();
    await_active(&stage.balancer, "web", &addresses(&stage.lab, Family::V4, &[0, 1]));
    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();
    let by_address = |stage: &Stage, field: &str| {
        let told = told(&stage.balancer, "web").unwrap();
        let mut backends = told["backends"].as_array().unwrap().clone();
        backends.sort_by_key(|backend| backend["address"].as_str().unwrap().to_owned());
        backends.into_iter().map(|backend| backend[field].clone()).collect::<Vec<_>>()
    };
    assert_eq!(by_address(&stage, "weight"), [3, 1, 1]);
    assert_eq!(by_address(&stage, "tier"), ["primary", "primary", "backup"]);
    assert_eq!(by_address(&stage, "share"), [0.75, 0.25, 0.0]);
    load.proceed(WHILE).unwrap();

    // Other weights; and one host's address is not to be had for a while.
    let records = zone(&stage.lab, [1, 1, 0], &[0, 2]);
    server.serve(&records).unwrap();
    await_problem(&stage.balancer, "web", "web-02.internal");
    eventually("the weights are taken", PATIENCE, || {
        let weights = by_address(&stage, "weight");
        anyhow::ensure!(weights == [1, 1, 1], "{weights:?}");
        Ok(())
    })
    .unwrap();
    // After a restart, too.
    stage.balancer.terminate().unwrap();
    stage.balancer.run().unwrap();
    await_problem(&stage.balancer, "web", "web-02.internal");
    await_active(&stage.balancer, "web", &addresses(&stage.lab, Family::V4, &[0, 1]));
    load.proceed(WHILE).unwrap();
    server.serve(&zone(&stage.lab, [1, 1, 0], &[0, 1, 2])).unwrap();
    await_well(&stage.balancer, "web");

    // "Decidedly not available" is no reason to send everybody away.
    server.serve("_http._tcp.web 1 IN SRV 0 0 0 .\n").unwrap();
    await_problem(&stage.balancer, "web", "no such service");
    load.proceed(WHILE).unwrap();

    // The primaries fail: who stands by steps in.
    load.stop().unwrap().flawless().unwrap();
    stage.nginx[0].crash().unwrap();
    stage.nginx[1].crash().unwrap();
    await_active(&stage.balancer, "web", &addresses(&stage.lab, Family::V4, &[2]));
    stage.ask(Family::V4, 20).unwrap().flawless().unwrap();
}
