//! Frames, byte by byte: good defaults, one changed field a case.
//!
//! Written from the RFCs and sharing no code with the data path. Lengths and checksums are right
//! unless a case sets them otherwise; [`parse`] and [`describe`] read a frame back, so that a
//! failing comparison is legible. A frame can be quoted by an ICMP error, put into a tunnel
//! ([`Frame::in_ipip`], [`Frame::in_gue`]) and cut into fragments ([`fragments4`], [`fragments6`]).

mod build;
mod checksum;
mod fields;
mod fragments;
mod icmp;
pub mod number;
mod parsed;
mod read;
#[cfg(test)]
mod tests;
mod tunnel;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use self::{
    checksum::{fold, verify_checksums},
    fragments::{fragments4, fragments6},
    icmp::{MOST_QUOTED4, MOST_QUOTED6},
    number::*,
    parsed::{Parsed, describe},
    read::parse,
};

/// The client of the default frames, IPv4.
pub const CLIENT4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The client of the default frames, IPv6.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
/// The default source MAC address.
pub const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x64];
/// The default destination MAC address.
pub const EDGE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

/// What follows the IP header.
#[derive(Clone, Debug)]
enum Transport {
    Tcp {
        sequence: u32,
        acknowledgement: u32,
        flags: u8,
        window: u16,
        options: Vec<u8>,
    },
    Udp,
    /// ICMP of the frame's family; the rest is the second half of its header.
    Icmp {
        kind: u8,
        code: u8,
        rest: [u8; 4],
    },
    /// The payload stands alone, under this protocol number.
    Raw(u8),
}

/// Fields that a case sets against what would be right.
#[derive(Clone, Debug, Default)]
struct Overrides {
    ether_type: Option<u16>,
    version: Option<u8>,
    header_words: Option<u8>,
    ip_length: Option<u16>,
    ip_checksum: Option<u16>,
    protocol: Option<u8>,
    data_offset: Option<u8>,
    udp_length: Option<u16>,
    checksum: Option<u16>,
}

/// A frame in the making. The defaults are a client's packet to the service
/// `192.0.2.10:80` (or `[2001:db8:ffff::10]:80`; port 53 over UDP).
#[derive(Clone, Debug)]
pub struct Frame {
    source_mac: [u8; 6],
    destination_mac: [u8; 6],
    vlans: Vec<(u16, u16)>,
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    tos: u8,
    flow_label: u32,
    id: u16,
    fragment: u16,
    options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    source_port: u16,
    destination_port: u16,
    transport: Transport,
    payload: Vec<u8>,
    trailer: Vec<u8>,
    overrides: Overrides,
}

impl Frame {
    /// A SYN over IPv4.
    #[must_use]
    pub fn tcp4() -> Self {
        Self::new(CLIENT4.into(), crate::topology::VIP4.into(), 80, syn())
    }

    /// A SYN over IPv6.
    #[must_use]
    pub fn tcp6() -> Self {
        Self::new(CLIENT6.into(), crate::topology::VIP6.into(), 80, syn())
    }

    /// A datagram of four bytes over IPv4.
    #[must_use]
    pub fn udp4() -> Self {
        Self::new(CLIENT4.into(), crate::topology::VIP4.into(), 53, Transport::Udp).payload(b"ping")
    }

    /// A datagram of four bytes over IPv6.
    #[must_use]
    pub fn udp6() -> Self {
        Self::new(CLIENT6.into(), crate::topology::VIP6.into(), 53, Transport::Udp).payload(b"ping")
    }

    /// The IPv4 packet of another protocol; the payload is all that follows the IP header.
    #[must_use]
    pub fn other4(protocol: u8, payload: &[u8]) -> Self {
        Self::new(CLIENT4.into(), crate::topology::VIP4.into(), 0, Transport::Raw(protocol))
            .payload(payload)
    }

    /// The IPv6 packet of another protocol; the payload is all that follows the IP header.
    #[must_use]
    pub fn other6(protocol: u8, payload: &[u8]) -> Self {
        Self::new(CLIENT6.into(), crate::topology::VIP6.into(), 0, Transport::Raw(protocol))
            .payload(payload)
    }

    fn new(source: IpAddr, destination: IpAddr, port: u16, transport: Transport) -> Self {
        Self {
            source_mac: CLIENT_MAC,
            destination_mac: EDGE_MAC,
            vlans: Vec::new(),
            source,
            destination,
            ttl: 64,
            tos: 0,
            flow_label: 0,
            id: 0x1234,
            fragment: 0x4000,
            options: Vec::new(),
            extensions: Vec::new(),
            source_port: 40_000,
            destination_port: port,
            transport,
            payload: Vec::new(),
            trailer: Vec::new(),
            overrides: Overrides::default(),
        }
    }
}

fn syn() -> Transport {
    Transport::Tcp {
        sequence: 1000,
        acknowledgement: 0,
        flags: SYN,
        window: 0xfaf0,
        options: Vec::new(),
    }
}
