//! The backends' side of a tunnel: which frames hold a packet for one of a backend's addresses, and
//! how that packet is taken out of IP in IP (RFC 2003, RFC 2473) or GUE (draft-ietf-intarea-gue,
//! variant 1).
//!
//! Computes on the frame's bytes and asks the tables through a trait; it does not move the frame's
//! beginning, which only the kernel can. The balancer's own stages are not used here, and do not
//! use it.

mod ecn;
mod inner;
mod link;
mod outer;

use lb_common::decap::Fate;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

pub use self::link::Link;
use self::outer::Outer;
use crate::{
    family::{ETHER_IPV4, ETHER_IPV6},
    frame::Frame,
};

/// What the decapsulator was told. Addresses are asked for where they lie in the frame: the kernel
/// takes them as keys from there.
pub trait Told {
    /// The UDP port of GUE.
    fn gue_port(&self) -> u16;
    /// Whether packets for this address are unwrapped.
    fn is_ours_v4(&self, destination: &[u8; 4]) -> bool;
    /// The same for IPv6.
    fn is_ours_v6(&self, destination: &[u8; 16]) -> bool;
    /// Whether an edge sends from this address.
    fn is_edge_v4(&self, source: &[u8; 4]) -> bool;
    /// The same for IPv6.
    fn is_edge_v6(&self, source: &[u8; 16]) -> bool;
}

/// How a packet is taken out of its tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Unwrapped {
    /// The frame's link header, which the packet keeps.
    pub link: Link,
    /// `EtherType` of the packet, in the host's byte order.
    pub ether_type: u16,
    /// Bytes of the outer headers: how much shorter the frame becomes.
    pub strip: u32,
    /// Which tunnel it was.
    pub fate: Fate,
}

/// Finds the packet in a frame and writes the congestion mark of the outside into it.
///
/// What is for none of our addresses is left to the host, which may have tunnels of its own.
///
/// # Errors
///
/// The fate of a frame that is not unwrapped. Its bytes are as they came.
#[inline(always)]
pub fn unwrap<T: Told>(frame: &mut Frame<'_>, told: &T) -> Result<Unwrapped, Fate> {
    let link = Link::take(frame).ok_or(Fate::PASS_NOT_TUNNEL)?;
    let (ether_type, outer) = match link.ether_type() {
        ETHER_IPV4 => {
            let header = frame.take::<Ipv4Hdr>().ok_or(Fate::PASS_NOT_TUNNEL)?;
            let outer = Outer::of_v4(header, frame, told.gue_port())?;
            let is_edge = || told.is_edge_v4(&header.src_addr);
            (inner::open(frame, told, &outer, is_edge)?, outer)
        }
        ETHER_IPV6 => {
            let header = frame.take::<Ipv6Hdr>().ok_or(Fate::PASS_NOT_TUNNEL)?;
            let outer = Outer::of_v6(header, frame, told.gue_port())?;
            let is_edge = || told.is_edge_v6(&header.src_addr);
            (inner::open(frame, told, &outer, is_edge)?, outer)
        }
        _ => return Err(Fate::PASS_NOT_TUNNEL),
    };
    Ok(Unwrapped { link, ether_type, strip: outer.length, fate: outer.tunnel.fate() })
}

#[cfg(test)]
mod tests;
