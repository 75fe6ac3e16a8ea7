//! Connections whose client has not shown that it exists: they have so many places and no more, the
//! oldest gives way to the newest, and no confirmed connection to any.

use evenkeel_tests::frame::{ACK, PSH, SYN};
use lb_common::service::forwarding;

use crate::{
    harness::{Harness, Setup},
    world::{KINDS, Kind, Link, TCP_KINDS, UDP4, UDP6, Way},
};

const FORTH: Way = Way::Forth;
const BACK: Way = Way::Back;

fn opens(harness: &Harness, kind: Kind, turns: std::ops::Range<u16>) {
    for turn in turns {
        harness.carries(&Link::new(kind, turn), FORTH, SYN);
    }
}

/// Opened, closed and evicted.
fn counts(harness: &Harness, kind: Kind) -> (u64, u64, u64) {
    let counters = harness.counters(kind, 1);
    (counters.opened, counters.closed, counters.evicted)
}

#[test]
fn the_newest_evicts_the_oldest_and_none_that_is_confirmed() {
    let harness = Harness::with(Setup { unconfirmed: 8, ..Setup::default() });
    for kind in KINDS {
        let confirmed: Vec<_> = (0..20).map(|turn| Link::new(kind, turn)).collect();
        for link in &confirmed {
            harness.connects(link);
        }
        opens(&harness, kind, 100..108);
        assert_eq!(counts(&harness, kind), (28, 0, 0), "{kind}");
        assert_eq!(harness.load(kind, 1), (28, 20), "{kind}");

        opens(&harness, kind, 108..109);
        assert_eq!(counts(&harness, kind), (29, 1, 1), "{kind}");
        let (late, _) = Link::new(kind, 100).plain(BACK, SYN | ACK);
        harness.passes(&format!("{kind}: the oldest is gone"), &late, "pass-no-service");
        if kind.is_tcp() {
            let (late, _) = Link::new(kind, 100).plain(FORTH, ACK);
            harness.passes(&format!("{kind}: both ways"), &late, "pass-no-connection");
        }
        // The second oldest, and each of the rest, is there.
        for turn in 101..109 {
            harness.carries(&Link::new(kind, turn), BACK, SYN | ACK);
        }

        opens(&harness, kind, 200..700);
        assert_eq!(counts(&harness, kind), (529, 501, 501), "{kind}");
        assert_eq!(harness.load(kind, 1), (28, 20), "{kind}");
        assert_eq!(harness.entries(kind), 2 * 28, "{kind}");
        for link in &confirmed {
            harness.carries(link, FORTH, PSH | ACK);
            harness.carries(link, BACK, PSH | ACK);
        }
        assert_eq!(counts(&harness, kind), (529, 501, 501), "{kind}");
    }
}

#[test]
fn who_confirms_leaves_its_place_for_good() {
    let harness = Harness::with(Setup { unconfirmed: 4, ..Setup::default() });
    for kind in KINDS {
        opens(&harness, kind, 0..4);
        // The first of them confirms; the turn of its place evicts nobody.
        harness.carries(&Link::new(kind, 0), BACK, SYN | ACK);
        harness.carries(&Link::new(kind, 0), FORTH, ACK);
        opens(&harness, kind, 4..5);
        assert_eq!(counts(&harness, kind), (5, 0, 0), "{kind}");
        opens(&harness, kind, 5..6);
        assert_eq!(counts(&harness, kind), (6, 1, 1), "{kind}");
        assert_eq!(harness.load(kind, 1), (5, 1), "{kind}");
    }
}

#[test]
fn a_spoofed_acknowledgement_confirms_nothing() {
    let harness = Harness::with(Setup { unconfirmed: 4, ..Setup::default() });
    for kind in TCP_KINDS {
        let link = Link::new(kind, 0);
        let sends = |flags, sequence, acknowledgement| {
            let frame = link.frame(FORTH, flags).numbers(sequence, acknowledgement).build();
            assert_eq!(harness.run(&frame).verdict, "to-backend", "{kind}");
        };
        harness.carries(&link, FORTH, SYN);
        // Before the backend answered, nothing does.
        sends(ACK, 1001, 1001);
        harness.carries(&link, BACK, SYN | ACK);
        for number in [0, 5, 1000, 1001 + 0x1_0000, 0x8000_0000, u32::MAX] {
            sends(ACK, 1001, number);
            sends(PSH | ACK, 1001, number);
        }
        // The right number, but in no acknowledgement.
        sends(PSH, 1001, 1001);
        sends(SYN, 1000, 1001);
        assert_eq!(harness.load(kind, 1), (1, 0), "{kind}");
        opens(&harness, kind, 1..5);
        assert_eq!(counts(&harness, kind), (5, 1, 1), "{kind}");
        assert_eq!(harness.load(kind, 1), (4, 0), "{kind}");
    }
}

#[test]
fn the_number_of_the_last_answer_counts() {
    let harness = Harness::new();
    for kind in TCP_KINDS {
        let link = Link::new(kind, 0);
        harness.carries(&link, FORTH, SYN);
        for sequence in [1000, 777_000] {
            let frame = link.frame(BACK, SYN | ACK).numbers(sequence, 1001).build();
            assert_eq!(harness.run(&frame).verdict, "to-client", "{kind}");
        }
        for (number, established) in [(1001, 0), (777_000, 0), (777_001, 1), (1001, 1)] {
            let frame = link.frame(FORTH, ACK).numbers(1001, number).build();
            assert_eq!(harness.run(&frame).verdict, "to-backend", "{kind}");
            assert_eq!(harness.load(kind, 1), (1, established), "{kind}: {number}");
        }
        // So does one that acknowledges the first bytes with the SYN.
        let fast = Link::new(kind, 1);
        harness.carries(&fast, FORTH, SYN);
        harness.carries(&fast, BACK, SYN | ACK);
        let frame = fast.frame(FORTH, ACK).numbers(1001, 1001 + 0xffff).build();
        assert_eq!(harness.run(&frame).verdict, "to-backend", "{kind}");
        assert_eq!(harness.load(kind, 1), (2, 2), "{kind}");
    }
}

#[test]
fn a_datagram_that_is_answered_and_another_confirm() {
    let harness = Harness::new();
    for kind in [UDP4, UDP6] {
        let link = Link::new(kind, 0);
        let steps = [(FORTH, 0), (FORTH, 0), (BACK, 0), (BACK, 0), (FORTH, 1), (FORTH, 1)];
        for ((way, established), step) in steps.into_iter().zip(1..) {
            harness.carries(&link, way, 0);
            assert_eq!(harness.load(kind, 1), (1, established), "{kind}: step {step}");
        }
        assert_eq!(counts(&harness, kind), (1, 0, 0), "{kind}");
    }
}

#[test]
fn where_answers_pass_elsewhere_the_second_packet_confirms() {
    let mut setup = Setup::settings(|settings| settings.forwarding = forwarding::DSR);
    setup.unconfirmed = 2;
    let harness = Harness::with(setup);
    for kind in KINDS {
        let sends = |turn, flags| {
            let frame = Link::new(kind, turn).frame(FORTH, flags).build();
            assert_eq!(harness.run(&frame).verdict, "to-backend", "{kind}");
        };
        sends(0, SYN);
        assert_eq!(harness.load(kind, 1), (1, 0), "{kind}");
        if kind.is_tcp() {
            sends(0, SYN);
            assert_eq!(harness.load(kind, 1), (1, 0), "{kind}: a SYN again");
        }
        sends(0, ACK);
        assert_eq!(harness.load(kind, 1), (1, 1), "{kind}");
        for turn in 1..9 {
            sends(turn, SYN);
        }
        assert_eq!(counts(&harness, kind), (9, 6, 6), "{kind}");
        assert_eq!(harness.load(kind, 1), (3, 1), "{kind}");
        sends(0, ACK);
        assert_eq!(counts(&harness, kind), (9, 6, 6), "{kind}");
    }
}
