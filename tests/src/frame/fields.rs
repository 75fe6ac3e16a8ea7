//! The fields of a frame that a case may set: right ones first, then those that contradict the
//! rest.

use std::net::IpAddr;

use super::{Frame, Transport};

impl Frame {
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

    /// IPv4's "don't fragment". Set by default; a fragment has it not.
    #[must_use]
    pub fn dont_fragment(mut self, value: bool) -> Self {
        self.fragment = self.fragment & !0x4000 | u16::from(value) << 14;
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

    /// Says another TCP, UDP or ICMP checksum; 0 is "none" for UDP over IPv4 and for UDP that
    /// carries a tunnel (RFC 6935).
    #[must_use]
    pub fn checksum(mut self, checksum: u16) -> Self {
        self.overrides.checksum = Some(checksum);
        self
    }
}

fn not_tcp() -> ! {
    panic!("only a TCP frame has this field")
}
