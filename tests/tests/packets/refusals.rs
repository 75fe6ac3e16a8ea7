//! What cannot be served: refused with the reason's name, and without a trace in the tables.

use evenkeel_tests::frame::{ACK, FIN, PSH, RST, SYN};

use crate::{
    harness::{Harness, Setup},
    world::{KINDS, Link, TCP_KINDS, TCP4, UDP4, Way},
};

#[test]
fn a_service_without_a_backend_drops() {
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
    for kind in KINDS {
        let first = Link::new(kind, 0);
        harness.carries(&first, Way::Forth, SYN);
        let (frame, _) = Link::new(kind, 1).plain(Way::Forth, SYN);
        harness.drops(&format!("{kind}"), &frame, "drop-no-source-port");
        harness.carries(&first, Way::Back, SYN | ACK);
        harness.carries(&first, Way::Forth, PSH);
        assert_eq!(harness.opened_closed(kind, 1), (1, 0), "{kind}");
        assert_eq!(harness.entries(kind), 2, "{kind}");
    }
    for kind in TCP_KINDS {
        harness.carries(&Link::new(kind, 0), Way::Back, RST);
        let next = Link { client: Link::new(kind, 1).client, ..Link::new(kind, 0) };
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
    const ROOM: u16 = 8;
    for kind in KINDS {
        let harness = Harness::with(Setup { connections: ROOM.into(), ..Setup::default() });
        for turn in 0..ROOM {
            harness.carries(&Link::new(kind, turn), Way::Forth, SYN);
        }
        for turn in ROOM..2 * ROOM {
            let (frame, _) = Link::new(kind, turn).plain(Way::Forth, SYN);
            harness.drops(&format!("{kind}: connection {turn}"), &frame, "drop-table-full");
        }
        assert_eq!(harness.opened_closed(kind, 1), (ROOM.into(), 0), "{kind}");
        assert_eq!(harness.entries(kind), 2 * u64::from(ROOM), "{kind}");
        for turn in 0..ROOM {
            harness.carries(&Link::new(kind, turn), Way::Back, SYN | ACK);
            harness.carries(&Link::new(kind, turn), Way::Forth, ACK);
        }
    }
}

#[test]
fn half_a_connection_is_never_left_in_a_full_table() {
    // TCP and UDP share a table: an odd number of free entries cannot be made from outside, but
    // one connection's worth can.
    const ROOM: u16 = 4;
    let harness = Harness::with(Setup { connections: ROOM.into(), ..Setup::default() });
    for turn in 0..ROOM - 1 {
        harness.carries(&Link::new(TCP4, turn), Way::Forth, SYN);
    }
    harness.carries(&Link::new(UDP4, 0), Way::Forth, SYN);
    let (frame, _) = Link::new(UDP4, 1).plain(Way::Forth, SYN);
    harness.drops("UDP", &frame, "drop-table-full");
    assert_eq!((harness.entries(TCP4), harness.entries(UDP4)), (6, 2));
    assert_eq!(harness.cut(UDP4, 1).ended, 1);
    let (frame, _) = Link::new(UDP4, 1).plain(Way::Forth, SYN);
    assert_eq!(harness.run(&frame).verdict, "to-backend");
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
