//! `max_connections`: no backend has more established connections than that, and who finds them all
//! full is told, or not, as the service says.

use std::{sync::Barrier, thread};

use evenkeel_tests::frame::{ACK, RST, SYN, parse};
use lb_common::service::{flags, scheduler};

use crate::{
    harness::{Harness, Setup},
    world::{KINDS, Kind, Link, TCP_KINDS, TCP4, Way},
};

const FORTH: Way = Way::Forth;
const BACK: Way = Way::Back;

fn limited(backends: usize, most: u32, rejects: bool) -> Setup {
    let mut setup = Setup::settings(|settings| {
        settings.flags = if rejects { flags::REJECT } else { 0 };
    });
    setup.weights = vec![1; backends];
    setup.max_connections = Some(most);
    setup
}

/// The `turn`-th client's connection to whichever backend gets it: confirmed.
fn connect(harness: &Harness, kind: Kind, turn: u16) -> Link {
    let link = Link::new(kind, turn);
    let ran = harness.run(&link.frame(FORTH, SYN).build());
    assert_eq!(ran.verdict, "to-backend", "{kind}: connection {turn}");
    let to = parse(&ran.bytes).unwrap();
    let backend = (1..=15).find(|n| kind.backend(*n).ip() == to.destination).unwrap();
    let link = Link { backend, source: (to.source, to.source_port), ..link };
    harness.carries(&link, BACK, SYN | ACK);
    harness.carries(&link, FORTH, ACK);
    link
}

/// A client's packet that finds every backend full.
fn finds_no_room(harness: &Harness, link: &Link, flags: u8, rejects: bool) {
    let (frame, _) = link.plain(FORTH, flags);
    if rejects {
        assert_eq!(harness.run(&frame).verdict, "reply-overload", "{}", link.kind);
    } else {
        harness.drops(&format!("{}", link.kind), &frame, "drop-overload");
    }
}

#[test]
fn a_connection_beyond_every_maximum_is_refused() {
    for rejects in [true, false] {
        let harness = Harness::with(limited(2, 2, rejects));
        for kind in KINDS {
            let links: Vec<_> = (0..4).map(|turn| connect(&harness, kind, turn)).collect();
            let full = |harness: &Harness| {
                assert_eq!([1, 2].map(|n| harness.load(kind, n)), [(2, 2); 2], "{kind}");
            };
            full(&harness);
            for turn in 4..8 {
                finds_no_room(&harness, &Link::new(kind, turn), SYN, rejects);
            }
            assert_eq!(harness.entries(kind), 8, "{kind}");
            assert_eq!(harness.opened_closed(kind, 1), (2, 0), "{kind}");
            for link in &links {
                harness.carries(link, FORTH, ACK);
                harness.carries(link, BACK, ACK);
            }
            // Room again, at one backend.
            let freed = if kind.is_tcp() {
                harness.carries(&links[1], FORTH, RST);
                1
            } else {
                harness.cut(kind, links[1].backend).ended
            };
            for turn in 8..8 + u16::try_from(freed).unwrap() {
                assert_eq!(connect(&harness, kind, turn).backend, links[1].backend, "{kind}");
            }
            full(&harness);
            finds_no_room(&harness, &Link::new(kind, 20), SYN, rejects);
        }
    }
}

#[test]
fn a_handshake_that_comes_too_late_is_closed_and_told() {
    for rejects in [true, false] {
        let harness = Harness::with(limited(1, 1, rejects));
        for kind in KINDS {
            // All three began while there was room: only established connections count.
            let links = [0, 1, 2].map(|turn| Link::new(kind, turn));
            for link in &links {
                harness.carries(link, FORTH, SYN);
                harness.carries(link, BACK, SYN | ACK);
            }
            assert_eq!(harness.load(kind, 1), (3, 0), "{kind}");
            harness.carries(&links[1], FORTH, ACK);
            assert_eq!(harness.load(kind, 1), (3, 1), "{kind}");
            for (late, open) in [(&links[0], 2), (&links[2], 1)] {
                finds_no_room(&harness, late, ACK, rejects);
                assert_eq!(harness.load(kind, 1), (open, 1), "{kind}");
            }
            assert_eq!(harness.opened_closed(kind, 1), (3, 2), "{kind}");
            harness.carries(&links[1], FORTH, ACK);
        }
    }
}

#[test]
fn handshakes_on_two_cpus_do_not_exceed_the_maximum() {
    const MOST: u32 = 20;
    let harness = &Harness::with(limited(1, MOST, false));
    for kind in TCP_KINDS {
        let links: Vec<_> = (0..200).map(|turn| Link::new(kind, turn)).collect();
        for link in &links {
            harness.carries(link, FORTH, SYN);
            harness.carries(link, BACK, SYN | ACK);
        }
        let start = &Barrier::new(2);
        thread::scope(|scope| {
            for half in links.chunks(100) {
                scope.spawn(move || {
                    start.wait();
                    for link in half {
                        harness.send(None, &link.frame(FORTH, ACK).build());
                    }
                });
            }
        });
        assert_eq!(harness.load(kind, 1), (MOST.into(), MOST.into()), "{kind}");
        assert_eq!(harness.opened_closed(kind, 1), (200, 180), "{kind}");
    }
}

#[test]
fn the_one_backend_with_room_is_found() {
    use scheduler::{LEAST_CONNECTIONS, MAGLEV, RANDOM, ROUND_ROBIN, SOURCE_HASH};
    for scheduler in [ROUND_ROBIN, LEAST_CONNECTIONS, MAGLEV, SOURCE_HASH, RANDOM] {
        let mut setup = limited(15, 1, false);
        setup.policy.settings.scheduler = scheduler;
        let harness = Harness::with(setup);
        let mut links: Vec<_> = (0..15).map(|turn| connect(&harness, TCP4, turn)).collect();
        // Each found the next one, until there was none.
        let mut backends: Vec<_> = links.iter().map(|link| link.backend).collect();
        backends.sort_unstable();
        assert_eq!(backends, (1..=15).collect::<Vec<_>>(), "{scheduler}");
        for turn in 15..45 {
            let victim = usize::from(turn) * 7 % 15;
            finds_no_room(&harness, &Link::new(TCP4, turn), SYN, false);
            harness.carries(&links[victim], FORTH, RST);
            let link = connect(&harness, TCP4, turn);
            assert_eq!(link.backend, links[victim].backend, "{scheduler}: {turn}");
            links[victim] = link;
        }
    }
}

#[test]
fn an_attempt_that_was_refused_goes_back_where_there_is_no_other_room() {
    let harness = Harness::with(limited(2, 1, false));
    for kind in TCP_KINDS {
        let first = Link::new(kind, 0);
        harness.carries(&first, FORTH, SYN);
        let other = connect(&harness, kind, 1);
        assert_eq!(other.backend, 2, "{kind}");
        harness.drops("refused", &first.plain(BACK, RST | ACK).0, "drop-refused");
        // The other one is full by now.
        harness.connects(&first);
        assert_eq!([1, 2].map(|n| harness.load(kind, n)), [(1, 1); 2], "{kind}");
        assert_eq!(harness.opened_closed(kind, 1), (2, 1), "{kind}");
    }
}
