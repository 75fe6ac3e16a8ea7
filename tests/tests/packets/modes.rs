//! Every mode of forwarding, and what must leave the edge in it: built from the frame that came,
//! with all checksums computed in full.
//!
//! Knows frames, and of the program under test no more than its settings' numbers.

use std::{fmt, net::IpAddr};

use evenkeel_tests::{
    frame::{Frame, IP6IP, IPIP, SERVICE_VLAN, TCP, UDP, VLAN},
    topology::Family,
};
use lb_common::service::{flags, forwarding};

use crate::{
    harness::{GUE_PORT, Setup, tunnel},
    world::{BACK_MAC, Kind, LIFE, Link, Way, backend_mac, flow_hash},
};

/// How a service's packets reach its backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Nat,
    /// NAT of the destination alone: `snat = false`.
    Kept,
    Dsr,
    /// IP in IP to a backend of this family.
    Ipip(Family),
    Gue(Family),
}

/// All of them.
pub const MODES: [Mode; 7] = [
    Mode::Nat,
    Mode::Kept,
    Mode::Dsr,
    Mode::Ipip(Family::V4),
    Mode::Ipip(Family::V6),
    Mode::Gue(Family::V4),
    Mode::Gue(Family::V6),
];

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Mode {
    /// The default tables, with all services in this mode.
    pub fn setup(self) -> Setup {
        let mut setup = Setup::settings(|settings| {
            settings.forwarding = self.number();
            if self == Self::Kept {
                settings.flags |= flags::KEEP_SOURCE;
            }
        });
        setup.far_end = self.far_end();
        setup
    }

    /// Its number in a service's settings.
    pub const fn number(self) -> u32 {
        match self {
            Self::Nat | Self::Kept => forwarding::NAT,
            Self::Dsr => forwarding::DSR,
            Self::Ipip(_) => forwarding::IPIP,
            Self::Gue(_) => forwarding::GUE,
        }
    }

    const fn far_end(self) -> Option<Family> {
        match self {
            Self::Ipip(family) | Self::Gue(family) => Some(family),
            _ => None,
        }
    }

    /// Whether the backends' packets pass here, too.
    pub const fn is_two_way(self) -> bool {
        matches!(self, Self::Nat | Self::Kept)
    }

    /// The ways that packets pass here.
    pub const fn ways(self) -> &'static [Way] {
        if self.is_two_way() { &[Way::Forth, Way::Back] } else { &[Way::Forth] }
    }

    /// The packets of a connection that lives, as far as they pass here.
    pub fn life(self) -> impl Iterator<Item = (&'static str, Way, u8)> {
        LIFE.into_iter().filter(move |(_, way, _)| self.ways().contains(way))
    }

    /// The `turn`-th connection of the default client, to backend 1.
    pub fn link(self, kind: Kind, turn: u16) -> Link {
        let link = Link::new(kind, turn);
        if self == Self::Nat { link } else { Link { source: link.client, ..link } }
    }

    /// The frames that a packet of `link` with this TTL comes in, and what must leave for each;
    /// `split` makes them of the packet.
    pub fn golden(
        self,
        link: &Link,
        way: Way,
        (frame, ttl): (&Frame, u8),
        split: impl Fn(&Frame) -> Vec<Vec<u8>>,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let came = split(&frame.clone().ttl(ttl));
        let frame = frame.clone().ttl(ttl - 1);
        let left = if self.is_two_way() {
            split(&link.translated(way, frame))
        } else {
            let left = split(&frame.macs(BACK_MAC, backend_mac(link.backend)));
            left.into_iter().map(|frame| self.wrapped(link, frame)).collect()
        };
        assert_eq!(came.len(), left.len());
        came.into_iter().zip(left).collect()
    }

    /// The same for a packet in one frame.
    pub fn whole(self, link: &Link, way: Way, frame: &Frame, ttl: u8) -> (Vec<u8>, Vec<u8>) {
        let mut frames = self.golden(link, way, (frame, ttl), |frame| vec![frame.build()]);
        frames.pop().unwrap()
    }

    /// A frame's packet in its tunnel, where there is one.
    fn wrapped(self, link: &Link, bytes: Vec<u8>) -> Vec<u8> {
        let Some(far) = self.far_end() else { return bytes };
        let gue = matches!(self, Self::Gue(_));
        let inner = Inner::read(&bytes);
        let hash = flow_hash(link.kind, link.client, link.kind.service());
        let kind = Kind { family: far, ..link.kind };
        let destination = kind.backend(link.backend).ip();
        let source = outer_source(far, gue, hash);
        let number = if inner.is_v4 { IPIP } else { IP6IP };
        let high = u16::try_from(hash >> 16).unwrap();
        let mut outer = match (far, gue) {
            (Family::V4, false) => Frame::other4(number, inner.packet),
            (Family::V6, false) => Frame::other6(number, inner.packet),
            (Family::V4, true) => Frame::udp4().payload(inner.packet).checksum(0),
            (Family::V6, true) if inner.is_summed => Frame::udp6().payload(inner.packet),
            (Family::V6, true) => Frame::udp6().payload(inner.packet).checksum(0),
        };
        for (ether_type, id) in inner.tags {
            outer = outer.vlan(ether_type, id);
        }
        outer
            .macs(BACK_MAC, backend_mac(link.backend))
            .from(source, high | 0xc000)
            .to(destination, GUE_PORT)
            .tos(inner.class)
            .ttl(64)
            .flow_label(hash & 0xf_ffff)
            .dont_fragment(true)
            .id(0)
            .trailer(inner.trailer)
            .build()
    }
}

/// The outer source: the hash in the bits that may vary, thirty-two of them at the most.
fn outer_source(far: Family, gue: bool, hash: u32) -> IpAddr {
    let tunnel = tunnel(far, gue);
    let free = match far {
        Family::V4 => 32 - tunnel.source_bits,
        Family::V6 => (128 - tunnel.source_bits).min(32),
    };
    let varies = hash & u32::MAX.checked_shr(32 - u32::from(free)).unwrap_or(0);
    match tunnel.source {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() | varies).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() | u128::from(varies)).into()),
    }
}

/// What a tunnel's headers take over from the packet inside.
struct Inner<'a> {
    tags: Vec<(u16, u16)>,
    packet: &'a [u8],
    trailer: &'a [u8],
    is_v4: bool,
    class: u8,
    /// Whether its own checksum says what GUE's must be: its transport header follows an IP header
    /// without options, and covers all of the packet.
    is_summed: bool,
}

impl<'a> Inner<'a> {
    fn read(frame: &'a [u8]) -> Self {
        let be16 = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let mut tags = Vec::new();
        let mut at = 12;
        while [VLAN, SERVICE_VLAN].contains(&be16(frame, at)) {
            tags.push((be16(frame, at), be16(frame, at + 2)));
            at += 4;
        }
        let rest = &frame[at + 2..];
        let is_v4 = rest[0] >> 4 == 4;
        let (header, length) = if is_v4 { (20, be16(rest, 2)) } else { (40, 40 + be16(rest, 4)) };
        let (packet, trailer) = rest.split_at(length.into());
        let number = packet[if is_v4 { 9 } else { 6 }];
        // Neither "more fragments" nor an offset.
        let is_whole = |field: u16| field << 2 == 0;
        let is_plain = !is_v4 || (packet[0] == 0x45 && is_whole(be16(packet, 6)));
        let covers = |segment: &[u8]| match number {
            TCP => true,
            UDP => be16(segment, 6) != 0 && usize::from(be16(segment, 4)) == segment.len(),
            _ => false,
        };
        let is_summed = tags.is_empty() && is_plain && covers(&packet[header..]);
        Self {
            tags,
            packet,
            trailer,
            is_v4,
            class: if is_v4 { packet[1] } else { packet[0] << 4 | packet[1] >> 4 },
            is_summed,
        }
    }
}
