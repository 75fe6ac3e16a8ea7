//! Fragments: the first one of a packet opens or finds its connection, the others follow it, in every
//! mode and both directions; without a first one none is balanced.

use evenkeel_tests::{
    frame::{
        DESTINATION, FRAGMENT, Frame, HOP_BY_HOP, PSH, ROUTING, SERVICE_VLAN, SYN, VLAN,
        fragments4, fragments6, parse,
    },
    topology::Family,
};

use crate::{
    harness::{Harness, Setup, same},
    modes::{MODES, Mode},
    world::{KINDS, Kind, Link, TCP_KINDS, TCP4, UDP4, UDP6, Way},
};

/// Data of the fragments; what is left goes into one more.
const SIZES: [usize; 3] = [40, 8, 104];

/// The later fragments in every order.
const ORDERS: [[usize; 3]; 6] = [[1, 2, 3], [3, 2, 1], [2, 1, 3], [2, 3, 1], [3, 1, 2], [1, 3, 2]];

/// A packet of `link` of 200 bytes that may be fragmented.
fn packet(link: &Link, way: Way, flags: u8) -> Frame {
    let payload: Vec<u8> = (0..200).collect();
    link.frame(way, flags).dont_fragment(false).payload(&payload)
}

/// Fragments of a packet with this identification.
fn split(kind: Kind, id: u32) -> impl Fn(&Frame) -> Vec<Vec<u8>> {
    move |frame| {
        if kind.is_v4() {
            let id = u16::try_from(id & 0xffff).unwrap();
            fragments4(&frame.clone().id(id).build(), &SIZES)
        } else {
            fragments6(&frame.build(), id, &SIZES)
        }
    }
}

/// The fragments of a packet, and what must leave for each.
fn golden(mode: Mode, link: &Link, way: Way, frame: &Frame, id: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
    mode.golden(link, way, (frame, 64), split(link.kind, id))
}

/// Opens a connection by plain packets.
fn open(harness: &Harness, mode: Mode, link: &Link) {
    for (step, way, flags) in mode.life() {
        let (frame, expected) = mode.whole(link, way, &link.frame(way, flags), 64);
        harness.forwards(&format!("{mode}, {}: {step}", link.kind), way, &frame, &expected);
    }
}

/// What a fragment gets whose packet is not known.
const fn stray(way: Way) -> &'static str {
    match way {
        Way::Forth => "drop-fragment",
        // For NAT's source, or for a client.
        Way::Back => "pass-fragment",
    }
}

/// Something to add to a packet, by its name.
type Dressing = (&'static str, fn(Frame) -> Frame);

/// What else may stand in a fragmented packet.
fn dressings(kind: Kind) -> Vec<Dressing> {
    let mut dressings: Vec<Dressing> = vec![
        ("plain", |frame| frame),
        ("a tag", |frame| frame.vlan(VLAN, 0x600a)),
        ("two tags", |frame| frame.vlan(SERVICE_VLAN, 7).vlan(VLAN, 9)),
        ("an odd end", |frame| frame.payload(&[0xee; 201])),
    ];
    if kind.is_v4() {
        dressings.extend([
            ("options of the first", (|frame| frame.ip_options(&[1; 8])) as fn(Frame) -> Frame),
            ("options of all", |frame| frame.ip_options(&[148, 4, 0, 0]).vlan(VLAN, 1)),
        ]);
    } else {
        dressings.extend([
            (
                "headers of all",
                (|frame| {
                    frame
                        .extension(HOP_BY_HOP, &[0, 1, 4, 0, 0, 0, 0])
                        .extension(ROUTING, &[0, 253, 0, 0, 0, 0, 0])
                }) as fn(Frame) -> Frame,
            ),
            // The later fragments do not say what their packet is (RFC 8200, section 4.5).
            ("options of the first", |frame| frame.extension(DESTINATION, &[0, 1, 4, 0, 0, 0, 0])),
            ("headers of all and options of the first", |frame| {
                frame
                    .extension(HOP_BY_HOP, &[0, 1, 4, 0, 0, 0, 0])
                    .extension(DESTINATION, &[0, 1, 4, 0, 0, 0, 0])
                    .vlan(VLAN, 3)
            }),
        ]);
    }
    dressings
}

fn fragments_follow_their_first(mode: Mode) {
    let harness = Harness::with(mode.setup());
    // Over IPv6 protocols share identifications: no kind uses those of another.
    let mut id = 0x1_2340;
    for kind in KINDS {
        let link = mode.link(kind, 0);
        open(&harness, mode, &link);
        for (dressing, dress) in dressings(kind) {
            for way in mode.ways() {
                let frame = dress(packet(&link, *way, PSH));
                for order in ORDERS {
                    id += 1;
                    let parts = golden(mode, &link, *way, &frame, id);
                    assert_eq!(parts.len(), 4);
                    let name = |n| format!("{mode}, {kind}, {dressing}, {way:?}: {n} of {order:?}");
                    for n in &order[..2] {
                        let ran = harness.run(&parts[*n].0);
                        assert_eq!(ran.verdict, stray(*way), "{} before", name(*n));
                    }
                    for n in [&[0][..], &order, &[0]].concat() {
                        let (frame, expected) = &parts[n];
                        harness.forwards(&name(n), *way, frame, expected);
                    }
                }
            }
        }
        let counters = harness.counters(kind, 1);
        assert_eq!(counters.opened, 1, "{mode}, {kind}");
    }
}

#[test]
fn fragments_follow_their_first_through_nat() {
    fragments_follow_their_first(Mode::Nat);
}

#[test]
fn fragments_follow_their_first_through_nat_that_keeps_addresses() {
    fragments_follow_their_first(Mode::Kept);
}

#[test]
fn fragments_follow_their_first_to_dsr() {
    fragments_follow_their_first(Mode::Dsr);
}

#[test]
fn fragments_follow_their_first_into_ipip() {
    fragments_follow_their_first(Mode::Ipip(Family::V4));
    fragments_follow_their_first(Mode::Ipip(Family::V6));
}

#[test]
fn fragments_follow_their_first_into_gue() {
    fragments_follow_their_first(Mode::Gue(Family::V4));
    fragments_follow_their_first(Mode::Gue(Family::V6));
}

#[test]
fn a_first_fragment_opens_a_connection() {
    for mode in MODES {
        let harness = Harness::with(mode.setup());
        for kind in KINDS {
            let link = mode.link(kind, 3);
            let id = 77 + kind.id().0;
            let parts = golden(mode, &link, Way::Forth, &packet(&link, Way::Forth, SYN), id);
            harness.drops("before", &parts[1].0, "drop-fragment");
            for (frame, expected) in &parts {
                harness.forwards(&format!("{mode}, {kind}"), Way::Forth, frame, expected);
            }
            let counters = harness.counters(kind, 1);
            assert_eq!((counters.opened, counters.packets_in), (1, 4), "{mode}, {kind}");
        }
    }
}

#[test]
fn fragments_of_a_packet_for_no_service_pass_as_their_first_does() {
    let harness = Harness::new();
    for (kind, id) in KINDS.into_iter().zip(1..) {
        let link = Link::new(kind, 0);
        let mut cases = vec![
            (
                "another port",
                packet(&link, Way::Forth, SYN).destination_port(81),
                "pass-no-service",
            ),
            (
                "NAT's address",
                packet(&link, Way::Forth, SYN).to(kind.source(0), 22),
                "pass-no-service",
            ),
        ];
        if kind.is_tcp() {
            cases.push(("no connection", packet(&link, Way::Forth, PSH), "pass-no-connection"));
        }
        for ((name, frame, verdict), n) in cases.into_iter().zip(0..) {
            for part in split(kind, 16 * id + n)(&frame) {
                harness.passes(&format!("{kind}, {name}"), &part, verdict);
            }
        }
    }
}

#[test]
fn fragments_of_other_protocols_pass() {
    let harness = Harness::new();
    for kind in KINDS {
        for protocol in [1, 58, 132, 50] {
            let frame = packet(&Link::new(kind, 0), Way::Forth, SYN).protocol(protocol);
            for part in split(kind, 5)(&frame) {
                harness.passes(&format!("{kind}, protocol {protocol}"), &part, "pass-protocol");
            }
        }
    }
}

#[test]
fn fragments_of_a_packet_that_was_not_let_in_reach_no_backend() {
    let harness = Harness::new();
    for kind in KINDS {
        harness.write_ring(kind, &[]);
        let parts = split(kind, 5)(&packet(&Link::new(kind, 0), Way::Forth, SYN));
        harness.drops("the first", &parts[0], "drop-no-backend");
        for part in &parts[1..] {
            // Of TCP's the host has to see those whose packet opens nothing, and a later fragment
            // does not tell: without its first one it comes to nothing there.
            if kind.is_tcp() {
                harness.passes("a later one", part, "pass-no-connection");
            } else {
                harness.drops("a later one", part, "drop-fragment");
            }
        }
    }
}

#[test]
fn an_identification_used_again_is_the_newer_packets() {
    for mode in [Mode::Nat, Mode::Kept, Mode::Gue(Family::V4)] {
        let harness = Harness::with(Setup { weights: vec![1; 2], ..mode.setup() });
        for kind in KINDS {
            // Two connections of one client, to two backends.
            let [one, two] =
                [(0, 1), (1, 2)].map(|(turn, backend)| Link { backend, ..mode.link(kind, turn) });
            let parts = [&one, &two].map(|link| {
                open(&harness, mode, link);
                golden(mode, link, Way::Forth, &packet(link, Way::Forth, PSH), 9)
            });
            let check = |name: &str, (frame, expected): &(Vec<u8>, Vec<u8>)| {
                harness.forwards(&format!("{mode}, {kind}: {name}"), Way::Forth, frame, expected);
            };
            check("one's first", &parts[0][0]);
            check("one's second", &parts[0][1]);
            check("two's first", &parts[1][0]);
            // On the wire, one's later fragments look as two's do.
            assert_eq!(parts[0][2].0, parts[1][2].0);
            check("two's third", &parts[1][2]);
            check("one's first again", &parts[0][0]);
            check("one's last", &parts[0][3]);
        }
    }
}

#[test]
fn what_tells_packets_apart_is_their_addresses_protocol_and_identification() {
    let mode = Mode::Nat;
    let harness = Harness::with(mode.setup());
    for kind in KINDS {
        let link = mode.link(kind, 0);
        open(&harness, mode, &link);
        let frame = packet(&link, Way::Forth, PSH);
        let parts = golden(mode, &link, Way::Forth, &frame, 0x1_0001);
        harness.forwards("first", Way::Forth, &parts[0].0, &parts[0].1);
        let other = |frame: &Frame, id: u32| split(kind, id)(frame)[1].clone();
        harness.drops("another identification", &other(&frame, 2), "drop-fragment");
        if !kind.is_v4() {
            // All thirty-two bits count.
            harness.drops("another identification", &other(&frame, 1), "drop-fragment");
        }
        let stranger = match kind.family {
            Family::V4 => "198.51.100.3".parse::<std::net::IpAddr>(),
            Family::V6 => "2001:db8:1::3".parse(),
        };
        let stranger = frame.clone().from(stranger.unwrap(), link.client.1);
        harness.drops("another client", &other(&stranger, 0x1_0001), "drop-fragment");
        harness.forwards("second", Way::Forth, &parts[1].0, &parts[1].1);
    }
    // Over IPv4 both protocols count on their own.
    let [tcp, udp] = [TCP4, UDP4].map(|kind| {
        let link = mode.link(kind, 9);
        golden(mode, &link, Way::Forth, &packet(&link, Way::Forth, SYN), 0x77)
    });
    harness.forwards("TCP's first", Way::Forth, &tcp[0].0, &tcp[0].1);
    harness.drops("UDP's second", &udp[1].0, "drop-fragment");
    harness.forwards("UDP's first", Way::Forth, &udp[0].0, &udp[0].1);
    harness.forwards("TCP's second", Way::Forth, &tcp[1].0, &tcp[1].1);
    harness.forwards("UDP's second", Way::Forth, &udp[1].0, &udp[1].1);
}

#[test]
fn a_large_datagram_goes_both_ways() {
    let mode = Mode::Nat;
    let harness = Harness::with(mode.setup());
    for kind in [UDP4, UDP6] {
        let link = mode.link(kind, 0);
        open(&harness, mode, &link);
        let payload: Vec<u8> = (0..=255).cycle().take(8000).collect();
        for way in [Way::Forth, Way::Back] {
            let frame = link.frame(way, 0).dont_fragment(false).payload(&payload);
            let split = |frame: &Frame| {
                let sizes = [1448; 5];
                if kind.is_v4() {
                    fragments4(&frame.build(), &sizes)
                } else {
                    fragments6(&frame.build(), 7, &sizes)
                }
            };
            for (frame, expected) in mode.golden(&link, way, (&frame, 64), split) {
                harness.forwards(&format!("{kind}, {way:?}"), way, &frame, &expected);
            }
        }
    }
}

#[test]
fn a_first_fragment_must_have_its_transport_header() {
    let harness = Harness::new();
    for kind in TCP_KINDS {
        // Eight bytes of TCP: ports, but no flags (RFC 1858 tells why).
        let frame = packet(&Link::new(kind, 0), Way::Forth, SYN);
        let parts = if kind.is_v4() {
            fragments4(&frame.build(), &[8])
        } else {
            fragments6(&frame.build(), 3, &[8])
        };
        harness.drops("tiny", &parts[0], "drop-malformed-transport");
        harness.drops("the rest", &parts[1], "drop-fragment");
    }
    // Eight are enough for UDP.
    for kind in [UDP4, UDP6] {
        let link = Mode::Nat.link(kind, 0);
        let split = |frame: &Frame| {
            if kind.is_v4() {
                fragments4(&frame.build(), &[8])
            } else {
                fragments6(&frame.build(), 3, &[8])
            }
        };
        let frame = packet(&link, Way::Forth, 0);
        for (frame, expected) in Mode::Nat.golden(&link, Way::Forth, (&frame, 64), split) {
            harness.forwards("eight bytes", Way::Forth, &frame, &expected);
        }
    }
}

#[test]
fn no_cut_of_a_fragment_is_forwarded() {
    let mode = Mode::Nat;
    let harness = Harness::with(mode.setup());
    for kind in KINDS {
        let link = mode.link(kind, 0);
        open(&harness, mode, &link);
        for (dressing, dress) in dressings(kind) {
            let parts = golden(mode, &link, Way::Forth, &dress(packet(&link, Way::Forth, PSH)), 6);
            for (frame, expected) in &parts {
                for length in 14..frame.len() {
                    let ran = harness.run(&frame[..length]);
                    let name = format!("{kind}, {dressing}, {length}: {}", ran.verdict);
                    let stopped = ["drop-malformed-ip", "drop-malformed-transport", "pass-not-ip"];
                    assert!(stopped.contains(&ran.verdict), "{name}");
                }
                let ran = harness.run(frame);
                same(&format!("{kind}, {dressing}"), &ran.bytes, expected);
            }
        }
    }
}

#[test]
fn a_fragment_header_with_its_rest_reserved_is_read_as_it_is() {
    // Reserved bits are ignored on receipt (RFC 8200, section 4.5).
    let mode = Mode::Nat;
    let harness = Harness::with(mode.setup());
    let link = mode.link(UDP6, 0);
    let frame = link.frame(Way::Forth, 0).extension(FRAGMENT, &[0xff, 0, 6, 1, 2, 3, 4]);
    let (frame, expected) = mode.whole(&link, Way::Forth, &frame, 64);
    harness.forwards("atomic", Way::Forth, &frame, &expected);
    assert!(!parse(&expected).unwrap().is_fragment());
}
