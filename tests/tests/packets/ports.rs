//! NAT's source ports: reused as late as possible, and never given out twice at once.

use std::{collections::BTreeMap, net::IpAddr, thread};

use evenkeel_tests::frame::{ACK, RST, SYN, parse};

use crate::{
    harness::{Harness, Setup, XDP_REDIRECT},
    world::{FIRST_PORT, KINDS, Kind, Link, TCP_KINDS, Way},
};

/// A SYN of the `turn`-th client.
fn opening(kind: Kind, turn: u16) -> Vec<u8> {
    Link::new(kind, turn).frame(Way::Forth, SYN).build()
}

/// The source that NAT gave a frame.
fn source(bytes: &[u8]) -> (IpAddr, u16) {
    let parsed = parse(bytes).unwrap();
    (parsed.source, parsed.source_port)
}

/// Connects the `turn`-th client, which confirms the connection: nothing but its end frees the port.
fn connect(harness: &Harness, kind: Kind, turn: u16) -> (IpAddr, u16) {
    let ran = harness.run(&opening(kind, turn));
    assert_eq!(ran.verdict, "to-backend", "{kind}: connection {turn}");
    let link = Link { source: source(&ran.bytes), ..Link::new(kind, turn) };
    harness.carries(&link, Way::Back, SYN | ACK);
    harness.carries(&link, Way::Forth, ACK);
    link.source
}

fn close(harness: &Harness, kind: Kind, turn: u16) {
    let reset = Link::new(kind, turn).frame(Way::Forth, RST).build();
    assert_eq!(harness.run(&reset).verdict, "to-backend");
}

#[test]
fn a_port_is_reused_by_others_after_all_others() {
    // As few as are tried before a port is taken that still lingers.
    let harness = Harness::with(Setup { ports: 3, sources: 2, ..Setup::default() });
    for kind in TCP_KINDS {
        let take = |turn| {
            let ran = harness.run(&opening(kind, turn));
            assert_eq!(ran.verdict, "to-backend", "{kind}: connection {turn}");
            close(&harness, kind, turn);
            source(&ran.bytes)
        };
        // Each is over before the next begins: every port could be taken every time, and none is
        // before all the others were.
        let mut first: Vec<_> = (0..6).map(take).collect();
        first.sort_unstable();
        let ports = FIRST_PORT..FIRST_PORT + 3;
        let all: Vec<_> =
            (0..2).flat_map(|n| ports.clone().map(move |port| (kind.source(n), port))).collect();
        assert_eq!(first, all, "{kind}");
        // Closed connections linger only until their ports are wanted.
        for turn in 6..30 {
            assert!(all.contains(&take(turn)), "{kind}: connection {turn}");
        }
        assert_eq!(harness.opened_closed(kind, 1), (30, 30));
        assert_eq!(harness.entries(kind), 2 * 6);
    }
}

#[test]
fn a_clients_own_port_comes_back_to_it() {
    let harness = Harness::new();
    for kind in TCP_KINDS {
        // Other clients' connections in between have the cursor walk on.
        for round in 0..20 {
            let link = Link::new(kind, 7);
            let ran = harness.run(&opening(kind, 7));
            assert_eq!(source(&ran.bytes), link.source, "{kind}: round {round}");
            close(&harness, kind, 7);
            harness.run(&opening(kind, 100 + round));
        }
    }
}

#[test]
fn the_only_free_port_is_found() {
    let harness = Harness::with(Setup { ports: 5, ..Setup::default() });
    for kind in TCP_KINDS {
        let mut ports: Vec<u16> = (0..5).map(|turn| connect(&harness, kind, turn).1).collect();
        let freed = ports.remove(2);
        for turn in 5..20 {
            harness.drops("all are in use", &opening(kind, 100 + turn), "drop-no-source-port");
            // Of the connections at hand, the third is always the one that ends.
            let victim = if turn == 5 { 2 } else { turn - 1 };
            close(&harness, kind, victim);
            assert_eq!(connect(&harness, kind, turn).1, freed, "{kind}");
            assert!(!ports.contains(&freed), "{kind}");
        }
        assert_eq!(harness.opened_closed(kind, 1), (20, 15), "{kind}");
        assert_eq!(harness.counters(kind, 1).evicted, 0, "{kind}");
        assert_eq!(harness.entries(kind), 2 * 5, "{kind}");
    }
}

#[test]
fn a_port_in_use_is_never_given_out() {
    const PORTS: u16 = 16;
    let harness = Harness::with(Setup { ports: PORTS, ..Setup::default() });
    for kind in TCP_KINDS {
        let mut used = BTreeMap::new();
        let mut state = 1_u32;
        for turn in 0..400 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let index = usize::try_from(state >> 16).unwrap();
            if index % 5 < 2 && !used.is_empty() {
                let port = *used.keys().nth(index % used.len()).unwrap();
                close(&harness, kind, used.remove(&port).unwrap());
                continue;
            }
            let frame = opening(kind, turn);
            if used.len() == usize::from(PORTS) {
                harness.drops("all are in use", &frame, "drop-no-source-port");
                continue;
            }
            let (_, port) = connect(&harness, kind, turn);
            assert!((FIRST_PORT..FIRST_PORT + PORTS).contains(&port));
            assert_eq!(used.insert(port, turn), None, "{kind}: port {port} was in use");
        }
        let counters = harness.counters(kind, 1);
        assert_eq!(counters.open(), u64::try_from(used.len()).unwrap(), "{kind}");
        assert_eq!(counters.evicted, 0, "{kind}");
    }
}

#[test]
fn the_port_of_an_unconfirmed_connection_gives_way_and_no_other() {
    let harness = Harness::with(Setup { ports: 3, ..Setup::default() });
    for kind in KINDS {
        let kept = [connect(&harness, kind, 0).1, connect(&harness, kind, 1).1];
        let spoofed = source(&harness.run(&opening(kind, 2)).bytes).1;
        for turn in 3..20 {
            // Each has the only port that can be had, from the one before it.
            assert_eq!(source(&harness.run(&opening(kind, turn)).bytes).1, spoofed, "{kind}");
            assert_eq!(harness.entries(kind), 6, "{kind}");
        }
        let counters = harness.counters(kind, 1);
        assert_eq!((counters.opened, counters.closed, counters.evicted), (20, 17, 17), "{kind}");
        assert_eq!(harness.load(kind, 1), (3, 2), "{kind}");
        // The last of them is confirmed, and keeps the port like the others.
        let last = Link { source: (kind.source(0), spoofed), ..Link::new(kind, 19) };
        harness.carries(&last, Way::Back, SYN | ACK);
        harness.carries(&last, Way::Forth, ACK);
        harness.drops("all are in use", &opening(kind, 30), "drop-no-source-port");
        for (turn, port) in (0..).zip(kept) {
            let link = Link { source: (kind.source(0), port), ..Link::new(kind, turn) };
            harness.carries(&link, Way::Forth, ACK);
            harness.carries(&link, Way::Back, ACK);
        }
    }
}

#[test]
fn two_cpus_never_take_the_same_port() {
    const EACH: u16 = 250;
    let harness = &Harness::with(Setup { ports: 2 * EACH, ..Setup::default() });
    for kind in KINDS {
        let take = move |turns: std::ops::Range<u16>| -> Vec<u16> {
            let take = |turn| {
                let (action, bytes) = harness.send(None, &opening(kind, turn));
                assert_eq!(action, XDP_REDIRECT, "{kind}");
                // At once: an unconfirmed connection may lose its port to the other CPU.
                let link = Link { source: source(&bytes), ..Link::new(kind, turn) };
                harness.send(None, &link.frame(Way::Back, SYN | ACK).build());
                harness.send(None, &link.frame(Way::Forth, ACK).build());
                link.source.1
            };
            turns.map(take).collect()
        };
        let mut ports = thread::scope(|scope| {
            let other = scope.spawn(move || take(EACH..2 * EACH));
            let mut ports = take(0..EACH);
            ports.extend(other.join().unwrap());
            ports
        });
        ports.sort_unstable();
        let all: Vec<_> = (FIRST_PORT..FIRST_PORT + 2 * EACH).collect();
        assert_eq!(ports, all, "{kind}");
        harness.drops("one more", &opening(kind, 2 * EACH), "drop-no-source-port");
    }
}
