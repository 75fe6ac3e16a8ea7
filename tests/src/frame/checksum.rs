//! The Internet checksum (RFC 1071), computed in full every time: the data path moves checksums
//! by deltas, and this is what the deltas are held against.

use std::net::IpAddr;

use super::{ICMP, ICMPV6, IP6IP, IPIP, Parsed, TCP, UDP, build::v6, parse};

/// The one's-complement sum of all parts' bytes, as if they stood in one row.
#[must_use]
pub fn fold(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    let bytes: Vec<u8> = parts.concat();
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u64::from(low));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// The checksum for `segment`, whose checksum field is zero. UDP's zero is sent as all ones.
pub(super) fn transport(source: IpAddr, destination: IpAddr, number: u8, segment: &[u8]) -> u16 {
    let sum = !pseudo_sum(source, destination, number, segment);
    if number == UDP && sum == 0 { 0xffff } else { sum }
}

fn pseudo_sum(source: IpAddr, destination: IpAddr, number: u8, segment: &[u8]) -> u16 {
    if number == ICMP {
        // ICMP over IPv4 stands alone.
        return fold(&[segment]);
    }
    let length = u32::try_from(segment.len()).unwrap_or(u32::MAX).to_be_bytes();
    let tail = [0, 0, 0, number];
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            fold(&[&source.octets(), &destination.octets(), &length, &tail, segment])
        }
        (source, destination) => {
            fold(&[&v6(source).octets(), &v6(destination).octets(), &length, &tail, segment])
        }
    }
}

/// Says which checksum of a frame is wrong, if one is: the outer ones, and those of the packet
/// inside a tunnel or quoted by an ICMP error, as far as it is there. What covers more than a
/// fragment or a cut quote holds cannot be checked and is left alone; so is UDP without a
/// checksum, over IPv4 or around a tunnel's packet (RFC 6935).
pub fn verify_checksums(frame: &[u8]) -> Result<(), String> {
    let parsed = parse(frame)?;
    verify(&parsed).map_err(|what| format!("{what} in {parsed}"))
}

fn verify(parsed: &Parsed) -> Result<(), String> {
    if let Some(header) = &parsed.ipv4_header
        && fold(&[header]) != 0xffff
    {
        return Err("the IPv4 header checksum is wrong".to_owned());
    }
    let complete = parsed.whole && !parsed.is_fragment();
    if complete && !transport_is_right(parsed) {
        return Err("the checksum above IP is wrong".to_owned());
    }
    match &parsed.inner {
        Some(inner) => verify(inner).map_err(|what| format!("inside: {what}")),
        None if complete && matches!(parsed.protocol, IPIP | IP6IP) => {
            Err("the packet inside cannot be read".to_owned())
        }
        None => Ok(()),
    }
}

fn transport_is_right(parsed: &Parsed) -> bool {
    let segment = &parsed.segment;
    match (parsed.protocol, parsed.source) {
        (UDP, source) if segment.get(6..8) == Some(&[0, 0]) => {
            source.is_ipv4() || parsed.inner.is_some()
        }
        (ICMP, IpAddr::V6(_)) => true,
        (TCP | UDP | ICMP | ICMPV6, _) => {
            let (source, destination) = (parsed.source, parsed.destination);
            pseudo_sum(source, destination, parsed.protocol, segment) == 0xffff
        }
        _ => true,
    }
}
