//! What stands between Ethernet and the transport header: VLAN tags, IPv4 options, IPv6 extension
//! headers. It is kept, in every mode and both directions, and what is too much of it is not balanced.

use evenkeel_tests::{
    frame::{
        DESTINATION, FRAGMENT, Frame, HOP_BY_HOP, PSH, ROUTING, SERVICE_VLAN, SYN, VLAN, parse,
    },
    topology::Family,
};

use crate::{
    harness::Harness,
    modes::Mode,
    world::{KINDS, Kind, Link, TCP6, UDP6, Way},
};

/// Options of a hop-by-hop or destination header of eight bytes: padding (RFC 8200, section 4.2).
const PADDING: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];
/// A routing header that is used up: its length, an experimental type, no segment left.
const ROUTED: [u8; 7] = [0, 253, 0, 0, 0, 0, 0];
/// A fragment header of a whole packet (RFC 6946).
const ATOMIC: [u8; 7] = [0, 0, 0, 0xca, 0xfe, 0, 1];

/// A hop-by-hop or destination header of `bytes`.
fn long(bytes: usize) -> Vec<u8> {
    let mut header = vec![0; bytes - 1];
    header[0] = u8::try_from(bytes / 8 - 1).unwrap();
    header
}

/// Adds extension headers in this order.
fn extended(frame: Frame, numbers: &[u8]) -> Frame {
    numbers.iter().fold(frame, |frame, number| match *number {
        ROUTING => frame.extension(ROUTING, &ROUTED),
        FRAGMENT => frame.extension(FRAGMENT, &ATOMIC),
        number => frame.extension(number, &PADDING),
    })
}

/// Ways to put something between Ethernet and the transport header.
fn variants(kind: Kind, frame: &Frame) -> Vec<(String, Frame)> {
    let mut variants = tagged(frame);
    if kind.is_v4() {
        for words in 1..=10 {
            let mut options = vec![1; 4 * words];
            *options.last_mut().unwrap() = 0;
            let name = format!("{words} words of options");
            variants.push((name, frame.clone().ip_options(&options)));
        }
        // Record route, which nobody fills in on the way through here; router alert.
        let route = frame.clone().ip_options(&[7, 7, 4, 0, 0, 0, 0, 0]);
        variants.push(("a recorded route".to_owned(), route));
        let alert = frame.clone().ip_options(&[148, 4, 0, 0]).payload(b"odd");
        variants.push(("a tag and options".to_owned(), alert.vlan(VLAN, 5)));
    } else {
        let all = [HOP_BY_HOP, DESTINATION, ROUTING, FRAGMENT];
        let mut chains: Vec<Vec<u8>> = all.iter().map(|number| vec![*number]).collect();
        chains.extend([
            vec![HOP_BY_HOP, DESTINATION],
            vec![HOP_BY_HOP, ROUTING],
            vec![DESTINATION, ROUTING, DESTINATION],
            vec![HOP_BY_HOP, FRAGMENT, DESTINATION],
            // One of each and the one that may stand twice.
            vec![HOP_BY_HOP, DESTINATION, ROUTING, FRAGMENT, DESTINATION],
            vec![DESTINATION; 6],
        ]);
        for chain in chains {
            let name = format!("extensions {chain:?}");
            variants.push((name, extended(frame.clone(), &chain)));
        }
        for bytes in [16, 256, 2048] {
            let name = format!("a hop-by-hop header of {bytes} bytes");
            variants.push((name, frame.clone().extension(HOP_BY_HOP, &long(bytes))));
        }
        let both = extended(frame.clone(), &[HOP_BY_HOP, DESTINATION]).payload(b"odd");
        let both = both.vlan(SERVICE_VLAN, 5).vlan(VLAN, 6);
        variants.push(("two tags and extensions".to_owned(), both));
    }
    variants
}

/// VLAN tags, with their priority bits.
fn tagged(frame: &Frame) -> Vec<(String, Frame)> {
    let tags: [&[(u16, u16)]; 6] = [
        &[(VLAN, 7)],
        &[(VLAN, 0xffff)],
        &[(SERVICE_VLAN, 0x6064)],
        &[(SERVICE_VLAN, 7), (VLAN, 9)],
        &[(VLAN, 0xe00a), (VLAN, 0x1fff)],
        &[(SERVICE_VLAN, 1), (SERVICE_VLAN, 2)],
    ];
    let add = |tags: &[(u16, u16)]| {
        tags.iter().fold(frame.clone(), |frame, (ether_type, id)| frame.vlan(*ether_type, *id))
    };
    tags.iter().map(|tags| (format!("tags {tags:x?}"), add(tags))).collect()
}

fn is_kept(mode: Mode) {
    let harness = Harness::with(mode.setup());
    for kind in KINDS {
        let count = variants(kind, &kind.frame(SYN)).len();
        for variant in 0..count {
            let link = mode.link(kind, variant.try_into().unwrap());
            for (step, way, flags) in mode.life() {
                let frames = variants(kind, &link.frame(way, flags));
                let (variant, frame) = frames.into_iter().nth(variant).unwrap();
                for (name, frame) in [("", frame.clone()), (", padded", frame.trailer(&[0; 9]))] {
                    let (frame, expected) = mode.whole(&link, way, &frame, 64);
                    let name = format!("{mode}, {kind}, {variant}: {step}{name}");
                    harness.forwards(&name, way, &frame, &expected);
                }
            }
            // What stands there or not is no matter of the connection.
            let (frame, expected) = mode.whole(&link, Way::Forth, &link.frame(Way::Forth, PSH), 9);
            harness.forwards(&format!("{mode}, {kind}: plain"), Way::Forth, &frame, &expected);
        }
        let opened = harness.counters(kind, 1).opened;
        assert_eq!(opened, u64::try_from(count).unwrap(), "{mode}, {kind}");
    }
}

#[test]
fn nat_keeps_what_it_walks_over() {
    is_kept(Mode::Nat);
    is_kept(Mode::Kept);
}

#[test]
fn dsr_keeps_what_it_walks_over() {
    is_kept(Mode::Dsr);
}

#[test]
fn ipip_keeps_what_it_walks_over() {
    is_kept(Mode::Ipip(Family::V4));
    is_kept(Mode::Ipip(Family::V6));
}

#[test]
fn gue_keeps_what_it_walks_over() {
    is_kept(Mode::Gue(Family::V4));
    is_kept(Mode::Gue(Family::V6));
}

/// A frame for the service, and the same for another address of ours.
fn for_either(frame: &Frame, kind: Kind) -> [Frame; 2] {
    [frame.clone(), frame.clone().to(kind.source(0), 1024)]
}

#[test]
fn a_third_tag_is_not_walked() {
    let harness = Harness::new();
    for kind in KINDS {
        let frame = kind.frame(SYN).vlan(SERVICE_VLAN, 1).vlan(VLAN, 2).vlan(VLAN, 3);
        for frame in for_either(&frame, kind) {
            harness.passes(&kind.to_string(), &frame.build(), "pass-not-ip");
        }
    }
}

#[test]
fn what_is_inside_a_tag_is_looked_at() {
    let harness = Harness::new();
    for kind in KINDS {
        for (tags, frame) in tagged(&kind.frame(SYN)) {
            let name = |what: &str| format!("{kind}, {tags}: {what}");
            let arp = frame.clone().ether_type(0x0806).build();
            harness.passes(&name("ARP"), &arp, "pass-not-ip");
            let port = frame.clone().destination_port(4711).build();
            harness.passes(&name("another port"), &port, "pass-no-service");
            let client = link_address(kind);
            harness.passes(
                &name("another host"),
                &frame.clone().to(client, 80).build(),
                "pass-not-ours",
            );
            harness.passes(&name("a TTL of one"), &frame.clone().ttl(1).build(), "pass-ttl");
            let broken = frame.clone().version(5).build();
            harness.drops(&name("version 5"), &broken, "drop-malformed-ip");
            let broken = frame.clone().version(5).to(kind.source(0), 1024).build();
            harness.passes(&name("version 5, not for a service"), &broken, "pass-not-ours");
        }
    }
}

fn link_address(kind: Kind) -> std::net::IpAddr {
    Link::new(kind, 0).client.0
}

#[test]
fn extension_headers_beyond_the_bound_are_dropped_for_a_service() {
    let harness = Harness::new();
    for kind in [TCP6, UDP6] {
        let frame = kind.frame(SYN);
        let chains: [Vec<u8>; 4] = [
            vec![DESTINATION; 7],
            vec![DESTINATION; 12],
            vec![HOP_BY_HOP, DESTINATION, ROUTING, FRAGMENT, DESTINATION, ROUTING, DESTINATION],
            // The second fragment header of a whole packet.
            vec![DESTINATION, DESTINATION, DESTINATION, ROUTING, ROUTING, ROUTING, FRAGMENT],
        ];
        for chain in chains {
            let [service, other] = for_either(&extended(frame.clone(), &chain), kind);
            let name = format!("{kind}, {chain:?}");
            harness.drops(&name, &service.build(), "drop-extensions");
            harness.passes(&name, &other.build(), "pass-not-ours");
        }
        let longest = frame.extension(HOP_BY_HOP, &long(2048)).extension(DESTINATION, &PADDING);
        let [service, other] = for_either(&longest, kind);
        harness.drops(&format!("{kind}, 2056 bytes"), &service.build(), "drop-extensions");
        harness.passes(&format!("{kind}, 2056 bytes"), &other.build(), "pass-not-ours");
    }
}

#[test]
fn extension_headers_that_contradict_the_length_are_dropped_for_a_service() {
    let harness = Harness::new();
    for kind in [TCP6, UDP6] {
        let mut cases = Vec::new();
        for number in [HOP_BY_HOP, DESTINATION, ROUTING] {
            // The header says that it goes on behind the end of the packet.
            let mut beyond = PADDING;
            beyond[0] = 200;
            if number == ROUTING {
                beyond[2] = 0;
            }
            cases.push(kind.frame(SYN).extension(number, &beyond));
        }
        // The packet ends within its extension headers; the frame goes on.
        for length in [0, 1, 7, 8, 15] {
            let frame = extended(kind.frame(SYN), &[HOP_BY_HOP, DESTINATION]);
            cases.push(frame.ip_length(length));
        }
        for frame in cases {
            let [service, other] = for_either(&frame, kind);
            let name = kind.to_string();
            harness.drops(&name, &service.build(), "drop-malformed-ip");
            harness.passes(&name, &other.build(), "pass-not-ours");
        }
        // Just the headers and no transport.
        let empty = extended(kind.frame(SYN), &[HOP_BY_HOP, DESTINATION]).ip_length(16);
        harness.drops("no transport", &empty.build(), "drop-malformed-transport");
    }
}

#[test]
fn a_routing_header_with_segments_left_passes() {
    let harness = Harness::new();
    for kind in [TCP6, UDP6] {
        for (chain, segments) in [(vec![], 1), (vec![HOP_BY_HOP], 255), (vec![DESTINATION; 5], 2)] {
            let frame = extended(kind.frame(SYN), &chain);
            let frame = frame.extension(ROUTING, &[0, 253, segments, 0, 0, 0, 0]);
            for frame in for_either(&frame, kind) {
                let name = format!("{kind}, {segments} segments");
                harness.passes(&name, &frame.build(), "pass-protocol");
            }
        }
    }
}

#[test]
fn other_protocols_behind_headers_pass() {
    let harness = Harness::new();
    for kind in KINDS {
        for (name, frame) in variants(kind, &kind.frame(SYN)) {
            for protocol in [132, 50, 59, 253] {
                let name = format!("{kind}, {name}, {protocol}");
                harness.passes(&name, &frame.clone().protocol(protocol).build(), "pass-protocol");
            }
        }
    }
}

#[test]
fn a_walked_packet_is_forwarded_whole_or_not_at_all() {
    let mode = Mode::Nat;
    let harness = Harness::with(mode.setup());
    for kind in KINDS {
        let link = mode.link(kind, 0);
        for (_, way, flags) in mode.life() {
            for (name, frame) in variants(kind, &link.frame(way, flags)) {
                let whole = frame.build();
                for length in lengths(whole.len()) {
                    let ran = harness.run(&whole[..length]);
                    let name = format!("{kind}, {name}, {way:?}, cut at {length}: {}", ran.verdict);
                    let stopped = match way {
                        Way::Forth => ran.verdict.starts_with("drop-malformed"),
                        Way::Back => ran.verdict == "pass-not-ours",
                    };
                    assert!(stopped || ran.verdict == "pass-not-ip", "{name}");
                }
                let (frame, expected) = mode.whole(&link, way, &frame, 64);
                harness.forwards(&format!("{kind}, {name}"), way, &frame, &expected);
            }
        }
        assert_eq!(harness.counters(kind, 1).opened, 1, "{kind}");
    }
}

/// Every length of a frame up to `end`; of a long header's padding a sample.
fn lengths(end: usize) -> impl Iterator<Item = usize> {
    (14..end).filter(move |length| *length < 150 || *length + 40 > end || length % 61 == 0)
}

#[test]
fn a_walked_packet_that_says_it_is_shorter_is_never_misread() {
    for mode in [Mode::Nat, Mode::Gue(Family::V6)] {
        let harness = Harness::with(mode.setup());
        for kind in KINDS {
            let link = mode.link(kind, 0);
            for (name, frame) in variants(kind, &link.frame(Way::Forth, SYN)) {
                let whole = frame.build();
                let packet = frame.packet().len();
                let headers = packet - parse(&whole).unwrap().segment.len();
                for length in lengths(packet) {
                    let said = if kind.is_v4() { Some(length) } else { length.checked_sub(40) };
                    let Some(said) = said else { continue };
                    let short = frame.clone().ip_length(said.try_into().unwrap());
                    let cut = whole.len() - packet + length;
                    // Of a frame that is as short, and of one that is padded.
                    for bytes in [&short.build()[..cut], &short.build()] {
                        let ran = harness.run(bytes);
                        let name = format!("{mode}, {kind}, {name}, of {length}: {}", ran.verdict);
                        let enough = length >= headers + if kind.is_tcp() { 20 } else { 12 };
                        if !enough {
                            let stopped = ran.verdict.starts_with("drop-malformed");
                            assert!(stopped || ran.verdict == "pass-not-ip", "{name}");
                        }
                    }
                }
            }
        }
    }
}
