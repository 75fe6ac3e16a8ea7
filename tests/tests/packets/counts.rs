//! What is counted of connections is exact, whatever becomes of them; and where a count was wrong
//! all the same, it is corrected.

use std::{
    thread,
    time::{Duration, Instant},
};

use evenkeel::dataplane::{Correction, Drift, Lifetimes};
use evenkeel_tests::frame::{ACK, FIN, PSH, RST, SYN, parse};
use lb_common::service::{flags, forwarding};

use crate::{
    harness::{Harness, Setup, backend_id, lifetimes},
    world::{KINDS, Kind, Link, TCP_KINDS, UDP4, Way},
};

const FORTH: Way = Way::Forth;
const BACK: Way = Way::Back;
/// Longer than a tick of the coarse clock of any kernel.
const A_TICK: Duration = Duration::from_millis(2600);
/// Longer than a backend has to answer.
const TOO_LONG: Duration = Duration::from_millis(550);
const BACKENDS: u8 = 3;
const CLIENTS: u16 = 40;

/// What the table holds, the program's shared counts and the counters say the same.
fn agree(harness: &Harness, when: impl Fn() -> String) {
    let census = harness.census();
    for kind in KINDS {
        for n in 1..=BACKENDS {
            let found = census.open.get(&backend_id(kind, n)).copied().unwrap_or_default();
            let counters = harness.counters(kind, n);
            assert_eq!(harness.load(kind, n), found, "{kind} {n} {}", when());
            assert_eq!(counters.opened - counters.closed, found.0, "{kind} {n} {}", when());
        }
    }
}

/// Packets of few clients in no order at all, under a shortage of places, ports and room.
fn mix(seed: u64, settings: impl FnOnce(&mut lb_common::service::ServiceSettings)) {
    let mut setup = Setup::settings(settings);
    setup.weights = vec![1, 1, 2];
    (setup.unconfirmed, setup.connections) = (8, 64);
    (setup.ports, setup.max_connections) = (16, Some(9));
    let harness = Harness::with(setup);
    let mut state = seed;
    let mut random = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let clients = usize::from(CLIENTS);
    let mut links: Vec<Link> =
        KINDS.iter().flat_map(|kind| (0..CLIENTS).map(|turn| Link::new(*kind, turn))).collect();
    for step in 0..1200 {
        let index = usize::try_from(random(u64::try_from(KINDS.len() * clients).unwrap())).unwrap();
        let link = &mut links[index];
        let (way, flags) = match random(20) {
            0..=5 => (FORTH, SYN),
            6..=9 => (BACK, SYN | ACK),
            10..=13 => (FORTH, ACK),
            14 => (FORTH, FIN | ACK),
            15 => (BACK, FIN | ACK),
            16 => (FORTH, RST),
            17 | 18 => (BACK, RST | ACK),
            _ => (BACK, PSH | ACK),
        };
        let ran = harness.run(&link.frame(way, flags).build());
        if ran.verdict == "to-backend" {
            let to = parse(&ran.bytes).unwrap();
            let backend = (1..=BACKENDS).find(|n| link.kind.backend(*n).ip() == to.destination);
            if let Some(backend) = backend {
                (link.backend, link.source) = (backend, (to.source, to.source_port));
            }
        }
        assert_ne!(ran.verdict, "drop-internal");
        match step {
            300 | 600 | 700 => thread::sleep(TOO_LONG),
            900 => {
                thread::sleep(A_TICK);
                let zero = Duration::ZERO;
                harness.sweep(&Lifetimes {
                    opening: zero,
                    closing: zero,
                    ..lifetimes(Duration::MAX)
                });
            }
            _ => {}
        }
        agree(&harness, || format!("after step {step}: {way:?} {flags:#04x}, {}", ran.verdict));
    }
    let all = KINDS.iter().flat_map(|kind| (1..=BACKENDS).map(move |n| (*kind, n)));
    let all: Vec<_> = all.map(|(kind, n)| harness.counters(kind, n)).collect();
    assert!(all.iter().all(|counters| counters.opened > 5));
    assert!(all.iter().map(|counters| counters.evicted).sum::<u64>() > 20);

    thread::sleep(A_TICK);
    harness.sweep(&lifetimes(Duration::ZERO));
    assert_eq!(harness.census().entries, 0);
    for kind in KINDS {
        for n in 1..=BACKENDS {
            let (opened, closed) = harness.opened_closed(kind, n);
            assert_eq!(opened, closed, "{kind} {n}");
            assert_eq!(harness.load(kind, n), (0, 0), "{kind} {n}");
        }
    }
}

#[test]
fn counts_are_exact_under_nat() {
    mix(1, |settings| settings.flags = flags::REJECT);
}

#[test]
fn counts_are_exact_where_clients_keep_their_addresses() {
    mix(2, |settings| settings.flags = flags::KEEP_SOURCE);
}

#[test]
fn counts_are_exact_where_answers_pass_elsewhere() {
    mix(3, |settings| settings.forwarding = forwarding::DSR);
}

/// So many established connections, and so many that are not.
fn opens(harness: &Harness, kind: Kind, established: u16, unconfirmed: u16) {
    for turn in 0..established {
        harness.connects(&Link::new(kind, turn));
    }
    for turn in established..established + unconfirmed {
        harness.carries(&Link::new(kind, turn), FORTH, SYN);
    }
}

#[test]
fn a_wrong_count_is_corrected_by_the_second_walk() {
    let harness = Harness::new();
    let mut drift = Drift::default();
    for kind in KINDS {
        let id = backend_id(kind, 1);
        opens(&harness, kind, 3, 2);
        for _ in 0..3 {
            assert_eq!(harness.reconcile(&mut drift), [], "{kind}: what is right stays");
        }
        harness.forget(kind, 1);
        assert_eq!(harness.load(kind, 1), (0, 0), "{kind}");
        assert_eq!(harness.reconcile(&mut drift), [], "{kind}: once is not enough");
        assert_eq!(harness.load(kind, 1), (0, 0), "{kind}");
        let correction = Correction { backend: id, open: 5, established: 3 };
        assert_eq!(harness.reconcile(&mut drift), [correction], "{kind}");
        assert_eq!(harness.load(kind, 1), (5, 3), "{kind}");
        assert_eq!(harness.reconcile(&mut drift), [], "{kind}: it is right again");

        // Less than nothing, too: what ends now was not counted.
        harness.forget(kind, 1);
        assert_eq!(harness.cut(kind, 1).ended, 5, "{kind}");
        assert_eq!(harness.load(kind, 1), (5_u64.wrapping_neg(), 3_u64.wrapping_neg()), "{kind}");
        assert_eq!(harness.reconcile(&mut drift), [], "{kind}");
        let correction = Correction { backend: id, open: 5, established: 3 };
        assert_eq!(harness.reconcile(&mut drift), [correction], "{kind}");
        assert_eq!(harness.load(kind, 1), (0, 0), "{kind}");
    }
}

#[test]
fn what_changes_between_two_walks_is_not_corrected() {
    let harness = Harness::new();
    let mut drift = Drift::default();
    for kind in KINDS {
        opens(&harness, kind, 3, 2);
        harness.forget(kind, 1);
        assert_eq!(harness.reconcile(&mut drift), [], "{kind}");
        // Meanwhile the count is made right by other means.
        assert_eq!(harness.cut(kind, 1).ended, 5, "{kind}");
        harness.forget(kind, 1);
        opens(&harness, kind, 1, 1);
        assert_eq!(harness.reconcile(&mut drift), [], "{kind}");
        assert_eq!(harness.load(kind, 1), (2, 1), "{kind}");
    }
}

/// The bucket of a time, by the documentation: up to 63 µs, and then twice as much each.
fn bucket(time: Duration) -> usize {
    (0..15).find(|n| time.as_micros() < 64 << n).unwrap_or(15)
}

#[test]
fn an_answer_is_timed_once() {
    let harness = Harness::new();
    for kind in TCP_KINDS {
        let mut counted = 0;
        for (turn, pause) in [(0, 0), (1, 3), (2, 40), (3, 150)] {
            let link = Link::new(kind, turn);
            let pause = Duration::from_millis(pause);
            let before = harness.counters(kind, 1);
            let began = Instant::now();
            harness.carries(&link, FORTH, SYN);
            thread::sleep(pause);
            harness.carries(&link, BACK, SYN | ACK);
            let most = began.elapsed();
            for flags in [SYN | ACK, ACK, PSH | ACK] {
                harness.carries(&link, BACK, flags);
            }
            harness.carries(&link, FORTH, ACK);
            let after = harness.counters(kind, 1);
            let took = after.handshake_microseconds - before.handshake_microseconds;
            let took = Duration::from_micros(took);
            assert!((pause..=most).contains(&took), "{kind}: {took:?} of {pause:?} to {most:?}");
            let (before, after) = (before.handshakes, after.handshakes);
            counted += 1;
            assert_eq!(after.iter().sum::<u64>(), counted, "{kind}");
            let moved = (0..after.len()).find(|n| after[*n] != before[*n]).unwrap();
            let range = bucket(pause)..=bucket(most);
            assert!(range.contains(&moved), "{kind}: bucket {moved} of {range:?}");
        }
        // A refusal is no answer.
        let refused = Link::new(kind, 9);
        harness.carries(&refused, FORTH, SYN);
        harness.carries(&refused, BACK, RST | ACK);
        assert_eq!(harness.counters(kind, 1).handshakes.iter().sum::<u64>(), counted, "{kind}");
    }
    harness.connects(&Link::new(UDP4, 0));
    assert_eq!(harness.counters(UDP4, 1).handshakes.iter().sum::<u64>(), 0);
}
