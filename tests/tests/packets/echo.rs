//! Echo requests to a service's address are answered where the host does not do it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel_tests::{
    frame::{Frame, SERVICE_VLAN, VLAN},
    topology::Family,
};

use crate::{
    harness::{Harness, Setup, XDP_TX, same},
    world::KINDS,
};

/// An address of nobody's.
fn elsewhere(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(203, 0, 113, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1).into(),
    }
}

fn echo(family: Family, payload: &[u8]) -> Frame {
    match family {
        Family::V4 => Frame::echo4(0x1234, 7, payload),
        Family::V6 => Frame::echo6(0x1234, 7, payload),
    }
}

#[test]
fn an_echo_request_to_a_services_address_is_answered_where_the_host_does_not() {
    let harness = Harness::new();
    let mut host = Setup::default();
    host.node.host_addresses = Family::BOTH.map(Family::vip).into();
    let host = Harness::with(host);
    for family in Family::BOTH {
        let cases = [
            ("empty", echo(family, b"")),
            ("plain", echo(family, &[0x61; 56])),
            ("odd", echo(family, b"odd")),
            ("long", echo(family, &[0xff; 1400])),
            ("padded", echo(family, b"x").trailer(&[0; 21])),
            ("the last hop", echo(family, b"x").ttl(1)),
            ("the highest TTL", echo(family, b"x").ttl(255)),
            ("tagged", echo(family, b"x").vlan(SERVICE_VLAN, 7).vlan(VLAN, 9)),
            ("marked", echo(family, b"x").tos(0xb9).id(0).flow_label(0xf_abcd)),
        ];
        for (name, request) in cases {
            let name = format!("{family:?}, {name}");
            let ran = harness.run(&request.build());
            assert_eq!((ran.verdict, ran.action), ("reply-echo", XDP_TX), "{name}");
            same(&name, &ran.bytes, &request.clone().echo_reply().ttl(64).build());
            host.passes(&format!("{name}, the host's"), &request.build(), "pass-protocol");
        }
    }
    // Of zeros alone, whose checksum has one right form only.
    let zeros = Frame::echo4(0, 0, &[0; 8]);
    let ran = harness.run(&zeros.build());
    assert_eq!(ran.verdict, "reply-echo");
    same("zeros", &ran.bytes, &zeros.echo_reply().build());
}

#[test]
fn any_other_echo_is_the_hosts() {
    let harness = Harness::new();
    for kind in KINDS {
        let family = kind.family;
        let passes = |name: &str, frame: Frame| {
            harness.passes(&format!("{kind}, {name}"), &frame.build(), "pass-protocol");
        };
        passes("to NAT's address", echo(family, b"x").to(kind.source(0), 0));
        passes(
            "a reply",
            echo(family, b"x").echo_reply().from(elsewhere(family), 0).to(kind.service().ip(), 0),
        );
        if kind.is_v4() {
            passes("with options", echo(family, b"x").ip_options(&[1; 4]));
            passes("another code", Frame::icmp4(8, 1, [0; 4]));
        } else {
            passes("with options", echo(family, b"x").extension(60, &[0, 1, 4, 0, 0, 0, 0]));
            passes("another code", Frame::icmp6(128, 1, [0; 4]));
        }
        let stranger = echo(family, b"x").to(elsewhere(family), 0).build();
        harness.passes(&format!("{kind}, to a stranger"), &stranger, "pass-not-ours");
    }
    for family in Family::BOTH {
        let whole = echo(family, b"x");
        let header = if family == Family::V4 { 20 } else { 40 };
        for length in header..header + 8 {
            let said = if family == Family::V4 { length } else { length - 40 };
            let cut = whole.clone().ip_length(u16::try_from(said).unwrap()).build();
            let name = format!("{family:?}, {length} bytes");
            harness.drops(&name, &cut[..14 + length], "drop-malformed-transport");
            harness.drops(&name, &cut, "drop-malformed-transport");
        }
    }
}
