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
    /// The server's address.
    pub address: A,
    /// The server's port.
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

/// What the program itself keeps about a backend; the controller only clears it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct BackendCursor {
    /// Source ports handed out so far. The next one is as far from its last use as it can be.
    pub next_source: u64,
}

const _: () = {
    assert!(size_of::<Backend<Addr4>>() == 60 && size_of::<Backend<Addr6>>() == 168);
};

// SAFETY: `repr(C)`, every field is `Pod`, and the sizes asserted above are the sums of the
// fields' sizes for both families, so there is no padding.
unsafe impl<A: Address> Pod for Backend<A> {}
