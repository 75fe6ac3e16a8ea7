//! Golden frames: what is forwarded, byte for byte, in both directions and all kinds.

use evenkeel_tests::frame::{Frame, PSH, SYN, parse, verify_checksums};

use crate::{
    harness::{Harness, Setup, XDP_TX, same},
    world::{KINDS, Kind, LIFE, LOOPBACK, Link, UDP4, UDP6, Way},
};

/// A way for all of a connection's packets to differ from plain ones.
pub struct Case {
    pub name: &'static str,
    pub vary: fn(Frame) -> Frame,
    pub ttl: u8,
    fits: fn(Kind) -> bool,
}

const fn case(name: &'static str, vary: fn(Frame) -> Frame) -> Case {
    Case { name, vary, ttl: 64, fits: |_| true }
}

/// A SYN's usual options: MSS, SACK permitted, timestamps, NOP, window scale.
const TCP_OPTIONS: [u8; 20] =
    [2, 4, 5, 0xb4, 4, 2, 8, 10, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 0, 1, 3, 3, 7];

fn padded(frame: Frame) -> Frame {
    let length = frame.build().len();
    frame.trailer(&vec![0; 60_usize.saturating_sub(length)])
}

/// Payloads of many lengths, both parities, and every other header field that must be kept.
pub const CASES: [Case; 16] = [
    case("plain", |frame| frame),
    case("no payload", |frame| frame.payload(&[])),
    case("a payload of one byte", |frame| frame.payload(&[0xa5])),
    case("an odd payload", |frame| frame.payload(b"GET / HTTP/1.1\r")),
    case("a full frame", |frame| frame.payload(&[0x5a; 1440])),
    case("an odd full frame", |frame| frame.payload(&[0xff; 1439])),
    case("padded by Ethernet", padded),
    case("followed by noise", |frame| frame.payload(b"x").trailer(&[0xee; 7])),
    case("marked", |frame| frame.tos(0xb9).flow_label(0xf_abcd).id(0xffff)),
    case("may be fragmented", |frame| frame.fragment(0, false)),
    Case { ttl: 2, ..case("a TTL of two", |frame| frame) },
    Case { ttl: 255, ..case("the highest TTL", |frame| frame) },
    Case { fits: Kind::is_tcp, ..case("TCP options", |frame| frame.tcp_options(&TCP_OPTIONS)) },
    Case {
        fits: Kind::is_tcp,
        ..case("TCP numbers and options of all ones", |frame| {
            frame.numbers(u32::MAX, u32::MAX).tcp_options(&[1; 40]).payload(&[0xff; 3])
        })
    },
    Case { fits: |kind| !kind.is_tcp(), ..case("no UDP checksum", |frame| frame.checksum(0)) },
    Case {
        fits: |kind| !kind.is_tcp(),
        ..case("a datagram shorter than its packet", |frame| frame.udp_length(10))
    },
];

impl Case {
    /// The cases of a kind.
    pub fn of(kind: Kind) -> impl Iterator<Item = &'static Self> {
        CASES.iter().filter(move |case| (case.fits)(kind))
    }

    /// A packet of `link` as it reaches the edge, and as it leaves.
    pub fn frames(&self, link: &Link, way: Way, flags: u8) -> (Frame, Frame) {
        let frame = (self.vary)(link.frame(way, flags)).ttl(self.ttl);
        let translated = link.translated(way, frame.clone()).ttl(self.ttl - 1);
        (frame, translated)
    }
}

fn ip_length(frame: &[u8]) -> u64 {
    let parsed = parse(frame).unwrap();
    let fixed = if parsed.ipv4_header.is_some() { 0 } else { 40 };
    fixed + u64::from(parsed.ip_length)
}

#[test]
fn every_packet_of_a_connection_leaves_as_it_must() {
    let harness = Harness::new();
    for kind in KINDS {
        let (mut packets, mut bytes) = ([0; 2], [0; 2]);
        let mut connections = 0;
        for case in Case::of(kind) {
            let link = Link::new(kind, connections);
            connections += 1;
            for (step, way, flags) in LIFE {
                let (frame, expected) = case.frames(&link, way, flags);
                let frame = frame.build();
                let name = format!("{kind}, {}: {step}", case.name);
                harness.forwards(&name, way, &frame, &expected.build());
                packets[way as usize] += 1;
                bytes[way as usize] += ip_length(&frame);
            }
        }
        let counters = harness.counters(kind, 1);
        assert_eq!([counters.packets_in, counters.packets_out], packets, "{kind}");
        assert_eq!([counters.bytes_in, counters.bytes_out], bytes, "{kind}");
        assert_eq!((counters.opened, counters.closed), (connections.into(), 0), "{kind}");
        assert_eq!(harness.entries(kind), 2 * u64::from(connections), "{kind}");
    }
}

#[test]
fn backends_and_clients_on_one_interface_get_their_packets_back_out_of_it() {
    let harness = Harness::with(Setup { interface: LOOPBACK, ..Setup::default() });
    for kind in KINDS {
        let link = Link::new(kind, 0);
        for (step, way, flags) in LIFE {
            let (frame, expected) = link.plain(way, flags);
            let ran = harness.run(&frame);
            assert_eq!(ran.action, XDP_TX, "{kind}: {step}");
            same(&format!("{kind}: {step}"), &ran.bytes, &expected);
        }
    }
}

/// `frame` with the payload that brings the sum of `as_seen(frame)` to all ones: its checksum
/// comes out as zero, which UDP sends as `ffff`.
fn settled(frame: Frame, as_seen: impl Fn(Frame) -> Frame) -> Frame {
    let frame = frame.payload(&[0; 2]);
    let sum = parse(&as_seen(frame.clone()).build()).unwrap().segment[6..8].to_vec();
    let frame = frame.payload(&sum);
    let segment = parse(&as_seen(frame.clone()).build()).unwrap().segment;
    assert_eq!(segment[6..8], [0xff; 2]);
    frame
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_all_ones() {
    let harness = Harness::new();
    for kind in [UDP4, UDP6] {
        let link = Link::new(kind, 0);
        for (step, way, flags) in LIFE {
            let frame = link.frame(way, flags);
            let comes_out = settled(frame.clone(), |frame| link.translated(way, frame));
            let goes_in = settled(frame, |frame| frame);
            for (name, frame) in [("comes out", comes_out), ("goes in", goes_in)] {
                let expected = link.translated(way, frame.clone()).ttl(63).build();
                let name = format!("{kind}, {step}: ffff {name}");
                harness.forwards(&name, way, &frame.build(), &expected);
            }
        }
    }
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    let harness = Harness::new();
    for kind in KINDS {
        let link = Link::new(kind, 0);
        harness.carries(&link, Way::Forth, SYN);
        for way in [Way::Forth, Way::Back] {
            let frame = link.frame(way, PSH);
            let sum = parse(&frame.build()).unwrap().segment[if kind.is_tcp() { 16 } else { 6 }];
            let mut spoilt = vec![frame.clone().checksum(u16::from(!sum) << 8 | 1)];
            if kind.is_v4() {
                spoilt.push(frame.ip_checksum(0x1234));
            }
            for frame in spoilt {
                // The harness itself compares the checksums' rightness before and after.
                let frame = frame.build();
                assert!(verify_checksums(&frame).is_err());
                assert!(harness.run(&frame).verdict.starts_with("to-"), "{kind} {way:?}");
            }
        }
    }
}
