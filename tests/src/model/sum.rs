//! The Internet checksum (RFC 1071), summed in full.

use std::net::IpAddr;

/// A one's complement sum, folded.
#[must_use]
pub fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// The checksum that takes a sum to `whole`. For a packet whose checksum is right that is all ones,
/// and the result the right checksum; what was wrong stays wrong by as much (RFC 1624). Zero has two
/// representations, of which a sum of anything but zeros yields this one.
#[must_use]
pub fn completing(whole: u16, sum: u16) -> u16 {
    let missing = (u32::from(whole) + 0xffff - u32::from(sum)) % 0xffff;
    u16::try_from(missing).unwrap_or_default()
}

/// An address's bytes.
#[must_use]
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The sum of a pseudo-header (RFC 9293, 3.1; RFC 768; RFC 8200, 8.1).
#[must_use]
pub fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u16 {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    sum(&[&octets(source), &octets(destination), &length, &[0, 0, 0, protocol]])
}
