//! The outer headers: whether a frame is a tunnel's, and what they say of the packet inside.

use lb_common::{
    decap::Fate,
    net::{Addr4, Address as _, IP6IP, IPIP, UDP},
};
use network_types::{
    ip::{Ipv4Hdr, Ipv6Hdr},
    udp::UdpHdr,
};

use super::ecn;
use crate::{
    checksum,
    frame::{Frame, Header},
};

/// Bits of the fragment field that make a packet a fragment: "more fragments" and the offset
/// (RFC 791, section 3.1).
const FRAGMENT_MASK: u16 = 0x3fff;

/// IPv6's own headers between the fixed header and the payload (RFC 8200, section 4).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// A tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// An IPv4 packet follows the outer IP header.
    Ipv4,
    /// An IPv6 packet follows the outer IP header.
    Ipv6,
    /// What follows the UDP header tells by its first bits.
    Gue,
}

impl Tunnel {
    /// The fate of a packet that was unwrapped from it.
    #[inline(always)]
    pub const fn fate(self) -> Fate {
        match self {
            Self::Ipv4 | Self::Ipv6 => Fate::UNWRAPPED_IPIP,
            Self::Gue => Fate::UNWRAPPED_GUE,
        }
    }
}

/// What the outer headers say.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    /// The tunnel.
    pub tunnel: Tunnel,
    /// The congestion mark (RFC 3168).
    pub mark: u8,
    /// Bytes of the headers.
    pub length: u32,
    /// Bytes that follow them; `None` where they contradict themselves or the frame.
    pub payload: Option<u32>,
}

/// The only extension header that is taken off: destination options with a Tunnel Encapsulation
/// Limit (RFC 2473, section 4.1.1), padded to eight bytes. Linux's `ip6_tunnel` adds it unless told
/// not to. The limit concerns whoever would wrap the packet again.
#[repr(C)]
struct EncapsulationLimit {
    next_header: u8,
    /// Bytes of the header in units of eight, less one.
    extra: u8,
    option: u8,
    option_length: u8,
    limit: u8,
    padding: [u8; 3],
}

// SAFETY: `repr(C)`, of bytes and arrays of bytes.
unsafe impl Header for EncapsulationLimit {}

impl EncapsulationLimit {
    const LEN: u32 = 8;

    #[inline(always)]
    const fn is_one(&self) -> bool {
        // Option 4 with one byte; then PadN (option 1) with one byte.
        self.extra == 0
            && self.option == 4
            && self.option_length == 1
            && self.padding[0] == 1
            && self.padding[1] == 1
    }
}

impl Outer {
    /// Reads the headers of a packet with an outer IPv4 header, which was just taken off `frame`.
    ///
    /// # Errors
    ///
    /// The fate of what is no tunnel's packet, or none that could be unwrapped.
    #[inline(always)]
    pub fn of_v4(header: &Ipv4Hdr, frame: &mut Frame<'_>, gue_port: u16) -> Result<Self, Fate> {
        const WITHOUT_OPTIONS: u8 = 0x45;
        const LEN: u32 = 20;
        if !matches!(header.proto, IPIP | IP6IP | UDP) || header.vihl >> 4 != 4 {
            return Err(Fate::PASS_NOT_TUNNEL);
        }
        if header.vihl != WITHOUT_OPTIONS {
            let is_longer = header.vihl > WITHOUT_OPTIONS;
            return Err(if is_longer { Fate::PASS_OPTIONS } else { Fate::PASS_NOT_TUNNEL });
        }
        if u16::from_be_bytes(header.frags) & FRAGMENT_MASK != 0 {
            return Err(Fate::PASS_FRAGMENT);
        }
        let length = u32::from(u16::from_be_bytes(header.tot_len));
        // The host would check the sum, but never sees this header.
        let is_sound = length >= LEN && length <= LEN + rest(frame) && has_right_sum(header);
        let payload = if is_sound { Some(length - LEN) } else { None };
        let outer =
            Self { tunnel: Tunnel::Ipv4, mark: header.tos & ecn::MASK, length: LEN, payload };
        outer.carrying(header.proto, frame, gue_port)
    }

    /// The same for an outer IPv6 header.
    ///
    /// # Errors
    ///
    /// The fate of what is no tunnel's packet, or none that could be unwrapped.
    #[inline(always)]
    pub fn of_v6(header: &Ipv6Hdr, frame: &mut Frame<'_>, gue_port: u16) -> Result<Self, Fate> {
        const LEN: u32 = 40;
        if header.vcf[0] >> 4 != 6 {
            return Err(Fate::PASS_NOT_TUNNEL);
        }
        let stated = u32::from(u16::from_be_bytes(header.payload_len));
        let mut payload = if stated <= rest(frame) { Some(stated) } else { None };
        let mark = header.vcf[1] >> 4 & ecn::MASK;
        let (mut next, mut length) = (header.next_hdr, LEN);
        if next == DESTINATION_OPTIONS {
            let option = frame.take::<EncapsulationLimit>().ok_or(Fate::PASS_OPTIONS)?;
            if !option.is_one() {
                return Err(Fate::PASS_OPTIONS);
            }
            next = option.next_header;
            length += EncapsulationLimit::LEN;
            payload = shorter(payload, EncapsulationLimit::LEN);
        }
        match next {
            FRAGMENT => return Err(Fate::PASS_FRAGMENT),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => return Err(Fate::PASS_OPTIONS),
            _ => {}
        }
        Self { tunnel: Tunnel::Ipv6, mark, length, payload }.carrying(next, frame, gue_port)
    }

    /// Goes on with what the IP header carries.
    #[inline(always)]
    fn carrying(
        mut self,
        protocol: u8,
        frame: &mut Frame<'_>,
        gue_port: u16,
    ) -> Result<Self, Fate> {
        const LEN: u32 = 8;
        match protocol {
            IPIP => self.tunnel = Tunnel::Ipv4,
            IP6IP => self.tunnel = Tunnel::Ipv6,
            UDP => {
                let udp = frame.take::<UdpHdr>().ok_or(Fate::PASS_NOT_TUNNEL)?;
                if u16::from_be_bytes(udp.dst) != gue_port {
                    return Err(Fate::PASS_NOT_TUNNEL);
                }
                // Its checksum is not verified, whether zero (RFC 6935) or not. That would take all
                // of the payload; whom the packet is for and from, and its data, are covered by the
                // checksums of the packet inside, which the host verifies (RFC 6936, section 3).
                let length = u32::from(u16::from_be_bytes(udp.len));
                self.payload = match self.payload {
                    Some(payload) if length <= payload => shorter(Some(length), LEN),
                    _ => None,
                };
                self.tunnel = Tunnel::Gue;
                self.length += LEN;
            }
            _ => return Err(Fate::PASS_NOT_TUNNEL),
        }
        Ok(self)
    }
}

#[inline(always)]
const fn shorter(payload: Option<u32>, by: u32) -> Option<u32> {
    match payload {
        Some(payload) => payload.checked_sub(by),
        None => None,
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a frame is shorter than 4 GiB")]
const fn rest(frame: &Frame<'_>) -> u32 {
    frame.remaining() as u32
}

/// Whether the sum over an IPv4 header without options is right (RFC 1071).
#[inline(always)]
fn has_right_sum(header: &Ipv4Hdr) -> bool {
    let Ipv4Hdr { vihl, tos, tot_len, id, frags, ttl, proto, check, src_addr, dst_addr } = header;
    let words = [[*vihl, *tos], *tot_len, *id, *frags, [*ttl, *proto], *check];
    let mut sum = Addr4::from_wire(*src_addr).sum() + Addr4::from_wire(*dst_addr).sum();
    for word in words {
        sum += u32::from(u16::from_ne_bytes(word));
    }
    checksum::fold(sum) == 0xffff
}
