//! The service table: which address, port and protocol is a service, and its scheduler's state.

use bytemuck::{Pod, Zeroable};

use crate::net::{Addr4, Addr6, Address, Be16};

/// Key of the service table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Zeroable)]
pub struct ServiceKey<A> {
    /// The virtual address.
    pub address: A,
    /// The port; zero: every port that has no service of its own.
    pub port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero: the kernel compares the bytes of a key.
    pub reserved: u8,
}

const _: () = {
    assert!(size_of::<ServiceKey<Addr4>>() == 8 && size_of::<ServiceKey<Addr6>>() == 20);
};

// SAFETY: `repr(C)`, every field is `Pod`, and the sizes asserted above are the sums of the
// fields' sizes for both families, so there is no padding.
unsafe impl<A: Address> Pod for ServiceKey<A> {}

impl<A: Address> ServiceKey<A> {
    /// The key of a service.
    #[inline(always)]
    #[must_use]
    pub const fn new(address: A, port: Be16, protocol: u8) -> Self {
        Self { address, port, protocol, reserved: 0 }
    }
}

/// Value of the service table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Service {
    /// Index of the service's ring and cursor.
    pub id: u32,
}

/// How a service schedules and forwards, by its id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServiceSettings {
    /// One of [`scheduler`].
    pub scheduler: u32,
    /// One of [`forwarding`].
    pub forwarding: u32,
    /// Bits of [`flags`].
    pub flags: u32,
    /// How many backends its ring names.
    pub members: u32,
    /// Seconds for which a client keeps its backend; zero: not at all.
    pub sticky: u32,
    /// First bits of the addresses of clients that share a limit.
    pub client_prefix: u32,
    /// Limit of the service's new connections.
    pub limit: Limit,
    /// Limit of each client prefix's new connections.
    pub client_limit: Limit,
}

/// A token bucket, as the generic cell rate algorithm has it (ITU-T I.371, annex A).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Limit {
    /// Nanoseconds from one token to the next; zero: no limit.
    pub interval: u64,
    /// Nanoseconds that the tokens of a full bucket take to come, less one interval.
    pub tolerance: u64,
}

/// Values of [`ServiceSettings::scheduler`].
pub mod scheduler {
    /// The ring's slots in turn.
    pub const ROUND_ROBIN: u32 = 0;
    /// The less loaded of two random slots.
    pub const LEAST_CONNECTIONS: u32 = 1;
    /// The slot that the flow's hash names.
    pub const MAGLEV: u32 = 2;
    /// The slot that the hash of the client's address names.
    pub const SOURCE_HASH: u32 = 3;
    /// A random slot.
    pub const RANDOM: u32 = 4;
}

/// Values of [`ServiceSettings::forwarding`].
pub mod forwarding {
    /// Network address translation.
    pub const NAT: u32 = 0;
    /// The packet as it is, to the backend's Ethernet address.
    pub const DSR: u32 = 1;
    /// IP in IP (RFC 2003, RFC 2473).
    pub const IPIP: u32 = 2;
    /// Generic UDP Encapsulation, variant 1.
    pub const GUE: u32 = 3;
}

/// Bits of [`ServiceSettings::flags`].
pub mod flags {
    /// NAT keeps the client's address and port.
    pub const KEEP_SOURCE: u32 = 1;
    /// Where no backend has room, tell the client instead of dropping.
    pub const REJECT: u32 = 1 << 1;
    /// The prefix table has prefixes of this service.
    pub const HAS_PREFIXES: u32 = 1 << 2;
    /// No backend is active and none is about to be judged: tell the client.
    pub const REJECT_NO_BACKEND: u32 = 1 << 4;
    /// Who matches no prefix is denied.
    pub const DENY_OTHERS: u32 = 1 << 3;
}

/// The round-robin cursor, shared by all CPUs. A cache line of its own, so that busy services do
/// not slow each other.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServiceCursor {
    /// Connections scheduled so far.
    pub next: u64,
    /// When the service's limit lets the next connection come on time, in nanoseconds of
    /// `CLOCK_MONOTONIC`.
    pub due: u64,
    /// Fills the cache line.
    pub reserved: [u64; 6],
}
