//! Addresses, ports and link-layer next hops as they stand in packets and in map values.
//!
//! Byte order is a type here: [`Be16`] and the addresses hold network order in memory, whatever
//! the host. No address is ever a bare integer.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::{Pod, Zeroable};

/// IP protocol number of TCP (RFC 9293).
pub const TCP: u8 = 6;
/// IP protocol number of ICMP (RFC 792).
pub const ICMP: u8 = 1;
/// IP protocol number of `ICMPv6` (RFC 4443).
pub const ICMP6: u8 = 58;
/// IP protocol number of IPv4 in IP (RFC 2003).
pub const IPIP: u8 = 4;
/// IP protocol number of IPv6 in IP (RFC 2473).
pub const IP6IP: u8 = 41;
/// IP protocol number of UDP (RFC 768).
pub const UDP: u8 = 17;

/// A 16-bit number in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Be16(u16);

impl Be16 {
    /// From a number in the host's order.
    #[inline(always)]
    #[must_use]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// From the two bytes as they stand on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn from_wire(bytes: [u8; 2]) -> Self {
        Self(u16::from_ne_bytes(bytes))
    }

    /// The two bytes as they stand on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn to_wire(self) -> [u8; 2] {
        self.0.to_ne_bytes()
    }

    /// The number in the host's order.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The raw 16-bit word of a one's complement sum, which does not care for byte order
    /// (RFC 1071, section 2, B).
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u16 {
        self.0
    }
}

/// A packet's source and destination port: the four bytes that TCP and UDP headers begin with.
///
/// One word, because that is how the connection table's hash reads them: of two halves written one
/// after the other, the processor would have to wait until both have reached its cache.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Ports(u32);

impl Ports {
    /// A pair of ports.
    #[inline(always)]
    #[must_use]
    pub const fn new(source: Be16, destination: Be16) -> Self {
        let ([a, b], [c, d]) = (source.to_wire(), destination.to_wire());
        Self::from_wire([a, b, c, d])
    }

    /// From the four bytes as they stand on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn from_wire(bytes: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(bytes))
    }

    /// The four bytes as they stand on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn to_wire(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    /// The source port.
    #[inline(always)]
    #[must_use]
    pub const fn source(self) -> Be16 {
        let [a, b, ..] = self.to_wire();
        Be16::from_wire([a, b])
    }

    /// The destination port.
    #[inline(always)]
    #[must_use]
    pub const fn destination(self) -> Be16 {
        let [.., c, d] = self.to_wire();
        Be16::from_wire([c, d])
    }

    /// Those of a packet in the other direction.
    #[inline(always)]
    #[must_use]
    pub const fn turned(self) -> Self {
        Self(self.0.rotate_left(16))
    }

    /// The one's complement sum of both, not folded (RFC 1071).
    #[inline(always)]
    #[must_use]
    pub const fn sum(self) -> u32 {
        halves(self.0)
    }
}

/// An IPv4 address, four bytes in network order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct Addr4(u32);

/// An IPv6 address, sixteen bytes in network order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct Addr6([u32; 4]);

impl Addr4 {
    /// From the four bytes as they stand on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn from_wire(bytes: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(bytes))
    }

    /// From a word in memory, its bytes in network order.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }

    /// The address as a word in memory, its bytes in network order.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u32 {
        self.0
    }

    /// The four bytes as they stand on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn to_wire(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }
}

impl Addr6 {
    /// From the sixteen bytes as they stand on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn from_wire(b: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
            u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
            u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
            u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
        ])
    }

    /// From words in memory, their bytes in network order.
    #[inline(always)]
    #[must_use]
    pub const fn from_words(words: [u32; 4]) -> Self {
        Self(words)
    }

    /// The address as words in memory, their bytes in network order.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> &[u32; 4] {
        &self.0
    }

    /// The sixteen bytes as they stand on the wire.
    #[inline(always)]
    #[must_use]
    pub fn to_wire(self) -> [u8; 16] {
        bytemuck::cast(self.0)
    }
}

/// What the data path needs to know of an address, whatever its family.
pub trait Address: Pod + Eq + core::hash::Hash + Default + core::fmt::Debug {
    /// The address folded to 32 bits, as the address filter and the hashes want it.
    fn fold32(&self) -> u32;

    /// The one's complement sum of the address's 16-bit words, not folded (RFC 1071).
    fn sum(&self) -> u32;

    /// Folds the address's 32-bit words, as they lie in memory, into `seed` by `mix`.
    fn mix_words(&self, seed: u32, mix: impl Fn(u32, u32) -> u32) -> u32;

    /// The address with all but its first `bits` bits zero.
    #[must_use]
    fn prefix(&self, bits: u32) -> Self;

    /// The address as four words: all of IPv6, or IPv4 in the first.
    fn widen(&self) -> Addr6;

    /// The address in the standard library's form.
    fn ip(&self) -> IpAddr;

    /// The address of this family in `ip`; `None` where `ip` is of the other family.
    fn from_ip(ip: IpAddr) -> Option<Self>;
}

/// The one's complement sum of a word's halves, not folded (RFC 1071).
#[inline(always)]
#[must_use]
pub const fn halves(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}

/// The mask of a word's first `bits` bits, in network order.
#[inline(always)]
const fn leading(bits: u32) -> u32 {
    let mask = if bits >= 32 { u32::MAX } else { !(u32::MAX >> bits) };
    mask.to_be()
}

impl Address for Addr4 {
    #[inline(always)]
    fn mix_words(&self, seed: u32, mix: impl Fn(u32, u32) -> u32) -> u32 {
        mix(seed, self.0)
    }

    #[inline(always)]
    fn prefix(&self, bits: u32) -> Self {
        Self(self.0 & leading(bits))
    }

    #[inline(always)]
    fn widen(&self) -> Addr6 {
        Addr6([self.0, 0, 0, 0])
    }

    #[inline(always)]
    fn fold32(&self) -> u32 {
        self.0
    }

    #[inline(always)]
    fn sum(&self) -> u32 {
        halves(self.0)
    }

    fn ip(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self.to_wire()))
    }

    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(v4) => Some(Self::from_wire(v4.octets())),
            IpAddr::V6(_) => None,
        }
    }
}

impl Address for Addr6 {
    #[inline(always)]
    fn mix_words(&self, seed: u32, mix: impl Fn(u32, u32) -> u32) -> u32 {
        mix(mix(mix(mix(seed, self.0[0]), self.0[1]), self.0[2]), self.0[3])
    }

    #[inline(always)]
    fn prefix(&self, bits: u32) -> Self {
        let [a, b, c, d] = self.0;
        let left = |word: u32| leading(bits.saturating_sub(32 * word));
        Self([a & left(0), b & left(1), c & left(2), d & left(3)])
    }

    #[inline(always)]
    fn widen(&self) -> Addr6 {
        *self
    }

    #[inline(always)]
    fn fold32(&self) -> u32 {
        // Rotations keep the order of the words in the result: an address and its permutation
        // differ.
        self.0[0] ^ self.0[1].rotate_left(7) ^ self.0[2].rotate_left(13) ^ self.0[3].rotate_left(19)
    }

    #[inline(always)]
    fn sum(&self) -> u32 {
        halves(self.0[0]) + halves(self.0[1]) + halves(self.0[2]) + halves(self.0[3])
    }

    fn ip(&self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(self.to_wire()))
    }

    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(Self::from_wire(v6.octets())),
        }
    }
}

/// The link-layer way to a neighbour: the interface to leave by and the two Ethernet addresses.
///
/// The destination's six bytes lie within one aligned 8-byte word of the value, which the kernel
/// copies at once: a neighbour that changes its Ethernet address is never seen half-changed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Hop {
    /// Interface to leave by; zero where the way is not known.
    pub interface: u32,
    /// Ethernet address of that interface.
    pub source: [u8; 6],
    /// Ethernet address of the neighbour.
    pub destination: [u8; 6],
}

impl Hop {
    /// Whether the way is known.
    #[inline(always)]
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.interface != 0
    }

    /// Both Ethernet addresses as words in memory, the interface's first.
    #[inline(always)]
    #[must_use]
    pub fn addresses(&self) -> [u32; 3] {
        let [_, addresses @ ..]: [u32; 4] = bytemuck::cast(*self);
        addresses
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::prelude::v1::*;

    use super::*;

    #[test]
    fn wire_order_is_kept() {
        assert_eq!(Be16::new(80).to_wire(), [0, 80]);
        assert_eq!(Be16::from_wire([0x1f, 0x90]).get(), 8080);
        let v4 = Ipv4Addr::new(192, 0, 2, 10);
        assert_eq!(Addr4::from_ip(v4.into()).unwrap().ip(), IpAddr::from(v4));
        let v6: Ipv6Addr = "2001:db8::10".parse().unwrap();
        assert_eq!(Addr6::from_ip(v6.into()).unwrap().ip(), IpAddr::from(v6));
        assert_eq!(Addr6::from_ip(v4.into()), None);
    }

    #[test]
    fn ports_are_those_of_the_wire() {
        let ports = Ports::new(Be16::new(0x1234), Be16::new(80));
        assert_eq!(ports.to_wire(), [0x12, 0x34, 0, 80]);
        assert_eq!(Ports::from_wire([0x12, 0x34, 0, 80]), ports);
        assert_eq!((ports.source().get(), ports.destination().get()), (0x1234, 80));
        assert_eq!(ports.turned(), Ports::new(Be16::new(80), Be16::new(0x1234)));
        assert_eq!(
            ports.sum(),
            u32::from(ports.source().word()) + u32::from(ports.destination().word())
        );
    }

    #[test]
    fn prefixes_cut_bits() {
        let v4 = Addr4::from_wire([198, 51, 100, 255]);
        assert_eq!(v4.prefix(24), Addr4::from_wire([198, 51, 100, 0]));
        assert_eq!((v4.prefix(32), v4.prefix(0)), (v4, Addr4::default()));
        let v6 = Addr6::from_wire([0xff; 16]);
        assert_eq!(v6.prefix(64).to_wire(), [[0xff; 8], [0; 8]].concat()[..]);
        assert_eq!(v6.prefix(33).to_wire()[3..6], [0xff, 0x80, 0]);
        assert_eq!((v6.prefix(128), v6.prefix(0)), (v6, Addr6::default()));
    }

    #[test]
    fn hop_destination_lies_in_one_word() {
        let offset = core::mem::offset_of!(Hop, destination);
        assert_eq!(offset / 8, (offset + 5) / 8);
    }
}
