//! Packets of the edge's own: what tells a sender that its packet was too big, or its connection one
//! too many.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use evenkeel_tests::{
    frame::{
        ACK, CLIENT_MAC, EDGE_MAC, FIN, Frame, PSH, RST, SERVICE_VLAN, SYN, TCP, VLAN, fold,
        verify_checksums,
    },
    netns::Namespace,
    topology::Family,
};
use lb_common::service::{
    flags::{REJECT, REJECT_NO_BACKEND},
    forwarding,
};

use crate::{
    harness::{Harness, Setup, XDP_TX, same},
    world::{BACK_MAC, KINDS, LIFE, Link, TCP_KINDS, Way, backend_mac},
};

/// Bytes of a packet that are quoted at the most.
const QUOTED: usize = 128;

fn quote(frame: &Frame) -> Vec<u8> {
    let length = frame.packet().len().min(QUOTED);
    frame.quoted_within(length - length % 2)
}

/// What tells the sender of `frame` that only `mtu` bytes fit.
fn too_big(family: Family, mtu: u16, frame: &Frame) -> Frame {
    match family {
        Family::V4 => Frame::fragmentation_needed(mtu, &quote(frame)),
        Family::V6 => Frame::packet_too_big(mtu.into(), &quote(frame)),
    }
    .id(0)
}

fn to_client(link: &Link, frame: Frame) -> Frame {
    let service = link.kind.service().ip();
    frame.macs(EDGE_MAC, CLIENT_MAC).from(service, 0).to(link.client.0, 0)
}

fn replies(harness: &Harness, name: &str, verdict: &str, frame: &Frame, expected: &Frame) {
    let ran = harness.run(&frame.build());
    assert_eq!((ran.verdict, ran.action), (verdict, XDP_TX), "{name}");
    same(name, &ran.bytes, &expected.build());
    verify_checksums(&ran.bytes).unwrap();
}

/// Client's packets of a connection that are longer than 1400 bytes.
fn long(link: &Link) -> Vec<(&'static str, Frame)> {
    let big = link.frame(Way::Forth, PSH | ACK).payload(&[0xa5; 1420]);
    let mut cases = vec![
        ("plain", big.clone()),
        ("odd", big.clone().payload(&[0xff; 1421])),
        ("marked", big.clone().tos(0xb9).id(0xffff).flow_label(0xf_abcd).ttl(255)),
        ("may be fragmented", big.clone().dont_fragment(false)),
        ("padded", big.clone().trailer(&[0xee; 60])),
    ];
    if link.kind.is_v4() {
        cases.push(("with options", big.clone().ip_options(&[1; 40])));
    } else {
        cases.push(("with options", big.clone().extension(60, &[0, 1, 4, 0, 0, 0, 0])));
    }
    if link.kind.is_tcp() {
        cases.push(("with TCP options", big.tcp_options(&[1; 40])));
    }
    cases
}

/// Checks what a client is told of each of its long packets, with tags and without.
fn tells_client(harness: &Harness, link: &Link, mtu: u16) {
    for (name, frame) in long(link) {
        let name = format!("{}, {name}", link.kind);
        let expected = to_client(link, too_big(link.kind.family, mtu, &frame));
        replies(harness, &name, "reply-too-big", &frame, &expected);
        let tagged = |frame: &Frame| frame.clone().vlan(VLAN, 9);
        replies(harness, &name, "reply-too-big", &tagged(&frame), &tagged(&expected));
        let tagged = |frame: &Frame| frame.clone().vlan(SERVICE_VLAN, 7).vlan(VLAN, 9);
        replies(harness, &name, "reply-too-big", &tagged(&frame), &tagged(&expected));
    }
}

#[test]
fn a_client_is_told_what_fits_on_the_way_to_its_backend() {
    for (mode, name) in [(forwarding::NAT, "nat"), (forwarding::DSR, "dsr")] {
        let setup = Setup::settings(|settings| settings.forwarding = mode);
        let harness = Harness::with(Setup { mtu: 1400, ..setup });
        for kind in KINDS {
            let link = Link::new(kind, 0);
            assert_eq!(harness.run(&link.frame(Way::Forth, SYN).build()).verdict, "to-backend");
            tells_client(&harness, &link, 1400);
            // What fits by a byte goes on.
            let header: usize =
                if kind.is_v4() { 20 } else { 40 } + if kind.is_tcp() { 20 } else { 8 };
            let fits = link.frame(Way::Forth, PSH | ACK).payload(&vec![1; 1400 - header]);
            assert_eq!(harness.run(&fits.build()).verdict, "to-backend", "{name}, {kind}");
            let one_more = fits.payload(&vec![1; 1401 - header]);
            assert_eq!(harness.run(&one_more.build()).verdict, "reply-too-big", "{name}, {kind}");
        }
    }
}

#[test]
fn a_client_is_told_what_fits_into_the_tunnel_to_its_backend() {
    for mode in [forwarding::IPIP, forwarding::GUE] {
        for far_end in Family::BOTH {
            let setup = Setup::settings(|settings| settings.forwarding = mode);
            let harness = Harness::with(Setup { mtu: 1440, far_end: Some(far_end), ..setup });
            let outer = if far_end == Family::V4 { 20 } else { 40 };
            let overhead = if mode == forwarding::GUE { outer + 8 } else { outer };
            for kind in KINDS {
                let link = Link::new(kind, 0);
                assert_eq!(harness.run(&link.frame(Way::Forth, SYN).build()).verdict, "to-backend");
                tells_client(&harness, &link, 1440 - overhead);
            }
        }
    }
}

#[test]
fn no_client_is_told_less_than_its_family_carries() {
    let harness = Harness::with(Setup { mtu: 50, ..Setup::default() });
    for kind in KINDS {
        let least = if kind.is_v4() { 68 } else { 1280 };
        let link = Link::new(kind, 0);
        let frame = link.frame(Way::Forth, SYN).payload(b"four words, more or less");
        let expected = to_client(&link, too_big(kind.family, least, &frame));
        replies(&harness, &format!("{kind}"), "reply-too-big", &frame, &expected);
    }
}

#[test]
fn a_short_packet_is_quoted_up_to_its_even_end() {
    // Each is too big, and quoted as far as it goes.
    let harness = Harness::with(Setup { mtu: 20, ..Setup::default() });
    for kind in KINDS {
        let least = if kind.is_v4() { 68 } else { 1280 };
        let link = Link::new(kind, 0);
        for length in 0..=120 {
            let frame = link.frame(Way::Forth, SYN).payload(&vec![0x7e; length]);
            let name = format!("{kind}, {length} bytes");
            let expected = to_client(&link, too_big(kind.family, least, &frame));
            replies(&harness, &name, "reply-too-big", &frame, &expected);
            let padded = frame.clone().trailer(&[0; 80]);
            replies(&harness, &name, "reply-too-big", &padded, &expected);
        }
    }
}

/// Interfaces of the namespace below.
const FRONT: u32 = 71;
const REAR: u32 = 73;

#[test]
fn a_backend_is_told_what_fits_on_the_way_to_its_client() {
    let edge = Namespace::new("packets").unwrap();
    for (name, index) in [("front", FRONT), ("rear", REAR)] {
        edge.ip(&format!(
            "link add {name} index {index} type veth peer name {name}-peer\n\
             link set {name}-peer up\nlink set {name} up"
        ))
        .unwrap();
    }
    edge.ip("link set front mtu 1300").unwrap();
    edge.run(|| {
        let mut setup = Setup { interface: REAR, ..Setup::default() };
        setup.node.least_mtu = 1300;
        let harness = Harness::with(setup);
        for kind in KINDS {
            let link = Link::new(kind, 0);
            for (_, way, flags) in LIFE {
                let by = if way == Way::Forth { FRONT } else { REAR };
                harness.run_from(Some(by), &link.frame(way, flags).build());
            }
            let header: usize =
                if kind.is_v4() { 20 } else { 40 } + if kind.is_tcp() { 20 } else { 8 };
            let answer =
                |length| link.frame(Way::Back, PSH | ACK).payload(&vec![3; length - header]);
            let ran = harness.run_from(Some(REAR), &answer(1300).build());
            assert_eq!(ran.verdict, "to-client", "{kind}");
            let frame = answer(1301);
            let ran = harness.run_from(Some(REAR), &frame.build());
            assert_eq!((ran.verdict, ran.action), ("reply-too-big", XDP_TX), "{kind}");
            // From the address that the backend knows.
            let expected = too_big(kind.family, 1300, &frame)
                .macs(BACK_MAC, backend_mac(1))
                .from(link.source.0, 0)
                .to(kind.backend(1).ip(), 0);
            same(&format!("{kind}"), &ran.bytes, &expected.build());
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn nobody_is_told_about_a_later_fragment_or_as_more_than_one_host() {
    let harness = Harness::with(Setup { mtu: 1400, ..Setup::default() });
    for kind in KINDS {
        let link = Link::new(kind, 0);
        harness.run(&link.frame(Way::Forth, SYN).build());
        let first = link.frame(Way::Forth, PSH | ACK).payload(&[1; 1432]);
        let (first, later) = if kind.is_v4() {
            (first.clone().fragment(0, true), first.fragment(185, false))
        } else {
            let part = |frame: Frame, field: u16| {
                let [a, b] = field.to_be_bytes();
                frame.extension(44, &[0, a, b, 0, 0, 0, 7])
            };
            (part(first.clone(), 1), part(first, 185 << 3))
        };
        let expected = to_client(&link, too_big(kind.family, 1400, &first));
        replies(&harness, &format!("{kind}: the first"), "reply-too-big", &first, &expected);
        harness.drops(&format!("{kind}: a later one"), &later.build(), "drop-too-big");

        let nobodies: &[&str] = if kind.is_v4() {
            &["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"]
        } else {
            &["::", "ff02::1"]
        };
        for nobody in nobodies {
            let nobody: IpAddr = nobody.parse().unwrap();
            let frame = link.frame(Way::Forth, SYN).payload(&[1; 1432]).from(nobody, 5);
            harness.drops(&format!("{kind}: {nobody}"), &frame.build(), "drop-too-big");
        }
    }
}

/// A RST as the edge makes it: no options, no window.
fn rst(from: SocketAddr, to: SocketAddr, sequence: u32, acknowledgement: Option<u32>) -> Frame {
    let mut segment = Vec::new();
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledgement.unwrap_or_default().to_be_bytes());
    segment.extend([0x50, if acknowledgement.is_some() { RST | ACK } else { RST }]);
    segment.extend([0; 6]);
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let sum = !fold(&[&octets(from.ip()), &octets(to.ip()), &[0, TCP, 0, 20], &segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    let frame =
        if from.is_ipv4() { Frame::other4(TCP, &segment) } else { Frame::other6(TCP, &segment) };
    frame.macs(EDGE_MAC, CLIENT_MAC).from(from.ip(), 0).to(to.ip(), 0).id(0)
}

fn unreachable(link: &Link, frame: &Frame) -> Frame {
    let error = match link.kind.family {
        Family::V4 => Frame::unreachable4(3, &quote(frame)),
        Family::V6 => Frame::unreachable6(4, &quote(frame)),
    };
    to_client(link, error.id(0))
}

/// Settings of a service that tells, or does not.
fn overloads(tells: bool) -> Setup {
    let setup = Setup::settings(|settings| settings.flags = if tells { REJECT } else { 0 });
    Setup { max_connections: Some(1), ..setup }
}

/// A connection's first packets, with the numbers that prove a TCP handshake.
fn handshake(link: &Link) -> [(Way, Frame); 3] {
    let numbered = |way, flags, sequence, acknowledgement| {
        let frame = link.frame(way, flags);
        let numbered = |frame: Frame| frame.numbers(sequence, acknowledgement);
        (way, if link.kind.is_tcp() { numbered(frame) } else { frame })
    };
    [
        numbered(Way::Forth, SYN, 1000, 0),
        numbered(Way::Back, SYN | ACK, 5000, 1001),
        numbered(Way::Forth, ACK, 1001, 5001),
    ]
}

/// A harness whose backends take one connection each, and have it.
fn full(tells: bool) -> Harness {
    let harness = Harness::with(overloads(tells));
    for kind in KINDS {
        for (_, frame) in handshake(&Link::new(kind, 0)) {
            assert!(harness.run(&frame.build()).verdict.starts_with("to-"), "{kind}");
        }
    }
    harness
}

fn client(link: &Link) -> SocketAddr {
    link.client.into()
}

#[test]
fn a_client_of_a_full_service_is_told_at_once() {
    let harness = full(true);
    tells_each_client(&harness, "reply-overload");
    for kind in KINDS {
        harness.carries(&Link::new(kind, 0), Way::Forth, PSH | ACK);
    }
}

#[test]
fn a_client_of_a_service_without_an_active_backend_is_told_at_once() {
    let harness = Harness::with(Setup::settings(|settings| settings.flags = REJECT_NO_BACKEND));
    for kind in KINDS {
        harness.write_ring(kind, &[]);
    }
    tells_each_client(&harness, "reply-no-backend");
    assert_eq!(harness.census().entries, 0);
}

/// Opens connections that nobody takes, of all sorts.
fn tells_each_client(harness: &Harness, verdict: &str) {
    for kind in KINDS {
        let entries = harness.entries(kind);
        let link = Link::new(kind, 1);
        let opening = link.frame(Way::Forth, SYN);
        let options = if kind.is_v4() {
            opening.clone().ip_options(&[1; 40])
        } else {
            opening.clone().extension(60, &[0, 1, 4, 0, 0, 0, 0])
        };
        let cases = [
            ("plain", opening.clone()),
            ("padded", opening.clone().trailer(&[0; 6])),
            ("with data", opening.clone().payload(&[9; 300])),
            ("odd", opening.clone().payload(&[9; 33])),
            ("marked", opening.clone().tos(0xb9).ttl(2).flow_label(0xf_abcd)),
            ("with options", options),
        ];
        for (name, frame) in cases {
            let tagged = |frame: &Frame| frame.clone().vlan(SERVICE_VLAN, 7).vlan(VLAN, 9);
            let expected = if kind.is_tcp() {
                // The SYN counts, and so do its data (RFC 9293, 3.10.7.1).
                let data = match name {
                    "with data" => 300,
                    "odd" => 33,
                    _ => 0,
                };
                rst(kind.service(), client(&link), 0, Some(1001 + data))
            } else {
                unreachable(&link, &frame)
            };
            let name = format!("{kind}, {name}");
            replies(harness, &name, verdict, &frame, &expected);
            replies(harness, &name, verdict, &tagged(&frame), &tagged(&expected));
        }
        if kind.is_tcp() {
            let frame = opening.numbers(u32::MAX, 5).tcp_options(&[1; 20]).payload(b"ab");
            let expected = rst(kind.service(), client(&link), 0, Some(2));
            replies(harness, &format!("{kind}, wraps"), verdict, &frame, &expected);
        }
        assert_eq!(harness.entries(kind), entries, "{kind}: no trace");
    }
}

#[test]
fn a_handshake_that_comes_in_last_is_reset() {
    for tells in [true, false] {
        let harness = Harness::with(overloads(tells));
        for kind in TCP_KINDS {
            let links = [Link::new(kind, 0), Link::new(kind, 1)];
            let [first, last] = links.map(|link| handshake(&link).map(|(_, frame)| frame.build()));
            for frame in first[..2].iter().chain(&last[..2]).chain(&first[2..]) {
                assert!(harness.run(frame).verdict.starts_with("to-"), "{kind}");
            }
            let [.., (_, last)] = handshake(&links[1]);
            if tells {
                let expected = rst(kind.service(), client(&links[1]), 5001, None);
                replies(&harness, &format!("{kind}"), "reply-overload", &last, &expected);
            } else {
                harness.drops(&format!("{kind}"), &last.build(), "drop-overload");
            }
        }
    }
}

#[test]
fn a_service_that_does_not_tell_drops() {
    let harness = full(false);
    for kind in KINDS {
        let opening = Link::new(kind, 1).frame(Way::Forth, SYN).build();
        harness.drops(&format!("{kind}"), &opening, "drop-overload");
    }
}

/// Cut anywhere, no packet makes the edge say anything that is not well-formed.
#[test]
fn no_cut_of_a_packet_is_answered_by_a_malformed_one() {
    let harness = full(true);
    let narrow = Harness::with(Setup { mtu: 20, ..Setup::default() });
    for kind in KINDS {
        for flags in [SYN, SYN | ACK, FIN | ACK, RST] {
            let whole =
                Link::new(kind, 1).frame(Way::Forth, flags).payload(b"odd").trailer(&[0; 9]);
            let whole = whole.build();
            for length in 14..=whole.len() {
                for harness in [&harness, &narrow] {
                    let ran = harness.run(&whole[..length]);
                    if ran.verdict.starts_with("reply-") {
                        verify_checksums(&ran.bytes).unwrap();
                    }
                }
            }
        }
    }
}

/// As many at once, and as many each second (see the data path's `reply.rs`).
#[test]
fn a_flood_is_answered_by_less_than_a_flood() {
    const BURST: u64 = 1000;
    const RATE: u64 = 10_000;
    const SENT: u64 = 20_000;
    let harness = Harness::with(Setup { mtu: 1400, ..Setup::default() });
    let link = Link::new(KINDS[0], 0);
    harness.run(&link.frame(Way::Forth, SYN).build());
    let (_, frame) = long(&link).swap_remove(0);
    let bytes = frame.build();
    let start = Instant::now();
    for _ in 0..SENT {
        harness.send(None, &bytes);
    }
    let millis = u64::try_from(start.elapsed().as_millis()).unwrap() + 1;
    let (told, untold) = (harness.verdict("reply-too-big"), harness.verdict("drop-too-big"));
    assert_eq!(told + untold, SENT);
    let most = BURST + RATE * millis / 1000 + 1;
    assert!((BURST..=most).contains(&told), "{told} of {SENT} in {millis} ms, at most {most}");
    // A test-run takes some microseconds: a machine that needs so long shows nothing of the limit.
    assert!(untold > 0 || millis > 1900, "all of {SENT} in {millis} ms");
}
