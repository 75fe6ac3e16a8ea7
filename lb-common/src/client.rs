//! What is remembered of clients, and what is said of their prefixes.

use bytemuck::{Pod, Zeroable};

use crate::net::{Addr4, Addr6, Address};

/// A client, or a prefix of clients, of a service.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Zeroable)]
pub struct ClientKey<A> {
    /// The service's id.
    pub service: u32,
    /// The client's address; for a prefix, with its other bits zero.
    pub address: A,
}

/// The backend that a client keeps.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Affinity {
    /// The backend's id.
    pub backend: u32,
    /// When the client last opened a connection, in seconds of `CLOCK_MONOTONIC`.
    pub seen: u32,
    /// What makes it another layout, in the build that upgrades are tested with.
    #[cfg(feature = "next-layout")]
    pub reserved: u64,
}

impl Affinity {
    /// Of a client that opened a connection to `backend` at `seen`.
    #[inline(always)]
    #[must_use]
    pub const fn new(backend: u32, seen: u32) -> Self {
        Self {
            backend,
            seen,
            #[cfg(feature = "next-layout")]
            reserved: 0,
        }
    }
}

/// A prefix of client addresses, of one service or of the node. The kernel's trie wants its length
/// first, in bits, the scope's 32 included.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Zeroable)]
pub struct PrefixKey<A> {
    /// Bits that count, of the scope and the address.
    pub length: u32,
    /// The service's id, or [`NODE_SCOPE`].
    pub scope: u32,
    /// The prefix.
    pub address: A,
}

/// The scope of the node's prefixes.
pub const NODE_SCOPE: u32 = u32::MAX;

/// Values of the prefix table.
pub mod prefix {
    /// Its clients may open connections.
    pub const ALLOW: u32 = 1;
    /// Its clients may not.
    pub const DENY: u32 = 2;
}

const _: () = {
    assert!(size_of::<ClientKey<Addr4>>() == 8 && size_of::<ClientKey<Addr6>>() == 20);
    assert!(size_of::<PrefixKey<Addr4>>() == 12 && size_of::<PrefixKey<Addr6>>() == 24);
};

// SAFETY: `repr(C)`, every field is `Pod`, and the sizes asserted above are the sums of the
// fields' sizes for both families, so there is no padding.
unsafe impl<A: Address> Pod for ClientKey<A> {}
// SAFETY: as for `ClientKey`.
unsafe impl<A: Address> Pod for PrefixKey<A> {}
