//! The coarse clock of the connection table.
//!
//! A tick is 2^30 ns, about 1.07 s: a shift instead of a division on the hot path. The clock is
//! `CLOCK_MONOTONIC`, so stepping the wall clock ages nothing.

/// Nanoseconds of a tick, as a power of two.
pub const TICK_SHIFT: u32 = 30;

/// The tick that `monotonic_ns` falls into. Wraps after 146 years of uptime.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "wraps after 146 years of uptime")]
pub const fn tick(monotonic_ns: u64) -> u32 {
    (monotonic_ns >> TICK_SHIFT) as u32
}

/// Seconds as ticks, rounded up: nothing ages before its time.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "saturated just before")]
pub const fn ticks(seconds: u64) -> u32 {
    let ticks = (seconds.saturating_mul(1_000_000_000) >> TICK_SHIFT) + 1;
    if ticks > u32::MAX as u64 { u32::MAX } else { ticks as u32 }
}

/// Ticks from `then` to `now`; zero where `then` is later, as a clock read on another CPU may be.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_wrap, reason = "the sign tells which came first")]
pub const fn age(now: u32, then: u32) -> u32 {
    let age = now.wrapping_sub(then);
    if (age as i32) < 0 { 0 } else { age }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        assert_eq!(age(10, 4), 6);
        assert_eq!(age(4, 10), 0);
        assert_eq!(age(1, u32::MAX), 2);
        assert!(u64::from(ticks(30)) << TICK_SHIFT >= 30_000_000_000);
    }
}
