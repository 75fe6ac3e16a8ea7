//! From fields to bytes: headers, lengths and checksums.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Frame, ICMP, ICMPV6, IPV4, IPV6, TCP, Transport, UDP, checksum, fold};

impl Frame {
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
        let ether_type = if self.is_v4() { IPV4 } else { IPV6 };
        frame.extend(self.overrides.ether_type.unwrap_or(ether_type).to_be_bytes());
        frame.extend(self.packet());
        frame.extend(&self.trailer);
        frame
    }

    /// The IP packet alone, without Ethernet's header and padding.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        let transport = self.transport();
        let mut packet = self.header(transport.len());
        packet.extend(transport);
        packet
    }

    /// The IP header with options or extension headers, for a packet with `rest` bytes more.
    pub(super) fn header(&self, rest: usize) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.ipv4(source, destination, rest),
            (source, destination) => self.ipv6(v6(source), v6(destination), rest),
        }
    }

    pub(super) fn is_v4(&self) -> bool {
        self.source.is_ipv4() && self.destination.is_ipv4()
    }

    fn number(&self) -> u8 {
        match self.transport {
            Transport::Tcp { .. } => TCP,
            Transport::Udp => UDP,
            Transport::Icmp { .. } if self.is_v4() => ICMP,
            Transport::Icmp { .. } => ICMPV6,
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

    /// The transport header and all that follows it.
    pub(super) fn transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if matches!(self.transport, Transport::Tcp { .. } | Transport::Udp) {
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
            Transport::Icmp { kind, code, rest } => {
                bytes.extend([*kind, *code, 0, 0]);
                bytes.extend(rest);
                Some(2)
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

fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// Both ends of a frame are of one family; should a case mix them, it gets IPv6.
pub(super) fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
