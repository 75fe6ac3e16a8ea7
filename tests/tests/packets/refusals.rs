//! What cannot be served: refused with the reason's name, and without a trace in the tables.

use std::{sync::Barrier, thread};

use evenkeel_tests::frame::{ACK, FIN, PSH, RST, SYN};

use crate::{
    harness::{Harness, Setup},
    world::{FIRST_PORT, KINDS, Kind, Link, TCP_KINDS, TCP4, Way},
};

#[test]
fn a_service_whose_backends_are_not_judged_yet_drops() {
    let harness = Harness::new();
    for kind in KINDS {
        harness.write_ring(kind, &[]);
        let (frame, _) = Link::new(kind, 0).plain(Way::Forth, SYN);
        harness.drops(&format!("{kind}"), &frame, "drop-no-backend");
        harness.drops(&format!("{kind}, again"), &frame, "drop-no-backend");
    }
    assert_eq!(harness.census().entries, 0);
}

#[test]
fn a_used_up_source_port_drops_the_next_connection_only() {
    let harness = Harness::with(Setup { ports: 1, ..Setup::default() });
    let only = |kind: Kind| Link { source: (kind.source(0), FIRST_PORT), ..Link::new(kind, 0) };
    for kind in KINDS {
        let first = only(kind);
        harness.connects(&first);
        let (frame, _) = Link::new(kind, 1).plain(Way::Forth, SYN);
        harness.drops(&format!("{kind}"), &frame, "drop-no-source-port");
        harness.carries(&first, Way::Back, PSH | ACK);
        harness.carries(&first, Way::Forth, PSH);
        assert_eq!(harness.opened_closed(kind, 1), (1, 0), "{kind}");
        assert_eq!(harness.entries(kind), 2, "{kind}");
    }
    for kind in TCP_KINDS {
        harness.carries(&only(kind), Way::Back, RST);
        let next = Link { client: Link::new(kind, 1).client, ..only(kind) };
        harness.carries(&next, Way::Forth, SYN);
        assert_eq!(harness.opened_closed(kind, 1), (2, 1), "{kind}");
    }
}

#[test]
fn no_source_address_drops() {
    let harness = Harness::with(Setup { sources: 0, ..Setup::default() });
    for kind in KINDS {
        let (frame, _) = Link::new(kind, 0).plain(Way::Forth, SYN);
        harness.drops(&format!("{kind}"), &frame, "drop-no-source-port");
    }
    assert_eq!(harness.census().entries, 0);
}

#[test]
fn a_full_table_drops_the_newest_and_keeps_the_rest() {
    /// The unconfirmed ones have room of their own, and confirmed ones may take it.
    const ROOM: u16 = 8 + 4;
    let full = || Harness::with(Setup { connections: 8, unconfirmed: 4, ..Setup::default() });
    // Either family has a table, which its TCP and its UDP share.
    let (first, second) = (full(), full());
    for kind in KINDS {
        let harness = if kind.is_tcp() { &first } else { &second };
        for turn in 0..ROOM {
            harness.connects(&Link::new(kind, turn));
        }
        for turn in ROOM..2 * ROOM {
            let (frame, _) = Link::new(kind, turn).plain(Way::Forth, SYN);
            harness.drops(&format!("{kind}: connection {turn}"), &frame, "drop-table-full");
        }
        assert_eq!(harness.opened_closed(kind, 1), (ROOM.into(), 0), "{kind}");
        assert_eq!(harness.entries(kind), 2 * u64::from(ROOM), "{kind}");
        for turn in 0..ROOM {
            harness.carries(&Link::new(kind, turn), Way::Back, PSH | ACK);
            harness.carries(&Link::new(kind, turn), Way::Forth, ACK);
        }
        assert_eq!(harness.counters(kind, 1).evicted, 0, "{kind}");
    }
}

#[test]
fn no_half_of_a_connection_stays_in_a_full_table() {
    // Room for one more connection, and two CPUs that each may have entered half of theirs.
    let setup = Setup { connections: 1, unconfirmed: 1, ..Setup::default() };
    let harness = &Harness::with(setup);
    let start = &Barrier::new(2);
    for round in 0..60 {
        harness.connects(&Link::new(TCP4, 1000 + round));
        thread::scope(|scope| {
            for turn in [2 * round, 2 * round + 1] {
                let (frame, _) = Link::new(TCP4, turn).plain(Way::Forth, SYN);
                scope.spawn(move || {
                    start.wait();
                    harness.send(None, &frame);
                });
            }
        });
        let open = harness.counters(TCP4, 1).open();
        assert_eq!(harness.entries(TCP4), 2 * open, "round {round}");
        assert_eq!(harness.cut(TCP4, 1).ended, open, "round {round}");
    }
    let (opened, closed) = harness.opened_closed(TCP4, 1);
    assert!(opened > 60 && opened == closed);
    assert_eq!(harness.load(TCP4, 1), (0, 0));
    harness.carries(&Link::new(TCP4, 0), Way::Forth, SYN);
}

#[test]
fn a_removed_service_keeps_its_connections_and_opens_none() {
    let harness = Harness::new();
    for kind in KINDS {
        let link = Link::new(kind, 0);
        harness.carries(&link, Way::Forth, SYN);
        harness.remove_service(kind);
        harness.carries(&link, Way::Back, SYN | ACK);
        harness.carries(&link, Way::Forth, ACK);
        harness.carries(&link, Way::Forth, PSH);
        let (frame, _) = Link::new(kind, 1).plain(Way::Forth, SYN);
        harness.passes(&format!("{kind}: a new connection"), &frame, "pass-no-service");
        if kind.is_tcp() {
            harness.carries(&link, Way::Forth, FIN | ACK);
            harness.carries(&link, Way::Back, FIN | ACK);
            harness.carries(&link, Way::Forth, ACK);
            assert_eq!(harness.opened_closed(kind, 1), (1, 1), "{kind}");
            let (frame, _) = link.plain(Way::Forth, SYN);
            harness.passes(&format!("{kind}: the port again"), &frame, "pass-no-service");
        }
    }
}
