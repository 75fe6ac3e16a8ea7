//! Where a forwarded packet leaves: the way that the controller keeps, else the kernel's; and
//! replies by the way that their client's packets came.

use std::fmt::Write as _;

use anyhow::Result;
use evenkeel_tests::{
    frame::{ACK, CLIENT_MAC, EDGE_MAC, PSH, SYN},
    netns::Namespace,
};

use crate::{
    harness::{Harness, Ran, Setup, XDP_PASS, XDP_REDIRECT, XDP_TX, same},
    world::{BACK_MAC, KINDS, LIFE, Link, Way, backend_mac},
};

/// Interfaces of the namespace that these packets come in by.
const FRONT: u32 = 71;
const SIDE: u32 = 72;
const REAR: u32 = 73;

fn edge() -> Result<Namespace> {
    let edge = Namespace::new("packets")?;
    for (name, index) in [("front", FRONT), ("side", SIDE), ("rear", REAR)] {
        // A cable with both its ends here; only this one is used.
        edge.ip(&format!(
            "link add {name} index {index} type veth peer name {name}-peer\n\
             link set {name}-peer up\nlink set {name} up"
        ))?;
    }
    Ok(edge)
}

/// The action and the bytes of a packet that came in by `interface`.
fn run(harness: &Harness, interface: u32, frame: &[u8]) -> (u32, Vec<u8>) {
    let Ran { action, bytes, .. } = harness.run_from(Some(interface), frame);
    (action, bytes)
}

#[test]
fn a_packet_turns_round_only_where_its_way_is_the_one_it_came() {
    edge()
        .unwrap()
        .run(|| {
            let harness = Harness::with(Setup { interface: REAR, ..Setup::default() });
            for kind in KINDS {
                let link = Link::new(kind, 0);
                for (step, way, flags) in LIFE {
                    let (frame, expected) = link.plain(way, flags);
                    let name = format!("{kind}: {step}");
                    // The client is known to be in front; a backend's packet may come anywhere.
                    let entrances: &[_] = match way {
                        Way::Forth => &[(FRONT, XDP_REDIRECT)],
                        Way::Back => &[(REAR, XDP_REDIRECT), (SIDE, XDP_REDIRECT), (FRONT, XDP_TX)],
                    };
                    for (interface, action) in entrances {
                        let (got, bytes) = run(&harness, *interface, &frame);
                        assert_eq!(got, *action, "{name} by {interface}");
                        same(&name, &bytes, &expected);
                    }
                }
                // The client moves to the backends' side.
                let (frame, expected) = link.plain(Way::Forth, PSH | ACK);
                let (action, bytes) = run(&harness, REAR, &frame);
                assert_eq!(action, XDP_TX, "{kind}");
                same("from the rear", &bytes, &expected);
                let (frame, _) = link.plain(Way::Back, PSH | ACK);
                assert_eq!(run(&harness, REAR, &frame).0, XDP_TX, "{kind}");
                assert_eq!(run(&harness, FRONT, &frame).0, XDP_REDIRECT, "{kind}");
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn replies_follow_a_client_that_comes_by_another_router() {
    let harness = Harness::new();
    let routers =
        [(CLIENT_MAC, EDGE_MAC), ([2, 0, 0, 9, 9, 9], EDGE_MAC), ([2, 0, 0, 9, 9, 8], [2; 6])];
    for kind in KINDS {
        let link = Link::new(kind, 0);
        for (router, edge) in routers.into_iter().chain([routers[0]]) {
            let frame = link.frame(Way::Forth, SYN).macs(router, edge);
            let expected = link.translated(Way::Forth, frame.clone()).ttl(63);
            harness.forwards("forth", Way::Forth, &frame.build(), &expected.build());
            for _ in 0..2 {
                let frame = link.frame(Way::Back, SYN | ACK);
                let expected = link.translated(Way::Back, frame.clone()).macs(edge, router);
                let expected = expected.ttl(63).build();
                harness.forwards("back", Way::Back, &frame.build(), &expected);
            }
        }
        assert_eq!(harness.counters(kind, 1).opened, 1, "{kind}");
    }
}

#[test]
fn a_backend_of_no_known_way_is_left_to_the_kernel() {
    // This namespace has no route to any backend.
    edge()
        .unwrap()
        .run(|| {
            let harness = Harness::with(Setup { interface: 0, ..Setup::default() });
            for kind in KINDS {
                let link = Link::new(kind, 0);
                let frame = link.frame(Way::Forth, SYN);
                // Translated, but the Ethernet header is as it came: it is the host's to forward.
                let expected =
                    link.translated(Way::Forth, frame.clone()).macs(CLIENT_MAC, EDGE_MAC);
                let ran = harness.run_from(Some(FRONT), &frame.build());
                assert_eq!((ran.verdict, ran.action), ("pass-no-next-hop", XDP_PASS), "{kind}");
                same("left to the kernel", &ran.bytes, &expected.ttl(63).build());
                // Its reply and its count are as any other's.
                let (frame, expected) = link.plain(Way::Back, SYN | ACK);
                let (action, bytes) = run(&harness, REAR, &frame);
                assert_eq!(action, XDP_REDIRECT, "{kind}");
                same("back", &bytes, &expected);
                assert_eq!(harness.counters(kind, 1).packets_in, 1, "{kind}");
                // The way becomes known.
                harness.write_way(kind, 1, REAR);
                let (frame, expected) = link.plain(Way::Forth, ACK);
                let (action, bytes) = run(&harness, FRONT, &frame);
                assert_eq!(action, XDP_REDIRECT, "{kind}");
                same("forth", &bytes, &expected);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_kernels_own_way_is_taken_where_it_has_one() {
    let edge = edge().unwrap();
    edge.sysctl("net/ipv4/ip_forward", "1").unwrap();
    edge.sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
    let colons = |mac: [u8; 6]| mac.map(|octet| format!("{octet:02x}")).join(":");
    let mut lines = format!("link set rear address {}\n", colons(BACK_MAC));
    for kind in KINDS {
        let (source, backend, mac) = (kind.source(0), kind.backend(1).ip(), colons(backend_mac(1)));
        let (length, flags) = if kind.is_v4() { (24, "") } else { (64, " nodad") };
        writeln!(
            lines,
            "address replace {source}/{length} dev rear{flags}\n\
             neighbour replace {backend} lladdr {mac} dev rear nud permanent"
        )
        .unwrap();
    }
    edge.ip(&lines).unwrap();
    edge.run(|| {
        let harness = Harness::with(Setup { interface: 0, ..Setup::default() });
        for kind in KINDS {
            let link = Link::new(kind, 0);
            for (step, way, flags) in LIFE {
                let (frame, expected) = link.plain(way, flags);
                let interface = if way == Way::Forth { FRONT } else { REAR };
                let (action, bytes) = run(&harness, interface, &frame);
                assert_eq!(action, XDP_REDIRECT, "{kind}: {step}");
                same(&format!("{kind}: {step}"), &bytes, &expected);
            }
        }
        Ok(())
    })
    .unwrap();
}
