//! The coarse clock of the connection table.
//!
//! A tick is 256 of the kernel's jiffies: about a second where the kernel counts 250 of them in a
//! second, between a quarter of a second (1000) and two and a half (100). Jiffies cost the hot path one
//! load; every other clock costs a call. They do not follow steps of the wall clock.

/// Jiffies of a tick, as a power of two.
pub const TICK_SHIFT: u32 = 8;

/// The tick that `jiffies` falls into. Wraps after decades of uptime.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "wraps after decades of uptime")]
pub const fn tick(jiffies: u64) -> u32 {
    (jiffies >> TICK_SHIFT) as u32
}

/// Milliseconds as ticks of a kernel that counts `hz` jiffies a second, rounded up: nothing ages
/// before its time.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "saturated just before")]
pub const fn ticks(milliseconds: u64, hz: u64) -> u32 {
    let ticks = ((milliseconds.saturating_mul(hz) / 1000) >> TICK_SHIFT) + 1;
    // Half the range: what is older counts as younger, see `age`.
    if ticks > (u32::MAX / 2) as u64 { u32::MAX / 2 } else { ticks as u32 }
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
        for hz in [100, 250, 300, 1000] {
            assert!(u64::from(ticks(30_000, hz)) << TICK_SHIFT >= 30 * hz);
        }
        assert_eq!(ticks(u64::MAX, 1000), u32::MAX / 2);
    }
}
