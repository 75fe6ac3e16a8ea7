//! What differs between ICMP and `ICMPv6`: the one place where messages ask which it is.

use lb_common::{
    net::{Addr4, Addr6, Address as _},
    verdict::Verdict,
};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::TTL;
use crate::{
    checksum,
    family::{Family, V4, V6},
    frame::{Extension, Frame, put_address6},
};

/// The quoted packet ends too early, or is none.
const CUT: Verdict = Verdict::DROP_MALFORMED_TRANSPORT;

/// What differs between ICMP and `ICMPv6`.
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
        frame: &mut Frame<'_>,
        room: usize,
    ) -> Result<(u8, usize), Verdict> {
        /// The fragment header's number (RFC 8200, section 4.5).
        const FRAGMENT: u8 = 44;
        /// The offset of a fragment; flags stand below it.
        const OFFSET: u16 = !7;
        if header.vcf[0] >> 4 != 6 || room < Ipv6Hdr::LEN {
            return Err(CUT);
        }
        let room = room - Ipv6Hdr::LEN;
        if header.next_hdr != FRAGMENT {
            return Ok((header.next_hdr, room));
        }
        // Of all extension headers the one that packets too big for a link are likely to have.
        let part = frame.take::<Extension>().ok_or(CUT)?;
        if room < size_of::<Extension>() {
            return Err(CUT);
        }
        if u16::from_be_bytes([part.rest[0], part.rest[1]]) & OFFSET != 0 {
            return Err(Verdict::PASS_PROTOCOL);
        }
        Ok((part.next, room - size_of::<Extension>()))
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
