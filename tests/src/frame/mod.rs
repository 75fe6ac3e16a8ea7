//! Frames, byte by byte: good defaults, one changed field a case.
//!
//! Written from the RFCs and sharing no code with the data path. Lengths and checksums are right
//! unless a case sets them otherwise; [`parse`] and [`describe`] read a frame back, so that a
//! failing comparison is legible.

mod checksum;
pub mod number;
mod read;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use self::{
    checksum::{fold, verify_checksums},
    number::*,
    read::{Parsed, describe, parse},
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

    /// Source and destination MAC address.
    #[must_use]
    pub fn macs(mut self, source: [u8; 6], destination: [u8; 6]) -> Self {
        (self.source_mac, self.destination_mac) = (source, destination);
        self
    }

    /// Adds a VLAN tag inside those already there.
    #[must_use]
    pub fn vlan(mut self, ether_type: u16, id: u16) -> Self {
        self.vlans.push((ether_type, id));
        self
    }

    /// Source address and port.
    #[must_use]
    pub fn from(mut self, address: impl Into<IpAddr>, port: u16) -> Self {
        (self.source, self.source_port) = (address.into(), port);
        self
    }

    /// Destination address and port.
    #[must_use]
    pub fn to(mut self, address: impl Into<IpAddr>, port: u16) -> Self {
        (self.destination, self.destination_port) = (address.into(), port);
        self
    }

    /// Source port.
    #[must_use]
    pub fn source_port(mut self, port: u16) -> Self {
        self.source_port = port;
        self
    }

    /// Destination port.
    #[must_use]
    pub fn destination_port(mut self, port: u16) -> Self {
        self.destination_port = port;
        self
    }

    /// Time to live, or hop limit.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Type of service, or traffic class.
    #[must_use]
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    /// IPv6's flow label.
    #[must_use]
    pub fn flow_label(mut self, label: u32) -> Self {
        self.flow_label = label;
        self
    }

    /// IPv4's identification.
    #[must_use]
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// Makes an IPv4 fragment: the offset in units of eight bytes, and whether more follow.
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = offset & 0x1fff | u16::from(more) << 13;
        self
    }

    /// IPv4 options, a multiple of four bytes.
    #[must_use]
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        options.clone_into(&mut self.options);
        self
    }

    /// Adds an IPv6 extension header: its number, and all of its bytes after the first (which
    /// names the next header).
    #[must_use]
    pub fn extension(mut self, number: u8, rest: &[u8]) -> Self {
        self.extensions.push((number, rest.to_vec()));
        self
    }

    /// TCP's flags.
    ///
    /// # Panics
    /// If the frame is not TCP, like every setter of a TCP field.
    #[must_use]
    pub fn flags(mut self, value: u8) -> Self {
        let Transport::Tcp { flags, .. } = &mut self.transport else { not_tcp() };
        *flags = value;
        self
    }

    /// TCP's sequence and acknowledgement numbers.
    ///
    /// # Panics
    /// If the frame is not TCP.
    #[must_use]
    pub fn numbers(mut self, sequence: u32, acknowledgement: u32) -> Self {
        let Transport::Tcp { sequence: s, acknowledgement: a, .. } = &mut self.transport else {
            not_tcp()
        };
        (*s, *a) = (sequence, acknowledgement);
        self
    }

    /// TCP's options, a multiple of four bytes.
    ///
    /// # Panics
    /// If the frame is not TCP.
    #[must_use]
    pub fn tcp_options(mut self, value: &[u8]) -> Self {
        let Transport::Tcp { options, .. } = &mut self.transport else { not_tcp() };
        value.clone_into(options);
        self
    }

    /// What follows the transport header.
    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> Self {
        payload.clone_into(&mut self.payload);
        self
    }

    /// Bytes after the packet's end, such as Ethernet's padding.
    #[must_use]
    pub fn trailer(mut self, trailer: &[u8]) -> Self {
        trailer.clone_into(&mut self.trailer);
        self
    }

    /// Says another ether type than the IP version's.
    #[must_use]
    pub fn ether_type(mut self, ether_type: u16) -> Self {
        self.overrides.ether_type = Some(ether_type);
        self
    }

    /// Says another IP version.
    #[must_use]
    pub fn version(mut self, version: u8) -> Self {
        self.overrides.version = Some(version);
        self
    }

    /// Says another IPv4 header length, in words of four bytes.
    #[must_use]
    pub fn header_words(mut self, words: u8) -> Self {
        self.overrides.header_words = Some(words);
        self
    }

    /// Says another IPv4 total length, or IPv6 payload length.
    #[must_use]
    pub fn ip_length(mut self, length: u16) -> Self {
        self.overrides.ip_length = Some(length);
        self
    }

    /// Says another IPv4 header checksum.
    #[must_use]
    pub fn ip_checksum(mut self, checksum: u16) -> Self {
        self.overrides.ip_checksum = Some(checksum);
        self
    }

    /// Says another protocol, or next header.
    #[must_use]
    pub fn protocol(mut self, protocol: u8) -> Self {
        self.overrides.protocol = Some(protocol);
        self
    }

    /// Says another TCP header length, in words of four bytes.
    #[must_use]
    pub fn data_offset(mut self, words: u8) -> Self {
        self.overrides.data_offset = Some(words);
        self
    }

    /// Says another UDP length.
    #[must_use]
    pub fn udp_length(mut self, length: u16) -> Self {
        self.overrides.udp_length = Some(length);
        self
    }

    /// Says another TCP or UDP checksum; 0 is "none" for UDP over IPv4.
    #[must_use]
    pub fn checksum(mut self, checksum: u16) -> Self {
        self.overrides.checksum = Some(checksum);
        self
    }

    /// The bytes.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(128);
        frame.extend(self.destination_mac);
        frame.extend(self.source_mac);
        for (ether_type, id) in &self.vlans {
            frame.extend(ether_type.to_be_bytes());
            frame.extend(id.to_be_bytes());
        }
        let transport = self.transport();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend(self.overrides.ether_type.unwrap_or(IPV4).to_be_bytes());
                frame.extend(self.ipv4(source, destination, transport.len()));
            }
            (source, destination) => {
                frame.extend(self.overrides.ether_type.unwrap_or(IPV6).to_be_bytes());
                frame.extend(self.ipv6(v6(source), v6(destination), transport.len()));
            }
        }
        frame.extend(transport);
        frame.extend(&self.trailer);
        frame
    }

    fn number(&self) -> u8 {
        match self.transport {
            Transport::Tcp { .. } => TCP,
            Transport::Udp => UDP,
            Transport::Raw(protocol) => protocol,
        }
    }

    fn ipv4(&self, source: Ipv4Addr, destination: Ipv4Addr, rest: usize) -> Vec<u8> {
        let length = 20 + self.options.len();
        let words = self.overrides.header_words.unwrap_or((length / 4).try_into().unwrap_or(15));
        let total = self.overrides.ip_length.unwrap_or(short(length + rest));
        let mut header = vec![self.overrides.version.unwrap_or(4) << 4 | words & 0x0f, self.tos];
        header.extend(total.to_be_bytes());
        header.extend(self.id.to_be_bytes());
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, self.overrides.protocol.unwrap_or(self.number()), 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(&self.options);
        let checksum = self.overrides.ip_checksum.unwrap_or(!fold(&[&header]));
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }

    fn ipv6(&self, source: Ipv6Addr, destination: Ipv6Addr, rest: usize) -> Vec<u8> {
        let version = u32::from(self.overrides.version.unwrap_or(6));
        let first = version << 28 | u32::from(self.tos) << 20 | self.flow_label & 0x000f_ffff;
        let extensions: usize = self.extensions.iter().map(|(_, rest)| 1 + rest.len()).sum();
        let length = self.overrides.ip_length.unwrap_or(short(extensions + rest));
        let last = self.overrides.protocol.unwrap_or(self.number());
        let mut numbers = self.extensions.iter().map(|(number, _)| *number).chain([last]);
        let mut header = first.to_be_bytes().to_vec();
        header.extend(length.to_be_bytes());
        header.extend([numbers.next().unwrap_or(last), self.ttl]);
        header.extend(source.octets());
        header.extend(destination.octets());
        for ((_, rest), next) in self.extensions.iter().zip(numbers) {
            header.push(next);
            header.extend(rest);
        }
        header
    }

    fn transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !matches!(self.transport, Transport::Raw(_)) {
            bytes.extend(self.source_port.to_be_bytes());
            bytes.extend(self.destination_port.to_be_bytes());
        }
        let checksum_at = match &self.transport {
            Transport::Tcp { sequence, acknowledgement, flags, window, options } => {
                let words = u8::try_from((20 + options.len()) / 4).unwrap_or(15);
                let words = self.overrides.data_offset.unwrap_or(words);
                bytes.extend(sequence.to_be_bytes());
                bytes.extend(acknowledgement.to_be_bytes());
                bytes.extend([words << 4, *flags]);
                bytes.extend(window.to_be_bytes());
                bytes.extend([0; 4]);
                bytes.extend(options);
                Some(16)
            }
            Transport::Udp => {
                let length = self.overrides.udp_length.unwrap_or(short(8 + self.payload.len()));
                bytes.extend(length.to_be_bytes());
                bytes.extend([0; 2]);
                Some(6)
            }
            Transport::Raw(_) => None,
        };
        bytes.extend(&self.payload);
        if let Some(at) = checksum_at {
            let right = checksum::transport(self.source, self.destination, self.number(), &bytes);
            let checksum = self.overrides.checksum.unwrap_or(right);
            bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        bytes
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

fn not_tcp() -> ! {
    panic!("only a TCP frame has this field")
}

fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// Both ends of a frame are of one family; should a case mix them, it gets IPv6.
fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
