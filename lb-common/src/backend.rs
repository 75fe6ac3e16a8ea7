//! The backend table's value: where a backend is, how to get there, and which source ports NAT
//! may use towards it.

use bytemuck::{Pod, Zeroable};

use crate::net::{Addr4, Addr6, Address, Be16, Hop};

/// Source addresses that one backend can have at the most.
pub const MAX_SOURCES: usize = 8;

/// One backend of one service. Its index in the table is the backend's id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Zeroable)]
pub struct Backend<A> {
    /// The way there, kept fresh by the controller. Not known: the program asks the kernel.
    pub hop: Hop,
    /// Bytes of the largest IP packet on the way there, a tunnel's headers included; zero: not known.
    pub mtu: u32,
    /// Bits of [`flags`].
    pub flags: u32,
    /// The service that it belongs to.
    pub service: u32,
    /// Its share of new connections, relative to the other weights.
    pub weight: u32,
    /// Established connections that it takes at the most; zero: any number.
    pub max_connections: u32,
    /// The server's address.
    pub address: A,
    /// The server's port; zero: the one that the client asked for.
    pub port: Be16,
    /// How many of `sources` are set.
    pub source_count: u16,
    /// Lowest source port, in the host's byte order.
    pub first_port: u16,
    /// How many source ports there are from `first_port` on.
    pub port_count: u16,
    /// NAT's source addresses towards this backend.
    pub sources: [A; MAX_SOURCES],
}

/// Bits of [`Backend::flags`].
pub mod flags {
    /// It may get new connections: it is in its service's ring.
    pub const ACTIVE: u32 = 1;
}

/// The tunnel to a backend, for forwarding by IPIP (RFC 2003, RFC 2473) or GUE.
///
/// Addresses are in the form of [`Addr6`]; an IPv4 address stands in the first word.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Tunnel {
    /// The tunnel's far end: the backend's address.
    pub destination: Addr6,
    /// The near end; its bits outside the mask.
    pub source: Addr6,
    /// The bits of the source that vary with the flow.
    pub source_mask: Addr6,
    /// Family of the outer header: 4 or 6; zero: no tunnel.
    pub family: u32,
    /// Destination port of GUE.
    pub port: Be16,
    /// Zero.
    pub reserved: u16,
}

/// What the program itself keeps about a backend, shared by all CPUs; the controller only clears it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct BackendState {
    /// Source ports handed out so far. The next one is as far from its last use as it can be.
    pub next_source: u64,
    /// Connections that are open, unconfirmed ones included.
    pub open: u64,
    /// Connections that are open and confirmed.
    pub established: u64,
    /// Bytes of the largest packet that the way of a tunnel's packets takes, as routers on it told;
    /// zero: they told nothing.
    pub path_mtu: u32,
    /// When they did, in seconds of `CLOCK_MONOTONIC`.
    pub path_mtu_seen: u32,
}

/// Seconds for which a path's MTU is believed (RFC 1191, section 6.3).
pub const PATH_MTU_LIFETIME: u32 = 600;

const _: () = {
    assert!(size_of::<Backend<Addr4>>() == 80 && size_of::<Backend<Addr6>>() == 188);
};

// SAFETY: `repr(C)`, every field is `Pod`, and the sizes asserted above are the sums of the
// fields' sizes for both families, so there is no padding.
unsafe impl<A: Address> Pod for Backend<A> {}
