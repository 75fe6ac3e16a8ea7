//! Frames cut at every length, from the least that the kernel's test-run takes.

use evenkeel_tests::frame::{Frame, PSH, parse};

use crate::{
    golden::Case,
    harness::Harness,
    strangers::{malformed, passed},
    world::{KINDS, Kind, LIFE, Link, Way},
};

/// The kernel's test-run takes no frame shorter than an Ethernet header.
const LEAST: usize = 14;

fn ip_header(kind: Kind) -> usize {
    if kind.is_v4() { 20 } else { 40 }
}

/// What a cut frame gets whose IP header still tells its full length.
fn verdict_of_cut(kind: Kind, way: Way, length: usize) -> &'static str {
    match way {
        _ if length < LEAST + ip_header(kind) => "pass-not-ip",
        Way::Forth => "drop-malformed-ip",
        // Addressed to NAT's source, which is the host's own.
        Way::Back => "pass-not-ours",
    }
}

#[test]
fn a_golden_frame_is_forwarded_whole_or_not_at_all() {
    let harness = Harness::new();
    for kind in KINDS {
        for (case, turn) in Case::of(kind).zip(0..) {
            let link = Link::new(kind, turn);
            for (step, way, flags) in LIFE {
                let (frame, expected) = case.frames(&link, way, flags);
                let (whole, expected) = (frame.build(), expected.build());
                // Padding is no part of the packet.
                let packet = frame.trailer(&[]).build().len();
                let name = |length| format!("{kind}, {}: {step} cut at {length}", case.name);
                // Long payloads are cut at a sample of lengths.
                let all = (LEAST..packet).filter(|length| *length < 120 || length % 97 == 0);
                for length in all {
                    let ran = harness.run(&whole[..length]);
                    assert_eq!(ran.verdict, verdict_of_cut(kind, way, length), "{}", name(length));
                }
                for length in packet..=whole.len() {
                    harness.forwards(&name(length), way, &whole[..length], &expected[..length]);
                }
            }
        }
        let connections = u64::try_from(Case::of(kind).count()).unwrap();
        assert_eq!(harness.counters(kind, 1).opened, connections, "{kind}");
        assert_eq!(harness.entries(kind), 2 * connections, "{kind}");
    }
}

/// The first `length` bytes of a frame, with an IP header that says so.
fn consistent(kind: Kind, frame: &Frame, length: usize) -> Vec<u8> {
    let ip = length - LEAST - if kind.is_v4() { 0 } else { ip_header(kind) };
    let mut bytes = frame.clone().ip_length(ip.try_into().unwrap()).build();
    bytes.truncate(length);
    bytes
}

#[test]
fn a_transport_header_that_ends_too_early_is_dropped() {
    let harness = Harness::new();
    for kind in KINDS {
        for (case, turn) in Case::of(kind).zip(0..) {
            let link = Link::new(kind, turn);
            for (step, way, flags) in LIFE {
                let (frame, expected) = case.frames(&link, way, flags);
                let frame = frame.trailer(&[]);
                let whole = frame.build();
                let segment = parse(&whole).unwrap().segment;
                let header = LEAST + ip_header(kind);
                // TCP ends its header where it says; UDP's length covers the datagram.
                let enough = if kind.is_tcp() {
                    usize::from(segment[12] >> 4) * 4
                } else {
                    u16::from_be_bytes([segment[4], segment[5]]).into()
                };
                let all = (header..header + enough).filter(|length| *length < 150);
                for length in all {
                    let cut = consistent(kind, &frame, length);
                    let name = format!("{kind}, {}: {step} ends at {length}", case.name);
                    match way {
                        Way::Forth => harness.drops(&name, &cut, "drop-malformed-transport"),
                        Way::Back => harness.passes(&name, &cut, "pass-not-ours"),
                    }
                }
                let name = format!("{kind}, {}: {step}", case.name);
                let expected = expected.trailer(&[]).build();
                harness.forwards(&name, way, &whole, &expected);
            }
        }
    }
}

#[test]
fn no_cut_of_any_other_frame_is_forwarded() {
    let harness = Harness::new();
    for kind in KINDS {
        for (name, frame, _) in passed(kind).into_iter().chain(malformed(kind)) {
            let whole = frame.build();
            for length in LEAST..=whole.len() {
                let ran = harness.run(&whole[..length]);
                let forwarded = ran.verdict.starts_with("to-");
                assert!(!forwarded, "{kind}, {name}, cut at {length}: {}", ran.verdict);
            }
        }
    }
    assert_eq!(harness.census().entries, 0);
}

#[test]
fn a_cut_packet_of_a_connection_tells_nothing() {
    let harness = Harness::new();
    for kind in KINDS {
        let link = Link::new(kind, 0);
        for (_, way, flags) in LIFE {
            harness.carries(&link, way, flags);
        }
        let before = harness.counters(kind, 1);
        for way in [Way::Forth, Way::Back] {
            // A reset would end the connection.
            let reset = link.frame(way, evenkeel_tests::frame::RST).build();
            for length in LEAST..reset.len() {
                harness.run(&reset[..length]);
            }
        }
        assert_eq!(harness.counters(kind, 1), before, "{kind}");
        harness.carries(&link, Way::Forth, PSH);
        harness.carries(&link, Way::Back, PSH);
    }
}
