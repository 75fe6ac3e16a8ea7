//! What leaves: the frame written anew, its checksums summed in full.

use std::net::{IpAddr, SocketAddr};

use super::{
    TCP, UDP,
    sum::{completing, octets, pseudo, sum},
    wire::{ETHERNET, Layers, Transport, be16},
    world::{Hop, Tunnel},
};

/// Sets the Ethernet addresses.
pub fn address(frame: &mut [u8], hop: &Hop) {
    frame[..6].copy_from_slice(&hop.destination);
    frame[6..12].copy_from_slice(&hop.source);
}

/// Takes one from the TTL or hop limit (RFC 1812, 5.3.1; RFC 8200, 3).
pub fn decrement(frame: &mut [u8], layers: &Layers) {
    change_header(frame, layers, |_| {});
}

/// Gives a packet other ends, and takes one from its TTL.
pub fn translate(
    frame: &mut [u8],
    layers: &Layers,
    transport: &Transport,
    source: SocketAddr,
    destination: SocketAddr,
) {
    let before = transport_sum(frame, layers);
    change_header(frame, layers, |header| put_ends(header, source.ip(), destination.ip()));
    if !transport.here {
        return;
    }
    let at = layers.transport;
    frame[at..at + 2].copy_from_slice(&source.port().to_be_bytes());
    frame[at + 2..at + 4].copy_from_slice(&destination.port().to_be_bytes());
    let field = at + if layers.protocol == TCP { 16 } else { 6 };
    if layers.protocol == UDP && be16(frame, field) == 0 {
        // Without a checksum it stays without one (DESIGN.md 4, "NAT").
        return;
    }
    frame[field..field + 2].fill(0);
    let checksum = completing(before, transport_sum(frame, layers));
    put(frame, field, if layers.protocol == UDP && checksum == 0 { 0xffff } else { checksum });
}

/// Writes both addresses of an IP header.
pub fn put_ends(header: &mut [u8], source: IpAddr, destination: IpAddr) {
    let (at, length) = if source.is_ipv4() { (12, 4) } else { (8, 16) };
    header[at..at + length].copy_from_slice(&octets(source));
    header[at + length..at + 2 * length].copy_from_slice(&octets(destination));
}

pub fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The sum of the transport's bytes that are there and the pseudo-header.
fn transport_sum(frame: &[u8], layers: &Layers) -> u16 {
    let (source, destination) = layers.link.addresses(frame);
    let bytes = &frame[layers.transport..layers.end];
    let pseudo = pseudo(source, destination, layers.protocol, bytes.len());
    sum(&[&pseudo.to_be_bytes(), bytes])
}

fn change_header(frame: &mut [u8], layers: &Layers, change: impl FnOnce(&mut [u8])) {
    let header = &mut frame[layers.link.ip..layers.transport];
    if layers.link.version == 6 {
        header[7] -= 1;
        return change(header);
    }
    let before = sum(&[header]);
    header[8] -= 1;
    change(header);
    put(header, 10, 0);
    let checksum = completing(before, sum(&[header]));
    put(header, 10, checksum);
}

/// A frame in a tunnel, and where in it is a checksum that nobody can know.
#[derive(Clone, Debug)]
pub struct Tunnelled {
    pub frame: Vec<u8>,
    /// The packet inside has a wrong checksum: then so may the outer one be, which is derived from it.
    pub unknown: Option<usize>,
}

/// Bytes that a tunnel adds.
pub fn overhead(tunnel: &Tunnel, gue: bool) -> usize {
    (if tunnel.source.is_ipv4() { 20 } else { 40 }) + if gue { 8 } else { 0 }
}

/// Puts a packet into a tunnel: IP in IP (RFC 2003, 3.1; RFC 2473, 6) or GUE's variant 1.
pub fn encapsulate(
    frame: &[u8],
    layers: &Layers,
    far: IpAddr,
    tunnel: &Tunnel,
    gue: bool,
    hash: u32,
) -> Tunnelled {
    let mut inside = frame.to_vec();
    decrement(&mut inside, layers);
    let packet = &inside[layers.link.ip..layers.end];
    let inner_protocol = if layers.link.version == 4 { 4 } else { 41 };
    let near = varied(tunnel, hash);

    let mut payload = Vec::new();
    let mut unknown = None;
    if gue {
        // The source port tells flows apart: from the dynamic range (RFC 6335, 6).
        let port = u16::try_from(hash >> 16).unwrap_or_default() | 0xc000;
        let length = u16::try_from(packet.len() + 8).unwrap_or(u16::MAX);
        for field in [port, tunnel.port, length, 0] {
            payload.extend(field.to_be_bytes());
        }
    }
    payload.extend(packet);
    if gue && near.is_ipv6() && has_checksum(&inside, layers) {
        // Over IPv6 a tunnel may do without a checksum (RFC 6935). It has one where that of the
        // packet inside tells what it must be without reading it.
        let whole = sum(&[&pseudo(near, far, UDP, payload.len()).to_be_bytes(), &payload]);
        put(
            &mut payload,
            6,
            match !whole {
                0 => 0xffff,
                checksum => checksum,
            },
        );
        if !is_right(&inside, layers) {
            unknown = Some(layers.link.ip + 40 + 6);
        }
    }

    let header = outer(
        &inside,
        layers,
        (near, far),
        hash,
        payload.len(),
        if gue { UDP } else { inner_protocol },
    );
    let mut out = inside[..layers.link.ip].to_vec();
    let ether_type = if near.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] };
    let at = out.len() - 2;
    out[at..].copy_from_slice(&ether_type);
    out.extend(header);
    out.extend(payload);
    out.extend(&inside[layers.end..]);
    debug_assert!(at + 2 >= ETHERNET);
    Tunnelled { frame: out, unknown }
}

/// The outer header: the class of the packet inside, a TTL of its own.
fn outer(
    inside: &[u8],
    layers: &Layers,
    (near, far): (IpAddr, IpAddr),
    hash: u32,
    length: usize,
    protocol: u8,
) -> Vec<u8> {
    const TTL: u8 = 64;
    let class = layers.link.class(inside);
    if near.is_ipv6() {
        // The flow's hash is the label (RFC 6438).
        let word = 6 << 28 | u32::from(class) << 20 | hash & 0x000f_ffff;
        let mut header = word.to_be_bytes().to_vec();
        header.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        header.extend([protocol, TTL]);
        header.extend(octets(near));
        header.extend(octets(far));
        return header;
    }
    let mut header = vec![0x45, class];
    let total = u16::try_from(20 + length).unwrap_or(u16::MAX);
    // Never to be fragmented, as RFC 2003 (3.1) lets us choose; so it needs no identification (RFC
    // 6864, 4.1). What does not fit is told to its sender.
    for field in [total, 0, 0x4000] {
        header.extend(field.to_be_bytes());
    }
    header.extend([TTL, protocol, 0, 0]);
    header.extend(octets(near));
    header.extend(octets(far));
    let checksum = !sum(&[&header]);
    put(&mut header, 10, checksum);
    header
}

/// The near end for a flow: the receivers' queues spread by it (DESIGN.md 4, "DSR, IPIP and GUE").
fn varied(tunnel: &Tunnel, hash: u32) -> IpAddr {
    let bits = hash & tunnel.varying;
    match tunnel.source {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() | bits).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() | u128::from(bits)).into()),
    }
}

/// Whether a packet is plain and has a transport checksum that covers all of it.
fn has_checksum(frame: &[u8], layers: &Layers) -> bool {
    let bytes = &frame[layers.transport..layers.end];
    match layers.protocol {
        _ if !layers.is_plain() => false,
        UDP => be16(bytes, 6) != 0 && usize::from(be16(bytes, 4)) == bytes.len(),
        protocol => protocol == TCP,
    }
}

/// Whether a packet's checksums are right.
fn is_right(frame: &[u8], layers: &Layers) -> bool {
    let header = &frame[layers.link.ip..layers.transport];
    if layers.link.version == 4 && sum(&[header]) != 0xffff {
        return false;
    }
    let (source, destination) = layers.link.addresses(frame);
    let mut bytes = &frame[layers.transport..layers.end];
    if layers.protocol == UDP {
        bytes = &bytes[..usize::from(be16(bytes, 4))];
    }
    let pseudo = pseudo(source, destination, layers.protocol, bytes.len());
    sum(&[&pseudo.to_be_bytes(), bytes]) == 0xffff
}
