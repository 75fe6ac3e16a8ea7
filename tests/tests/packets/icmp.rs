//! ICMP errors about a connection reach the end that they concern, in its own words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel_tests::{
    frame::{
        ACK, CLIENT_MAC, EDGE_MAC, Frame, PSH, SERVICE_VLAN, SYN, VLAN, parse, verify_checksums,
    },
    topology::Family,
};
use lb_common::service::{flags::KEEP_SOURCE, forwarding};

use crate::{
    harness::{Harness, Setup, XDP_PASS, XDP_REDIRECT, XDP_TX, same},
    world::{BACK_MAC, KINDS, Kind, LIFE, Link, Way, backend_mac},
};

/// The MAC address of a router among the backends.
const INNER_MAC: [u8; 6] = [0x02, 0, 0, 0, 1, 0xfe];

/// A router between clients and edge.
fn outer_router(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(203, 0, 113, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1).into(),
    }
}

/// A router between edge and backends.
fn inner_router(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 0, 0, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1).into(),
    }
}

/// Errors that a connection's end wants to know of: name, type, code and the rest of the header.
fn errors(family: Family) -> Vec<(&'static str, u8, u8, [u8; 4])> {
    match family {
        Family::V4 => vec![
            ("net unreachable", 3, 0, [0; 4]),
            ("host unreachable", 3, 1, [0; 4]),
            ("port unreachable", 3, 3, [0; 4]),
            ("fragmentation needed", 3, 4, [0, 0, 0x05, 0x78]),
            ("prohibited", 3, 13, [0; 4]),
            ("TTL exceeded", 11, 0, [0; 4]),
            ("reassembly time exceeded", 11, 1, [0; 4]),
            ("parameter problem", 12, 0, [9, 0, 0, 0]),
        ],
        Family::V6 => vec![
            ("no route", 1, 0, [0; 4]),
            ("address unreachable", 1, 3, [0; 4]),
            ("port unreachable", 1, 4, [0; 4]),
            ("packet too big", 2, 0, [0, 0, 0x05, 0x14]),
            ("hop limit exceeded", 3, 0, [0; 4]),
            ("reassembly time exceeded", 3, 1, [0; 4]),
            ("parameter problem", 4, 1, [0, 0, 0, 40]),
        ],
    }
}

fn error(family: Family, (kind, code, rest): (u8, u8, [u8; 4]), quoted: &[u8]) -> Frame {
    match family {
        Family::V4 => Frame::icmp_error4(kind, code, rest, quoted).id(0x4321),
        Family::V6 => Frame::icmp_error6(kind, code, rest, quoted).flow_label(0x1_2345),
    }
}

/// Ways for the quoted packet to differ from a plain one, and for the quote to end.
type Quotation = (&'static str, fn(Kind, Frame) -> Frame, usize);

const QUOTATIONS: [Quotation; 9] = [
    ("eight bytes of it", |_, frame| frame, 8),
    ("TCP up to its checksum", |_, frame| frame, 18),
    ("TCP just before its checksum", |_, frame| frame, 16),
    ("a header", |_, frame| frame, 20),
    ("all of it", |_, frame| frame, usize::MAX),
    ("an odd payload", |_, frame| frame.payload(b"odd"), usize::MAX),
    ("half a long payload", |_, frame| frame.payload(&[0x5a; 900]), 400),
    ("options", |kind, frame| if kind.is_v4() { frame.ip_options(&[1; 12]) } else { frame }, 40),
    (
        "no checksum",
        |kind, frame| if kind == crate::world::UDP4 { frame.checksum(0) } else { frame },
        60,
    ),
];

/// An error about a connection's packet, as it reaches the edge, and as it leaves it.
struct Told {
    arrives: Frame,
    leaves: Frame,
}

/// About a packet that went the way `way`: what the quoted packet was when the edge sent it on, and
/// when the edge got it.
fn told(link: &Link, way: Way, what: (u8, u8, [u8; 4]), (_, vary, length): Quotation) -> Told {
    let (kind, family) = (link.kind, link.kind.family);
    let got = vary(kind, link.frame(way, PSH | ACK)).ttl(60);
    let sent = link.translated(way, got.clone()).ttl(57);
    let got = got.ttl(57);
    let arrives = error(family, what, &sent.quoted(length));
    let leaves = error(family, what, &got.quoted(length)).ttl(63);
    let service = kind.service().ip();
    let backend = kind.backend(link.backend).ip();
    match way {
        // To the client, about it; so the backend is told.
        Way::Back => Told {
            arrives: arrives.from(outer_router(family), 0).to(service, 0),
            leaves: leaves
                .macs(BACK_MAC, backend_mac(link.backend))
                .from(link.source.0, 0)
                .to(backend, 0),
        },
        Way::Forth => Told {
            arrives: arrives
                .macs(INNER_MAC, BACK_MAC)
                .from(inner_router(family), 0)
                .to(link.source.0, 0),
            leaves: leaves.macs(EDGE_MAC, CLIENT_MAC).from(service, 0).to(link.client.0, 0),
        },
    }
}

fn tells(harness: &Harness, name: &str, way: Way, told: &Told) {
    let ran = harness.run(&told.arrives.build());
    let expected = match way {
        Way::Back => ("icmp-to-backend", XDP_REDIRECT),
        Way::Forth => ("icmp-to-client", XDP_TX),
    };
    assert_eq!((ran.verdict, ran.action), expected, "{name}");
    let leaves = told.leaves.build();
    same(name, &ran.bytes, &leaves);
    verify_checksums(&ran.bytes).unwrap();
}

fn lives(harness: &Harness, link: &Link) {
    for (_, way, flags) in LIFE {
        harness.carries(link, way, flags);
    }
}

#[test]
fn every_error_reaches_the_end_that_it_concerns_under_nat() {
    let harness = Harness::new();
    for kind in KINDS {
        let link = Link::new(kind, 0);
        lives(&harness, &link);
        let (before, entries) = (harness.counters(kind, 1), harness.entries(kind));
        for (what, number, code, rest) in errors(kind.family) {
            for quotation in QUOTATIONS {
                for way in [Way::Forth, Way::Back] {
                    let name = format!("{kind}, {way:?}: {what}, quoting {}", quotation.0);
                    tells(&harness, &name, way, &told(&link, way, (number, code, rest), quotation));
                }
            }
        }
        // No packet of the connection: nothing is counted, and nothing ends.
        assert_eq!(harness.counters(kind, 1), before, "{kind}");
        assert_eq!(harness.entries(kind), entries, "{kind}");
        harness.carries(&link, Way::Forth, PSH | ACK);
        harness.carries(&link, Way::Back, PSH | ACK);
    }
}

#[test]
fn an_error_keeps_its_tags_its_padding_and_its_wrong_checksum() {
    let harness = Harness::new();
    for kind in KINDS {
        let link = Link::new(kind, 0);
        lives(&harness, &link);
        let (_, number, code, rest) = errors(kind.family)[0];
        for way in [Way::Forth, Way::Back] {
            for quotation in QUOTATIONS {
                let name = format!("{kind}, {way:?}, quoting {}", quotation.0);
                let Told { arrives, leaves } = told(&link, way, (number, code, rest), quotation);
                let vary = |frame: Frame| frame.vlan(SERVICE_VLAN, 7).vlan(VLAN, 9).tos(0x28);
                let told = Told { arrives: vary(arrives.clone()), leaves: vary(leaves.clone()) };
                tells(&harness, &format!("{name}, tagged"), way, &told);
                let vary = |frame: Frame| frame.trailer(&[0xee; 37]);
                let told = Told { arrives: vary(arrives.clone()), leaves: vary(leaves) };
                tells(&harness, &format!("{name}, padded"), way, &told);
                // The harness itself sees that it stays wrong.
                let wrong = arrives.checksum(0x1234).build();
                assert!(verify_checksums(&wrong).is_err());
                assert!(harness.run(&wrong).verdict.starts_with("icmp-to-"), "{name}");
            }
        }
    }
}

#[test]
fn an_error_about_a_kept_source_keeps_its_sender_towards_the_backend() {
    let harness = Harness::with(Setup::settings(|settings| settings.flags |= KEEP_SOURCE));
    for kind in KINDS {
        let link = Link::new(kind, 0);
        let link = Link { source: link.client, ..link };
        lives(&harness, &link);
        for (what, number, code, rest) in errors(kind.family) {
            for quotation in QUOTATIONS {
                let name = |way| format!("{kind}, {way:?}: {what}, quoting {}", quotation.0);
                let Told { arrives, leaves } =
                    told(&link, Way::Back, (number, code, rest), quotation);
                let leaves = leaves.from(outer_router(kind.family), 0);
                tells(&harness, &name(Way::Back), Way::Back, &Told { arrives, leaves });
                // Addressed to the client itself, which is nobody of ours.
                let told = told(&link, Way::Forth, (number, code, rest), quotation);
                tells(&harness, &name(Way::Forth), Way::Forth, &told);
            }
        }
        // What is about nothing of ours, and came in for its quote alone.
        let (_, number, code, rest) = errors(kind.family)[0];
        let stranger = Link { client: (link.client.0, 9), source: (link.source.0, 9), ..link };
        let told = told(&stranger, Way::Forth, (number, code, rest), QUOTATIONS[0]);
        harness.passes(
            &format!("{kind}: about a stranger"),
            &told.arrives.build(),
            "pass-not-ours",
        );
        let echo = if kind.is_v4() { Frame::echo4(1, 1, b"") } else { Frame::echo6(1, 1, b"") };
        let echo = echo.to(stranger.client.0, 0).build();
        harness.passes(&format!("{kind}: an echo to a stranger"), &echo, "pass-not-ours");
    }
}

/// A harness of another forwarding than NAT, with the far ends of a family.
fn forwarding_by(forwarding: u32, far_end: Option<Family>) -> Harness {
    let setup = Setup::settings(|settings| settings.forwarding = forwarding);
    Harness::with(Setup { far_end, ..setup })
}

/// An error about what a backend sent to the client itself, from the service's address.
fn about_an_answer(link: &Link, what: (u8, u8, [u8; 4]), quotation: Quotation) -> Frame {
    told(link, Way::Back, what, quotation).arrives
}

#[test]
fn an_error_goes_as_it_is_to_a_backend_that_has_the_address() {
    let harness = forwarding_by(forwarding::DSR, None);
    for kind in KINDS {
        let link = Link::new(kind, 0);
        assert_eq!(harness.run(&link.frame(Way::Forth, SYN).build()).verdict, "to-backend");
        for (what, number, code, rest) in errors(kind.family) {
            for quotation in QUOTATIONS {
                let name = format!("{kind}: {what}, quoting {}", quotation.0);
                let arrives = about_an_answer(&link, (number, code, rest), quotation);
                let leaves = arrives.clone().macs(BACK_MAC, backend_mac(1)).ttl(63);
                tells(&harness, &name, Way::Back, &Told { arrives, leaves });
            }
        }
    }
}

#[test]
fn an_error_goes_into_its_connections_tunnel() {
    for mode in [forwarding::IPIP, forwarding::GUE] {
        for far_end in Family::BOTH {
            let harness = forwarding_by(mode, Some(far_end));
            for kind in KINDS {
                let link = Link::new(kind, 0);
                let ran = harness.run(&link.frame(Way::Forth, SYN).build());
                assert_eq!(ran.verdict, "to-backend", "{kind}");
                let first = parse(&ran.bytes).unwrap();
                for (what, number, code, rest) in errors(kind.family) {
                    for quotation in QUOTATIONS {
                        let name = format!("{kind}, {mode} {far_end:?}: {what}, {}", quotation.0);
                        let arrives = about_an_answer(&link, (number, code, rest), quotation);
                        let inside = arrives.clone().macs(BACK_MAC, backend_mac(1)).ttl(63);
                        // The way of the connection's own packets: ends and entropy are theirs.
                        let leaves = if mode == forwarding::GUE {
                            let source = (first.source, first.source_port).into();
                            let end = (first.destination, first.destination_port).into();
                            inside.in_gue(source, end).checksum(0)
                        } else {
                            inside.in_ipip(first.source, first.destination)
                        };
                        let leaves = leaves.id(0).flow_label(first.flow_label);
                        tells(&harness, &name, Way::Back, &Told { arrives, leaves });
                    }
                }
            }
        }
    }
}

#[test]
fn an_error_that_does_not_fit_its_tunnel_is_dropped() {
    let setup = Setup::settings(|settings| settings.forwarding = forwarding::IPIP);
    let harness = Harness::with(Setup { mtu: 600, ..setup });
    for kind in KINDS {
        let link = Link::new(kind, 0);
        harness.run(&link.frame(Way::Forth, SYN).build());
        let (_, number, code, rest) = errors(kind.family)[0];
        let long: Quotation = ("much", |_, frame| frame.payload(&[1; 900]), 700);
        let error = about_an_answer(&link, (number, code, rest), long).build();
        // Nobody is told by an error that an error was too big.
        harness.drops(&format!("{kind}"), &error, "drop-too-big");
    }
}

#[test]
fn an_error_about_nothing_of_ours_passes() {
    let harness = Harness::new();
    for kind in KINDS {
        let link = Link::new(kind, 0);
        lives(&harness, &link);
        let (_, number, code, rest) = errors(kind.family)[0];
        let what = (number, code, rest);
        for way in [Way::Forth, Way::Back] {
            let Told { arrives, .. } = told(&link, way, what, QUOTATIONS[4]);
            let name = |what| format!("{kind}, {way:?}: {what}");
            let passes = |what, frame: &Frame| {
                harness.passes(&name(what), &frame.build(), "pass-protocol");
            };
            harness.passes(&name("the last hop"), &arrives.clone().ttl(1).build(), "pass-ttl");
            harness.passes(&name("a hop too many"), &arrives.clone().ttl(0).build(), "pass-ttl");

            let unknown = Link { client: (link.client.0, 9), source: (link.source.0, 9), ..link };
            let of_unknown = told(&unknown, way, what, QUOTATIONS[4]).arrives;
            passes("an unknown connection", &of_unknown);
            // As if we had got the packet and not sent it.
            let mut turned = link.translated(way, link.frame(way, ACK)).quoted(8);
            let ends = if kind.is_v4() { 12..20 } else { 8..40 };
            let half = ends.len() / 2;
            turned[ends].rotate_left(half);
            passes("the wrong way", &arrives.clone().payload(&turned));

            let sent = link.translated(way, link.frame(way, ACK));
            if kind.is_v4() {
                let later = sent.clone().fragment(2, true).quoted(8);
                passes("a later fragment", &arrives.clone().payload(&later));
            } else {
                let part = sent.clone().extension(44, &[0, 0, 0x11, 0, 0, 0, 7]).quoted(8);
                passes("a fragment", &arrives.clone().payload(&part));
            }
            let other = sent.protocol(132).quoted(8);
            passes("another protocol", &arrives.clone().payload(&other));
        }
        for number in if kind.is_v4() { [4, 5, 13] } else { [133, 135, 137] } {
            let message = told(&link, Way::Back, (number, 0, [0; 4]), QUOTATIONS[4]).arrives;
            harness.passes(&format!("{kind}: type {number}"), &message.build(), "pass-protocol");
        }
    }
}

#[test]
fn an_error_cut_anywhere_is_relayed_whole_or_not_at_all() {
    let harness = Harness::new();
    for kind in KINDS {
        let link = Link::new(kind, 0);
        lives(&harness, &link);
        let (_, number, code, rest) = errors(kind.family)[0];
        let header = if kind.is_v4() { 20 } else { 40 };
        for way in [Way::Forth, Way::Back] {
            for quotation in [QUOTATIONS[4], QUOTATIONS[7]] {
                let Told { arrives, leaves } = told(&link, way, (number, code, rest), quotation);
                let whole = arrives.packet().len();
                let options = if kind.is_v4() && quotation.0 == "options" { 12 } else { 0 };
                // ICMP's header, the quoted one, and the first eight bytes of its payload.
                let enough = header + 8 + header + options + 8;
                for length in header..=whole {
                    let name = format!("{kind}, {way:?}, {} of {length}", quotation.0);
                    let said = if kind.is_v4() { length } else { length - 40 };
                    let said = u16::try_from(said).unwrap();
                    let cut = |frame: &Frame| frame.clone().ip_length(said).build();
                    // As the IP header says, followed by nothing, and by noise.
                    let (frame, expected) = (cut(&arrives), cut(&leaves));
                    for noise in [0, whole - length] {
                        let ran = harness.run(&frame[..14 + length + noise]);
                        if length >= enough {
                            assert!(ran.verdict.starts_with("icmp-to-"), "{name}: {}", ran.verdict);
                            if length == whole {
                                same(&name, &ran.bytes, &expected);
                            }
                            continue;
                        }
                        match way {
                            Way::Back => {
                                assert_eq!(ran.verdict, "drop-malformed-transport", "{name}");
                            }
                            Way::Forth => {
                                assert_eq!((ran.verdict, ran.action), ("pass-protocol", XDP_PASS));
                            }
                        }
                    }
                    if length < whole {
                        // Cut, but for its header's word.
                        let ran = harness.run(&arrives.build()[..14 + length]);
                        let expected = match way {
                            Way::Back => "drop-malformed-ip",
                            Way::Forth => "pass-not-ours",
                        };
                        assert_eq!(ran.verdict, expected, "{name}");
                    }
                }
            }
        }
    }
}

/// A quote that contradicts itself.
#[test]
fn a_malformed_quote_is_dropped_for_a_service() {
    let harness = Harness::new();
    for kind in KINDS {
        let link = Link::new(kind, 0);
        lives(&harness, &link);
        let (_, number, code, rest) = errors(kind.family)[0];
        let sent = link.translated(Way::Back, link.frame(Way::Back, ACK));
        let mut quotes = vec![
            ("version 0", sent.clone().version(0).quoted(8)),
            ("the other version", sent.clone().version(if kind.is_v4() { 6 } else { 4 }).quoted(8)),
        ];
        if kind.is_v4() {
            quotes.push(("a header of four words", sent.clone().header_words(4).quoted(8)));
            quotes.push(("a header beyond the quote", sent.header_words(15).quoted(8)));
        }
        let error = told(&link, Way::Back, (number, code, rest), QUOTATIONS[0]).arrives;
        for (name, quote) in quotes {
            let name = format!("{kind}: {name}");
            let error = error.clone().payload(&quote);
            harness.drops(&name, &error.build(), "drop-malformed-transport");
            let elsewhere = error.to(link.source.0, 0).build();
            harness.passes(&name, &elsewhere, "pass-protocol");
        }
    }
}
