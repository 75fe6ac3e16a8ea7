//! An edge with a single NIC, where packets leave by the interface they came in on; and one with
//! a NIC for each backend.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::time::Duration;

use evenkeel_tests::{
    servers::{UdpEcho, ask, client_socket},
    settings::{Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
    wrk::Wrk,
};

fn everything(lab: &Lab) -> Settings {
    Settings::web(lab)
        .with(Service::datagrams("dns", Family::V4).backends(lab))
        .with(Service::datagrams("dns6", Family::V6).backends(lab))
}

fn everything_works(wiring: Wiring) {
    let stage = Stage::new(wiring, 2, everything).unwrap();
    let _echoes: Vec<_> =
        stage.lab.backends.iter().map(|host| UdpEcho::start(host).unwrap()).collect();
    for (family, service) in Family::BOTH.into_iter().zip(["web", "web6"]) {
        let report = stage.ask(family, 200).unwrap();
        report.flawless().unwrap();
        for host in &stage.lab.backends {
            let name = &host.name;
            assert_eq!(report.by_backend[name], 100, "{family:?} {name}");
            assert_eq!(stage.balancer.counters(service, name).unwrap().connections, 100);
        }
        let socket = stage.client().run(|| client_socket(family, family.service(53))).unwrap();
        let backend = ask(&socket, b"hello").unwrap().backend;
        assert_eq!(ask(&socket, b"again").unwrap().backend, backend);
    }
    let wrk = Wrk { connections: 32, duration: Duration::from_secs(2), keep_alive: true };
    wrk.run(stage.client(), Family::V4.service(80)).unwrap().flawless().unwrap();
}

#[test]
fn one_nic_for_everybody() {
    everything_works(Wiring::OneNic);
}

#[test]
fn a_nic_for_each_backend() {
    everything_works(Wiring::Direct);
}
