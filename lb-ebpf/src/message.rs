//! ICMP messages (RFC 792, RFC 4443): what they say, the packet that an error quotes, and how both
//! become those that a connection's other side understands.
//!
//! Knows bytes. Which connection a message is about, and where it goes, is the program's business.

use lb_common::{
    connection::{Connection, Flow},
    net::{Addr4, Addr6, Address as _, Be16, TCP, UDP},
    verdict::Verdict,
};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    checksum,
    ethernet::Ethernet,
    family::{Family, Network, V4, V6},
    frame::{Frame, put_address6},
};

/// TTL and hop limit of packets of our own (RFC 1700's recommended default).
pub const TTL: u8 = 64;

/// The quoted packet, or the message itself, ends too early.
const CUT: Verdict = Verdict::DROP_MALFORMED_TRANSPORT;

/// The header of an ICMP message.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum.
    pub check: [u8; 2],
    /// Identifier and sequence number, or an MTU, or a pointer.
    pub rest: [u8; 4],
}

impl Icmp {
    /// Bytes of the header.
    pub const LEN: usize = size_of::<Self>();
}

/// The first eight bytes of a TCP or UDP header: all that an error has to quote (RFC 792).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Source port.
    pub source_port: [u8; 2],
    /// Destination port.
    pub destination_port: [u8; 2],
    /// UDP's length, or half of TCP's sequence number.
    pub middle: [u8; 2],
    /// UDP's checksum, or the other half.
    pub check: [u8; 2],
}

/// What follows [`Start`] in a TCP header, up to its checksum.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TcpRest {
    /// Acknowledgement number, header length, flags and window.
    pub fields: [u8; 8],
    /// Checksum.
    pub check: [u8; 2],
}

/// What differs between ICMP and ICMPv6.
pub trait Messages: Family {
    /// Type of an echo request.
    const ECHO: u8;
    /// Type of the reply to it.
    const ECHO_REPLY: u8;
    /// Type and code of the error about a packet that is too big for the way on.
    const TOO_BIG: (u8, u8);
    /// Type and code of the error about a packet for a port that nobody listens at.
    const PORT_UNREACHABLE: (u8, u8);
    /// The least MTU that a link of the family may have.
    const LEAST_MTU: u32;
    /// Whether the IP header has a checksum of its own, so that its sum never moves. Where it has
    /// none, ICMP's covers the packet's addresses, length and protocol.
    const SUMMED: bool;

    /// Whether a type is that of an error that a connection's end wants to know of.
    fn is_error(kind: u8) -> bool;
    /// Whether an address may be that of one host: nobody else is sent an error (RFC 1122, 3.2.2).
    fn is_one_host(address: &Self::Address) -> bool;
    /// Walks over what stands between a quoted header and its transport header at the front of
    /// `frame`. `room` is what the message has from the quoted header on. Returns the protocol
    /// number, and how many bytes of the message are left.
    ///
    /// # Errors
    ///
    /// The verdict for a quote that tells no ports. A drop is for a service's packets only.
    fn quoted(
        header: &Self::Header,
        frame: &mut Frame<'_>,
        room: usize,
    ) -> Result<(u8, usize), Verdict>;
    /// Writes the source address alone.
    fn set_source(header: &mut Self::Header, source: &Self::Address);
    /// Writes the destination address alone.
    fn set_destination(header: &mut Self::Header, destination: &Self::Address);
    /// Moves the header's checksum, where there is one.
    fn move_checksum(header: &mut Self::Header, delta: u16);
    /// Swaps the addresses, and gives the packet the TTL of a new one.
    fn turn(header: &mut Self::Header);
    /// Writes the header of a packet of our own: no options, not to be fragmented. `payload` is
    /// its protocol number and how many bytes follow.
    fn compose(
        header: &mut Self::Header,
        source: &Self::Address,
        destination: &Self::Address,
        payload: (u8, u16),
    );
}

impl Messages for V4 {
    const ECHO: u8 = 8;
    const ECHO_REPLY: u8 = 0;
    const TOO_BIG: (u8, u8) = (3, 4);
    const PORT_UNREACHABLE: (u8, u8) = (3, 3);
    const LEAST_MTU: u32 = 68;
    const SUMMED: bool = true;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        // Unreachable, time exceeded, parameter problem (RFC 792).
        matches!(kind, 3 | 11 | 12)
    }

    #[inline(always)]
    fn is_one_host(address: &Addr4) -> bool {
        // "This" network, loopback; multicast, reserved and broadcast (RFC 6890).
        let [first, ..] = address.to_wire();
        !matches!(first, 0 | 127 | 224..)
    }

    #[inline(always)]
    fn quoted(
        header: &Ipv4Hdr,
        frame: &mut Frame<'_>,
        room: usize,
    ) -> Result<(u8, usize), Verdict> {
        /// The offset of a fragment.
        const OFFSET: u16 = 0x1fff;
        let length = (header.vihl & 0xf) as usize * 4;
        if header.vihl >> 4 != 4 || length < Ipv4Hdr::LEN || length > room {
            return Err(CUT);
        }
        frame.skip(length - Ipv4Hdr::LEN).ok_or(CUT)?;
        if u16::from_be_bytes(header.frags) & OFFSET != 0 {
            return Err(Verdict::PASS_PROTOCOL);
        }
        Ok((header.proto, room - length))
    }

    #[inline(always)]
    fn set_source(header: &mut Ipv4Hdr, source: &Addr4) {
        header.src_addr = source.to_wire();
    }

    #[inline(always)]
    fn set_destination(header: &mut Ipv4Hdr, destination: &Addr4) {
        header.dst_addr = destination.to_wire();
    }

    #[inline(always)]
    fn move_checksum(header: &mut Ipv4Hdr, delta: u16) {
        checksum::apply(&mut header.check, delta);
    }

    #[inline(always)]
    fn turn(header: &mut Ipv4Hdr) {
        let (source, destination) = (header.src_addr, header.dst_addr);
        header.src_addr = destination;
        header.dst_addr = source;
        let word = |ttl: u8| u32::from(u16::from_ne_bytes([ttl, 0]));
        checksum::apply(&mut header.check, checksum::delta(word(header.ttl), word(TTL)));
        header.ttl = TTL;
    }

    #[inline(always)]
    fn compose(
        header: &mut Ipv4Hdr,
        source: &Addr4,
        destination: &Addr4,
        (protocol, payload): (u8, u16),
    ) {
        /// "Don't fragment": then no identification is needed (RFC 6864, section 4.1).
        const DONT_FRAGMENT: [u8; 2] = [0x40, 0];
        const PLAIN: u8 = 0x45;
        #[expect(clippy::cast_possible_truncation, reason = "twenty")]
        let total = payload + Ipv4Hdr::LEN as u16;
        header.vihl = PLAIN;
        header.tos = 0;
        header.tot_len = total.to_be_bytes();
        header.id = [0; 2];
        header.frags = DONT_FRAGMENT;
        header.ttl = TTL;
        header.proto = protocol;
        header.src_addr = source.to_wire();
        header.dst_addr = destination.to_wire();
        let pair = |high: u8, low: u8| u32::from(u16::from_ne_bytes([high, low]));
        let sum = pair(PLAIN, 0)
            + u32::from(total.to_be())
            + u32::from(u16::from_ne_bytes(DONT_FRAGMENT))
            + pair(TTL, protocol)
            + source.sum()
            + destination.sum();
        header.check = (!checksum::fold(sum)).to_ne_bytes();
    }
}

impl Messages for V6 {
    const ECHO: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    const TOO_BIG: (u8, u8) = (2, 0);
    const PORT_UNREACHABLE: (u8, u8) = (1, 4);
    const LEAST_MTU: u32 = 1280;
    const SUMMED: bool = false;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        // Unreachable, packet too big, time exceeded, parameter problem (RFC 4443, section 2.1).
        matches!(kind, 1..=4)
    }

    #[inline(always)]
    fn is_one_host(address: &Addr6) -> bool {
        let [first, ..] = address.to_wire();
        first != 0xff && *address != Addr6::default()
    }

    #[inline(always)]
    fn quoted(
        header: &Ipv6Hdr,
        _frame: &mut Frame<'_>,
        room: usize,
    ) -> Result<(u8, usize), Verdict> {
        if header.vcf[0] >> 4 != 6 || room < Ipv6Hdr::LEN {
            return Err(CUT);
        }
        Ok((header.next_hdr, room - Ipv6Hdr::LEN))
    }

    #[inline(always)]
    fn set_source(header: &mut Ipv6Hdr, source: &Addr6) {
        put_address6(&mut header.src_addr, source.words());
    }

    #[inline(always)]
    fn set_destination(header: &mut Ipv6Hdr, destination: &Addr6) {
        put_address6(&mut header.dst_addr, destination.words());
    }

    #[inline(always)]
    fn move_checksum(_header: &mut Ipv6Hdr, _delta: u16) {}

    #[inline(always)]
    fn turn(header: &mut Ipv6Hdr) {
        let (source, destination) = (Self::source(header), Self::destination(header));
        Self::set_source(header, &destination);
        Self::set_destination(header, &source);
        header.hop_limit = TTL;
    }

    #[inline(always)]
    fn compose(
        header: &mut Ipv6Hdr,
        source: &Addr6,
        destination: &Addr6,
        (protocol, payload): (u8, u16),
    ) {
        header.vcf = [6 << 4, 0, 0, 0];
        header.payload_len = payload.to_be_bytes();
        header.next_hdr = protocol;
        header.hop_limit = TTL;
        Self::set_source(header, source);
        Self::set_destination(header, destination);
    }
}

/// The packet that an error quotes, as far as it does.
pub struct Quote<'a, F: Family> {
    header: &'a mut F::Header,
    protocol: u8,
    source_port: &'a mut [u8; 2],
    destination_port: &'a mut [u8; 2],
    /// The transport checksum, where the quote is that long.
    check: Option<&'a mut [u8; 2]>,
}

impl<'a, F: Messages> Quote<'a, F> {
    /// Takes the packet quoted by the error whose header was taken off `frame`; `network` is what
    /// the error's own IP header says.
    ///
    /// # Errors
    ///
    /// The verdict for a message that quotes no TCP or UDP ports. A drop is for a service's
    /// packets only.
    #[inline(always)]
    pub fn take(frame: &mut Frame<'a>, network: &Network) -> Result<Self, Verdict> {
        let room = (network.payload as usize).saturating_sub(Icmp::LEN);
        let header = frame.take::<F::Header>().ok_or(CUT)?;
        let (protocol, rest) = F::quoted(header, frame, room)?;
        if protocol != TCP && protocol != UDP {
            return Err(Verdict::PASS_PROTOCOL);
        }
        // The frame may be longer than the message: Ethernet's padding is no quote.
        if rest < size_of::<Start>() {
            return Err(CUT);
        }
        let Start { source_port, destination_port, check, .. } =
            frame.take::<Start>().ok_or(CUT)?;
        let check = if protocol == UDP {
            Some(check)
        } else if rest >= size_of::<Start>() + size_of::<TcpRest>() {
            frame.take::<TcpRest>().map(|rest| &mut rest.check)
        } else {
            None
        };
        Ok(Self { header, protocol, source_port, destination_port, check })
    }

    /// The flow that goes against the quoted packet's.
    #[inline(always)]
    #[must_use]
    pub fn back(&self) -> Flow<F::Address> {
        Flow::new(
            (F::destination(self.header), Be16::from_wire(*self.destination_port)),
            (F::source(self.header), Be16::from_wire(*self.source_port)),
            self.protocol,
        )
    }

    /// Makes the quoted packet that of its connection's other side: the one that went against what
    /// `connection` makes of the flow that goes against it. Returns by how much the sum of the
    /// quote's words moves.
    #[inline(always)]
    fn translate(&mut self, connection: &Connection<F::Address>) -> u16 {
        let rewrite = &connection.rewrite;
        F::set_source(self.header, &rewrite.destination);
        F::set_destination(self.header, &rewrite.source);
        // Both directions have the same addresses and ports, and so the same deltas.
        let delta = checksum::fold(u32::from(connection.network_delta) + checksum::TTL_STEP);
        F::move_checksum(self.header, delta);
        let old = word(*self.source_port) + word(*self.destination_port);
        *self.source_port = rewrite.destination_port.to_wire();
        *self.destination_port = rewrite.source_port.to_wire();
        let new = word(*self.source_port) + word(*self.destination_port);
        let delta = connection.transport_delta;
        let mut moved = if F::SUMMED { checksum::delta(old, new) } else { delta };
        if let Some(check) = &mut self.check {
            let old = word(**check);
            if self.protocol == UDP {
                checksum::apply_udp(check, delta);
            } else {
                checksum::apply(check, delta);
            }
            moved =
                checksum::fold(u32::from(moved) + u32::from(checksum::delta(old, word(**check))));
        }
        moved
    }
}

/// Makes of an error the one that the end understands to which `connection` leads. Its source
/// becomes the connection's, too, unless it is to `keep` its own.
#[inline(always)]
pub fn translate<F: Messages>(
    header: &mut F::Header,
    icmp: &mut Icmp,
    mut quote: Quote<'_, F>,
    connection: &Connection<F::Address>,
    keep: bool,
) {
    let rewrite = &connection.rewrite;
    let mut old = F::destination(header).sum();
    let mut new = rewrite.destination.sum();
    F::set_destination(header, &rewrite.destination);
    if !keep {
        old += F::source(header).sum();
        new += rewrite.source.sum();
        F::set_source(header, &rewrite.source);
    }
    let ends = checksum::delta(old, new);
    F::move_checksum(header, ends);
    F::decrement(header);
    let mut moved = u32::from(quote.translate(connection));
    if !F::SUMMED {
        moved += u32::from(ends);
    }
    checksum::apply(&mut icmp.check, checksum::fold(moved));
}

/// Makes the reply of an echo request.
#[inline(always)]
pub fn answer_echo<F: Messages>(ethernet: &mut Ethernet, header: &mut F::Header, icmp: &mut Icmp) {
    ethernet.turn();
    F::turn(header);
    let word = |kind: u8| word([kind, 0]);
    checksum::apply(&mut icmp.check, checksum::delta(word(F::ECHO), word(F::ECHO_REPLY)));
    icmp.kind = F::ECHO_REPLY;
    // A message of zeros alone has the checksum of all ones (RFC 1624, section 3); of any other,
    // either is right.
    if icmp.check == [0; 2] && icmp.rest == [0; 4] {
        icmp.check = [0xff; 2];
    }
}

#[inline(always)]
const fn word(bytes: [u8; 2]) -> u32 {
    u16::from_ne_bytes(bytes) as u32
}
