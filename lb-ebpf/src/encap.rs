//! Encapsulation: the outer headers of a packet that goes to its backend through a tunnel.
//!
//! IP in IP by RFC 2003 (IPv4 outside) and RFC 2473 (IPv6 outside); GUE is UDP in variant 1 of
//! draft-ietf-intarea-gue: the IP packet follows the UDP header at once.

use lb_common::{
    backend::Tunnel,
    net::{self, Addr4, Addr6, Address as _, halves},
};
use network_types::{
    ip::{Ipv4Hdr, Ipv6Hdr},
    udp::UdpHdr,
};

use crate::{checksum, family::Network, frame::put_words};

/// TTL and hop limit of the outer header: the tunnel is one hop to the packet inside.
const TTL: u8 = 64;
/// "Don't fragment".
const DONT_FRAGMENT: [u8; 2] = [0x40, 0];

/// What the outer headers take over from the packet inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Its protocol number inside IP: 4 or 41.
    pub protocol: u8,
    /// Its TOS or traffic class.
    pub class: u8,
    /// Its length in bytes.
    pub length: u16,
    /// The hash of its flow.
    pub hash: u32,
    /// The one's complement sum of all its words, as its own checksums tell it (see [`sum`]); `None` where
    /// they do not, or where nobody asks: only GUE over IPv6 has a checksum.
    pub sum: Option<u16>,
}

/// Bytes that a tunnel puts in front of a packet.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "less than fifty")]
pub const fn overhead(ipv6: bool, gue: bool) -> u32 {
    let ip = if ipv6 { Ipv6Hdr::LEN } else { Ipv4Hdr::LEN };
    (if gue { ip + UdpHdr::LEN } else { ip }) as u32
}

/// The outer source address: the bits that vary are the flow's hash.
#[inline(always)]
#[must_use]
pub const fn source(tunnel: &Tunnel, hash: u32) -> Addr6 {
    if tunnel.family == 4 {
        Addr6::from_words([source4(tunnel, hash).word(), 0, 0, 0])
    } else {
        source6(tunnel, hash)
    }
}

#[inline(always)]
const fn source4(tunnel: &Tunnel, hash: u32) -> Addr4 {
    let ([source, ..], [mask, ..]) = (tunnel.source.words(), tunnel.source_mask.words());
    Addr4::from_word(*source | hash.to_be() & *mask)
}

#[inline(always)]
const fn source6(tunnel: &Tunnel, hash: u32) -> Addr6 {
    let ([a, b, c, d], [.., mask]) = (tunnel.source.words(), tunnel.source_mask.words());
    Addr6::from_words([*a, *b, *c, *d | hash.to_be() & *mask])
}

/// GUE's source port: the flow's entropy, in the dynamic range (RFC 6335, section 6).
#[inline(always)]
#[must_use]
pub const fn source_port(hash: u32) -> u16 {
    (hash >> 16) as u16 | 0xc000
}

/// The sum of a packet's words by what its checksums promise: an IPv4 header sums up to all ones,
/// and a TCP segment or UDP datagram to the complement of its pseudo-header (the kernel's
/// checksum-offloads document calls this local checksum offload). So nobody has to read the
/// payload. `header` is the sum of the IP header's words; `addresses` those of its addresses alone.
#[inline(always)]
#[must_use]
pub fn sum(header: u32, addresses: u32, network: &Network) -> u16 {
    #[expect(clippy::cast_possible_truncation, reason = "an IP packet's length")]
    let length = u32::from((network.payload as u16).to_be());
    let pseudo = addresses + length + u32::from(u16::from(network.protocol).to_be());
    checksum::fold(header + u32::from(!checksum::fold(pseudo)))
}

/// Writes the outer IPv4 header. It may never be fragmented, as RFC 2003 (section 3.1) lets us choose
/// where the packet inside may be: its receiver would have to put tunnel packets together, and the
/// identifications of a busy tunnel come round too soon for that (RFC 4963). What does not fit is told
/// to its sender instead. So no identification is needed (RFC 6864, section 4.1). `payload` is the protocol number and the length in bytes of what
/// follows it.
#[inline(always)]
pub fn put_ipv4(header: &mut Ipv4Hdr, tunnel: &Tunnel, inner: &Inner, payload: (u8, u16)) {
    let source = source4(tunnel, inner.hash);
    let destination = Addr4::from_word(tunnel.destination.words()[0]);
    let (protocol, length) = payload;
    #[expect(clippy::cast_possible_truncation, reason = "twenty")]
    let total = length + Ipv4Hdr::LEN as u16;
    let [high, low] = total.to_be_bytes();
    let start = u32::from_ne_bytes([0x45, inner.class, high, low]);
    let [high, low] = DONT_FRAGMENT;
    let fragment = u32::from_ne_bytes([0, 0, high, low]);
    let hops = u32::from_ne_bytes([TTL, protocol, 0, 0]);
    let sum = halves(start) + halves(fragment) + halves(hops) + source.sum() + destination.sum();
    let [a, b] = (!checksum::fold(sum)).to_ne_bytes();
    let hops = u32::from_ne_bytes([TTL, protocol, a, b]);
    put_words(header, [start, fragment, hops, source.word(), destination.word()]);
}

/// Writes the outer IPv6 header; arguments as for [`put_ipv4`]. The flow label carries the flow's
/// hash (RFC 6438).
#[inline(always)]
pub fn put_ipv6(header: &mut Ipv6Hdr, tunnel: &Tunnel, inner: &Inner, payload: (u8, u16)) {
    let start = 6 << 28 | u32::from(inner.class) << 20 | inner.hash & 0x000f_ffff;
    let (protocol, length) = payload;
    let [high, low] = length.to_be_bytes();
    let hops = u32::from_ne_bytes([high, low, protocol, TTL]);
    let source = source6(tunnel, inner.hash);
    let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (*source.words(), *tunnel.destination.words());
    put_words(header, [start.to_be(), hops, s0, s1, s2, s3, d0, d1, d2, d3]);
}

/// Writes the UDP header of GUE. Over IPv4 it has no checksum. Over IPv6 it has one where that of the
/// packet inside promises what it must be, and none else, as tunnels may (RFC 6935).
#[inline(always)]
pub fn put_gue(header: &mut UdpHdr, tunnel: &Tunnel, inner: &Inner) {
    #[expect(clippy::cast_possible_truncation, reason = "eight")]
    let length = inner.length + UdpHdr::LEN as u16;
    let port = source_port(inner.hash);
    header.src = port.to_be_bytes();
    header.dst = tunnel.port.to_wire();
    header.len = length.to_be_bytes();
    header.check = match inner.sum {
        Some(payload) => {
            let source = source6(tunnel, inner.hash);
            let sum = source.sum()
                + tunnel.destination.sum()
                + u32::from(u16::from(net::UDP).to_be())
                + 2 * u32::from(length.to_be())
                + u32::from(port.to_be())
                + u32::from(tunnel.port.word())
                + u32::from(payload);
            match !checksum::fold(sum) {
                0 => [0xff; 2],
                check => check.to_ne_bytes(),
            }
        }
        None => [0; 2],
    };
}
