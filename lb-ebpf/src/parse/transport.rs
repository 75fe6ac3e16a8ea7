//! The transport header of a packet, parsed once into a small checked value.

use lb_common::{
    net::{Ports, TCP, UDP},
    verdict::Verdict,
};

use crate::{
    family::Network,
    frame::{Frame, Tcp, Udp},
};

/// The TCP flags as they stand in the header; none for UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    const FIN: u8 = 1;
    const SYN: u8 = 1 << 1;
    const RST: u8 = 1 << 2;
    const ACK: u8 = 1 << 4;

    /// No more data from the sender.
    #[inline(always)]
    #[must_use]
    pub const fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// Synchronize.
    #[inline(always)]
    #[must_use]
    pub const fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    /// Reset.
    #[inline(always)]
    #[must_use]
    pub const fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// Acknowledge.
    #[inline(always)]
    #[must_use]
    pub const fn ack(self) -> bool {
        self.0 & Self::ACK != 0
    }

    /// Whether they neither open nor end anything.
    #[inline(always)]
    #[must_use]
    pub const fn are_quiet(self) -> bool {
        self.0 & (Self::FIN | Self::SYN | Self::RST) == 0
    }
}

/// The fields of a TCP or UDP header that the data path reads and writes.
pub struct Transport<'a> {
    /// Protocol number.
    pub protocol: u8,
    /// TCP flags.
    pub flags: Flags,
    /// TCP's acknowledgement number or, of a SYN, the sequence number; in network order.
    pub number: u32,
    /// What can be written; of a fragment after the first, a note of ours (see [`Note`]).
    pub fields: Fields<'a>,
    /// Whether the header is in the packet, and not a note.
    pub is_there: bool,
    /// Whether its checksum is one of all that IP says is there. A datagram may end before its packet
    /// does (RFC 9868).
    pub covers_all: bool,
}

/// The transport header that a fragment after the first has not: room to write to in vain, so that
/// whoever writes need not ask.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Note {
    ports: [u8; 4],
    checksum: [u8; 2],
}

/// The fields that translation writes.
pub struct Fields<'a> {
    /// Source and destination port.
    pub ports: &'a mut [u8; 4],
    /// Checksum.
    pub checksum: &'a mut [u8; 2],
}

impl<'a> Transport<'a> {
    /// Parses the transport header at the front of `frame`. Of a packet's first fragment, `part`, only
    /// what is there can be checked.
    ///
    /// # Errors
    ///
    /// The verdict for a packet that cannot be balanced. A drop is for a service's packets only.
    #[inline(always)]
    pub fn parse(frame: &mut Frame<'a>, network: &Network, part: bool) -> Result<Self, Verdict> {
        match network.protocol {
            TCP => Self::parse_tcp(frame, network),
            UDP => Self::parse_udp(frame, network, part),
            _ => Err(Verdict::PASS_PROTOCOL),
        }
    }

    /// What stands for it in a fragment after the first: the ports that the first one told, noted in
    /// `note`.
    #[inline(always)]
    #[must_use]
    pub fn remembered(protocol: u8, ports: Ports, note: &'a mut Note) -> Self {
        *note = Note { ports: ports.to_wire(), checksum: [0; 2] };
        let Note { ports, checksum } = note;
        let fields = Fields { ports, checksum };
        Self {
            protocol,
            flags: Flags::default(),
            number: 0,
            fields,
            is_there: false,
            covers_all: false,
        }
    }

    /// Source and destination port.
    #[inline(always)]
    #[must_use]
    pub fn ports(&self) -> Ports {
        Ports::from_wire(*self.fields.ports)
    }

    #[inline(always)]
    fn parse_tcp(frame: &mut Frame<'a>, network: &Network) -> Result<Self, Verdict> {
        let tcp = frame.take::<Tcp>().ok_or(Verdict::DROP_MALFORMED_TRANSPORT)?;
        let header_length = u32::from(tcp.offset >> 4) * 4;
        if header_length < 20 || header_length > network.payload {
            return Err(Verdict::DROP_MALFORMED_TRANSPORT);
        }
        let flags = Flags(tcp.flags);
        // RFC 9293, 3.10.7: no segment opens and closes at once.
        if flags.syn() && (flags.fin() || flags.rst()) {
            return Err(Verdict::DROP_MALFORMED_TRANSPORT);
        }
        let number =
            u32::from_ne_bytes(if flags.syn() { tcp.sequence } else { tcp.acknowledgement });
        let Tcp { ports, checksum, .. } = tcp;
        Ok(Self {
            protocol: TCP,
            flags,
            number,
            fields: Fields { ports, checksum },
            is_there: true,
            covers_all: true,
        })
    }

    #[inline(always)]
    fn parse_udp(frame: &mut Frame<'a>, network: &Network, part: bool) -> Result<Self, Verdict> {
        let udp = frame.take::<Udp>().ok_or(Verdict::DROP_MALFORMED_TRANSPORT)?;
        let length = u32::from(u16::from_be_bytes(udp.length));
        // The payload may be shorter than the header where the frame is padded.
        if length < 8 || network.payload < 8 || (length > network.payload && !part) {
            return Err(Verdict::DROP_MALFORMED_TRANSPORT);
        }
        let Udp { ports, checksum, .. } = udp;
        Ok(Self {
            protocol: UDP,
            flags: Flags::default(),
            number: 0,
            fields: Fields { ports, checksum },
            is_there: true,
            covers_all: length == network.payload,
        })
    }
}
