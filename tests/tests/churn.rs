//! Hundreds of connections at once from one client: kept, and made anew for every request. The
//! second is where port reuse goes wrong, if it does.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::{fs, time::Duration};

use anyhow::ensure;
use evenkeel_tests::{
    settings::Settings,
    stage::Stage,
    topology::{Family, Wiring},
    wait::{PATIENCE, eventually},
    wrk::{Summary, Wrk},
};

const AT_ONCE: u32 = 256;

/// How many SYNs the client's kernel had to send again.
fn retransmitted_openings(stage: &Stage) -> u64 {
    let read = || Ok(fs::read_to_string("/proc/thread-self/net/netstat")?);
    let text = stage.client().run(read).unwrap();
    // A line of names and a line of values, each beginning with the group's name.
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|(name, _)| *name == "TCPSynRetrans").unwrap().1.parse().unwrap()
}

fn churn(family: Family, service: &str, keep_alive: bool, seconds: u64) -> Summary {
    let stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    let wrk = Wrk { connections: AT_ONCE, duration: Duration::from_secs(seconds), keep_alive };
    let summary = wrk.run(stage.client(), family.service(80)).unwrap();
    summary.flawless().unwrap();
    // A port that a backend keeps in TIME-WAIT, given to another client's port, costs the client a
    // second and no error: only its kernel knows. What the cables lost is sent again, too.
    let again = retransmitted_openings(&stage);
    let lost = stage.lab.lost().unwrap();
    assert!(
        again.saturating_sub(lost) * 500 <= summary.requests,
        "{again} SYNs sent again, {lost} packets lost, for {summary:?}"
    );
    let counters: Vec<_> = stage
        .lab
        .backends
        .iter()
        .map(|host| stage.balancer.counters(service, &host.name).unwrap().connections)
        .collect();
    // An attempt that a backend did not answer in time takes another turn, out of order; each is a SYN
    // sent again, of which there are few.
    let json = stage.balancer.json(&["counters", service]).unwrap();
    let failures = |at: usize| &json["services"][0]["backends"][at]["failures"];
    let redispatched: u64 = (0..2).map(|at| failures(at)["redispatched"].as_u64().unwrap()).sum();
    let difference = counters[0].abs_diff(counters[1]);
    assert!(difference <= 1 + 2 * redispatched, "share {counters:?}, {redispatched} again");
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
