//! Reading a frame back, for checksums and for legible differences.

use std::{
    fmt::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{FRAGMENT, IPV4, IPV6, SERVICE_VLAN, TCP, UDP, VLAN};

/// IPv6's extension headers that tell their own length: hop-by-hop, routing, destination.
const EXTENSIONS: [u8; 3] = [0, 43, 60];

/// A frame with an IP packet, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Source MAC address.
    pub source_mac: [u8; 6],
    /// Destination MAC address.
    pub destination_mac: [u8; 6],
    /// VLAN ids, outermost first.
    pub vlans: Vec<u16>,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// IPv4's total length, or IPv6's payload length, as it says.
    pub ip_length: u16,
    /// Protocol of the segment.
    pub protocol: u8,
    /// Whether it is a fragment of a packet, of either family.
    pub fragment: bool,
    /// Source port; 0 where there is none.
    pub source_port: u16,
    /// Destination port; 0 where there is none.
    pub destination_port: u16,
    /// TCP's flags; 0 where there are none.
    pub flags: u8,
    /// IPv4's header with options.
    pub ipv4_header: Option<Vec<u8>>,
    /// The transport header and everything after it, up to the length that IP says.
    pub segment: Vec<u8>,
}

impl Parsed {
    /// What follows the TCP or UDP header.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        let header = match self.protocol {
            TCP => self.segment.get(12).map_or(0, |words| usize::from(words >> 4) * 4),
            UDP => 8,
            _ => 0,
        };
        self.segment.get(header..).unwrap_or_default()
    }

    /// TCP's sequence and acknowledgement numbers; zeros where there are none.
    #[must_use]
    pub fn numbers(&self) -> (u32, u32) {
        if self.protocol != TCP || self.segment.len() < 12 {
            return (0, 0);
        }
        let number = |at: usize| be32(&self.segment, at);
        (number(4), number(8))
    }
}

impl fmt::Display for Parsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (mac(self.source_mac), mac(self.destination_mac));
        writeln!(f, "eth   {from} > {to} vlans {:?}", self.vlans)?;
        writeln!(
            f,
            "ip    {} > {} protocol {} ttl {} tos {:#04x} length {} fragment {}",
            self.source,
            self.destination,
            self.protocol,
            self.ttl,
            self.tos,
            self.ip_length,
            self.fragment
        )?;
        let (sequence, acknowledgement) = self.numbers();
        writeln!(
            f,
            "ports {} > {} flags {} seq {sequence} ack {acknowledgement} checksum {}",
            self.source_port,
            self.destination_port,
            flags(self.flags),
            hex(match self.protocol {
                TCP => self.segment.get(16..18).unwrap_or_default(),
                UDP => self.segment.get(6..8).unwrap_or_default(),
                _ => &[],
            }),
        )?;
        write!(f, "data  {}", hex(self.payload()))
    }
}

/// A frame in words; one that cannot be parsed, in hexadecimal and with the reason.
#[must_use]
pub fn describe(frame: &[u8]) -> String {
    match parse(frame) {
        Ok(parsed) => parsed.to_string(),
        Err(reason) => format!("({reason}) {}", hex(frame)),
    }
}

/// Takes a frame apart, or says why that cannot be done.
pub fn parse(frame: &[u8]) -> Result<Parsed, String> {
    let mut at = 12;
    let mut vlans = Vec::new();
    let mut ether_type = be16(need(frame, at, 2)?, 0);
    while ether_type == VLAN || ether_type == SERVICE_VLAN {
        vlans.push(be16(need(frame, at + 2, 2)?, 0) & 0x0fff);
        at += 4;
        ether_type = be16(need(frame, at, 2)?, 0);
    }
    let mut parsed = match ether_type {
        IPV4 => ipv4(&frame[at + 2..])?,
        IPV6 => ipv6(&frame[at + 2..])?,
        other => return Err(format!("ether type {other:#06x} is not IP")),
    };
    parsed.destination_mac.copy_from_slice(&frame[..6]);
    parsed.source_mac.copy_from_slice(&frame[6..12]);
    parsed.vlans = vlans;
    if matches!(parsed.protocol, TCP | UDP) && parsed.segment.len() >= 8 {
        parsed.source_port = be16(&parsed.segment, 0);
        parsed.destination_port = be16(&parsed.segment, 2);
    }
    if parsed.protocol == TCP {
        parsed.flags = parsed.segment.get(13).copied().unwrap_or_default();
    }
    Ok(parsed)
}

fn ipv4(packet: &[u8]) -> Result<Parsed, String> {
    let fixed = need(packet, 0, 20)?;
    let length = usize::from(fixed[0] & 0x0f) * 4;
    let header = need(packet, 0, length)?;
    if fixed[0] >> 4 != 4 || length < 20 {
        return Err(format!("the first byte {:#04x} is no IPv4 header's", fixed[0]));
    }
    let total = be16(fixed, 2);
    let segment = packet.get(length..usize::from(total)).ok_or("the IPv4 length is wrong")?;
    let address = |at: usize| Ipv4Addr::from_bits(be32(fixed, at)).into();
    Ok(Parsed {
        ttl: fixed[8],
        tos: fixed[1],
        ip_length: total,
        protocol: fixed[9],
        fragment: be16(fixed, 6) & 0x3fff != 0,
        ipv4_header: Some(header.to_vec()),
        segment: segment.to_vec(),
        ..empty(address(12), address(16))
    })
}

fn ipv6(packet: &[u8]) -> Result<Parsed, String> {
    let fixed = need(packet, 0, 40)?;
    if fixed[0] >> 4 != 6 {
        return Err(format!("the first byte {:#04x} is no IPv6 header's", fixed[0]));
    }
    let length = be16(fixed, 4);
    let end = 40 + usize::from(length);
    let (mut next, mut at, mut fragment) = (fixed[6], 40, false);
    while next == FRAGMENT || EXTENSIONS.contains(&next) {
        let head = need(packet, at, 8)?;
        let step = if next == FRAGMENT { 8 } else { 8 + usize::from(head[1]) * 8 };
        fragment |= next == FRAGMENT && be16(head, 2) & 0xfff9 != 0;
        next = head[0];
        at += step;
    }
    let segment = packet.get(at..end).ok_or("the IPv6 length is wrong")?;
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&fixed[at..at + 16]);
        IpAddr::from(Ipv6Addr::from(octets))
    };
    Ok(Parsed {
        ttl: fixed[7],
        tos: fixed[0] << 4 | fixed[1] >> 4,
        ip_length: length,
        protocol: next,
        fragment,
        segment: segment.to_vec(),
        ..empty(address(8), address(24))
    })
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
        ip_length: 0,
        protocol: 0,
        fragment: false,
        source_port: 0,
        destination_port: 0,
        flags: 0,
        ipv4_header: None,
        segment: Vec::new(),
    }
}

fn need(bytes: &[u8], at: usize, length: usize) -> Result<&[u8], String> {
    let end = at + length;
    bytes.get(at..end).ok_or_else(|| format!("it ends at byte {}, before {end}", bytes.len()))
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from(be16(bytes, at)) << 16 | u32::from(be16(bytes, at + 2))
}

fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn flags(flags: u8) -> String {
    let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let set = names.iter().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1);
    let set: Vec<&str> = set.map(|(_, name)| *name).collect();
    if set.is_empty() { "none".to_owned() } else { set.join("+") }
}

#[cfg(test)]
mod tests {
    use super::{super::*, parse};

    fn cases() -> Vec<(&'static str, Frame)> {
        vec![
            ("tcp4", Frame::tcp4()),
            ("tcp6", Frame::tcp6().payload(b"odd")),
            ("udp4", Frame::udp4()),
            ("udp6", Frame::udp6().flow_label(0xabcde).tos(0xb8)),
            ("udp4 without a checksum", Frame::udp4().checksum(0)),
            ("tcp4 with options", Frame::tcp4().ip_options(&[1, 1, 1, 0]).tcp_options(&[1; 12])),
            ("tagged twice", Frame::tcp4().vlan(SERVICE_VLAN, 7).vlan(VLAN, 9).payload(b"x")),
            ("tcp6 behind hop-by-hop", Frame::tcp6().extension(0, &[0, 1, 4, 0, 0, 0, 0])),
            ("padded", Frame::tcp4().trailer(&[0; 6])),
        ]
    }

    #[test]
    fn what_is_built_is_read_back_with_right_checksums() {
        for (name, frame) in cases() {
            let bytes = frame.build();
            let parsed = parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(parsed.source_port, 40_000, "{name}");
            assert_eq!(parsed.source_mac, CLIENT_MAC, "{name}");
            verify_checksums(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        for (name, frame) in cases() {
            let frame = if name == "udp4 without a checksum" { Frame::tcp4() } else { frame };
            let mut bytes = frame.trailer(&[]).build();
            // The last byte belongs to the segment.
            *bytes.last_mut().unwrap() ^= 0x10;
            assert!(verify_checksums(&bytes).is_err(), "{name}: {}", describe(&bytes));
        }
    }

    #[test]
    fn a_wrong_header_checksum_is_noticed() {
        assert!(verify_checksums(&Frame::tcp4().ip_checksum(1).build()).is_err());
        assert!(verify_checksums(&Frame::udp6().checksum(0).build()).is_err());
    }

    #[test]
    fn a_known_header_has_its_known_checksum() {
        // The worked example that goes round with RFC 1071's sum: the checksum is b861.
        let header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,
            0xc7,
        ];
        assert_eq!(!fold(&[&header]), 0xb861);
    }

    #[test]
    fn no_truncation_panics() {
        for (_, frame) in cases() {
            let bytes = frame.build();
            for length in 0..bytes.len() {
                let _ = describe(&bytes[..length]);
            }
        }
    }
}
