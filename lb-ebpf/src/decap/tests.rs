//! The pure stage on frames built here, from the RFCs and without the code under test.

use std::{format, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::checksum;

const PORT: u16 = 6080;
const EDGE4: [u8; 4] = [198, 18, 7, 9];
const EDGE6: [u8; 16] = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
const STRANGER4: [u8; 4] = [203, 0, 113, 1];
const HOST4: [u8; 4] = [10, 0, 0, 11];
const HOST6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
const OURS4: [u8; 4] = [192, 0, 2, 10];
const OURS6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10];

struct Lists;

impl Told for Lists {
    fn gue_port(&self) -> u16 {
        PORT
    }
    fn is_ours_v4(&self, destination: &[u8; 4]) -> bool {
        *destination == OURS4
    }
    fn is_ours_v6(&self, destination: &[u8; 16]) -> bool {
        *destination == OURS6
    }
    fn is_edge_v4(&self, source: &[u8; 4]) -> bool {
        source[..2] == EDGE4[..2]
    }
    fn is_edge_v6(&self, source: &[u8; 16]) -> bool {
        source[..8] == EDGE6[..8]
    }
}

fn v4(source: [u8; 4], destination: [u8; 4], protocol: u8, tos: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x45, tos, length[0], length[1], 1, 2, 0x40, 0, 64, protocol, 0, 0];
    packet.extend(source);
    packet.extend(destination);
    let sum = header_sum(&packet);
    packet[10..12].copy_from_slice(&(!sum).to_be_bytes());
    packet.extend(payload);
    packet
}

fn header_sum(header: &[u8]) -> u16 {
    let words = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    checksum::fold(words.sum())
}

fn v6(source: [u8; 16], destination: [u8; 16], next: u8, class: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let mut packet =
        vec![0x60 | class >> 4, class << 4 | 0xa, 0xbc, 0xde, length[0], length[1], next, 64];
    packet.extend(source);
    packet.extend(destination);
    packet.extend(payload);
    packet
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut datagram: Vec<u8> =
        [40_000, port, length, 0].into_iter().flat_map(u16::to_be_bytes).collect();
    datagram.extend(payload);
    datagram
}

fn frame(packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] });
    frame.extend(packet);
    frame
}

/// A packet for one of our addresses.
fn inner(is_v4: bool, tos: u8) -> Vec<u8> {
    if is_v4 {
        v4(STRANGER4, OURS4, 17, tos, b"12345678")
    } else {
        v6([7; 16], OURS6, 17, tos, b"12345678")
    }
}

/// How an edge may wrap a packet: by which family, and whether by GUE. With the bytes that this
/// puts in front of the packet.
const WAYS: [(bool, bool, u32); 4] =
    [(true, false, 20), (false, false, 40), (true, true, 28), (false, true, 48)];

fn wrapped(packet: &[u8], (outer_v4, gue, _): (bool, bool, u32), tos: u8) -> Vec<u8> {
    let own = if packet[0] >> 4 == 4 { 4 } else { 41 };
    let (protocol, payload) = if gue { (17, udp(PORT, packet)) } else { (own, packet.to_vec()) };
    frame(&if outer_v4 {
        v4(EDGE4, HOST4, protocol, tos, &payload)
    } else {
        v6(EDGE6, HOST6, protocol, tos, &payload)
    })
}

/// Runs the stage; what it does not unwrap must keep its bytes.
fn run(bytes: &mut [u8]) -> Result<Unwrapped, Fate> {
    let before = bytes.to_vec();
    let result = unwrap(&mut Frame::new(bytes), &Lists);
    if result.is_err() {
        assert_eq!(bytes, before);
    }
    result
}

fn fate(bytes: &[u8]) -> Fate {
    run(&mut bytes.to_vec()).map_or_else(|fate| fate, |unwrapped| unwrapped.fate)
}

#[test]
fn every_way_of_wrapping_either_family() {
    for way @ (outer_v4, gue, strip) in WAYS {
        for is_v4 in [true, false] {
            let packet = inner(is_v4, 0);
            let mut bytes = wrapped(&packet, way, 0);
            let unwrapped = run(&mut bytes).unwrap();
            let name = format!("{way:?} of {is_v4}");
            assert_eq!(unwrapped.strip, strip, "{name}");
            assert_eq!(unwrapped.ether_type, if is_v4 { 0x0800 } else { 0x86dd }, "{name}");
            let expected = if gue { Fate::UNWRAPPED_GUE } else { Fate::UNWRAPPED_IPIP };
            assert_eq!(unwrapped.fate, expected, "{name}");
            let ether_type = if outer_v4 { 0x0800 } else { 0x86dd };
            assert_eq!(unwrapped.link.ether_type(), ether_type, "{name}");
            assert_eq!(bytes[14 + strip as usize..], packet, "{name}");
        }
    }
}

#[test]
fn a_frame_cut_short_is_never_unwrapped() {
    for way in WAYS {
        for is_v4 in [true, false] {
            let whole = wrapped(&inner(is_v4, 0), way, 0);
            let outer = 14 + if way.0 { 20 } else { 40 } + if way.1 { 8 } else { 0 };
            for length in 0..whole.len() {
                let expected =
                    if length < outer { Fate::PASS_NOT_TUNNEL } else { Fate::DROP_MALFORMED_OUTER };
                assert_eq!(fate(&whole[..length]), expected, "{way:?} of {is_v4} cut at {length}");
            }
        }
    }
}

#[test]
fn an_inner_packet_cut_short_is_dropped_however_right_the_outside_is() {
    for way in WAYS {
        for is_v4 in [true, false] {
            let packet = inner(is_v4, 0);
            for length in 1..packet.len() {
                let name = format!("{way:?} of {is_v4} cut at {length}");
                let mut cut = wrapped(&packet[..length], way, 0);
                assert_eq!(fate(&cut), Fate::DROP_MALFORMED_INNER, "{name}");
                // Padding of the frame does not make it whole.
                cut.extend([0; 64]);
                assert_eq!(fate(&cut), Fate::DROP_MALFORMED_INNER, "{name}, padded");
            }
        }
    }
}

#[test]
fn congestion_marks_move_inward_and_the_inner_checksum_with_them() {
    for way @ (_, _, strip) in WAYS {
        for is_v4 in [true, false] {
            for inner_mark in 0..4 {
                for outer_mark in 0..4 {
                    let name = format!("{way:?} of {is_v4}: {inner_mark}, {outer_mark}");
                    let mut bytes =
                        wrapped(&inner(is_v4, 0xb8 | inner_mark), way, 0x48 | outer_mark);
                    let result = run(&mut bytes);
                    let Some(mark) = ecn::combine(inner_mark, outer_mark) else {
                        assert_eq!(result.unwrap_err(), Fate::DROP_CONGESTION, "{name}");
                        continue;
                    };
                    result.unwrap();
                    // Built anew with the mark, checksum and all.
                    assert_eq!(bytes[14 + strip as usize..], inner(is_v4, 0xb8 | mark), "{name}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_tunnels_packet_for_us_is_left_to_the_host() {
    let ours = inner(true, 0);
    let others = v4(STRANGER4, [192, 0, 2, 11], 17, 0, b"12345678");
    let fragment = |field: [u8; 2]| {
        let mut bytes = wrapped(&ours, WAYS[0], 0);
        bytes[20..22].copy_from_slice(&field);
        bytes
    };
    let extension = |next, body: [u8; 8]| {
        let mut payload = body.to_vec();
        payload.extend(&ours);
        frame(&v6(EDGE6, HOST6, next, 0, &payload))
    };
    let mut arp = frame(&ours);
    arp[12..14].copy_from_slice(&[8, 6]);
    let mut options = ours.clone();
    options.splice(0..0, [1; 4]);
    let mut options = frame(&v4(EDGE4, HOST4, 4, 0, &options));
    options[14] = 0x46;
    for (name, bytes, expected) in [
        ("ARP", arp, Fate::PASS_NOT_TUNNEL),
        ("TCP", frame(&v4(EDGE4, HOST4, 6, 0, &ours)), Fate::PASS_NOT_TUNNEL),
        (
            "UDP to another port",
            frame(&v4(EDGE4, HOST4, 17, 0, &udp(53, &ours))),
            Fate::PASS_NOT_TUNNEL,
        ),
        ("a first fragment", fragment([0x20, 0]), Fate::PASS_FRAGMENT),
        ("a later fragment", fragment([0, 5]), Fate::PASS_FRAGMENT),
        ("an IPv6 fragment", extension(44, [4, 0, 0, 1, 0, 0, 0, 1]), Fate::PASS_FRAGMENT),
        ("IPv4 options", options, Fate::PASS_OPTIONS),
        ("a routing header", extension(43, [4, 0, 0, 0, 0, 0, 0, 0]), Fate::PASS_OPTIONS),
        ("unknown options", extension(60, [4, 0, 0xc2, 4, 0, 0, 0, 0]), Fate::PASS_OPTIONS),
        ("long options", extension(60, [4, 1, 4, 1, 4, 1, 1, 0]), Fate::PASS_OPTIONS),
        (
            "GUE's variant 0",
            frame(&v4(EDGE4, HOST4, 17, 0, &udp(PORT, &[0, 4, 0, 0]))),
            Fate::PASS_GUE_VARIANT,
        ),
        ("another address", wrapped(&others, WAYS[0], 0), Fate::PASS_UNKNOWN_DESTINATION),
        (
            "a stranger's cut packet",
            frame(&v4(STRANGER4, HOST4, 4, 0, &ours[..12])),
            Fate::PASS_UNKNOWN_DESTINATION,
        ),
    ] {
        assert_eq!(fate(&bytes), expected, "{name}");
    }
}

#[test]
fn linux_own_destination_option_is_taken_off_too() {
    let packet = inner(true, 0);
    let mut payload = vec![4, 0, 4, 1, 4, 1, 1, 0];
    payload.extend(&packet);
    let mut bytes = frame(&v6(EDGE6, HOST6, 60, 0, &payload));
    assert_eq!(run(&mut bytes).unwrap().strip, 48);
    assert_eq!(bytes[62..], packet);
    for length in 54..bytes.len() {
        let expected = if length < 62 { Fate::PASS_OPTIONS } else { Fate::DROP_MALFORMED_OUTER };
        assert_eq!(fate(&bytes[..length]), expected, "cut at {length}");
    }
    // The outer length ends within the option.
    bytes[18..20].copy_from_slice(&[0, 7]);
    assert_eq!(fate(&bytes), Fate::DROP_MALFORMED_OUTER);
}

#[test]
fn what_is_for_us_and_not_right_is_dropped() {
    let ours = inner(true, 0);
    let changed = |way, at: usize, byte: u8| {
        let mut bytes = wrapped(&ours, way, 0);
        bytes[at] = byte;
        bytes
    };
    let [ipip, ipip6, gue, gue6] = WAYS;
    for (name, bytes, expected) in [
        ("a stranger", frame(&v4(STRANGER4, HOST4, 4, 0, &ours)), Fate::DROP_REFUSED_SOURCE),
        (
            "a stranger over IPv6",
            frame(&v6([9; 16], HOST6, 4, 0, &ours)),
            Fate::DROP_REFUSED_SOURCE,
        ),
        (
            "a stranger by GUE",
            frame(&v4(STRANGER4, HOST4, 17, 0, &udp(PORT, &ours))),
            Fate::DROP_REFUSED_SOURCE,
        ),
        ("the outer checksum", changed(ipip, 22, 63), Fate::DROP_MALFORMED_OUTER),
        ("the outer IPv6 length", changed(ipip6, 18, 1), Fate::DROP_MALFORMED_OUTER),
        ("the UDP length, too long", changed(gue, 38, 1), Fate::DROP_MALFORMED_OUTER),
        ("the UDP length, too short", changed(gue6, 59, 7), Fate::DROP_MALFORMED_OUTER),
        ("IPv6 under protocol 4", changed(ipip, 34, 0x65), Fate::DROP_MALFORMED_INNER),
        ("no version of IP by GUE", changed(gue, 42, 0x55), Fate::DROP_MALFORMED_INNER),
        ("a header of 16 bytes", changed(ipip, 34, 0x44), Fate::DROP_MALFORMED_INNER),
        ("a header longer than the packet", changed(ipip, 34, 0x4f), Fate::DROP_MALFORMED_INNER),
        ("a packet longer than the tunnel's", changed(ipip, 36, 1), Fate::DROP_MALFORMED_INNER),
        (
            "no packet by GUE",
            frame(&v4(EDGE4, HOST4, 17, 0, &udp(PORT, &[]))),
            Fate::DROP_MALFORMED_INNER,
        ),
        ("no packet by IPIP", frame(&v6(EDGE6, HOST6, 41, 0, &[])), Fate::DROP_MALFORMED_INNER),
    ] {
        assert_eq!(fate(&bytes), expected, "{name}");
    }
}

#[test]
fn inner_options_and_bytes_after_the_packet_are_kept() {
    let mut packet = v4(STRANGER4, OURS4, 17, 0, &[1, 1, 1, 1, 5, 6]);
    packet[0] = 0x46;
    packet.extend(*b"after");
    for way @ (_, _, strip) in WAYS {
        let mut bytes = wrapped(&packet, way, 0);
        run(&mut bytes).unwrap();
        assert_eq!(bytes[14 + strip as usize..], packet, "{way:?}");
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_read_within_its_bytes(
        way in 0..4_usize,
        is_v4: bool,
        depth in 0..4_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end: prop::sample::Index,
    ) {
        let mut bytes = wrapped(&inner(is_v4, 0xff), WAYS[way], 1);
        for _ in 0..depth {
            bytes.splice(12..12, [0x81, 0, 0, 7]);
        }
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(end.index(bytes.len() + 1));
        let before = bytes.clone();
        if let Ok(Unwrapped { link, strip, ether_type, fate }) = run(&mut bytes) {
            let tags = before[12..].chunks(4).take(2).take_while(|tag| tag[..2] == [0x81, 0]);
            let packet = 14 + 4 * tags.count() + strip as usize;
            let version = bytes[packet] >> 4;
            prop_assert_eq!(ether_type, if version == 4 { 0x0800 } else { 0x86dd });
            prop_assert!(!fate.is_drop());
            // The outside keeps its bytes: only the packet's mark may change.
            prop_assert_eq!(&bytes[..packet], &before[..packet]);
            prop_assert!(link.put(&mut Frame::new(&mut bytes[strip as usize..]), ether_type).is_some());
        }
    }
}
