//! A backend that refuses loses the attempt, not the client: its own retransmission finds another one,
//! and no request fails. Nothing probes here: the program alone sees it.

use std::net::SocketAddr;

use evenkeel_tests::{
    settings::{Service, Settings},
    stage::Stage,
    topology::{Family, Wiring},
};

/// Requests of each family; every second one is offered to the backend that refuses.
const REQUESTS: u64 = 8;
/// A port that nobody listens at.
const CLOSED: u16 = 9;

#[test]
fn a_refused_attempt_is_not_a_failed_one() {
    let stage = Stage::new(Wiring::Switched, 2, |lab| {
        let mut settings = Settings::new(lab);
        for (name, family) in [("web", Family::V4), ("web6", Family::V6)] {
            let mut service = Service::web(name, family).backend(&lab.backends[0], 1);
            let refuses = lab.backends[1].address(family, CLOSED).ip();
            service.backends.push(("web-02".into(), SocketAddr::new(refuses, CLOSED), 1));
            settings = settings.with(service);
        }
        settings
    })
    .unwrap();
    for (family, service) in Family::BOTH.into_iter().zip(["web", "web6"]) {
        let report = stage.ask(family, REQUESTS).unwrap();
        report.flawless().unwrap();
        assert_eq!(report.by_backend["web-01"], REQUESTS, "{family:?}");

        let counters = stage.balancer.json(&["counters", service]).unwrap();
        let failures = |backend: usize| &counters["services"][0]["backends"][backend]["failures"];
        let refused = failures(1)["refused"].as_u64().unwrap();
        assert!(refused >= REQUESTS / 2, "{family:?}: {counters}");
        assert_eq!(failures(1)["redispatched"].as_u64(), Some(refused), "{family:?}");
        assert_eq!(failures(0)["refused"].as_u64(), Some(0), "{family:?}");
    }
}
