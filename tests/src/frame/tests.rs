//! What is built is read back as it was meant, and nothing wrong goes unnoticed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;

fn cases() -> Vec<(&'static str, Frame)> {
    vec![
        ("tcp4", Frame::tcp4()),
        ("tcp6", Frame::tcp6().payload(b"odd")),
        ("udp4", Frame::udp4()),
        ("udp6", Frame::udp6().flow_label(0xabcde).tos(0xb8)),
        ("udp4 without a checksum", Frame::udp4().checksum(0)),
        ("tcp4 with options", Frame::tcp4().ip_options(&[1, 1, 1, 0]).tcp_options(&[1; 12])),
        ("tagged twice", Frame::tcp4().vlan(SERVICE_VLAN, 7).vlan(VLAN, 9).payload(b"x")),
        ("tcp6 behind hop-by-hop", Frame::tcp6().extension(0, &[0, 1, 4, 0, 0, 0, 0])),
        ("padded", Frame::tcp4().trailer(&[0; 6])),
        ("tcp4 with the longest options", Frame::tcp4().ip_options(&[1; 40]).payload(b"odd")),
        ("udp6 behind two headers", {
            let options = [0, 1, 4, 0, 0, 0, 0];
            Frame::udp6().extension(HOP_BY_HOP, &options).extension(DESTINATION, &options)
        }),
    ]
}

#[test]
fn what_is_built_is_read_back_with_right_checksums() {
    for (name, frame) in cases() {
        let bytes = frame.build();
        let parsed = parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(parsed.source_port, 40_000, "{name}");
        assert_eq!(parsed.source_mac, CLIENT_MAC, "{name}");
        verify_checksums(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn a_flipped_bit_is_noticed() {
    for (name, frame) in cases() {
        let frame = if name == "udp4 without a checksum" { Frame::tcp4() } else { frame };
        let mut bytes = frame.trailer(&[]).build();
        // The last byte belongs to the segment.
        *bytes.last_mut().unwrap() ^= 0x10;
        assert!(verify_checksums(&bytes).is_err(), "{name}: {}", describe(&bytes));
    }
}

#[test]
fn a_wrong_header_checksum_is_noticed() {
    assert!(verify_checksums(&Frame::tcp4().ip_checksum(1).build()).is_err());
    assert!(verify_checksums(&Frame::udp6().checksum(0).build()).is_err());
}

#[test]
fn a_known_header_has_its_known_checksum() {
    // The worked example that goes round with RFC 1071's sum: the checksum is b861.
    let header =
        [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
    assert_eq!(!fold(&[&header]), 0xb861);
}

#[test]
fn no_truncation_panics() {
    let plain = cases().into_iter().map(|(_, frame)| frame);
    let quoting = cases().into_iter().map(|(_, frame)| error(&frame));
    let tunnelled = cases().into_iter().map(|(_, frame)| frame.in_ipip(ROUTER4, ROUTER4));
    for frame in plain.chain(quoting).chain(tunnelled) {
        let bytes = frame.build();
        for length in 0..bytes.len() {
            let _ = describe(&bytes[..length]);
            let _ = verify_checksums(&bytes[..length]);
        }
    }
}

/// The middle of the way: whoever tells of an error.
const ROUTER4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);

/// An error about `about` that quotes it whole.
fn error(about: &Frame) -> Frame {
    if about.source.is_ipv4() {
        Frame::fragmentation_needed(1400, &about.quoted(usize::MAX)).from(ROUTER4, 0)
    } else {
        Frame::packet_too_big(1400, &about.quoted(usize::MAX)).from(ROUTER6, 0)
    }
}

#[test]
fn an_error_tells_what_it_quotes() {
    for (name, about) in cases() {
        let about = about.trailer(&[]);
        let plain = parse(&about.build()).unwrap();
        let bytes = error(&about).build();
        verify_checksums(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let quoted = parse(&bytes).unwrap().inner.unwrap();
        assert!(quoted.whole, "{name}");
        assert_eq!((quoted.source, quoted.destination), (plain.source, plain.destination));
        assert_eq!(quoted.segment, plain.segment, "{name}");

        let short = about.quoted(8);
        let (kind, router): (Frame, IpAddr) = match plain.source {
            IpAddr::V4(_) => (Frame::time_exceeded4(0, &short), ROUTER4.into()),
            IpAddr::V6(_) => (Frame::time_exceeded6(0, &short), ROUTER6.into()),
        };
        let bytes = kind.from(router, 0).build();
        verify_checksums(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let quoted = parse(&bytes).unwrap().inner.unwrap();
        assert!(!quoted.whole, "{name}");
        assert_eq!(quoted.segment, plain.segment[..8], "{name}");
        assert_eq!((quoted.source_port, quoted.protocol), (40_000, plain.protocol), "{name}");
    }
}

#[test]
fn a_quote_with_a_wrong_checksum_is_noticed() {
    let wrong = [
        ("the quoted header's", Frame::udp4().ip_checksum(1)),
        ("the quoted TCP's", Frame::tcp4().checksum(1)),
        ("the quoted UDP's over IPv6", Frame::udp6().checksum(1)),
        ("the quoted UDP's over IPv6, none", Frame::udp6().checksum(0)),
        ("the quoted echo's", Frame::echo4(1, 2, b"ping").checksum(1)),
        ("that of a packet in a quoted tunnel", {
            let about = Frame::tcp4().checksum(1);
            about.in_ipip(ROUTER4, ROUTER4)
        }),
    ];
    for (name, about) in wrong {
        assert!(verify_checksums(&error(&about).build()).is_err(), "{name}");
    }
    // Only the part that is quoted counts.
    let cut = Frame::tcp4().checksum(1).quoted(8);
    verify_checksums(&Frame::unreachable4(1, &cut).build()).unwrap();
    assert!(verify_checksums(&Frame::unreachable4(1, &cut).checksum(1).build()).is_err());
    let cut = Frame::tcp6().checksum(1).quoted(19);
    verify_checksums(&Frame::unreachable6(0, &cut).build()).unwrap();
    assert!(verify_checksums(&Frame::unreachable6(0, &cut).checksum(1).build()).is_err());
}

#[test]
fn an_icmpv6_checksum_covers_the_addresses() {
    let mut bytes = Frame::echo6(1, 2, b"ping").build();
    verify_checksums(&bytes).unwrap();
    bytes[14 + 39] ^= 1;
    verify_checksums(&bytes).unwrap_err();
    let mut bytes = Frame::echo4(1, 2, b"ping").ip_checksum(0).build();
    let sum = verify_checksums(&bytes).unwrap_err();
    assert!(sum.contains("IPv4 header"), "{sum}");
    // Over IPv4 it does not: with the header's checksum put right, all is well.
    bytes[14 + 19] ^= 1;
    let checksum = !fold(&[&bytes[14..34]]);
    bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
    verify_checksums(&bytes).unwrap();
}

#[test]
fn extension_headers_options_and_tags_are_walked() {
    let options = [0, 1, 4, 0, 0, 0, 0];
    let long = [&[1, 5, 12], &[0; 12][..]].concat();
    let routing = [&[2, 2, 0, 0, 0, 0, 0], &[0; 16][..]].concat();
    let frame = Frame::udp6()
        .vlan(SERVICE_VLAN, 0x2007)
        .vlan(VLAN, 0xe009)
        .extension(HOP_BY_HOP, &options)
        .extension(DESTINATION, &long)
        .extension(ROUTING, &routing)
        .extension(FRAGMENT, &[0, 0, 0, 0, 0, 0, 9])
        .extension(DESTINATION, &options);
    let bytes = frame.build();
    verify_checksums(&bytes).unwrap();
    let parsed = parse(&bytes).unwrap();
    assert_eq!(parsed.vlans, [7, 9]);
    assert_eq!((parsed.protocol, parsed.destination_port, parsed.id), (UDP, 53, 9));
    assert!(!parsed.is_fragment(), "it is all there is of its packet");
    assert_eq!(parsed.payload(), b"ping");

    let options = [&[7, 39, 4], &[0; 37][..]].concat();
    let bytes = Frame::tcp4().ip_options(&options).vlan(VLAN, 1).payload(b"x").build();
    verify_checksums(&bytes).unwrap();
    let parsed = parse(&bytes).unwrap();
    assert_eq!(parsed.ipv4_header.as_ref().map(Vec::len), Some(60));
    assert_eq!((parsed.flags, parsed.payload()), (SYN, &b"x"[..]));
}

#[test]
fn the_fields_of_both_headers_are_read() {
    let parsed = parse(&Frame::tcp4().id(0xbeef).ttl(9).tos(3).build()).unwrap();
    assert_eq!((parsed.id, parsed.dont_fragment, parsed.ttl), (0xbeef, true, 9));
    let parsed = parse(&Frame::tcp4().dont_fragment(false).build()).unwrap();
    assert!(!parsed.dont_fragment && !parsed.is_fragment());
    let parsed = parse(&Frame::tcp6().flow_label(0xabcde).tos(0xff).build()).unwrap();
    assert_eq!((parsed.flow_label, parsed.tos, parsed.id), (0xabcde, 0xff, 0));
}

#[test]
fn a_datagram_in_gue_at_another_port_is_found_when_asked_for() {
    let inner = Frame::tcp4();
    let tunnel = inner.in_gue((ROUTER4, 50_000).into(), (ROUTER4, 7777).into());
    let parsed = parse(&tunnel.build()).unwrap();
    assert_eq!(parsed.inner, None);
    assert_eq!(parsed.in_udp().unwrap().destination_port, 80);
    parse(&Frame::udp4().build()).unwrap().in_udp().unwrap_err();
}

#[test]
fn words_tell_what_is_inside() {
    let inner = Frame::tcp6().in_ipip(ROUTER4, ROUTER4);
    let text = describe(&error(&inner).build());
    for part in ["icmp  type 3 code 4", "protocol 41", "inside:", "flags SYN", "rest 00000578"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}
