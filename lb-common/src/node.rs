//! What the whole node shares.

use bytemuck::{Pod, Zeroable};

/// Settings of the node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NodeSettings {
    /// Places for unconfirmed connections, a power of two, less one.
    pub unconfirmed_mask: u32,
    /// Bits of [`flags`].
    pub flags: u32,
    /// Bytes of the largest IP packet that every interface takes; zero: not known.
    pub least_mtu: u32,
    /// Zero.
    pub reserved: u32,
}

/// Bits of [`NodeSettings::flags`].
pub mod flags {
    /// The prefix table has prefixes of the node.
    pub const HAS_PREFIXES: u32 = 1;
    /// Who matches no prefix is denied.
    pub const DENY_OTHERS: u32 = 1 << 1;
    /// ICMP errors to any address may be about packets of ours: of NAT that keeps the clients' addresses,
    /// or of tunnels, whose outer sources are many.
    pub const READS_QUOTES: u32 = 1 << 2;
}

/// What the program itself keeps of the node, shared by all CPUs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NodeState {
    /// Places handed out to unconfirmed connections so far, IPv4 and IPv6.
    pub next_place: [u64; 2],
    /// When the next packet of our own making is due, in nanoseconds of `CLOCK_MONOTONIC`.
    pub reply_due: u64,
}

/// Bits of the values of the address tables.
pub mod address {
    /// The host has the address itself, and answers what the program passes.
    pub const HOST: u32 = 1;
}
