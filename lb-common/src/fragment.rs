//! Fragments: what the first fragment of a packet says of those that follow it.

use bytemuck::{Pod, Zeroable};

use crate::net::{Addr4, Addr6, Address, Ports};

/// What the fragments of one packet have in common (RFC 791, section 3.2; RFC 8200, section 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Zeroable)]
pub struct FragmentKey<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Identification, as it stands in the packet.
    pub identification: u32,
    /// IP protocol number; zero for IPv6, whose fragments need not agree on it.
    pub protocol: u32,
}

/// What the first fragment said.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FirstFragment {
    /// Source and destination port.
    pub ports: Ports,
    /// Transport protocol number.
    pub protocol: u32,
    /// When it came, in seconds of `CLOCK_MONOTONIC`.
    pub seen: u32,
}

/// Seconds after which a first fragment is forgotten: Linux waits as long for the rest.
pub const LIFETIME: u32 = 30;

const _: () = {
    assert!(size_of::<FragmentKey<Addr4>>() == 16 && size_of::<FragmentKey<Addr6>>() == 40);
};

// SAFETY: `repr(C)`, every field is `Pod`, and the sizes asserted above are the sums of the
// fields' sizes for both families, so there is no padding.
unsafe impl<A: Address> Pod for FragmentKey<A> {}
