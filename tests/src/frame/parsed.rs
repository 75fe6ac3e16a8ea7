//! A frame taken apart, and how it is shown in words.

use std::{
    fmt::{self, Write as _},
    net::IpAddr,
};

use super::{ICMP, ICMPV6, TCP, UDP, read};

/// A frame with an IP packet, taken apart; or the packet inside another one, which has no MAC
/// addresses and no tags of its own.
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
    /// IPv6's flow label; 0 over IPv4.
    pub flow_label: u32,
    /// The identification: IPv4's, or that of IPv6's fragment header. 0 where there is none.
    pub id: u32,
    /// Whether IPv4's "don't fragment" is set.
    pub dont_fragment: bool,
    /// Where the data belongs in the whole packet, in bytes. Only a fragment has more than 0.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
    /// IPv4's total length, or IPv6's payload length, as it says.
    pub ip_length: u16,
    /// Whether it is there up to the length that it says. A frame's packet is; a quoted one
    /// need not be.
    pub whole: bool,
    /// Protocol of the segment. In a fragment with an offset it is what the first one begins
    /// with, be it an extension header.
    pub protocol: u8,
    /// Source port; 0 where there is none.
    pub source_port: u16,
    /// Destination port; 0 where there is none.
    pub destination_port: u16,
    /// TCP's flags; 0 where there are none.
    pub flags: u8,
    /// ICMP's type and code and the second half of its header.
    pub icmp: Option<(u8, u8, [u8; 4])>,
    /// IPv4's header with options.
    pub ipv4_header: Option<Vec<u8>>,
    /// The transport header and everything after it, up to the length that IP says.
    pub segment: Vec<u8>,
    /// The packet inside, if it can be read: a tunnel's (IPIP, or GUE at its assigned port), or
    /// the one that an ICMP error quotes.
    pub inner: Option<Box<Self>>,
}

impl Parsed {
    /// Whether it is a fragment of a packet, of either family.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.more || self.offset != 0
    }

    /// What follows the TCP, UDP or ICMP header.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        let header = match self.protocol {
            _ if self.offset != 0 => 0,
            TCP => self.segment.get(12).map_or(0, |words| usize::from(words >> 4) * 4),
            UDP | ICMP | ICMPV6 => 8,
            _ => 0,
        };
        self.segment.get(header..).unwrap_or_default()
    }

    /// TCP's sequence and acknowledgement numbers; zeros where there are none.
    #[must_use]
    pub fn numbers(&self) -> (u32, u32) {
        if self.protocol != TCP || self.offset != 0 || self.segment.len() < 12 {
            return (0, 0);
        }
        let number = |at: usize| read::be32(&self.segment, at);
        (number(4), number(8))
    }

    /// The packet in UDP's payload (GUE variant 1), whatever the port is.
    ///
    /// # Errors
    /// If it is not UDP, or there is no IP packet inside.
    pub fn in_udp(&self) -> Result<Self, String> {
        if self.protocol != UDP || self.is_fragment() {
            return Err(format!("it is no UDP datagram: {self}"));
        }
        read::packet(self.payload())
    }

    fn checksum(&self) -> &[u8] {
        let at = match self.protocol {
            _ if self.offset != 0 => return &[],
            TCP => 16,
            UDP => 6,
            ICMP | ICMPV6 => 2,
            _ => return &[],
        };
        self.segment.get(at..at + 2).unwrap_or_default()
    }

    fn ip(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ip    {} > {} protocol {} ttl {} tos {:#04x} length {}",
            self.source, self.destination, self.protocol, self.ttl, self.tos, self.ip_length,
        )?;
        if self.ipv4_header.is_some() {
            write!(f, " id {:#06x} df {}", self.id, self.dont_fragment)?;
        } else {
            write!(f, " label {:#07x}", self.flow_label)?;
        }
        if let Some(options) = self.ipv4_header.as_ref().map(|header| &header[20..])
            && !options.is_empty()
        {
            write!(f, " options {}", hex(options))?;
        }
        if self.is_fragment() {
            write!(f, " fragment {:#x} at {} more {}", self.id, self.offset, self.more)?;
        }
        writeln!(f, "{}", if self.whole { "" } else { " (cut)" })
    }
}

impl fmt::Display for Parsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source_mac != self.destination_mac {
            let (from, to) = (mac(self.source_mac), mac(self.destination_mac));
            writeln!(f, "eth   {from} > {to} vlans {:?}", self.vlans)?;
        }
        self.ip(f)?;
        if let Some((kind, code, rest)) = self.icmp {
            write!(f, "icmp  type {kind} code {code} rest {}", hex(&rest))?;
        } else {
            write!(f, "ports {} > {}", self.source_port, self.destination_port)?;
        }
        if self.protocol == TCP {
            let (sequence, acknowledgement) = self.numbers();
            write!(f, " flags {} seq {sequence} ack {acknowledgement}", flags(self.flags))?;
        }
        writeln!(f, " checksum {}", hex(self.checksum()))?;
        match &self.inner {
            Some(inner) => {
                let inner = inner.to_string().replace('\n', "\n  ");
                write!(f, "inside:\n  {inner}")
            }
            None => write!(f, "data  {}", hex(self.payload())),
        }
    }
}

/// A frame in words; one that cannot be parsed, in hexadecimal and with the reason.
#[must_use]
pub fn describe(frame: &[u8]) -> String {
    match read::parse(frame) {
        Ok(parsed) => parsed.to_string(),
        Err(reason) => format!("({reason}) {}", hex(frame)),
    }
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
