//! Internet checksums, moved and never recomputed (RFC 1071, RFC 1624).
//!
//! A one's complement sum does not care for byte order, so words are summed as they lie in memory.

/// The word by which a header is less whose TTL is decremented: one in the high byte.
pub const TTL_STEP: u32 = u16::from_ne_bytes([1, 0]) as u32;

/// Folds a sum of 16-bit words into one.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "folded twice: it fits")]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The delta that takes words summing to `old` away and puts words summing to `new` in their
/// place. Both sums are of at most a few thousand 16-bit words, not folded.
#[inline(always)]
#[must_use]
pub const fn delta(old: u32, new: u32) -> u16 {
    fold(!fold(old) as u32 + new)
}

/// Moves a checksum by a delta: equation 3 of RFC 1624.
#[inline(always)]
pub const fn apply(checksum: &mut [u8; 2], delta: u16) {
    let word = u16::from_ne_bytes(*checksum);
    *checksum = (!fold(!word as u32 + delta as u32)).to_ne_bytes();
}

/// Moves a UDP checksum: zero means that there is none and stays (RFC 768); a checksum that comes
/// out as zero is sent as its other representation, all ones.
#[inline(always)]
pub const fn apply_udp(checksum: &mut [u8; 2], delta: u16) {
    if u16::from_ne_bytes(*checksum) == 0 {
        return;
    }
    apply(checksum, delta);
    if u16::from_ne_bytes(*checksum) == 0 {
        *checksum = [0xff; 2];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    fn sum(words: &[u16]) -> u32 {
        words.iter().map(|word| u32::from(*word)).sum()
    }

    fn checksum(words: &[u16]) -> u16 {
        !fold(sum(words))
    }

    proptest! {
        #[test]
        fn a_delta_equals_the_recomputation(
            kept in prop::collection::vec(any::<u16>(), 1..20),
            old in prop::collection::vec(any::<u16>(), 12),
            new in prop::collection::vec(any::<u16>(), 12),
        ) {
            // A header is never all zeros, which alone has two representations (RFC 1624, 3).
            prop_assume!(kept.iter().any(|word| *word != 0));
            let before: Vec<u16> = kept.iter().chain(&old).copied().collect();
            let after: Vec<u16> = kept.iter().chain(&new).copied().collect();
            let mut moved = checksum(&before).to_ne_bytes();
            apply(&mut moved, delta(sum(&old), sum(&new)));
            prop_assert_eq!(u16::from_ne_bytes(moved), checksum(&after));
        }

        #[test]
        fn udp_never_gains_or_loses_a_checksum(before: [u8; 2], delta: u16) {
            let mut after = before;
            apply_udp(&mut after, delta);
            prop_assert_eq!(after == [0, 0], before == [0, 0]);
        }
    }
}
