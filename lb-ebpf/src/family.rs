//! What differs between IPv4 and IPv6: the one place where the generic path asks which it is.

use core::marker::PhantomData;

use lb_common::{
    net::{self, Addr4, Addr6, Address},
    verdict::Verdict,
};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    checksum,
    frame::{Extension, Frame, Header, put_address6},
    parse::{Fragment, MAX_EXTENSIONS},
};

/// `EtherType` of IPv4, in the host's byte order.
pub const ETHER_IPV4: u16 = 0x0800;
/// `EtherType` of IPv6, in the host's byte order.
pub const ETHER_IPV6: u16 = 0x86dd;

/// "More fragments", in the fragment field (RFC 791, section 3.1).
const MORE_FRAGMENTS: u16 = 0x2000;
/// The offset, in units of eight bytes.
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// Version 4, and a header of five words: one without options.
const PLAIN_IPV4: u8 = 0x45;

/// Bytes of extension headers that are walked.
const MOST_WALKED: u32 = 2048;

/// IPv6's own headers between the fixed header and the transport (RFC 8200, section 4).
mod extension {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const DESTINATION: u8 = 60;
}

/// What an IP header says, checked. Aligned so that the compiler may move its halves on the stack,
/// where the verifier wants whole words aligned.
#[repr(align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Transport protocol number.
    pub protocol: u8,
    /// Bytes of the packet, IP header included.
    pub length: u32,
    /// Bytes of the packet after the IP header, its options and extension headers.
    pub payload: u32,
}

/// An address family.
pub trait Family: Copy {
    /// Its address.
    type Address: Address;
    /// Its fixed header.
    type Header: Header + 'static;
    /// `AF_INET` or `AF_INET6`, as the kernel's FIB wants it.
    const AF: u8;
    /// Its `EtherType`, in the host's byte order.
    const ETHER_TYPE: u16;
    /// Protocol number of its ICMP.
    const ICMP: u8;
    /// Protocol number of its packets inside other IP packets.
    const IN_IP: u8;
    /// Whether a packet's fragments tell their protocol apart (RFC 791, section 3.2). Those of IPv6
    /// name the header that the whole packet goes on with, and need not agree on it (RFC 8200,
    /// section 4.5).
    const PARTS_HAVE_PROTOCOL: bool;

    /// Whether a number is that of an extension header, which may precede any transport.
    fn is_extension(protocol: u8) -> bool;
    /// Source address.
    fn source(header: &Self::Header) -> Self::Address;
    /// Destination address.
    fn destination(header: &Self::Header) -> Self::Address;
    /// The protocol number that the header itself has.
    fn protocol(header: &Self::Header) -> u8;
    /// Whether something stands between the header and the transport that the header itself tells
    /// the length of.
    fn options(header: &Self::Header) -> bool;
    /// TOS or traffic class.
    fn class(header: &Self::Header) -> u8;
    /// The one's complement sum of the header's words.
    fn header_sum(header: &Self::Header) -> u32;
    /// TTL or hop limit.
    fn ttl(header: &Self::Header) -> u8;
    /// What the header says, if the transport header follows it at once and it agrees with the
    /// bytes that follow, `rest`.
    fn plain(header: &Self::Header, rest: usize) -> Option<Network>;
    /// Walks over what stands between the header and the transport header at the front of `frame`.
    ///
    /// # Errors
    ///
    /// The verdict for a packet that cannot be balanced. A drop is for a service's packets only.
    fn walk(header: &Self::Header, frame: &mut Frame<'_>) -> Result<(Network, Fragment), Verdict>;
    /// Takes one from the TTL or hop limit, and keeps the header's checksum right.
    fn decrement(header: &mut Self::Header);
    /// Writes both addresses, takes one from the TTL, and moves the header checksum by `delta`
    /// where there is one.
    fn rewrite(
        header: &mut Self::Header,
        source: &Self::Address,
        destination: &Self::Address,
        delta: u16,
    );
}

/// IPv4 (RFC 791).
#[derive(Clone, Copy)]
pub struct V4(PhantomData<()>);

/// IPv6 (RFC 8200).
#[derive(Clone, Copy)]
pub struct V6(PhantomData<()>);

impl Family for V4 {
    type Address = Addr4;
    type Header = Ipv4Hdr;
    const AF: u8 = 2;
    const ETHER_TYPE: u16 = ETHER_IPV4;
    const ICMP: u8 = net::ICMP;
    const IN_IP: u8 = net::IPIP;
    const PARTS_HAVE_PROTOCOL: bool = true;

    #[inline(always)]
    fn is_extension(_protocol: u8) -> bool {
        false
    }

    #[inline(always)]
    fn source(header: &Ipv4Hdr) -> Addr4 {
        Addr4::from_wire(header.src_addr)
    }

    #[inline(always)]
    fn destination(header: &Ipv4Hdr) -> Addr4 {
        Addr4::from_wire(header.dst_addr)
    }

    #[inline(always)]
    fn protocol(header: &Ipv4Hdr) -> u8 {
        header.proto
    }

    #[inline(always)]
    fn options(header: &Ipv4Hdr) -> bool {
        header.vihl != PLAIN_IPV4
    }

    #[inline(always)]
    fn class(header: &Ipv4Hdr) -> u8 {
        header.tos
    }

    #[inline(always)]
    fn header_sum(_header: &Ipv4Hdr) -> u32 {
        // With its own checksum in it.
        0xffff
    }

    #[inline(always)]
    fn ttl(header: &Ipv4Hdr) -> u8 {
        header.ttl
    }

    #[inline(always)]
    fn plain(header: &Ipv4Hdr, rest: usize) -> Option<Network> {
        let length = u16::from_be_bytes(header.tot_len) as usize;
        let fragment = u16::from_be_bytes(header.frags) & (MORE_FRAGMENTS | FRAGMENT_OFFSET);
        if header.vihl != PLAIN_IPV4 || fragment != 0 {
            return None;
        }
        if length < Ipv4Hdr::LEN || length > Ipv4Hdr::LEN + rest {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "from a u16")]
        Some(Network {
            protocol: header.proto,
            length: length as u32,
            payload: (length - Ipv4Hdr::LEN) as u32,
        })
    }

    #[inline(always)]
    fn walk(header: &Ipv4Hdr, frame: &mut Frame<'_>) -> Result<(Network, Fragment), Verdict> {
        let length = u16::from_be_bytes(header.tot_len) as usize;
        let header_length = (header.vihl & 0xf) as usize * 4;
        let whole = header.vihl >> 4 == 4
            && header_length >= Ipv4Hdr::LEN
            && header_length <= length
            && length <= Ipv4Hdr::LEN + frame.remaining();
        if !whole {
            return Err(Verdict::DROP_MALFORMED_IP);
        }
        frame.skip(header_length - Ipv4Hdr::LEN).ok_or(Verdict::DROP_MALFORMED_IP)?;
        let field = u16::from_be_bytes(header.frags);
        let offset = field & FRAGMENT_OFFSET;
        let identification = u32::from(u16::from_be_bytes(header.id));
        let fragment = if offset != 0 {
            Fragment::later(identification)
        } else if field & MORE_FRAGMENTS != 0 {
            Fragment::first(identification)
        } else {
            Fragment::default()
        };
        #[expect(clippy::cast_possible_truncation, reason = "from a u16")]
        let network = Network {
            protocol: header.proto,
            length: length as u32,
            payload: (length - header_length) as u32,
        };
        Ok((network, fragment))
    }

    #[inline(always)]
    fn decrement(header: &mut Ipv4Hdr) {
        header.ttl -= 1;
        checksum::apply(&mut header.check, checksum::delta(checksum::TTL_STEP, 0));
    }

    #[inline(always)]
    fn rewrite(header: &mut Ipv4Hdr, source: &Addr4, destination: &Addr4, delta: u16) {
        header.src_addr = source.to_wire();
        header.dst_addr = destination.to_wire();
        header.ttl -= 1;
        checksum::apply(&mut header.check, delta);
    }
}

impl Family for V6 {
    type Address = Addr6;
    type Header = Ipv6Hdr;
    const AF: u8 = 10;
    const ETHER_TYPE: u16 = ETHER_IPV6;
    const ICMP: u8 = net::ICMP6;
    const IN_IP: u8 = net::IP6IP;
    const PARTS_HAVE_PROTOCOL: bool = false;

    #[inline(always)]
    fn is_extension(protocol: u8) -> bool {
        matches!(protocol, extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION)
    }

    #[inline(always)]
    fn source(header: &Ipv6Hdr) -> Addr6 {
        Addr6::from_wire(header.src_addr)
    }

    #[inline(always)]
    fn destination(header: &Ipv6Hdr) -> Addr6 {
        Addr6::from_wire(header.dst_addr)
    }

    #[inline(always)]
    fn protocol(header: &Ipv6Hdr) -> u8 {
        header.next_hdr
    }

    #[inline(always)]
    fn options(_header: &Ipv6Hdr) -> bool {
        false
    }

    #[inline(always)]
    fn class(header: &Ipv6Hdr) -> u8 {
        header.vcf[0] << 4 | header.vcf[1] >> 4
    }

    #[inline(always)]
    fn header_sum(header: &Ipv6Hdr) -> u32 {
        let pair = |high: u8, low: u8| u32::from(u16::from_ne_bytes([high, low]));
        let [a, b, c, d] = header.vcf;
        pair(a, b)
            + pair(c, d)
            + u32::from(u16::from_ne_bytes(header.payload_len))
            + pair(header.next_hdr, header.hop_limit)
            + Self::source(header).sum()
            + Self::destination(header).sum()
    }

    #[inline(always)]
    fn ttl(header: &Ipv6Hdr) -> u8 {
        header.hop_limit
    }

    #[inline(always)]
    fn plain(header: &Ipv6Hdr, rest: usize) -> Option<Network> {
        let payload = u16::from_be_bytes(header.payload_len) as usize;
        if header.vcf[0] >> 4 != 6 || payload > rest {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "from a u16")]
        Some(Network {
            protocol: header.next_hdr,
            length: (Ipv6Hdr::LEN + payload) as u32,
            payload: payload as u32,
        })
    }

    #[inline(always)]
    fn walk(header: &Ipv6Hdr, frame: &mut Frame<'_>) -> Result<(Network, Fragment), Verdict> {
        let Network { protocol: first, length, payload: all } =
            Self::plain(header, frame.remaining()).ok_or(Verdict::DROP_MALFORMED_IP)?;
        let mut protocol = first;
        let mut walked = 0;
        let mut fragment = Fragment::default();
        for _ in 0..MAX_EXTENSIONS {
            let size = match protocol {
                extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION => {
                    let option = frame.take::<Extension>().ok_or(Verdict::DROP_MALFORMED_IP)?;
                    // Segments left: the destination in the header is not the last one.
                    if protocol == extension::ROUTING && option.rest[1] != 0 {
                        return Err(Verdict::PASS_PROTOCOL);
                    }
                    protocol = option.next;
                    let more = option.length as usize * 8;
                    frame.skip(more).ok_or(Verdict::DROP_MALFORMED_IP)?;
                    size_of::<Extension>() + more
                }
                extension::FRAGMENT if fragment.is_whole() => {
                    let part = frame.take::<Extension>().ok_or(Verdict::DROP_MALFORMED_IP)?;
                    protocol = part.next;
                    let field = u16::from_be_bytes([part.rest[0], part.rest[1]]);
                    let [_, _, a, b, c, d] = part.rest;
                    let identification = u32::from_be_bytes([a, b, c, d]);
                    // A first fragment that nothing follows is whole (RFC 6946).
                    if field & !7 != 0 {
                        fragment = Fragment::later(identification);
                    } else if field & 1 != 0 {
                        fragment = Fragment::first(identification);
                    }
                    size_of::<Extension>()
                }
                _ => break,
            };
            walked += size;
            // What follows the header of a later fragment is its part of the payload.
            if fragment.is_later() {
                break;
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "a few headers of 2 kB at the most")]
        let walked = walked as u32;
        if walked > MOST_WALKED {
            return Err(Verdict::DROP_EXTENSIONS);
        }
        if walked > all {
            return Err(Verdict::DROP_MALFORMED_IP);
        }
        if !fragment.is_later()
            && matches!(
                protocol,
                extension::HOP_BY_HOP
                    | extension::ROUTING
                    | extension::DESTINATION
                    | extension::FRAGMENT
            )
        {
            return Err(Verdict::DROP_EXTENSIONS);
        }
        Ok((Network { protocol, length, payload: all - walked }, fragment))
    }

    #[inline(always)]
    fn decrement(header: &mut Ipv6Hdr) {
        header.hop_limit -= 1;
    }

    #[inline(always)]
    fn rewrite(header: &mut Ipv6Hdr, source: &Addr6, destination: &Addr6, _delta: u16) {
        put_address6(&mut header.src_addr, source.words());
        put_address6(&mut header.dst_addr, destination.words());
        header.hop_limit -= 1;
    }
}
