//! The ring: a service's scheduler, compiled by the controller into an array of backend ids.
//!
//! Slot 0 holds the number of slots that follow. Length and slots are in one inner map, so a
//! program that picked up a ring sees both of the same ring. Behind the slots stands each backend once.
//!
//! Where the slots were other backends' a while ago, the former ones follow, one for each slot, from
//! [`former`] on: whoever opened a connection elsewhere then chose by those.

/// Slot that holds the ring's length.
pub const LENGTH_SLOT: u32 = 0;

/// Slots that a ring can have at the most, its length not counted.
pub const MAX_SLOTS: u32 = 1 << 20;

/// What fills the room between the backends and the former slots: no backend's id.
pub const NOBODY: u32 = u32::MAX;

/// Where the former owner stands of the slot that the `turn`-th connection takes. A ring without former slots
/// ends before.
#[inline(always)]
#[must_use]
pub const fn former(turn: u64, length: u32, members: u32) -> u32 {
    // The length, the slots, and as much room again for the backends: where there are more of them, there
    // are no former slots.
    let room = if members > length { members } else { length };
    slot(turn, length).wrapping_add(length).wrapping_add(room)
}

/// The slot of a ring of `length` slots that the `turn`-th connection takes.
#[inline(always)]
#[must_use]
pub const fn slot(turn: u64, length: u32) -> u32 {
    // A remainder of a u32 fits a u32, and the slots follow the length.
    #[expect(clippy::cast_possible_truncation, reason = "less than `length`, a u32")]
    let index = (turn % length as u64) as u32;
    LENGTH_SLOT + 1 + index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_slots_stand_behind_all_others() {
        for (length, members) in [(5, 2), (5, 5), (3, 7)] {
            let last = slot(u64::from(length) - 1, length) + members;
            assert!(former(0, length, members) > last);
            assert_eq!(former(1, length, members), former(0, length, members) + 1);
            // As many members or fewer: always the same place.
            assert_eq!(former(0, length, length), former(0, length, 1));
        }
    }
}
