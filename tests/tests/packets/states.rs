//! A connection's life: what opens it, what ends it, and that either is counted once.

use std::{sync::Barrier, thread};

use evenkeel_tests::frame::{ACK, FIN, PSH, RST, SYN};

use crate::{
    harness::{Harness, Setup},
    world::{KINDS, Kind, Link, TCP_KINDS, UDP4, UDP6, Way},
};

const FORTH: Way = Way::Forth;
const BACK: Way = Way::Back;

/// Packets one after the other, and how many of them it takes to close the connection.
type Ending = (&'static str, &'static [(Way, u8)], Option<usize>);

const ENDINGS: [Ending; 12] = [
    ("nothing", &[], None),
    ("data", &[(FORTH, PSH | ACK), (BACK, PSH | ACK)], None),
    ("the client's end alone", &[(FORTH, FIN | ACK), (BACK, ACK), (BACK, PSH | ACK)], None),
    ("the backend's end alone", &[(BACK, FIN | ACK), (FORTH, ACK), (FORTH, PSH | ACK)], None),
    ("the client's end, twice", &[(FORTH, FIN | ACK), (FORTH, FIN | ACK)], None),
    ("the client first", &[(FORTH, FIN | ACK), (BACK, FIN | ACK), (FORTH, ACK)], Some(2)),
    ("the backend first", &[(BACK, FIN | ACK), (FORTH, ACK), (FORTH, FIN | ACK)], Some(3)),
    ("ends that cross", &[(FORTH, FIN | ACK), (BACK, FIN | PSH | ACK), (BACK, ACK)], Some(2)),
    ("both ends repeated", &[(FORTH, FIN), (BACK, FIN), (FORTH, FIN), (BACK, FIN)], Some(2)),
    ("the client's reset", &[(FORTH, RST)], Some(1)),
    ("the backend's reset", &[(BACK, RST | ACK), (FORTH, RST), (BACK, RST)], Some(1)),
    ("a reset after an end", &[(FORTH, FIN | ACK), (BACK, RST), (FORTH, FIN | ACK)], Some(2)),
];

#[test]
fn an_end_is_counted_once() {
    let harness = Harness::new();
    for kind in TCP_KINDS {
        let mut closed = 0;
        for ((name, packets, closes_at), turn) in ENDINGS.into_iter().zip(0..) {
            let link = Link::new(kind, turn);
            harness.connects(&link);
            for ((way, flags), count) in packets.iter().zip(1..) {
                // Late packets of a closed connection are still carried.
                harness.carries(&link, *way, *flags);
                closed += u64::from(closes_at == Some(count));
                let expected = (u64::from(turn) + 1, closed);
                assert_eq!(harness.opened_closed(kind, 1), expected, "{kind}, {name}: {count}");
            }
        }
        assert_eq!(harness.entries(kind), 2 * u64::try_from(ENDINGS.len()).unwrap());
    }
}

#[test]
fn a_retransmitted_opening_is_no_new_connection() {
    let harness = Harness::with(Setup { weights: vec![1, 1], ..Setup::default() });
    for kind in KINDS {
        let link = Link::new(kind, 0);
        harness.carries(&link, FORTH, SYN);
        harness.carries(&link, FORTH, SYN);
        harness.carries(&link, BACK, SYN | ACK);
        harness.carries(&link, BACK, SYN | ACK);
        harness.carries(&link, FORTH, SYN);
        harness.carries(&link, FORTH, ACK);
        harness.carries(&link, FORTH, SYN);
        assert_eq!(harness.opened_closed(kind, 1), (1, 0), "{kind}");
        assert_eq!(harness.opened_closed(kind, 2), (0, 0), "{kind}");
    }
}

#[test]
fn a_refused_opening_is_closed() {
    let harness = Harness::new();
    for kind in TCP_KINDS {
        let link = Link::new(kind, 0);
        harness.carries(&link, FORTH, SYN);
        harness.carries(&link, BACK, RST | ACK);
        assert_eq!(harness.opened_closed(kind, 1), (1, 1), "{kind}");
        let counters = harness.counters(kind, 1);
        assert_eq!((counters.refused, counters.redispatched, counters.reset), (1, 0, 0), "{kind}");
    }
}

/// Ends a connection, by the client's FIN first.
fn finish(harness: &Harness, link: &Link) {
    harness.carries(link, FORTH, FIN | ACK);
    harness.carries(link, BACK, FIN | ACK);
    harness.carries(link, FORTH, ACK);
}

#[test]
fn a_client_that_reuses_its_port_gets_a_connection_of_its_own() {
    let harness = Harness::with(Setup { weights: vec![1, 1], ..Setup::default() });
    for kind in TCP_KINDS {
        let old = Link::new(kind, 0);
        harness.connects(&old);
        finish(&harness, &old);
        // Nothing but a client's SYN opens it again.
        harness.carries(&old, FORTH, SYN | ACK);
        harness.carries(&old, BACK, SYN);
        assert_eq!(harness.entries(kind), 2, "{kind}");

        // The next turn is the other backend's.
        let new = Link { backend: 2, ..old };
        harness.connects(&new);
        assert_eq!(harness.entries(kind), 2, "{kind}");
        assert_eq!(harness.opened_closed(kind, 1), (1, 1), "{kind}");
        assert_eq!(harness.opened_closed(kind, 2), (1, 0), "{kind}");
        // The old reverse entry is gone.
        let (late, _) = old.plain(BACK, ACK);
        harness.passes(&format!("{kind}: a late packet"), &late, "pass-no-service");
        finish(&harness, &new);
        assert_eq!(harness.opened_closed(kind, 2), (1, 1), "{kind}");

        // Back at the first backend, by the port that is this client's port's there: the backend may
        // keep it in TIME-WAIT, and takes it from nobody else as readily.
        harness.connects(&old);
        assert_eq!(harness.opened_closed(kind, 1), (2, 1), "{kind}");
        assert_eq!(harness.entries(kind), 2, "{kind}");
    }
}

#[test]
fn an_open_connection_is_not_reopened() {
    let harness = Harness::with(Setup { weights: vec![1, 1], ..Setup::default() });
    for kind in TCP_KINDS {
        let link = Link::new(kind, 0);
        harness.connects(&link);
        harness.carries(&link, FORTH, SYN);
        harness.carries(&link, FORTH, FIN | ACK);
        harness.carries(&link, FORTH, SYN);
        assert_eq!(harness.opened_closed(kind, 1), (1, 0), "{kind}");
        assert_eq!(harness.opened_closed(kind, 2), (0, 0), "{kind}");
    }
}

#[test]
fn a_datagram_ends_nothing() {
    let harness = Harness::new();
    for kind in [UDP4, UDP6] {
        let link = Link::new(kind, 0);
        for way in [FORTH, BACK, BACK, FORTH, FORTH, BACK] {
            harness.carries(&link, way, 0);
        }
        assert_eq!(harness.opened_closed(kind, 1), (1, 0), "{kind}");
        assert_eq!(harness.entries(kind), 2, "{kind}");
    }
}

/// Both ends of many connections, each at the same time as the other.
fn crossed(harness: &Harness, kind: Kind, flags: u8, turns: std::ops::Range<u16>) {
    let links: Vec<_> = turns.map(|turn| Link::new(kind, turn)).collect();
    for link in &links {
        harness.connects(link);
    }
    let start = Barrier::new(2);
    let send = |way| {
        for link in &links {
            let (frame, _) = link.plain(way, flags);
            start.wait();
            harness.send(None, &frame);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| send(FORTH));
        scope.spawn(|| send(BACK));
    });
}

#[test]
fn ends_at_once_are_counted_once() {
    let harness = Harness::new();
    for kind in TCP_KINDS {
        crossed(&harness, kind, FIN | ACK, 0..100);
        assert_eq!(harness.opened_closed(kind, 1), (100, 100), "{kind}: FIN");
        crossed(&harness, kind, RST, 100..200);
        assert_eq!(harness.opened_closed(kind, 1), (200, 200), "{kind}: RST");
        assert_eq!(harness.entries(kind), 2 * 200, "{kind}");
    }
}
