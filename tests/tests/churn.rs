//! Hundreds of connections at once from one client: kept, and made anew for every request. The
//! second is where port reuse goes wrong, if it does.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::time::Duration;

use anyhow::ensure;
use evenkeel_tests::{
    settings::Settings,
    stage::Stage,
    topology::{Family, Wiring},
    wait::{PATIENCE, eventually},
    wrk::{Summary, Wrk},
};

const AT_ONCE: u32 = 256;

fn churn(family: Family, service: &str, keep_alive: bool, seconds: u64) -> Summary {
    let stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    let wrk = Wrk { connections: AT_ONCE, duration: Duration::from_secs(seconds), keep_alive };
    let summary = wrk.run(stage.client(), family.service(80)).unwrap();
    summary.flawless().unwrap();
    let counters: Vec<_> = stage
        .lab
        .backends
        .iter()
        .map(|host| stage.balancer.counters(service, &host.name).unwrap().connections)
        .collect();
    let difference = counters[0].abs_diff(counters[1]);
    assert!(difference <= 1, "equal weights share {counters:?}");
    let connections: u64 = counters.iter().sum();
    if keep_alive {
        assert!(connections >= u64::from(AT_ONCE), "{connections} connections");
    } else {
        assert!(connections >= summary.requests, "{connections} connections, {summary:?}");
    }
    eventually("no connection is open", PATIENCE, || {
        for host in &stage.lab.backends {
            let open = stage.balancer.counters(service, &host.name)?.open;
            ensure!(open == 0, "{}: {open}", host.name);
        }
        Ok(())
    })
    .unwrap();
    summary
}

#[test]
fn connections_that_are_kept() {
    let summary = churn(Family::V4, "web", true, 4);
    assert!(summary.requests > u64::from(AT_ONCE));
}

#[test]
fn a_connection_per_request_over_ipv4() {
    churn(Family::V4, "web", false, 10);
}

#[test]
fn a_connection_per_request_over_ipv6() {
    churn(Family::V6, "web6", false, 5);
}
