//! New connections are shared exactly by weight, and everybody who counts them agrees.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use anyhow::ensure;
use evenkeel_tests::{
    settings::{Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};

const CONNECTIONS: u64 = 4000;
const WEIGHTS: [u32; 3] = [1, 1, 2];
const SHARES: [u64; 3] = [1000, 1000, 2000];

fn weighted(lab: &Lab, name: &str, family: Family) -> Service {
    let weighted = lab.backends.iter().zip(WEIGHTS);
    weighted
        .fold(Service::web(name, family), |service, (host, weight)| service.backend(host, weight))
}

fn shares_are_exact(family: Family) {
    let stage = Stage::new(Wiring::Switched, WEIGHTS.len(), |lab| {
        Settings::new(lab).with(weighted(lab, "web", family))
    })
    .unwrap();

    let report = stage.ask(family, CONNECTIONS).unwrap();
    report.flawless().unwrap();

    for ((host, nginx), share) in stage.lab.backends.iter().zip(&stage.nginx).zip(SHARES) {
        let name = &host.name;
        assert_eq!(report.by_backend.get(name), Some(&share), "answers of {name}");
        // nginx writes its log line after the answer is on its way.
        eventually(&format!("{name} has logged"), PATIENCE, || {
            let served = nginx.served("/")?;
            ensure!(served == share, "{served} requests instead of {share}");
            Ok(())
        })
        .unwrap();
        eventually(&format!("{name}'s connections are closed"), PATIENCE, || {
            let counters = stage.balancer.counters("web", name)?;
            ensure!(counters.open == 0, "{} are open", counters.open);
            Ok(())
        })
        .unwrap();
        let counters = stage.balancer.counters("web", name).unwrap();
        assert_eq!(counters.connections, share, "connections of {name}: {counters:?}");
        // A connection takes at least SYN, ACK, request and FIN, and their answers.
        assert!(counters.packets_in >= 4 * share, "{counters:?}");
        assert!(counters.packets_out >= 3 * share, "{counters:?}");
        assert!(counters.bytes_in > 40 * counters.packets_in, "{counters:?}");
        assert!(counters.bytes_out > 40 * counters.packets_out, "{counters:?}");
    }
}

#[test]
fn weights_1_1_2_over_ipv4() {
    shares_are_exact(Family::V4);
}

#[test]
fn weights_1_1_2_over_ipv6() {
    shares_are_exact(Family::V6);
}
