//! What is not ours passes untouched; what is malformed is dropped, but only for a service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel_tests::{
    frame::{ACK, ARP, FIN, Frame, ICMP, PSH, RST, SERVICE_VLAN, SYN, VLAN},
    topology::Family,
};
use lb_common::{
    filter::{self, Bitmap},
    net::{Addr4, Addr6, Address},
};

use crate::{
    harness::Harness,
    world::{KINDS, Kind},
};

const IP: &str = "drop-malformed-ip";
const TRANSPORT: &str = "drop-malformed-transport";

/// Frames of a kind that the host must get as they came.
pub fn passed(kind: Kind) -> Vec<(&'static str, Frame, &'static str)> {
    let frame = kind.frame(SYN);
    let service = kind.service();
    let other: IpAddr = match kind.family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 11).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x11).into(),
    };
    let swapped = if kind.is_tcp() { 53 } else { 80 };
    let mut cases = vec![
        ("ARP", frame.clone().ether_type(ARP), "pass-not-ip"),
        ("LLDP", frame.clone().ether_type(0x88cc), "pass-not-ip"),
        ("an 802.3 length", frame.clone().ether_type(46), "pass-not-ip"),
        ("ARP with a VLAN tag", frame.clone().vlan(VLAN, 7).ether_type(ARP), "pass-not-ip"),
        (
            "three VLAN tags",
            frame.clone().vlan(SERVICE_VLAN, 7).vlan(VLAN, 9).vlan(VLAN, 11),
            "pass-not-ip",
        ),
        ("another address", frame.clone().to(other, service.port()), "pass-not-ours"),
        ("another port", frame.clone().destination_port(81), "pass-no-service"),
        ("the other protocol's port", frame.clone().destination_port(swapped), "pass-no-service"),
        ("NAT's address", frame.clone().to(kind.source(0), 22), "pass-no-service"),
        (
            "NAT's address and a port of NAT's",
            frame.clone().to(kind.source(0), 1024),
            "pass-no-service",
        ),
        ("a TTL of one", frame.clone().ttl(1), "pass-ttl"),
        ("a TTL of zero", frame.clone().ttl(0), "pass-ttl"),
        ("SCTP", frame.clone().protocol(132), "pass-protocol"),
        ("a protocol of no name", frame.clone().protocol(253), "pass-protocol"),
    ];
    if kind.is_v4() {
        cases.extend([(
            "an echo reply",
            Frame::other4(ICMP, &[0, 0, 0xff, 0xff, 0, 0, 0, 0]),
            "pass-protocol",
        )]);
    } else {
        cases.extend([
            ("no next header", Frame::other6(59, &[]), "pass-protocol"),
            (
                "a routing header with a segment left",
                frame.clone().extension(43, &[0, 0, 1, 0, 0, 0, 0]),
                "pass-protocol",
            ),
        ]);
    }
    if kind.is_tcp() {
        let flags = [("no flags", 0), ("an acknowledgement", ACK), ("data", PSH | ACK)];
        let more = [("an end", FIN | ACK), ("a reset", RST), ("an answer", SYN | ACK)];
        let unknown = |(name, flags)| (name, kind.frame(flags), "pass-no-connection");
        cases.extend(flags.into_iter().chain(more).map(unknown));
    }
    cases
}

/// Frames of a kind that contradict themselves.
pub fn malformed(kind: Kind) -> Vec<(&'static str, Frame, &'static str)> {
    let frame = kind.frame(SYN);
    // What IP's length says of the plain frame, and what of it is the header.
    let plain =
        u16::try_from(frame.build().len() - 14).unwrap() - if kind.is_v4() { 0 } else { 40 };
    let header = if kind.is_v4() { 20 } else { 0 };
    let transport = if kind.is_tcp() { 20 } else { 8 };
    let mut cases = vec![
        ("a length of one byte too many", frame.clone().ip_length(plain + 1), IP),
        ("the greatest length", frame.clone().ip_length(u16::MAX), IP),
        ("a length without a transport header", frame.clone().ip_length(header), TRANSPORT),
        (
            "a length that cuts the transport header",
            frame.clone().ip_length(header + transport - 1),
            TRANSPORT,
        ),
        ("version 0", frame.clone().version(0), IP),
        ("version 5", frame.clone().version(5), IP),
        ("the other version", frame.clone().version(if kind.is_v4() { 6 } else { 4 }), IP),
    ];
    if kind.is_v4() {
        cases.extend([
            ("a length of zero", frame.clone().ip_length(0), IP),
            ("a length shorter than the header", frame.clone().ip_length(19), IP),
            ("a header of no words", frame.clone().header_words(0), IP),
            ("a header of four words", frame.clone().header_words(4), IP),
            ("options beyond the packet", frame.clone().header_words(15).ip_length(40), IP),
            (
                "options beyond the frame",
                frame.clone().ip_options(&[1; 4]).ip_length(plain + 5),
                IP,
            ),
        ]);
    }
    if kind.is_tcp() {
        cases.extend([
            ("a data offset of zero", frame.clone().data_offset(0), TRANSPORT),
            ("a data offset of four", frame.clone().data_offset(4), TRANSPORT),
            ("a data offset beyond the packet", frame.clone().data_offset(6), TRANSPORT),
            ("the greatest data offset", frame.clone().data_offset(15), TRANSPORT),
            ("SYN and FIN", frame.clone().flags(SYN | FIN), TRANSPORT),
            ("SYN and RST", frame.clone().flags(SYN | RST), TRANSPORT),
            ("SYN, FIN, RST and ACK", frame.clone().flags(SYN | FIN | RST | ACK), TRANSPORT),
            ("all flags", frame.clone().flags(0xff), TRANSPORT),
            (
                "a data offset into Ethernet's padding",
                frame.clone().data_offset(6).trailer(&[0; 6]),
                TRANSPORT,
            ),
        ]);
    } else {
        cases.extend([
            ("a UDP length of zero", frame.clone().udp_length(0), TRANSPORT),
            ("a UDP length of seven", frame.clone().udp_length(7), TRANSPORT),
            ("a UDP length of one byte too many", frame.clone().udp_length(13), TRANSPORT),
            ("the greatest UDP length", frame.clone().udp_length(u16::MAX), TRANSPORT),
            (
                "a UDP length into Ethernet's padding",
                frame.clone().udp_length(13).trailer(&[0; 14]),
                TRANSPORT,
            ),
        ]);
    }
    cases
}

/// An address that is none of ours, but which the address filter takes for one.
fn lookalike(kind: Kind) -> IpAddr {
    let mut bitmap: Bitmap = [0; filter::WORDS];
    for family in Family::BOTH {
        if let Some(address) = Addr4::from_ip(family.vip()) {
            filter::insert(&mut bitmap, &address);
        } else if let Some(address) = Addr6::from_ip(family.vip()) {
            filter::insert(&mut bitmap, &address);
        }
    }
    let strangers = |n: u32| -> (IpAddr, bool) {
        let [_, a, b, c] = n.to_be_bytes();
        match kind.family {
            Family::V4 => {
                let ip = Ipv4Addr::new(100, a, b, c).into();
                (ip, filter::may_contain(&bitmap, &Addr4::from_ip(ip).unwrap()))
            }
            Family::V6 => {
                let low = u16::from_be_bytes([b, c]);
                let ip = Ipv6Addr::new(0x2001, 0xdb8, 0xdead, a.into(), 0, 0, 0, low).into();
                (ip, filter::may_contain(&bitmap, &Addr6::from_ip(ip).unwrap()))
            }
        }
    };
    (0..0x00ff_ffff).map(strangers).find(|(_, taken)| *taken).expect("a collision").0
}

#[test]
fn what_is_not_ours_passes_untouched() {
    let harness = Harness::new();
    for kind in KINDS {
        for (name, frame, verdict) in passed(kind) {
            harness.passes(&format!("{kind}: {name}"), &frame.build(), verdict);
        }
    }
    assert_eq!(harness.census().entries, 0);
}

#[test]
fn what_is_malformed_is_dropped_for_a_service() {
    let harness = Harness::new();
    for kind in KINDS {
        for (name, frame, verdict) in malformed(kind) {
            harness.drops(&format!("{kind}: {name}"), &frame.build(), verdict);
        }
    }
    assert_eq!(harness.census().entries, 0);
}

#[test]
fn what_is_malformed_passes_for_anyone_else() {
    let harness = Harness::new();
    for kind in KINDS {
        let lookalike = lookalike(kind);
        for (name, frame, _) in malformed(kind) {
            for address in [lookalike, kind.source(0)] {
                let frame = frame.clone().to(address, kind.service().port()).build();
                harness.passes(&format!("{kind} to {address}: {name}"), &frame, "pass-not-ours");
            }
        }
    }
    assert_eq!(harness.census().entries, 0);
}

#[test]
fn a_lookalike_address_gets_its_packets_untouched() {
    let harness = Harness::new();
    for kind in KINDS {
        let lookalike = lookalike(kind);
        for (name, frame, _) in passed(kind) {
            let frame = frame.to(lookalike, kind.service().port()).build();
            let ran = harness.run(&frame);
            assert!(ran.verdict.starts_with("pass-"), "{kind}: {name}: {}", ran.verdict);
        }
        let opening = kind.frame(SYN).to(lookalike, kind.service().port()).build();
        harness.passes(&format!("{kind}: opening"), &opening, "pass-no-service");
    }
    assert_eq!(harness.census().entries, 0);
}
