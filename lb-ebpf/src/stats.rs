//! Counting: verdicts, and what passed to and from each backend.

use lb_common::{
    counters::{BackendCounters, HANDSHAKE_BUCKETS, handshake_bucket},
    verdict::Verdict,
};
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

#[inline(always)]
fn count(backend: u32, counter: impl FnOnce(&mut BackendCounters) -> &mut u64) {
    if let Some(counters) = maps::counters(backend) {
        // The program that ends connections counts here, too, and a packet may interrupt it.
        maps::count_up(counter(counters));
    }
}

/// Counts a connection given to a backend. Only packets do that, so nothing interrupts it.
#[inline(always)]
pub fn opened(backend: u32) {
    if let Some(counters) = maps::counters(backend) {
        counters.opened += 1;
    }
}

/// Counts the end of a connection.
#[inline(always)]
pub fn closed(backend: u32, established: bool) {
    count(backend, |counters| &mut counters.closed);
    maps::add_open(backend, -1);
    if established {
        maps::add_established(backend, -1);
    }
}

/// Counts a connection that its backend reset.
#[inline(always)]
pub fn reset(backend: u32) {
    count(backend, |counters| &mut counters.reset);
}

/// Counts a connection that its backend refused.
#[inline(always)]
pub fn refused(backend: u32) {
    count(backend, |counters| &mut counters.refused);
}

/// Counts a connection taken from a backend that refused it, or that did not answer.
#[inline(always)]
pub fn redispatched(backend: u32, unanswered: bool) {
    count(backend, |counters| &mut counters.redispatched);
    if unanswered {
        count(backend, |counters| &mut counters.unanswered);
    }
}

/// Counts an unconfirmed connection that made room.
#[inline(always)]
pub fn evicted(backend: u32) {
    count(backend, |counters| &mut counters.evicted);
}

/// Counts the time that a backend took to answer. Only packets do that, so nothing interrupts it.
#[inline(always)]
pub fn handshake(backend: u32, microseconds: u32) {
    if let Some(counters) = maps::counters(backend) {
        counters.handshakes[handshake_bucket(microseconds) & (HANDSHAKE_BUCKETS - 1)] += 1;
        counters.handshake_microseconds += u64::from(microseconds);
    }
}
