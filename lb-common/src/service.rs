//! The service table: which address, port and protocol is a service, and its scheduler's state.

use bytemuck::{Pod, Zeroable};

use crate::net::{Addr4, Addr6, Address, Be16};

/// Key of the service table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Zeroable)]
pub struct ServiceKey<A> {
    /// The virtual address.
    pub address: A,
    /// The port.
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

/// The round-robin cursor, shared by all CPUs. A cache line of its own, so that busy services do
/// not slow each other.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServiceCursor {
    /// Connections scheduled so far.
    pub next: u64,
    /// Fills the cache line.
    pub reserved: [u64; 7],
}
