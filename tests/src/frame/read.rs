//! Reading a frame back, down to the packet inside a tunnel or an ICMP error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    DESTINATION, FRAGMENT, GUE_PORT, HOP_BY_HOP, ICMP, ICMPV6, IP6IP, IPIP, IPV4, IPV6, ROUTING,
    SERVICE_VLAN, TCP, UDP, VLAN, parsed::Parsed,
};

/// IPv6's extension headers that tell their own length.
pub(super) const EXTENSIONS: [u8; 3] = [HOP_BY_HOP, ROUTING, DESTINATION];

/// How many packets inside one another are read. A tunnel's packet, quoted by an error that is
/// quoted itself, needs three.
const DEPTH: u8 = 4;

/// Whether a packet has to be as long as it says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Whole,
    /// It may end earlier, as in an ICMP error or in the first fragment of a tunnel's packet.
    Quoted,
}

/// Ethernet's header with its tags.
pub(super) struct Link {
    pub vlans: Vec<u16>,
    pub ether_type: u16,
    pub length: usize,
}

/// Takes a frame apart, or says why that cannot be done.
pub fn parse(frame: &[u8]) -> Result<Parsed, String> {
    let link = link(frame)?;
    let packet = &frame[link.length..];
    let mut parsed = match link.ether_type {
        IPV4 => above(ipv4(packet, Extent::Whole)?, DEPTH),
        IPV6 => above(ipv6(packet, Extent::Whole)?, DEPTH),
        other => return Err(format!("ether type {other:#06x} is not IP")),
    };
    parsed.destination_mac.copy_from_slice(&frame[..6]);
    parsed.source_mac.copy_from_slice(&frame[6..12]);
    parsed.vlans = link.vlans;
    Ok(parsed)
}

/// Takes an IP packet apart that stands without a frame.
pub(super) fn packet(bytes: &[u8]) -> Result<Parsed, String> {
    inside(bytes, Extent::Whole, DEPTH)
}

pub(super) fn link(frame: &[u8]) -> Result<Link, String> {
    let mut at = 12;
    let mut vlans = Vec::new();
    let mut ether_type = be16(need(frame, at, 2)?, 0);
    while ether_type == VLAN || ether_type == SERVICE_VLAN {
        vlans.push(be16(need(frame, at + 2, 2)?, 0) & 0x0fff);
        at += 4;
        ether_type = be16(need(frame, at, 2)?, 0);
    }
    Ok(Link { vlans, ether_type, length: at + 2 })
}

fn inside(bytes: &[u8], extent: Extent, depth: u8) -> Result<Parsed, String> {
    let parsed = match need(bytes, 0, 1)?[0] >> 4 {
        4 => ipv4(bytes, extent)?,
        _ => ipv6(bytes, extent)?,
    };
    Ok(above(parsed, depth))
}

/// Reads what stands above IP.
fn above(mut parsed: Parsed, depth: u8) -> Parsed {
    if parsed.offset != 0 {
        return parsed;
    }
    let segment = &parsed.segment;
    if matches!(parsed.protocol, TCP | UDP) && segment.len() >= 4 {
        parsed.source_port = be16(segment, 0);
        parsed.destination_port = be16(segment, 2);
    }
    if parsed.protocol == TCP {
        parsed.flags = segment.get(13).copied().unwrap_or_default();
    }
    if is_icmp(&parsed) && segment.len() >= 8 {
        parsed.icmp = Some((segment[0], segment[1], be32(segment, 4).to_be_bytes()));
    }
    let complete = parsed.whole && !parsed.is_fragment();
    let extent = if complete && parsed.icmp.is_none() { Extent::Whole } else { Extent::Quoted };
    if depth > 0 && holds_a_packet(&parsed) {
        parsed.inner = inside(parsed.payload(), extent, depth - 1).ok().map(Box::new);
    }
    parsed
}

fn is_icmp(parsed: &Parsed) -> bool {
    parsed.protocol == if parsed.source.is_ipv4() { ICMP } else { ICMPV6 }
}

fn holds_a_packet(parsed: &Parsed) -> bool {
    let version = parsed.payload().first().map(|byte| byte >> 4);
    match (parsed.protocol, parsed.icmp) {
        // Unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792).
        (IPIP, _) | (ICMP, Some((3 | 4 | 5 | 11 | 12, ..))) => version == Some(4),
        // All types below 128 are errors (RFC 4443, section 2.1).
        (IP6IP, _) | (ICMPV6, Some((1..=127, ..))) => version == Some(6),
        (UDP, _) => parsed.destination_port == GUE_PORT && matches!(version, Some(4 | 6)),
        _ => false,
    }
}

fn ipv4(packet: &[u8], extent: Extent) -> Result<Parsed, String> {
    let fixed = need(packet, 0, 20)?;
    let length = usize::from(fixed[0] & 0x0f) * 4;
    let header = need(packet, 0, length)?;
    if fixed[0] >> 4 != 4 || length < 20 {
        return Err(format!("the first byte {:#04x} is no IPv4 header's", fixed[0]));
    }
    let total = be16(fixed, 2);
    let end = available(packet, total.into(), extent)?;
    let segment = packet.get(length..end).ok_or("the IPv4 length is wrong")?;
    let address = |at: usize| Ipv4Addr::from_bits(be32(fixed, at)).into();
    let fragment = be16(fixed, 6);
    Ok(Parsed {
        ttl: fixed[8],
        tos: fixed[1],
        id: be16(fixed, 4).into(),
        dont_fragment: fragment & 0x4000 != 0,
        offset: (fragment & 0x1fff) << 3,
        more: fragment & 0x2000 != 0,
        ip_length: total,
        whole: end == usize::from(total),
        protocol: fixed[9],
        ipv4_header: Some(header.to_vec()),
        segment: segment.to_vec(),
        ..empty(address(12), address(16))
    })
}

fn ipv6(packet: &[u8], extent: Extent) -> Result<Parsed, String> {
    let fixed = need(packet, 0, 40)?;
    if fixed[0] >> 4 != 6 {
        return Err(format!("the first byte {:#04x} is no IPv6 header's", fixed[0]));
    }
    let length = be16(fixed, 4);
    let end = available(packet, 40 + usize::from(length), extent)?;
    let whole = end == 40 + usize::from(length);
    let (mut next, mut at, mut fragment, mut id) = (fixed[6], 40, 0, 0);
    // What follows the first header of a later fragment is data.
    while fragment & 0xfff8 == 0 && (next == FRAGMENT || EXTENSIONS.contains(&next)) {
        let head = match need(&packet[..end], at, 8) {
            // The quote ends among the extension headers.
            Err(_) if !whole => break,
            head => head?,
        };
        let step = if next == FRAGMENT { 8 } else { 8 + usize::from(head[1]) * 8 };
        if next == FRAGMENT {
            (fragment, id) = (be16(head, 2), be32(head, 4));
        }
        next = head[0];
        at += step;
    }
    let segment = match packet.get(at..end) {
        None if whole => return Err("the IPv6 length is wrong".to_owned()),
        segment => segment.unwrap_or_default(),
    };
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&fixed[at..at + 16]);
        IpAddr::from(Ipv6Addr::from(octets))
    };
    Ok(Parsed {
        ttl: fixed[7],
        tos: fixed[0] << 4 | fixed[1] >> 4,
        flow_label: be32(fixed, 0) & 0x000f_ffff,
        id,
        offset: fragment & 0xfff8,
        more: fragment & 1 != 0,
        ip_length: length,
        whole,
        protocol: next,
        segment: segment.to_vec(),
        ..empty(address(8), address(24))
    })
}

/// Where a packet that says it ends at `end` does end.
fn available(packet: &[u8], end: usize, extent: Extent) -> Result<usize, String> {
    if end > packet.len() && extent == Extent::Whole {
        return Err(format!("the IP length is wrong: {end} bytes of {}", packet.len()));
    }
    Ok(end.min(packet.len()))
}

fn empty(source: IpAddr, destination: IpAddr) -> Parsed {
    Parsed {
        source_mac: [0; 6],
        destination_mac: [0; 6],
        vlans: Vec::new(),
        source,
        destination,
        ttl: 0,
        tos: 0,
        flow_label: 0,
        id: 0,
        dont_fragment: false,
        offset: 0,
        more: false,
        ip_length: 0,
        whole: true,
        protocol: 0,
        source_port: 0,
        destination_port: 0,
        flags: 0,
        icmp: None,
        ipv4_header: None,
        segment: Vec::new(),
        inner: None,
    }
}

fn need(bytes: &[u8], at: usize, length: usize) -> Result<&[u8], String> {
    let end = at + length;
    bytes.get(at..end).ok_or_else(|| format!("it ends at byte {}, before {end}", bytes.len()))
}

pub(super) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from(be16(bytes, at)) << 16 | u32::from(be16(bytes, at + 2))
}
