//! Golden frames of every forwarding mode: each case of `golden`, each family and protocol, byte for
//! byte. Only plain NAT has its tables there.

use std::{collections::BTreeSet, net::IpAddr};

use evenkeel_tests::{
    frame::{ACK, PSH, SYN, parse, verify_checksums},
    topology::Family,
};

use crate::{
    golden::Case,
    harness::{GUE_PORT, Harness, Setup, XDP_TX, backend_id, same, tunnel},
    modes::{MODES, Mode},
    world::{KINDS, LIFE, LOOPBACK, Link, TCP4, TCP6, UDP4, Way, flow_hash},
};

fn ip_length(frame: &[u8]) -> u64 {
    let parsed = parse(frame).unwrap();
    let fixed = if parsed.ipv4_header.is_some() { 0 } else { 40 };
    fixed + u64::from(parsed.ip_length)
}

fn every_packet_leaves_as_it_must(mode: Mode) {
    let harness = Harness::with(mode.setup());
    for kind in KINDS {
        let (mut packets, mut bytes) = ([0; 2], [0; 2]);
        let mut connections = 0;
        for case in Case::of(kind) {
            let link = mode.link(kind, connections);
            connections += 1;
            for (step, way, flags) in mode.life() {
                let frame = (case.vary)(link.frame(way, flags));
                let (frame, expected) = mode.whole(&link, way, &frame, case.ttl);
                let name = format!("{mode}, {kind}, {}: {step}", case.name);
                harness.forwards(&name, way, &frame, &expected);
                packets[way as usize] += 1;
                bytes[way as usize] += ip_length(&frame);
            }
        }
        // A tunnel's headers are no bytes of the connection.
        let counters = harness.counters(kind, 1);
        assert_eq!([counters.packets_in, counters.packets_out], packets, "{mode}, {kind}");
        assert_eq!([counters.bytes_in, counters.bytes_out], bytes, "{mode}, {kind}");
        let count = u64::from(connections);
        assert_eq!((counters.opened, counters.closed), (count, 0), "{mode}, {kind}");
        let entries = if mode.is_two_way() { 2 } else { 1 };
        assert_eq!(harness.entries(kind), entries * count, "{mode}, {kind}");
    }
}

#[test]
fn nat_that_keeps_the_clients_address() {
    every_packet_leaves_as_it_must(Mode::Kept);
}

#[test]
fn dsr() {
    every_packet_leaves_as_it_must(Mode::Dsr);
}

#[test]
fn ipip_to_ipv4() {
    every_packet_leaves_as_it_must(Mode::Ipip(Family::V4));
}

#[test]
fn ipip_to_ipv6() {
    every_packet_leaves_as_it_must(Mode::Ipip(Family::V6));
}

#[test]
fn gue_to_ipv4() {
    every_packet_leaves_as_it_must(Mode::Gue(Family::V4));
}

#[test]
fn gue_to_ipv6() {
    every_packet_leaves_as_it_must(Mode::Gue(Family::V6));
}

#[test]
fn the_hash_is_the_one_that_edges_agreed_on() {
    let client = (IpAddr::from([198, 51, 100, 1]), 40_000);
    assert_eq!(flow_hash(TCP4, client, ([198, 51, 100, 200], 80).into()), 2_920_568_635);
}

#[test]
fn backends_on_the_clients_interface_get_their_packets_back_out_of_it() {
    for mode in MODES {
        let harness = Harness::with(Setup { interface: LOOPBACK, ..mode.setup() });
        for kind in KINDS {
            let link = mode.link(kind, 0);
            for (step, way, flags) in mode.life() {
                let (frame, expected) = mode.whole(&link, way, &link.frame(way, flags), 64);
                let ran = harness.run(&frame);
                let name = format!("{mode}, {kind}: {step}");
                assert_eq!(ran.action, XDP_TX, "{name}");
                same(&name, &ran.bytes, &expected);
            }
        }
    }
}

#[test]
fn answers_that_take_another_way_are_not_ours() {
    let harness = Harness::with(Mode::Dsr.setup());
    for kind in KINDS {
        let link = Mode::Dsr.link(kind, 0);
        let (frame, expected) =
            Mode::Dsr.whole(&link, Way::Forth, &link.frame(Way::Forth, SYN), 64);
        harness.forwards("opening", Way::Forth, &frame, &expected);
        // From the service's own address, as a backend answers; and from the backend's.
        let answer = link.translated(Way::Back, link.frame(Way::Back, SYN | ACK)).build();
        harness.passes("an answer", &answer, "pass-not-ours");
        let other = link.frame(Way::Back, SYN | ACK).build();
        harness.passes("from the backend", &other, "pass-not-ours");
        assert_eq!(harness.counters(kind, 1).packets_out, 0, "{kind}");
    }
}

#[test]
fn a_backends_other_packets_are_the_hosts_where_clients_keep_their_addresses() {
    // The address filter lets backends' packets in; without a connection they pass.
    let harness = Harness::with(Mode::Kept.setup());
    for kind in KINDS {
        let link = Mode::Kept.link(kind, 0);
        let (frame, _) = link.plain(Way::Back, SYN | ACK);
        harness.passes(&format!("{kind}, before"), &frame, "pass-no-service");
        for (step, way, flags) in LIFE {
            let (frame, expected) = Mode::Kept.whole(&link, way, &link.frame(way, flags), 64);
            harness.forwards(&format!("{kind}: {step}"), way, &frame, &expected);
        }
        let elsewhere = link.frame(Way::Back, ACK).destination_port(link.client.1 + 1).build();
        harness.passes(&format!("{kind}, another port"), &elsewhere, "pass-no-service");
    }
}

#[test]
fn outer_headers_vary_with_the_flow_and_stay_with_it() {
    for mode in &MODES[3..] {
        let setup = Setup { connections: 2048, ..mode.setup() };
        let harness = Harness::with(setup);
        let (Mode::Ipip(far) | Mode::Gue(far)) = *mode else { unreachable!("tunnels alone") };
        let gue = *mode == Mode::Gue(far);
        for kind in KINDS {
            let (mut sources, mut ports) = (BTreeSet::new(), BTreeSet::new());
            for turn in 0..256 {
                let link = mode.link(kind, turn);
                for flags in [SYN, PSH | ACK] {
                    let frame = link.frame(Way::Forth, flags).payload(b"more");
                    let (frame, expected) = mode.whole(&link, Way::Forth, &frame, 64);
                    harness.forwards(&format!("{mode}, {kind}"), Way::Forth, &frame, &expected);
                    let outer = parse(&expected).unwrap();
                    sources.insert(outer.source);
                    ports.insert(outer.source_port);
                }
            }
            let (source_count, port_count) = (sources.len(), ports.len());
            if gue {
                let own = BTreeSet::from([tunnel(far, true).source]);
                assert_eq!(sources, own, "{mode}, {kind}");
                assert!(port_count > 240 && ports.iter().all(|port| *port >= 0xc000), "{kind}");
            } else {
                assert!(source_count > 240, "{mode}, {kind}: {source_count} sources");
            }
        }
    }
}

#[test]
fn gue_over_ipv6_sums_up_what_the_inner_checksum_promises() {
    let harness = Harness::with(Mode::Gue(Family::V6).setup());
    for kind in KINDS {
        let link = Mode::Gue(Family::V6).link(kind, 0);
        let plain = link.frame(Way::Forth, SYN);
        // A wrong inner checksum makes a wrong outer one: nobody takes the packet for right.
        let ran = harness.run(&plain.clone().checksum(0x1234).build());
        let outer = parse(&ran.bytes).unwrap();
        assert_eq!((ran.verdict, outer.destination_port), ("to-backend", GUE_PORT));
        assert_ne!(outer.segment[6..8], [0; 2], "{kind}");
        // A right one a right one, for both parities.
        for payload in [&b""[..], b"o", b"ev", &[0xff; 1399], &[0xff; 1400]] {
            let ran = harness.run(&plain.clone().payload(payload).build());
            verify_checksums(&ran.bytes).unwrap();
            let outer = parse(&ran.bytes).unwrap();
            assert_ne!(outer.segment[6..8], [0; 2], "{kind}, {} bytes", payload.len());
        }
    }
}

#[test]
fn a_service_on_every_port_takes_what_no_other_takes() {
    for mode in MODES {
        let harness = Harness::with(Setup { weights: vec![1; 3], ..mode.setup() });
        for kind in KINDS {
            // Backend 2 for every port, at its own port; backend 3 at the client's.
            harness.write_ring(kind, &[backend_id(kind, 1)]);
            harness.write_backend(kind, 3, |entry| entry.address.set_port(0));
            let exact = kind.service().port();
            let ports = [(2, 1), (2, 4711), (3, exact + 1), (3, u16::MAX), (1, exact)];
            for ((backend, port), turn) in ports.into_iter().zip(0..) {
                let ring = if backend == 1 { 2 } else { backend };
                harness.write_every_port(kind, &[backend_id(kind, ring)]);
                let link = Link { backend, ..mode.link(kind, turn) };
                for (step, way, flags) in mode.life() {
                    let name = format!("{mode}, {kind}, port {port}: {step}");
                    let frame = at_port(&link, way, flags, port);
                    let ran = harness.run(&frame);
                    assert_eq!(ran.verdict, ["to-backend", "to-client"][way as usize], "{name}");
                    let packet = parse(&ran.bytes).unwrap();
                    let innermost = packet.inner.as_deref().unwrap_or(&packet);
                    let expected = match (way, mode.is_two_way(), backend) {
                        (Way::Back, ..) => (port, link.client.1),
                        (_, false, _) => (link.client.1, port),
                        (_, true, 3) => (link.source.1, port),
                        _ => (link.source.1, kind.backend(backend).port()),
                    };
                    let ports = (innermost.source_port, innermost.destination_port);
                    assert_eq!(ports, expected, "{name}");
                    let mac = if way == Way::Forth {
                        crate::world::backend_mac(backend)
                    } else {
                        evenkeel_tests::frame::CLIENT_MAC
                    };
                    assert_eq!(packet.destination_mac, mac, "{name}");
                }
            }
        }
    }
}

/// A packet of a connection to `port` of the service.
fn at_port(link: &Link, way: Way, flags: u8, port: u16) -> Vec<u8> {
    let frame = link.frame(way, flags);
    match way {
        Way::Forth => frame.destination_port(port),
        Way::Back if link.backend == 3 => frame.source_port(port),
        Way::Back => frame,
    }
    .build()
}

#[test]
fn every_port_is_of_one_protocol_and_address() {
    let harness = Harness::with(Mode::Nat.setup());
    harness.write_every_port(TCP4, &[backend_id(TCP4, 1)]);
    for kind in [TCP6, UDP4] {
        let frame = kind.frame(SYN).destination_port(4711);
        harness.passes(&kind.to_string(), &frame.build(), "pass-no-service");
    }
    let own = TCP4.frame(SYN).destination_port(4711).build();
    assert_eq!(harness.run(&own).verdict, "to-backend");
    // Whoever opens nothing there is the host's to answer, as at the exact port.
    let stray = TCP4.frame(ACK).destination_port(4712).build();
    harness.passes("a stray", &stray, "pass-no-connection");
}
