//! The address filter: a bitmap that turns away what cannot be ours for a few nanoseconds.
//!
//! A bit is set for every service address and every NAT source address, and, where NAT keeps the
//! clients' addresses, for every backend's address as a source. Clear bits mean: not ours. A set bit means: look it up. A collision costs that look-up; the packet passes all the same,
//! counted under the name of what it then turned out not to be.

use crate::net::Address;

/// 64-bit words of the bitmap.
pub const WORDS: usize = 1024;

/// The bitmap, one for both families.
pub type Bitmap = [u64; WORDS];

/// Word and bit of an address.
#[inline(always)]
#[must_use]
pub fn position<A: Address>(address: &A) -> (usize, u64) {
    // Fibonacci hashing: the high bits of a multiplication by 2^32 divided by the golden ratio.
    let hash = address.fold32().wrapping_mul(0x9e37_79b1) >> 16;
    ((hash >> 6) as usize & (WORDS - 1), 1 << (hash & 63))
}

/// Whether the address may be ours.
#[inline(always)]
#[must_use]
pub fn may_contain<A: Address>(bitmap: &Bitmap, address: &A) -> bool {
    let (word, bit) = position(address);
    bitmap[word] & bit != 0
}

/// Word and bit of an address as a packet's source.
#[inline(always)]
#[must_use]
pub fn source_position<A: Address>(address: &A) -> (usize, u64) {
    // Another multiplier, so that an address has different bits as a source and as a destination.
    let hash = address.fold32().wrapping_mul(0x85eb_ca6b) >> 16;
    ((hash >> 6) as usize & (WORDS - 1), 1 << (hash & 63))
}

/// Whether a packet from this address may be a backend's reply to a client's own address.
#[inline(always)]
#[must_use]
pub fn may_contain_source<A: Address>(bitmap: &Bitmap, address: &A) -> bool {
    let (word, bit) = source_position(address);
    bitmap[word] & bit != 0
}

/// Sets an address's bit as a source.
pub fn insert_source<A: Address>(bitmap: &mut Bitmap, address: &A) {
    let (word, bit) = source_position(address);
    bitmap[word] |= bit;
}

/// Sets the address's bit.
pub fn insert<A: Address>(bitmap: &mut Bitmap, address: &A) {
    let (word, bit) = position(address);
    bitmap[word] |= bit;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Addr4, Addr6};

    #[test]
    fn what_was_inserted_is_found_and_most_else_is_not() {
        let mut bitmap = [0; WORDS];
        insert(&mut bitmap, &Addr4::from_wire([192, 0, 2, 10]));
        insert(
            &mut bitmap,
            &Addr6::from_wire([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        );
        assert!(may_contain(&bitmap, &Addr4::from_wire([192, 0, 2, 10])));
        let strangers =
            (0..=255).filter(|n| may_contain(&bitmap, &Addr4::from_wire([10, 0, 0, *n])));
        assert!(strangers.count() <= 1);
    }
}
