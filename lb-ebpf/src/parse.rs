//! The transport header of a packet, parsed once into a small checked value.

use lb_common::{
    connection::Flow,
    net::{Be16, TCP, UDP},
    verdict::Verdict,
};
use network_types::{tcp::TcpHdr, udp::UdpHdr};

use crate::{
    family::{Family, Network},
    frame::Frame,
};

/// The TCP flags that a connection's state depends on. All clear for UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four bits of the header, as they stand there")]
pub struct Flags {
    /// Synchronize.
    pub syn: bool,
    /// Acknowledge.
    pub ack: bool,
    /// No more data from the sender.
    pub fin: bool,
    /// Reset.
    pub rst: bool,
}

/// The fields of a TCP or UDP header that the data path reads and writes.
pub struct Transport<'a> {
    /// Protocol number.
    pub protocol: u8,
    /// TCP flags.
    pub flags: Flags,
    /// Source port.
    pub source_port: &'a mut [u8; 2],
    /// Destination port.
    pub destination_port: &'a mut [u8; 2],
    /// Checksum.
    pub checksum: &'a mut [u8; 2],
}

impl<'a> Transport<'a> {
    /// Parses the transport header at the front of `frame`.
    ///
    /// # Errors
    ///
    /// The verdict for a packet that cannot be balanced. A drop is for a service's packets only.
    #[inline(always)]
    pub fn parse(frame: &mut Frame<'a>, network: &Network) -> Result<Self, Verdict> {
        match network.protocol {
            TCP => Self::parse_tcp(frame, network),
            UDP => Self::parse_udp(frame, network),
            _ => Err(Verdict::PASS_PROTOCOL),
        }
    }

    #[inline(always)]
    fn parse_tcp(frame: &mut Frame<'a>, network: &Network) -> Result<Self, Verdict> {
        let tcp = frame.take::<TcpHdr>().ok_or(Verdict::DROP_MALFORMED_TRANSPORT)?;
        let header_length = u32::from(tcp.doff()) * 4;
        if header_length < 20 || header_length > network.payload {
            return Err(Verdict::DROP_MALFORMED_TRANSPORT);
        }
        let flags = Flags {
            syn: tcp.syn() != 0,
            ack: tcp.ack() != 0,
            fin: tcp.fin() != 0,
            rst: tcp.rst() != 0,
        };
        // RFC 9293, 3.10.7: no segment opens and closes at once.
        if flags.syn && (flags.fin || flags.rst) {
            return Err(Verdict::DROP_MALFORMED_TRANSPORT);
        }
        let TcpHdr { source, dest, check, .. } = tcp;
        Ok(Self {
            protocol: TCP,
            flags,
            source_port: source,
            destination_port: dest,
            checksum: check,
        })
    }

    #[inline(always)]
    fn parse_udp(frame: &mut Frame<'a>, network: &Network) -> Result<Self, Verdict> {
        let udp = frame.take::<UdpHdr>().ok_or(Verdict::DROP_MALFORMED_TRANSPORT)?;
        let length = u32::from(u16::from_be_bytes(udp.len));
        if length < 8 || length > network.payload {
            return Err(Verdict::DROP_MALFORMED_TRANSPORT);
        }
        let UdpHdr { src, dst, check, .. } = udp;
        Ok(Self {
            protocol: UDP,
            flags: Flags::default(),
            source_port: src,
            destination_port: dst,
            checksum: check,
        })
    }

    /// The packet's flow.
    #[inline(always)]
    #[must_use]
    pub fn flow<F: Family>(&self, header: &F::Header) -> Flow<F::Address> {
        Flow::new(
            (F::source(header), Be16::from_wire(*self.source_port)),
            (F::destination(header), Be16::from_wire(*self.destination_port)),
            self.protocol,
        )
    }
}
