//! Path-MTU discovery through a link that is narrower than the rest and that neither end sees:
//! the routers' ICMP errors about a connection reach the end that can do something about it.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::net::IpAddr;

use evenkeel_tests::{
    modes::{Ground, Mode},
    servers::{PORT, ask_again, big_file, client_socket},
    topology::{Family, Side, Wiring},
    transfer::{download, same, upload},
};

const NARROW: u16 = 1400;
const WIDE: u16 = 1500;

/// Where the backends send their answers to: NAT's source, or the client itself.
fn answered(ground: &Ground, mode: Mode, family: Family) -> IpAddr {
    let lab = &ground.stage.lab;
    if mode == Mode::Nat { lab.inside(family) } else { lab.client.address(family, 0).ip() }
}

fn large_files_find_their_way(mode: Mode) {
    let ground = Ground::new(Wiring::Routed, 1, mode).unwrap();
    let stage = &ground.stage;
    let (client, backend) = (&stage.lab.client, &stage.lab.backends[0]);
    let (original, copy) = (stage.files().join("big"), stage.scratch().join("copy"));
    big_file(&original, 4).unwrap();
    let narrow = |front, back| {
        stage.lab.narrow(Side::Front, front).unwrap();
        stage.lab.narrow(Side::Back, back).unwrap();
        ground.forget_mtus().unwrap();
    };
    for family in Family::BOTH {
        let name = format!("{family:?} by {mode}");
        let server = family.service(PORT);
        let answered = answered(&ground, mode, family);

        // A router in front complains to the service's address about the backend's packets.
        narrow(NARROW, WIDE);
        assert_eq!(backend.learnt_mtu(answered).unwrap(), None, "{name}");
        download(&client.namespace, server, "/files/big", &copy)
            .unwrap_or_else(|error| panic!("{name}, download: {error:#}"));
        same(&original, &copy).unwrap();
        let learnt = backend.learnt_mtu(answered).unwrap();
        assert_eq!(learnt, Some(NARROW.into()), "{name}");

        // One behind complains to the edge about what the edge made of the client's packets.
        narrow(WIDE, NARROW);
        assert_eq!(client.learnt_mtu(server.ip()).unwrap(), None, "{name}");
        upload(&client.namespace, server, &original, "big")
            .unwrap_or_else(|error| panic!("{name}, upload: {error:#}"));
        same(&original, &stage.nginx[0].uploaded("big")).unwrap();
        let learnt = client.learnt_mtu(server.ip()).unwrap();
        assert_eq!(learnt, Some(u32::from(NARROW) - mode.overhead()), "{name}");
        std::fs::remove_file(stage.nginx[0].uploaded("big")).unwrap();
    }
}

#[test]
fn large_files_through_nat() {
    large_files_find_their_way(Mode::Nat);
}

#[test]
fn large_files_through_ipip_over_ipv4() {
    large_files_find_their_way(Mode::Ipip(Family::V4));
}

#[test]
fn large_files_through_ipip_over_ipv6() {
    large_files_find_their_way(Mode::Ipip(Family::V6));
}

#[test]
fn large_files_through_gue_over_ipv4() {
    large_files_find_their_way(Mode::Gue(Family::V4));
}

#[test]
fn large_files_through_gue_over_ipv6() {
    large_files_find_their_way(Mode::Gue(Family::V6));
}

fn large_datagrams_pass_narrow_links(family: Family, mode: Mode) {
    let ground = Ground::new(Wiring::Routed, 1, mode).unwrap();
    let stage = &ground.stage;
    stage.lab.narrow(Side::Front, NARROW).unwrap();
    stage.lab.narrow(Side::Back, NARROW - 40).unwrap();
    let server = family.service(PORT);
    let socket = stage.client().run(|| client_socket(family, server)).unwrap();
    for length in [1440, 4000, 16_000] {
        let payload: Vec<u8> = (0..length).map(|n: usize| n.to_le_bytes()[0]).collect();
        let reply = ask_again(&socket, &payload)
            .unwrap_or_else(|error| panic!("{length} {family:?} by {mode}: {error:#}"));
        assert_eq!(reply.backend, "web-01");
    }
}

#[test]
fn large_datagrams_through_nat_over_ipv4() {
    large_datagrams_pass_narrow_links(Family::V4, Mode::Nat);
}

#[test]
fn large_datagrams_through_nat_over_ipv6() {
    large_datagrams_pass_narrow_links(Family::V6, Mode::Nat);
}

#[test]
fn large_datagrams_through_ipip_over_ipv4() {
    large_datagrams_pass_narrow_links(Family::V4, Mode::Ipip(Family::V4));
}

#[test]
fn large_datagrams_through_gue_over_ipv6() {
    large_datagrams_pass_narrow_links(Family::V6, Mode::Gue(Family::V6));
}
