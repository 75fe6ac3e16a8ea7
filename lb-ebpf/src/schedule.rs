//! Scheduling: which backend a new connection gets.
//!
//! Round-robin is a ring and a cursor that all CPUs share: N connections in a row take N slots in
//! a row, so the split is exact whatever CPUs they arrive on.

use lb_common::{ring, verdict::Verdict};

use crate::maps;

/// The backend of a service's next connection.
#[inline(always)]
pub fn next(service: u32) -> Result<u32, Verdict> {
    let length = maps::ring_slot(service, ring::LENGTH_SLOT).unwrap_or(0);
    if length == 0 {
        return Err(Verdict::DROP_NO_BACKEND);
    }
    let turn = maps::next_turn(service).ok_or(Verdict::DROP_INTERNAL)?;
    // A ring that was swapped for a shorter one since its length was read has no such slot: take
    // its first one, which it has.
    maps::ring_slot(service, ring::slot(turn, length))
        .or_else(|| maps::ring_slot(service, ring::slot(0, 1)))
        .ok_or(Verdict::DROP_NO_BACKEND)
}
