//! A backend that refuses a connection, or does not answer, loses the attempt to another one, by the
//! client's own retransmission.

use std::{
    hint,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use evenkeel_tests::frame::{ACK, PSH, Parsed, RST, SYN, parse};
use lb_common::service::{flags, forwarding};

use crate::{
    harness::{Harness, Setup, XDP_REDIRECT, XDP_TX, backend_id},
    world::{Kind, Link, TCP_KINDS, TCP4, UDP4, UDP6, Way},
};

const FORTH: Way = Way::Forth;
const BACK: Way = Way::Back;

/// Longer than a backend has to answer.
const TOO_LONG: Duration = Duration::from_millis(550);

/// With so many backends, which all have one turn.
fn with(backends: usize) -> Setup {
    Setup { weights: vec![1; backends], ..Setup::default() }
}

/// Refused, unanswered, redispatched.
fn failures(harness: &Harness, kind: Kind, n: u8) -> (u64, u64, u64) {
    let counters = harness.counters(kind, n);
    (counters.refused, counters.unanswered, counters.redispatched)
}

/// A refusal that another backend makes good.
fn refuses(harness: &Harness, link: &Link) {
    let (refusal, _) = link.plain(BACK, RST | ACK);
    harness.drops(&format!("{}: refused by {}", link.kind, link.backend), &refusal, "drop-refused");
}

/// An attempt that went from the first backend to the second is whole there, and nowhere else.
fn has_moved(harness: &Harness, first: &Link) {
    let kind = first.kind;
    let second = Link { backend: 2, ..*first };
    harness.carries(&second, FORTH, SYN);
    assert_eq!(harness.opened_closed(kind, 1), (1, 1), "{kind}");
    assert_eq!(harness.opened_closed(kind, 2), (1, 0), "{kind}");
    assert_eq!((harness.load(kind, 1), harness.load(kind, 2)), ((0, 0), (1, 0)), "{kind}");
    assert_eq!(harness.entries(kind), 2, "{kind}");
    let (late, _) = first.plain(BACK, SYN | ACK);
    assert!(harness.run(&late).verdict.starts_with("pass-"), "{kind}: the old reverse entry");
    harness.carries(&second, BACK, SYN | ACK);
    harness.carries(&second, FORTH, ACK);
    harness.carries(&second, FORTH, PSH | ACK);
    assert_eq!(harness.load(kind, 2), (1, 1), "{kind}");
}

#[test]
fn a_refused_attempt_goes_to_another_backend() {
    for keeps in [false, true] {
        let mut setup = with(2);
        setup.policy.settings.flags = if keeps { flags::KEEP_SOURCE } else { 0 };
        let harness = Harness::with(setup);
        for kind in TCP_KINDS {
            let first = Link::new(kind, 0);
            let first = Link { source: if keeps { first.client } else { first.source }, ..first };
            harness.carries(&first, FORTH, SYN);
            refuses(&harness, &first);
            // The backend may say it twice, for a SYN that came twice.
            refuses(&harness, &first);
            assert_eq!(harness.opened_closed(kind, 1), (1, 0), "{kind}");
            assert_eq!(failures(&harness, kind, 1), (1, 0, 0), "{kind}");
            has_moved(&harness, &first);
            assert_eq!(failures(&harness, kind, 1), (1, 0, 1), "{kind}");
            assert_eq!(failures(&harness, kind, 2), (0, 0, 0), "{kind}");
        }
    }
}

#[test]
fn an_unanswered_attempt_goes_to_another_backend() {
    let harness = Harness::with(with(2));
    for kind in TCP_KINDS {
        let first = Link::new(kind, 0);
        harness.carries(&first, FORTH, SYN);
        // It has a while to answer.
        harness.carries(&first, FORTH, SYN);
        assert_eq!(failures(&harness, kind, 1), (0, 0, 0), "{kind}");
        thread::sleep(TOO_LONG);
        has_moved(&harness, &first);
        assert_eq!(failures(&harness, kind, 1), (0, 1, 1), "{kind}");

        // What is answered stays, however late its client asks again.
        let answered = Link::new(kind, 1);
        harness.carries(&answered, FORTH, SYN);
        harness.carries(&answered, BACK, SYN | ACK);
        thread::sleep(TOO_LONG);
        harness.carries(&answered, FORTH, SYN);
        assert_eq!(harness.opened_closed(kind, 1), (2, 1), "{kind}");
        assert_eq!(failures(&harness, kind, 1), (0, 1, 1), "{kind}");
    }
}

#[test]
fn an_attempt_at_a_backend_that_is_out_by_now_goes_to_the_last_one() {
    let harness = Harness::with(with(2));
    for kind in TCP_KINDS {
        let first = Link::new(kind, 0);
        harness.carries(&first, FORTH, SYN);
        // Probes or the kernel's own counts took it out meanwhile.
        harness.write_backend(kind, 1, |entry| entry.active = false);
        harness.write_ring(kind, &[backend_id(kind, 2)]);
        refuses(&harness, &first);
        has_moved(&harness, &first);
        assert_eq!(failures(&harness, kind, 1), (1, 0, 1), "{kind}");

        // Of the last one itself the client learns what it says: there is no other.
        let last = Link { backend: 2, ..Link::new(kind, 1) };
        harness.carries(&last, FORTH, SYN);
        harness.carries(&last, BACK, RST | ACK);
    }
}

#[test]
fn an_answer_before_the_reset_is_no_refusal() {
    let harness = Harness::with(with(2));
    for kind in TCP_KINDS {
        let answered = Link::new(kind, 0);
        harness.carries(&answered, FORTH, SYN);
        harness.carries(&answered, BACK, SYN | ACK);
        harness.carries(&answered, BACK, RST);
        assert_eq!(harness.opened_closed(kind, 1), (1, 1), "{kind}");
        let open = Link { backend: 2, ..Link::new(kind, 1) };
        harness.connects(&open);
        harness.carries(&open, BACK, RST);
        assert_eq!(harness.opened_closed(kind, 2), (1, 1), "{kind}");
        for n in [1, 2] {
            assert_eq!(failures(&harness, kind, n), (0, 0, 0), "{kind}");
        }
        let resets = [1, 2].map(|n| harness.counters(kind, n).reset);
        assert_eq!(resets, [0, 1], "{kind}");
    }
}

#[test]
fn where_there_is_no_other_backend_the_client_is_told() {
    let harness = Harness::new();
    for kind in TCP_KINDS {
        let link = Link::new(kind, 0);
        harness.carries(&link, FORTH, SYN);
        harness.carries(&link, BACK, RST | ACK);
        assert_eq!(harness.opened_closed(kind, 1), (1, 1), "{kind}");
        // The client may try again, and has the same one.
        harness.carries(&link, FORTH, SYN);
        thread::sleep(TOO_LONG);
        harness.carries(&link, FORTH, SYN);
        assert_eq!(harness.opened_closed(kind, 1), (2, 1), "{kind}");
        assert_eq!(failures(&harness, kind, 1), (1, 0, 0), "{kind}");
    }
}

#[test]
fn four_backends_have_an_attempt_and_no_more() {
    let harness = Harness::with(with(6));
    for kind in TCP_KINDS {
        let to = |backend| Link { backend, ..Link::new(kind, 0) };
        for n in 1..=3 {
            harness.carries(&to(n), FORTH, SYN);
            refuses(&harness, &to(n));
        }
        harness.carries(&to(4), FORTH, SYN);
        harness.carries(&to(4), BACK, RST | ACK);
        for n in 1..=6 {
            let tried = u64::from(n <= 4);
            assert_eq!(harness.opened_closed(kind, n), (tried, tried), "{kind}: {n}");
            let moved = u64::from(n <= 3);
            assert_eq!(failures(&harness, kind, n), (tried, 0, moved), "{kind}: {n}");
            assert_eq!(harness.load(kind, n), (0, 0), "{kind}: {n}");
        }
        // Told, the client begins anew: with four attempts more.
        harness.carries(&to(5), FORTH, SYN);
        refuses(&harness, &to(5));
        harness.carries(&to(6), FORTH, SYN);
        assert_eq!(harness.entries(kind), 2, "{kind}");
    }
}

#[test]
fn an_attempt_that_three_did_not_answer_stays_with_the_fourth() {
    let harness = Harness::with(with(6));
    for kind in TCP_KINDS {
        for n in [1, 2, 3, 4, 4] {
            harness.carries(&Link { backend: n, ..Link::new(kind, 0) }, FORTH, SYN);
            thread::sleep(TOO_LONG);
        }
        assert_eq!(failures(&harness, kind, 3), (0, 1, 1), "{kind}");
        assert_eq!(failures(&harness, kind, 4), (0, 0, 0), "{kind}");
        assert_eq!(harness.opened_closed(kind, 4), (1, 0), "{kind}");
    }
}

#[test]
fn datagrams_stay_where_they_are() {
    let harness = Harness::with(with(2));
    for kind in [UDP4, UDP6] {
        let link = Link::new(kind, 0);
        harness.carries(&link, FORTH, 0);
        thread::sleep(TOO_LONG);
        harness.carries(&link, FORTH, 0);
        assert_eq!(harness.opened_closed(kind, 1), (1, 0), "{kind}");
        assert_eq!(failures(&harness, kind, 1), (0, 0, 0), "{kind}");
    }
}

#[test]
fn what_is_answered_elsewhere_stays_where_it_is() {
    let mut setup = with(2);
    setup.policy.settings.forwarding = forwarding::DSR;
    let harness = Harness::with(setup);
    for kind in TCP_KINDS {
        for _ in 0..2 {
            let frame = Link::new(kind, 0).frame(FORTH, SYN).build();
            assert_eq!(harness.run(&frame).verdict, "to-backend", "{kind}");
            thread::sleep(TOO_LONG);
        }
        assert_eq!(harness.opened_closed(kind, 1), (1, 0), "{kind}");
        assert_eq!(harness.opened_closed(kind, 2), (0, 0), "{kind}");
    }
}

/// Sends frames one after the other, each at the same moment as the other thread its own, or a little
/// later. Returns what became of them.
fn beside(
    harness: &Harness,
    other: (&AtomicUsize, &AtomicUsize),
    late: impl Fn(usize) -> usize,
    frames: &[Vec<u8>],
) -> Vec<(u32, Vec<u8>)> {
    let (mine, theirs) = other;
    let one = |(number, frame): (usize, &Vec<u8>)| {
        mine.store(number + 1, Ordering::SeqCst);
        while theirs.load(Ordering::SeqCst) <= number {
            hint::spin_loop();
        }
        for _ in 0..late(number) {
            hint::spin_loop();
        }
        harness.send(None, frame)
    };
    frames.iter().enumerate().map(one).collect()
}

#[test]
fn an_answer_that_crosses_the_next_attempt_is_not_given_to_a_client_that_moved() {
    const ATTEMPTS: u16 = 500;
    let harness = Harness::with(Setup { connections: 4096, ..with(2) });
    let kind = TCP4;
    let asked: Vec<_> =
        (0..ATTEMPTS).map(|turn| Link::new(kind, turn).plain(FORTH, SYN).0).collect();
    let sent: Vec<_> =
        asked.iter().map(|frame| parse(&harness.run(frame).bytes).unwrap()).collect();
    let answer = |sent: &Parsed| {
        let from = kind.frame(SYN | ACK).from(sent.destination, sent.destination_port);
        from.to(sent.source, sent.source_port).build()
    };
    let answers: Vec<_> = sent.iter().map(answer).collect();
    thread::sleep(TOO_LONG);

    let (asking, answering) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (asked, answered) = thread::scope(|scope| {
        let ask = || beside(&harness, (&asking, &answering), |_| 0, &asked);
        let asked = scope.spawn(ask);
        // The answer has less to do, and so meets the other one's work at all its points.
        let late = |number| number % 50;
        let answered = beside(&harness, (&answering, &asking), late, &answers);
        (asked.join().unwrap(), answered)
    });

    let mut moved = 0;
    for ((sent, (asked, bytes)), (answered, _)) in sent.iter().zip(&asked).zip(&answered) {
        assert!(is_sent(*asked), "a SYN was not sent on: action {asked}");
        let stays = parse(bytes).unwrap().destination == sent.destination;
        assert!(
            stays || !is_sent(*answered),
            "the client has an answer of the backend that it left"
        );
        moved += u32::from(!stays);
    }
    assert!(moved > 0, "no attempt moved");
}

fn is_sent(action: u32) -> bool {
    [XDP_TX, XDP_REDIRECT].contains(&action)
}
