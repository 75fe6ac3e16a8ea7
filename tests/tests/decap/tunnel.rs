//! How an edge wraps packets: the frames that a backend gets, built from the packets inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel_tests::{
    frame::Frame,
    topology::{VIP4, VIP6},
};

pub const GUE_PORT: u16 = 6080;
/// Outer sources that an edge uses.
pub const EDGE4: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 9);
pub const EDGE6: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0xab, 0, 0, 9);
/// The backend's own addresses.
pub const BACKEND4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);
pub const BACKEND6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x11);

const IPIP: u8 = 4;
const IP6IP: u8 = 41;

/// A tunnel: its outer family, and how packets are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    pub is_v4: bool,
    pub is_gue: bool,
}

pub const TUNNELS: [Tunnel; 4] = [
    Tunnel { is_v4: true, is_gue: false },
    Tunnel { is_v4: false, is_gue: false },
    Tunnel { is_v4: true, is_gue: true },
    Tunnel { is_v4: false, is_gue: true },
];

impl Tunnel {
    /// The frame around a packet, from an edge to the backend. GUE over IPv4 has no UDP checksum,
    /// over IPv6 it has one; either can be changed.
    pub fn around(self, packet: &[u8]) -> Frame {
        let protocol =
            if packet.first().is_some_and(|first| first >> 4 == 6) { IP6IP } else { IPIP };
        let frame = match (self.is_gue, self.is_v4) {
            (false, true) => Frame::other4(protocol, packet),
            (false, false) => Frame::other6(protocol, packet),
            (true, true) => Frame::udp4().payload(packet).checksum(0),
            (true, false) => Frame::udp6().payload(packet),
        };
        let (edge, backend): (IpAddr, IpAddr) = if self.is_v4 {
            (EDGE4.into(), BACKEND4.into())
        } else {
            (EDGE6.into(), BACKEND6.into())
        };
        frame.from(edge, 50_123).to(backend, GUE_PORT)
    }

    /// Bytes of the outer headers.
    pub fn overhead(self) -> usize {
        (if self.is_v4 { 20 } else { 40 }) + if self.is_gue { 8 } else { 0 }
    }

    /// The counter of what is unwrapped from it.
    pub fn counter(self) -> &'static str {
        if self.is_gue { "unwrapped-gue" } else { "unwrapped-ipip" }
    }
}

/// The packet of a frame without VLAN tags.
pub fn packet(frame: &Frame) -> Vec<u8> {
    frame.build()[14..].to_vec()
}

/// Packets for the service's addresses, by name.
pub fn packets() -> Vec<(&'static str, Frame)> {
    let long: Vec<u8> = (0..1400_u32).map(|n| n.to_le_bytes()[0]).collect();
    vec![
        ("a SYN", Frame::tcp4()),
        ("a SYN over IPv6", Frame::tcp6()),
        ("a datagram", Frame::udp4()),
        ("a datagram over IPv6", Frame::udp6()),
        ("an empty datagram", Frame::udp4().payload(&[])),
        ("a long datagram", Frame::udp4().payload(&long)),
        ("a long datagram over IPv6", Frame::udp6().payload(&long)),
        ("a datagram without checksum", Frame::udp4().checksum(0)),
        ("IPv4 options", Frame::tcp4().ip_options(&[1, 1, 1, 1, 7, 7, 4, 0, 0, 0, 0, 0])),
        ("a later fragment", Frame::udp4().fragment(100, true)),
        ("a hop-by-hop header", Frame::udp6().extension(0, &[0, 1, 4, 0, 0, 0, 0])),
        ("an echo request", Frame::other4(1, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0])),
        ("nothing but a header", Frame::other4(59, &[])),
        ("nothing but a header over IPv6", Frame::other6(59, &[])),
        ("the last hop", Frame::tcp4().ttl(1)),
        ("the last hop over IPv6", Frame::tcp6().ttl(1)),
    ]
}

/// The addresses that packets are unwrapped for.
pub const OURS: [IpAddr; 2] = [IpAddr::V4(VIP4), IpAddr::V6(VIP6)];
