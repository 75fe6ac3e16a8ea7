//! The packet inside a tunnel: whose it is, whether it is whole, and its congestion mark.

use lb_common::decap::Fate;

use super::{
    Told, ecn,
    outer::{Outer, Tunnel},
};
use crate::{
    checksum,
    family::{ETHER_IPV4, ETHER_IPV6},
    frame::{Frame, Header},
};

/// The first byte of a packet, by which GUE's variants and IP's versions are told apart.
#[repr(C)]
struct First(u8);

/// The rest of an IPv4 header (RFC 791).
#[repr(C)]
struct Rest4 {
    service: u8,
    length: [u8; 2],
    identification: [u8; 2],
    fragment: [u8; 2],
    ttl: u8,
    protocol: u8,
    checksum: [u8; 2],
    source: [u8; 4],
    destination: [u8; 4],
}

/// The rest of an IPv6 header (RFC 8200).
#[repr(C)]
struct Rest6 {
    /// The low half of the traffic class, and four bits of the flow label.
    class: u8,
    label: [u8; 2],
    payload: [u8; 2],
    next_header: u8,
    hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
}

const _: () = assert!(size_of::<Rest4>() == 19 && size_of::<Rest6>() == 39);

// SAFETY: `repr(C)`, of one byte.
unsafe impl Header for First {}
// SAFETY: `repr(C)`, of bytes and arrays of bytes.
unsafe impl Header for Rest4 {}
// SAFETY: `repr(C)`, of bytes and arrays of bytes.
unsafe impl Header for Rest6 {}

/// Checks the packet that `frame` has come to, marks it, and tells its `EtherType`. TTL and hop
/// limit stay (RFC 2003, section 3.1).
///
/// # Errors
///
/// The fate of a packet that is not unwrapped; it is as it came.
#[inline(always)]
pub fn open<T: Told>(
    frame: &mut Frame<'_>,
    told: &T,
    outer: &Outer,
    is_edge: impl Fn() -> bool,
) -> Result<u16, Fate> {
    let first = read::<First>(frame, outer, 0).ok_or_else(|| unreadable(outer, &is_edge))?.0;
    let version = first >> 4;
    // Variant 1 is what begins as IP does: the bits 01.
    if outer.tunnel == Tunnel::Gue && version >> 2 != 1 {
        return Err(Fate::PASS_GUE_VARIANT);
    }
    match (version, outer.tunnel) {
        (4, Tunnel::Ipv4 | Tunnel::Gue) => {
            let rest = read::<Rest4>(frame, outer, 1).ok_or_else(|| unreadable(outer, &is_edge))?;
            let is_ours = told.is_ours_v4(&rest.destination);
            let payload = admit(outer, is_ours, is_edge)?;
            mark_v4(first, rest, outer.mark, payload)?;
            Ok(ETHER_IPV4)
        }
        (6, Tunnel::Ipv6 | Tunnel::Gue) => {
            let rest = read::<Rest6>(frame, outer, 1).ok_or_else(|| unreadable(outer, &is_edge))?;
            let is_ours = told.is_ours_v6(&rest.destination);
            let payload = admit(outer, is_ours, is_edge)?;
            mark_v6(rest, outer.mark, payload)?;
            Ok(ETHER_IPV6)
        }
        _ => Err(unreadable(outer, &is_edge)),
    }
}

/// The next piece of the packet, `before` bytes of which were read. `None` where the outer headers
/// or the frame end it earlier: what stands after their end is padding.
#[inline(always)]
fn read<'a, H: Header + 'a>(
    frame: &mut Frame<'a>,
    outer: &Outer,
    before: u32,
) -> Option<&'a mut H> {
    #[expect(clippy::cast_possible_truncation, reason = "a header is short")]
    let end = const { size_of::<H>() as u32 } + before;
    if outer.payload.is_some_and(|payload| payload < end) {
        return None;
    }
    frame.take::<H>()
}

/// The fate of a tunnel's packet whose destination cannot be read: without one it is ours only
/// if an edge sent it.
#[inline(always)]
fn unreadable(outer: &Outer, is_edge: &impl Fn() -> bool) -> Fate {
    match (is_edge(), outer.payload) {
        (false, _) => Fate::PASS_UNKNOWN_DESTINATION,
        (true, None) => Fate::DROP_MALFORMED_OUTER,
        (true, Some(_)) => Fate::DROP_MALFORMED_INNER,
    }
}

/// How many bytes a packet may have, if it may come in at all.
#[inline(always)]
fn admit(outer: &Outer, is_ours: bool, is_edge: impl Fn() -> bool) -> Result<u32, Fate> {
    if !is_ours {
        return Err(Fate::PASS_UNKNOWN_DESTINATION);
    }
    if !is_edge() {
        return Err(Fate::DROP_REFUSED_SOURCE);
    }
    outer.payload.ok_or(Fate::DROP_MALFORMED_OUTER)
}

#[inline(always)]
fn mark_v4(first: u8, rest: &mut Rest4, outer: u8, payload: u32) -> Result<(), Fate> {
    let header = u32::from(first & 0xf) * 4;
    let length = u32::from(u16::from_be_bytes(rest.length));
    if header < 20 || header > length || length > payload {
        return Err(Fate::DROP_MALFORMED_INNER);
    }
    let inner = rest.service & ecn::MASK;
    let mark = ecn::combine(inner, outer).ok_or(Fate::DROP_CONGESTION)?;
    if mark != inner {
        let word = |service| u32::from(u16::from_ne_bytes([first, service]));
        let old = word(rest.service);
        rest.service = rest.service & !ecn::MASK | mark;
        checksum::apply(&mut rest.checksum, checksum::delta(old, word(rest.service)));
    }
    Ok(())
}

#[inline(always)]
fn mark_v6(rest: &mut Rest6, outer: u8, payload: u32) -> Result<(), Fate> {
    const HEADER: u32 = 40;
    if HEADER + u32::from(u16::from_be_bytes(rest.payload)) > payload {
        return Err(Fate::DROP_MALFORMED_INNER);
    }
    let inner = rest.class >> 4 & ecn::MASK;
    let mark = ecn::combine(inner, outer).ok_or(Fate::DROP_CONGESTION)?;
    rest.class = rest.class & !(ecn::MASK << 4) | mark << 4;
    Ok(())
}
