//! Probes take a dead backend out after `fall` and let it back in after `rise`.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::time::{Duration, Instant};

use evenkeel_tests::{
    evenkeel::Balancer,
    http::Connection,
    load::requests,
    servers::TinyWeb,
    settings::{HTTP_PROBE, Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
};

const RISE: u64 = 2;
const FALL: u64 = 3;
const TCP_PROBE: &str =
    "kind = \"tcp\"\ninterval = \"300ms\"\ntimeout = \"300ms\"\nrise = 2\nfall = 3\n";

fn probed(lab: &Lab, health: &str) -> Settings {
    let web = |name, family| Service::web(name, family).backends(lab).probed(health);
    Settings::new(lab).with(web("web", Family::V4)).with(web("web6", Family::V6))
}

fn crash_and_return(health: &str) {
    let mut stage = Stage::new(Wiring::Switched, 2, |lab| probed(lab, health)).unwrap();
    let services = [("web", Family::V4), ("web6", Family::V6)];
    for (service, _) in services {
        stage.balancer.await_active(service, "web-01", true).unwrap();
        stage.balancer.await_active(service, "web-02", true).unwrap();
    }

    stage.nginx[1].crash().unwrap();
    for (service, family) in services {
        stage.balancer.await_active(service, "web-02", false).unwrap();
        let status = stage.balancer.backend_status(service, "web-02").unwrap();
        assert_eq!(status["health"], "down", "{status}");
        let report = stage.ask(family, 50).unwrap();
        report.flawless().unwrap();
        assert_eq!(report.by_backend["web-01"], 50);
    }

    let host = &stage.lab.backends[1];
    stage.nginx[1].launch(host).unwrap();
    for (service, family) in services {
        stage.balancer.await_active(service, "web-02", true).unwrap();
        let report = stage.ask(family, 100).unwrap();
        report.flawless().unwrap();
        assert_eq!((report.by_backend["web-01"], report.by_backend["web-02"]), (50, 50));
    }
}

#[test]
fn a_crashed_backend_leaves_and_returns_by_http_probes() {
    crash_and_return(HTTP_PROBE);
}

#[test]
fn a_crashed_backend_leaves_and_returns_by_tcp_probes() {
    crash_and_return(TCP_PROBE);
}

#[test]
fn it_takes_fall_probes_to_leave_and_rise_to_return() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let servers: Vec<_> = lab.backends.iter().map(|host| TinyWeb::start(host).unwrap()).collect();
    let settings =
        Settings::new(&lab).with(Service::web("web", Family::V4).backends(&lab).probed(HTTP_PROBE));
    let balancer = Balancer::start(&lab, &settings).unwrap();
    balancer.await_active("web", "web-01", true).unwrap();
    balancer.await_active("web", "web-02", true).unwrap();

    // A connection to the backend that is about to leave: it stays where it is.
    let client = &lab.client.namespace;
    let open = || client.run(|| Connection::open(Family::V4.service(80))).unwrap();
    let mut kept = open();
    while kept.get("/").unwrap().text() != "web-02" {
        kept = open();
    }

    let (before, start) = (servers[1].probes(), Instant::now());
    servers[1].set_sick(true);
    balancer.await_active("web", "web-02", false).unwrap();
    let failed = servers[1].probes() - before;
    assert!(failed >= FALL, "left after {failed} failed probes");
    // Jitter and a busy machine allowed for, the interval is of the order of what was asked.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(kept.get("/").unwrap().text(), "web-02");

    let before = servers[1].probes();
    servers[1].set_sick(false);
    balancer.await_active("web", "web-02", true).unwrap();
    let succeeded = servers[1].probes() - before;
    assert!(succeeded >= RISE, "returned after {succeeded} good probes");
    let report = requests(client, Family::V4.service(80), 40, 4).unwrap();
    assert_eq!((report.by_backend["web-01"], report.by_backend["web-02"]), (20, 20));
}
