//! The sweep: an idle connection is ended by the time of its state, with both its entries, and
//! counted once.

use std::{thread, time::Duration};

use evenkeel::dataplane::Lifetimes;
use evenkeel_tests::frame::{ACK, FIN, RST, SYN};

use crate::{
    harness::{Harness, Setup, lifetimes},
    world::{KINDS, Kind, Link, TCP_KINDS, UDP4, UDP6, Way},
};

/// Longer than a tick of the coarse clock, so that everything has idled for one: 256 jiffies, of which
/// the slowest kernel counts a hundred a second.
const A_TICK: Duration = Duration::from_millis(2600);

const OPENING: &[(Way, u8)] = &[(Way::Forth, SYN)];
const ESTABLISHED: &[(Way, u8)] = &[(Way::Forth, SYN), (Way::Back, SYN | ACK), (Way::Forth, ACK)];
const CLOSING: &[(Way, u8)] =
    &[(Way::Forth, SYN), (Way::Back, SYN | ACK), (Way::Forth, ACK), (Way::Back, FIN | ACK)];
const CLOSED: &[(Way, u8)] = &[(Way::Forth, SYN), (Way::Back, RST | ACK)];

fn live(harness: &Harness, link: &Link, packets: &[(Way, u8)]) {
    for (way, flags) in packets {
        harness.carries(link, *way, *flags);
    }
}

#[test]
fn each_state_has_its_own_time() {
    let harness = Harness::new();
    for kind in TCP_KINDS {
        for (packets, turn) in [OPENING, ESTABLISHED, CLOSING, CLOSED].into_iter().zip(0..) {
            live(&harness, &Link::new(kind, turn), packets);
        }
    }
    for kind in [UDP4, UDP6] {
        live(&harness, &Link::new(kind, 0), OPENING);
        live(&harness, &Link::new(kind, 1), ESTABLISHED);
    }
    let never = lifetimes(Duration::MAX);
    let now = Duration::ZERO;
    thread::sleep(A_TICK);
    assert_eq!(harness.census().entries, 2 * (2 * 4 + 2 * 2));

    let counts = |kind: Kind| (harness.opened_closed(kind, 1), harness.entries(kind));
    let tcp = |closed, entries| {
        for kind in TCP_KINDS {
            assert_eq!(counts(kind), ((4, closed), entries), "{kind}");
        }
    };
    tcp(1, 8);
    assert_eq!(harness.sweep(&Lifetimes { closed: now, ..never }).ended, 2);
    tcp(1, 6);
    assert_eq!(harness.sweep(&Lifetimes { opening: now, ..never }).ended, 2);
    tcp(2, 4);
    assert_eq!(harness.sweep(&Lifetimes { closing: now, ..never }).ended, 2);
    tcp(3, 2);
    for kind in [UDP4, UDP6] {
        assert_eq!(counts(kind), ((2, 0), 4), "{kind}");
    }
    assert_eq!(harness.sweep(&Lifetimes { udp: now, ..never }).ended, 4);
    for kind in [UDP4, UDP6] {
        assert_eq!(counts(kind), ((2, 2), 0), "{kind}");
    }
    assert_eq!(harness.sweep(&Lifetimes { established: now, ..never }).ended, 2);
    tcp(4, 0);
    assert_eq!(harness.census().entries, 0);

    // What was ended is not known any more, either way.
    for kind in TCP_KINDS {
        let link = Link::new(kind, 1);
        harness.passes("forth", &link.plain(Way::Forth, ACK).0, "pass-no-connection");
        harness.passes("back", &link.plain(Way::Back, ACK).0, "pass-no-service");
    }
}

#[test]
fn a_packet_either_way_saves_its_connection() {
    let harness = Harness::new();
    for kind in KINDS {
        for turn in 0..3 {
            live(&harness, &Link::new(kind, turn), ESTABLISHED);
        }
    }
    thread::sleep(2 * A_TICK);
    for kind in KINDS {
        harness.carries(&Link::new(kind, 0), Way::Forth, ACK);
        harness.carries(&Link::new(kind, 1), Way::Back, ACK);
    }
    // More than one tick of any kernel, as one may end between a packet and the sweep; and no more
    // than were slept.
    assert_eq!(harness.sweep(&lifetimes(Duration::from_secs(3))).ended, 4);
    for kind in KINDS {
        assert_eq!(harness.entries(kind), 4, "{kind}");
        assert_eq!(harness.opened_closed(kind, 1), (3, 1), "{kind}");
        for turn in 0..2 {
            harness.carries(&Link::new(kind, turn), Way::Forth, ACK);
            harness.carries(&Link::new(kind, turn), Way::Back, ACK);
        }
    }
}

#[test]
fn a_cut_ends_one_backends_connections_and_no_others() {
    let harness = Harness::with(Setup { weights: vec![1, 1], ..Setup::default() });
    for kind in KINDS {
        // More than one request of the controller carries.
        let links: Vec<_> = (0..150)
            .map(|turn| {
                let backend = if turn % 2 == 0 { 1 } else { 2 };
                Link { backend, ..Link::new(kind, turn) }
            })
            .collect();
        for link in &links {
            harness.carries(link, Way::Forth, SYN);
        }
        assert_eq!(harness.cut(kind, 2).ended, 75, "{kind}");
        assert_eq!(harness.opened_closed(kind, 1), (75, 0), "{kind}");
        assert_eq!(harness.opened_closed(kind, 2), (75, 75), "{kind}");
        assert_eq!(harness.entries(kind), 2 * 75, "{kind}");
        assert_eq!(harness.cut(kind, 2).ended, 0, "{kind}");
        for link in links.iter().filter(|link| link.backend == 1) {
            harness.carries(link, Way::Back, SYN | ACK);
        }
    }
}
