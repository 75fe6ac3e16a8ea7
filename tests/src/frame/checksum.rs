//! The Internet checksum (RFC 1071), computed in full every time: the data path moves checksums
//! by deltas, and this is what the deltas are held against.

use std::net::IpAddr;

use super::{ICMP, ICMPV6, TCP, UDP, read::parse};

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
    let length = u32::try_from(segment.len()).unwrap_or(u32::MAX).to_be_bytes();
    let tail = [0, 0, 0, number];
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            fold(&[&source.octets(), &destination.octets(), &length, &tail, segment])
        }
        (source, destination) => fold(&[
            &super::v6(source).octets(),
            &super::v6(destination).octets(),
            &length,
            &tail,
            segment,
        ]),
    }
}

/// Says which checksum of a frame is wrong, if one is. The rest of a fragment cannot be checked
/// and is left alone; so is UDP over IPv4 without a checksum.
pub fn verify_checksums(frame: &[u8]) -> Result<(), String> {
    let parsed = parse(frame)?;
    if let Some(header) = &parsed.ipv4_header
        && fold(&[header]) != 0xffff
    {
        return Err(format!("the IPv4 header checksum is wrong in {parsed}"));
    }
    if parsed.fragment {
        return Ok(());
    }
    let segment = &parsed.segment;
    let number = parsed.protocol;
    let right = match (number, parsed.source) {
        (UDP, IpAddr::V4(_)) if segment.get(6..8) == Some(&[0, 0]) => true,
        (ICMP, IpAddr::V4(_)) => fold(&[segment]) == 0xffff,
        (UDP, _) if segment.get(6..8) == Some(&[0, 0]) => false,
        (TCP | UDP | ICMPV6, _) => {
            pseudo_sum(parsed.source, parsed.destination, number, segment) == 0xffff
        }
        _ => true,
    };
    if right { Ok(()) } else { Err(format!("the checksum above IP is wrong in {parsed}")) }
}
