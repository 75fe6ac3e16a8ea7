//! The ring: a service's scheduler, compiled by the controller into an array of backend ids.
//!
//! Slot 0 holds the number of slots that follow. Length and slots are in one inner map, so a
//! program that picked up a ring sees both of the same ring.

/// Slot that holds the ring's length.
pub const LENGTH_SLOT: u32 = 0;

/// Slots that a ring can have at the most, its length not counted.
pub const MAX_SLOTS: u32 = 1 << 20;

/// The slot of a ring of `length` slots that the `turn`-th connection takes.
#[inline(always)]
#[must_use]
pub const fn slot(turn: u64, length: u32) -> u32 {
    // A remainder of a u32 fits a u32, and the slots follow the length.
    #[expect(clippy::cast_possible_truncation, reason = "less than `length`, a u32")]
    let index = (turn % length as u64) as u32;
    LENGTH_SLOT + 1 + index
}
