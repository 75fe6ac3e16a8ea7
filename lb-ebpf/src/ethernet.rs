//! The Ethernet header (IEEE 802.3), as bytes: network-types' own has an alignment of two, which a
//! frame does not promise.

/// An Ethernet header without VLAN tags.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ethernet {
    /// Receiver's address.
    pub destination: [u8; 6],
    /// Sender's address.
    pub source: [u8; 6],
    /// Type of the payload, in network byte order.
    pub ether_type: [u8; 2],
}

impl Ethernet {
    /// Bytes of the header.
    pub const LEN: usize = size_of::<Self>();
}
