//! What differs between IPv4 and IPv6: the one place where the generic path asks which it is.

use core::marker::PhantomData;

use lb_common::{
    net::{Addr4, Addr6, Address},
    verdict::Verdict,
};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    checksum,
    frame::{Header, put_address6},
};

/// `EtherType` of IPv4, in the host's byte order.
pub const ETHER_IPV4: u16 = 0x0800;
/// `EtherType` of IPv6, in the host's byte order.
pub const ETHER_IPV6: u16 = 0x86dd;

/// Bits of the fragment field that make a packet a fragment: "more fragments" and the offset.
/// "Don't fragment" is none of them (RFC 791, section 3.1).
const FRAGMENT_MASK: u16 = 0x3fff;

/// IPv6's own headers between the fixed header and the transport (RFC 8200, section 4): hop-by-hop,
/// routing, destination options. The fragment header is a case of its own.
const EXTENSIONS: [u8; 3] = [0, 43, 60];
/// The fragment header (RFC 8200, section 4.5).
const FRAGMENT_HEADER: u8 = 44;

/// What an IP header says, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Transport protocol number.
    pub protocol: u8,
    /// Bytes of the packet, IP header included.
    pub length: u32,
    /// Bytes of the packet after the IP header.
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

    /// Source address.
    fn source(header: &Self::Header) -> Self::Address;
    /// Destination address.
    fn destination(header: &Self::Header) -> Self::Address;
    /// TTL or hop limit.
    fn ttl(header: &Self::Header) -> u8;
    /// Checks the header against the bytes that follow it, `rest`.
    ///
    /// # Errors
    ///
    /// The verdict for a packet that cannot be balanced. A drop is for a service's packets only.
    fn check(header: &Self::Header, rest: usize) -> Result<Network, Verdict>;
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

    #[inline(always)]
    fn source(header: &Ipv4Hdr) -> Addr4 {
        Addr4::from_wire(header.src_addr)
    }

    #[inline(always)]
    fn destination(header: &Ipv4Hdr) -> Addr4 {
        Addr4::from_wire(header.dst_addr)
    }

    #[inline(always)]
    fn ttl(header: &Ipv4Hdr) -> u8 {
        header.ttl
    }

    #[inline(always)]
    fn check(header: &Ipv4Hdr, rest: usize) -> Result<Network, Verdict> {
        const WITHOUT_OPTIONS: u8 = 0x45;
        let length = u16::from_be_bytes(header.tot_len) as usize;
        let header_length = (header.vihl & 0xf) as usize * 4;
        if header.vihl != WITHOUT_OPTIONS {
            let whole = header.vihl >> 4 == 4 && header_length > Ipv4Hdr::LEN;
            return Err(if whole && header_length <= length && length <= Ipv4Hdr::LEN + rest {
                Verdict::PASS_OPTIONS
            } else {
                Verdict::DROP_MALFORMED_IP
            });
        }
        if length < Ipv4Hdr::LEN || length > Ipv4Hdr::LEN + rest {
            return Err(Verdict::DROP_MALFORMED_IP);
        }
        if u16::from_be_bytes(header.frags) & FRAGMENT_MASK != 0 {
            return Err(Verdict::PASS_FRAGMENT);
        }
        #[expect(clippy::cast_possible_truncation, reason = "from a u16")]
        Ok(Network {
            protocol: header.proto,
            length: length as u32,
            payload: (length - Ipv4Hdr::LEN) as u32,
        })
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

    #[inline(always)]
    fn source(header: &Ipv6Hdr) -> Addr6 {
        Addr6::from_wire(header.src_addr)
    }

    #[inline(always)]
    fn destination(header: &Ipv6Hdr) -> Addr6 {
        Addr6::from_wire(header.dst_addr)
    }

    #[inline(always)]
    fn ttl(header: &Ipv6Hdr) -> u8 {
        header.hop_limit
    }

    #[inline(always)]
    fn check(header: &Ipv6Hdr, rest: usize) -> Result<Network, Verdict> {
        let payload = u16::from_be_bytes(header.payload_len) as usize;
        if header.vcf[0] >> 4 != 6 || payload > rest {
            return Err(Verdict::DROP_MALFORMED_IP);
        }
        if header.next_hdr == FRAGMENT_HEADER {
            return Err(Verdict::PASS_FRAGMENT);
        }
        if EXTENSIONS.contains(&header.next_hdr) {
            return Err(Verdict::PASS_OPTIONS);
        }
        #[expect(clippy::cast_possible_truncation, reason = "from a u16")]
        Ok(Network {
            protocol: header.next_hdr,
            length: (Ipv6Hdr::LEN + payload) as u32,
            payload: payload as u32,
        })
    }

    #[inline(always)]
    fn rewrite(header: &mut Ipv6Hdr, source: &Addr6, destination: &Addr6, _delta: u16) {
        put_address6(&mut header.src_addr, source.words());
        put_address6(&mut header.dst_addr, destination.words());
        header.hop_limit -= 1;
    }
}
