//! Reading a frame: the whole of it at hand, by offsets.
//!
//! Ethernet with up to two tags (IEEE 802.1Q), IPv4 with options (RFC 791), IPv6 with extension
//! headers (RFC 8200), fragments of both, TCP and UDP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Flow, ICMP4, ICMP6, TCP, UDP};

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;
/// Bytes of a tag.
pub const TAG: usize = 4;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// Tags, and extension headers, that are walked (DESIGN.md 4, "VLAN tags (up to two)").
const MAX_TAGS: usize = 2;
const MAX_EXTENSIONS: usize = 6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

/// The link layer, and which IP is above it.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Tags.
    pub tags: usize,
    /// 4 or 6.
    pub version: u8,
    /// Where the IP header begins.
    pub ip: usize,
}

/// A fragment's part in its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Identification.
    pub id: u32,
    /// It is the first one.
    pub first: bool,
}

/// The layers below the transport's.
#[derive(Clone, Copy, Debug)]
pub struct Layers {
    /// Below IP.
    pub link: Link,
    /// Where the transport header begins, or a later fragment's data.
    pub transport: usize,
    /// Where the IP packet ends.
    pub end: usize,
    /// What the transport is. Of a later fragment over IPv6, what its fragment header says.
    pub protocol: u8,
    /// Set for a fragment.
    pub part: Option<Part>,
}

/// What a transport header says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transport {
    pub ports: (u16, u16),
    /// TCP's flags.
    pub flags: u8,
    /// TCP's sequence number.
    pub sequence: u32,
    /// TCP's acknowledgement number.
    pub acknowledgement: u32,
    /// Whether the header is here; a later fragment has none.
    pub here: bool,
}

pub fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from(be16(bytes, at)) << 16 | u32::from(be16(bytes, at + 2))
}

/// Reads the link layer; `None` where no IP header follows it.
#[must_use]
pub fn link(frame: &[u8]) -> Option<Link> {
    let mut ip = ETHERNET;
    let mut tags = 0;
    while frame.len() >= ip && matches!(be16(frame, ip - 2), 0x8100 | 0x88a8) && tags < MAX_TAGS {
        ip += TAG;
        tags += 1;
    }
    if frame.len() < ip {
        return None;
    }
    let (version, header) = match be16(frame, ip - 2) {
        IPV4 => (4, 20),
        IPV6 => (6, 40),
        _ => return None,
    };
    (frame.len() >= ip + header).then_some(Link { tags, version, ip })
}

impl Link {
    /// Source and destination address.
    #[must_use]
    pub fn addresses(&self, frame: &[u8]) -> (IpAddr, IpAddr) {
        ends(&frame[self.ip..], self.version)
    }

    /// The protocol number in the IP header itself.
    #[must_use]
    pub fn next(&self, frame: &[u8]) -> u8 {
        frame[self.ip + if self.version == 4 { 9 } else { 6 }]
    }

    /// The protocol number of this IP's ICMP.
    #[must_use]
    pub const fn icmp(&self) -> u8 {
        if self.version == 4 { ICMP4 } else { ICMP6 }
    }

    /// TTL or hop limit.
    #[must_use]
    pub fn ttl(&self, frame: &[u8]) -> u8 {
        frame[self.ip + if self.version == 4 { 8 } else { 7 }]
    }

    /// TOS or traffic class.
    #[must_use]
    pub fn class(&self, frame: &[u8]) -> u8 {
        let header = &frame[self.ip..];
        if self.version == 4 { header[1] } else { header[0] << 4 | header[1] >> 4 }
    }
}

/// Source and destination address of an IP header.
#[must_use]
pub fn ends(header: &[u8], version: u8) -> (IpAddr, IpAddr) {
    if version == 4 {
        let at = |at| IpAddr::V4(Ipv4Addr::from_bits(be32(header, at)));
        return (at(12), at(16));
    }
    let at = |at: usize| {
        let words = (0..4).map(|word| u128::from(be32(header, at + 4 * word)));
        IpAddr::V6(Ipv6Addr::from_bits(words.fold(0, |all, word| all << 32 | word)))
    };
    (at(8), at(24))
}

/// Walks to the transport header, or says by which verdict it cannot be done.
pub fn layers(frame: &[u8], link: Link) -> Result<Layers, &'static str> {
    let header = &frame[link.ip..];
    if link.version == 4 {
        let (length, total) = (usize::from(header[0] & 0xf) * 4, usize::from(be16(header, 2)));
        if header[0] >> 4 != 4 || length < 20 || length > total || total > header.len() {
            return Err("drop-malformed-ip");
        }
        let field = be16(header, 6);
        let (more, offset) = (field & 0x2000 != 0, field & 0x1fff);
        let part =
            (more || offset != 0).then(|| Part { id: be16(header, 4).into(), first: offset == 0 });
        let (transport, end) = (link.ip + length, link.ip + total);
        return Ok(Layers { link, transport, end, protocol: header[9], part });
    }
    let end = 40 + usize::from(be16(header, 4));
    if header[0] >> 4 != 6 || end > header.len() {
        return Err("drop-malformed-ip");
    }
    let mut layers = Layers {
        link,
        transport: link.ip + 40,
        end: link.ip + end,
        protocol: header[6],
        part: None,
    };
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(layers.protocol) || layers.part.is_some_and(|part| !part.first) {
            break;
        }
        if layers.protocol == FRAGMENT && layers.part.is_some() {
            break;
        }
        // Whatever stands behind the packet's end is no part of it.
        let at = layers.transport;
        let extension = frame[at..layers.end].first_chunk::<8>().ok_or("drop-malformed-ip")?;
        let mut length = 8;
        if layers.protocol == FRAGMENT {
            let (field, id) = (be16(extension, 2), be32(extension, 4));
            // Neither an offset nor more to come: a whole packet (RFC 6946).
            if field & 0xfff9 != 0 {
                layers.part = Some(Part { id, first: field & 0xfff8 == 0 });
            }
        } else {
            if layers.protocol == ROUTING && extension[3] != 0 {
                // It has another destination to go to yet (RFC 8200, 4.4).
                return Err("pass-protocol");
            }
            length += usize::from(extension[1]) * 8;
        }
        layers.protocol = extension[0];
        layers.transport += length;
        if layers.transport > layers.end {
            return Err("drop-malformed-ip");
        }
    }
    let later = layers.part.is_some_and(|part| !part.first);
    if is_extension(layers.protocol) && !later {
        return Err("drop-extensions");
    }
    Ok(layers)
}

/// Whether a number is one of the extension headers that are walked.
#[must_use]
pub const fn is_extension(number: u8) -> bool {
    matches!(number, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION)
}

/// Reads the TCP or UDP header at the front of the transport's bytes.
pub fn transport(frame: &[u8], layers: &Layers) -> Result<Transport, &'static str> {
    let bytes = &frame[layers.transport..layers.end];
    let malformed = "drop-malformed-transport";
    if layers.protocol == UDP {
        let header = bytes.first_chunk::<8>().ok_or(malformed)?;
        let length = usize::from(be16(header, 4));
        // A first fragment has a part of the datagram only.
        if length < 8 || (length > bytes.len() && layers.part.is_none()) {
            return Err(malformed);
        }
        let ports = (be16(header, 0), be16(header, 2));
        return Ok(Transport { ports, here: true, ..Transport::default() });
    }
    let header = bytes.first_chunk::<20>().ok_or(malformed)?;
    let length = usize::from(header[12] >> 4) * 4;
    let flags = header[13];
    // RFC 9293: a segment opens a connection or ends it, never both.
    if length < 20 || length > bytes.len() || (flags & SYN != 0 && flags & (FIN | RST) != 0) {
        return Err(malformed);
    }
    Ok(Transport {
        ports: (be16(header, 0), be16(header, 2)),
        flags,
        sequence: be32(header, 4),
        acknowledgement: be32(header, 8),
        here: true,
    })
}

impl Layers {
    /// Whether it is the plain kind: no tag, no option, no extension header, no fragment.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        let header = if self.link.version == 4 { 20 } else { 40 };
        self.link.tags == 0 && self.part.is_none() && self.transport == self.link.ip + header
    }

    /// Bytes of the IP packet.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.end - self.link.ip
    }

    /// The flow, with the transport's ports.
    #[must_use]
    pub fn flow(&self, frame: &[u8], transport: &Transport) -> Flow {
        let (source, destination) = self.link.addresses(frame);
        Flow {
            source: SocketAddr::new(source, transport.ports.0),
            destination: SocketAddr::new(destination, transport.ports.1),
            protocol: self.protocol,
        }
    }

    /// Whether it is an ICMP message; a fragment of one is none.
    #[must_use]
    pub const fn is_message(&self) -> bool {
        self.protocol == self.link.icmp() && self.part.is_none()
    }

    /// Whether this is TCP or UDP.
    #[must_use]
    pub const fn is_balanced(&self) -> bool {
        matches!(self.protocol, TCP | UDP)
    }
}
