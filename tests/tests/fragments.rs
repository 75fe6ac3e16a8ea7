//! Datagrams that do not fit into one packet arrive whole, in every way of forwarding and both
//! directions: fragments follow the first of their kind.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::thread;

use evenkeel_tests::{
    modes::{Ground, Mode},
    servers::{PORT, ask, ask_again, client_socket},
    topology::{Family, Wiring},
};

/// From the first that needs two fragments to nearly the longest.
const LENGTHS: [usize; 6] = [1473, 1480, 2961, 9000, 30_000, 60_000];
const FLOWS: usize = 6;

fn noise(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 + seed * 7).to_le_bytes()[0]).collect()
}

fn large_datagrams_arrive(mode: Mode) {
    let ground = Ground::new(Wiring::Switched, 2, mode).unwrap();
    let stage = &ground.stage;
    for (family, dns) in Family::BOTH.into_iter().zip(["dns", "dns6"]) {
        let server = family.service(PORT);
        // All at once, so that no two have the same port.
        let open = || client_socket(family, server);
        let sockets: Vec<_> = (0..FLOWS).map(|_| stage.client().run(open).unwrap()).collect();
        for (flow, socket) in sockets.iter().enumerate() {
            let first = ask(socket, b"small").unwrap().backend;
            for length in LENGTHS {
                let payload = noise(length, flow);
                // A tunnel has less room, which the client has yet to learn.
                let reply = match mode.overhead() {
                    0 => ask(socket, &payload),
                    _ => ask_again(socket, &payload),
                };
                let name = format!("{length} bytes, {family:?} by {mode}");
                let reply = reply.unwrap_or_else(|error| panic!("{name}: {error:#}"));
                assert_eq!(reply.backend, first, "{name}");
            }
        }
        // A flow's fragments open no connections of their own.
        let opened = |host: &evenkeel_tests::topology::Host| {
            stage.balancer.counters(dns, &host.name).unwrap().connections
        };
        let opened: u64 = stage.lab.backends.iter().map(opened).sum();
        assert_eq!(opened, FLOWS as u64, "{family:?} by {mode}");
    }
}

#[test]
fn by_nat() {
    large_datagrams_arrive(Mode::Nat);
}

#[test]
fn by_nat_that_keeps_the_client() {
    large_datagrams_arrive(Mode::Transparent);
}

#[test]
fn by_dsr() {
    large_datagrams_arrive(Mode::Dsr);
}

#[test]
fn by_ipip() {
    for mode in [Mode::Ipip(Family::V4), Mode::Ipip(Family::V6)] {
        large_datagrams_arrive(mode);
    }
}

#[test]
fn by_gue() {
    for mode in [Mode::Gue(Family::V4), Mode::Gue(Family::V6)] {
        large_datagrams_arrive(mode);
    }
}

#[test]
fn a_flow_may_begin_with_a_large_datagram() {
    let ground = Ground::new(Wiring::Switched, 2, Mode::Nat).unwrap();
    for family in Family::BOTH {
        let server = family.service(PORT);
        let socket = ground.stage.client().run(|| client_socket(family, server)).unwrap();
        let first = ask(&socket, &noise(5000, 1)).unwrap().backend;
        assert_eq!(ask(&socket, b"small").unwrap().backend, first, "{family:?}");
    }
}

#[test]
fn many_flows_fragments_do_not_mix() {
    let ground = Ground::new(Wiring::Switched, 2, Mode::Nat).unwrap();
    let client = ground.stage.client();
    for family in Family::BOTH {
        let server = family.service(PORT);
        thread::scope(|scope| {
            let talk = |flow: usize| {
                let socket = client.run(|| client_socket(family, server)).unwrap();
                let first = ask(&socket, b"small").unwrap().backend;
                for round in 0..20 {
                    let payload = noise(2000 + 100 * flow, flow + 10 * round);
                    let reply = ask(&socket, &payload).unwrap();
                    assert_eq!(reply.backend, first, "{family:?}, flow {flow}");
                }
            };
            for flow in 0..FLOWS {
                scope.spawn(move || talk(flow));
            }
        });
    }
}
