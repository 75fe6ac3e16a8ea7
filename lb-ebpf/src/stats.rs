//! Counting: verdicts, and what passed to and from each backend.

use lb_common::verdict::Verdict;
use lb_ebpf::tracking::Direction;

use crate::maps;

/// Counts a verdict.
#[inline(always)]
pub fn verdict(verdict: Verdict) {
    if let Some(count) = maps::verdict_count(verdict.index()) {
        *count += 1;
    }
}

/// Counts a forwarded packet of `bytes` bytes.
#[inline(always)]
pub fn packet(backend: u32, direction: Direction, bytes: u32) {
    let Some(counters) = maps::counters(backend) else { return };
    match direction {
        Direction::Forward => {
            counters.packets_in += 1;
            counters.bytes_in += u64::from(bytes);
        }
        Direction::Reverse => {
            counters.packets_out += 1;
            counters.bytes_out += u64::from(bytes);
        }
    }
}

/// Counts a connection given to a backend.
#[inline(always)]
pub fn opened(backend: u32) {
    if let Some(counters) = maps::counters(backend) {
        counters.opened += 1;
    }
}

/// Counts the end of a connection.
#[inline(always)]
pub fn closed(backend: u32) {
    if let Some(counters) = maps::counters(backend) {
        maps::count_up(&mut counters.closed);
    }
}
