//! Flap damping: a backend whose health flips too often is held down until it has calmed down.
//!
//! As in RFC 2439, each fall adds a penalty that halves again and again; above one threshold the
//! backend is held, below a lower one it is let go. Other than there, whoever goes on falling while it
//! is held is let go in the end, too. Pure: the clock is passed in.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::Health;

/// What a fall adds.
const FALL: f64 = 1.0;
/// More than two falls in a row make, however fast: a restart, and one that failed at first, are no
/// flapping.
const HOLD: f64 = 2.5;
/// Where a held backend is let go.
const RELEASE: f64 = 1.0;
/// The penalty halves this often in the longest hold.
const HALVINGS: f64 = 2.0;

/// Judges the health that a run of probes gives.
#[derive(Clone, Debug)]
pub struct Damping {
    /// The longest hold; `None`: nothing is held.
    longest: Option<Duration>,
    raw: Health,
    penalty: f64,
    /// When the penalty was this.
    at: Option<Instant>,
    falls: u32,
    /// The first and the last of these falls.
    run: Option<(Instant, Instant)>,
    /// When the hold began.
    held: Option<Instant>,
}

/// A backend that is held down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// How often it fell.
    pub falls: u32,
    /// In what time.
    pub within: Duration,
    /// When it may return.
    pub until: Instant,
}

impl Damping {
    /// Damping with holds of at most `longest`, for a backend of this health.
    #[must_use]
    pub const fn new(longest: Option<Duration>, health: Health) -> Self {
        Self { longest, raw: health, penalty: 0.0, at: None, falls: 0, run: None, held: None }
    }

    /// Goes on with other settings, from a backend of this health.
    pub const fn resume(&mut self, longest: Option<Duration>, health: Health) {
        self.longest = longest;
        self.raw = health;
    }

    /// Takes in what the probes say now; answers what counts.
    pub fn judge(&mut self, raw: Health, now: Instant) -> Health {
        let fell = self.raw == Health::Up && raw == Health::Down;
        self.raw = raw;
        let Some(longest) = self.longest.filter(|longest| !longest.is_zero()) else {
            self.held = None;
            return raw;
        };
        if self.until(longest).is_some_and(|until| now >= until) {
            self.held = None;
        }
        self.decay(longest, now);
        if fell {
            self.fall(now);
        }
        if self.held.is_some() && raw == Health::Up { Health::Down } else { raw }
    }

    /// Since when and until when the backend is held, as of the last judgement.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        let until = self.until(self.longest?)?;
        let (first, last) = self.run?;
        Some(Held { falls: self.falls, within: last.duration_since(first), until })
    }

    fn fall(&mut self, now: Instant) {
        self.penalty = (self.penalty + FALL).min(RELEASE * HALVINGS.exp2());
        self.falls = self.falls.saturating_add(1);
        self.run = Some((self.run.map_or(now, |(first, _)| first), now));
        if self.penalty >= HOLD {
            self.held.get_or_insert(now);
        }
    }

    fn decay(&mut self, longest: Duration, now: Instant) {
        let Some(at) = self.at.replace(now) else { return };
        let halvings = now.duration_since(at).div_duration_f64(longest) * HALVINGS;
        self.penalty *= (-halvings).exp2();
        // What is nearly forgotten is no part of the next run of falls.
        if self.penalty < RELEASE / 4.0 {
            (self.penalty, self.falls, self.run) = (0.0, 0, None);
        }
    }

    /// When the hold ends: once the penalty has decayed, and no later than the longest hold says.
    fn until(&self, longest: Duration) -> Option<Instant> {
        let (began, at) = (self.held?, self.at?);
        let halvings = (self.penalty / RELEASE).log2().max(0.0);
        let decayed = at + longest.mul_f64(halvings / HALVINGS);
        Some(decayed.min(began + longest))
    }
}

impl Held {
    /// Why the backend is down, for people, as of `now`.
    #[must_use]
    pub fn reason(&self, now: Instant) -> String {
        let seconds = |duration: Duration| duration.as_secs_f64().ceil().max(1.0);
        format!(
            "held down: flapped {} times in {} s, returns in {} s",
            self.falls,
            seconds(self.within),
            seconds(self.until.saturating_duration_since(now))
        )
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONGEST: Duration = Duration::from_mins(1);

    /// The health that counts after each step: its second, and what the probes say then.
    fn run(longest: Option<Duration>, steps: &[(u64, Health)]) -> (Vec<Health>, Damping) {
        let mut damping = Damping::new(longest, Health::Up);
        let start = Instant::now();
        let judge = |(second, raw): &(u64, Health)| {
            damping.judge(*raw, start + Duration::from_secs(*second))
        };
        let seen = steps.iter().map(judge).collect();
        (seen, damping)
    }

    fn flaps(count: u64, period: u64) -> Vec<(u64, Health)> {
        (0..count)
            .flat_map(|n| [(n * period, Health::Down), (n * period + 1, Health::Up)])
            .collect()
    }

    #[test]
    fn the_third_quick_fall_holds_and_the_hold_ends() {
        use Health::{Down, Up};
        let mut steps = flaps(3, 2);
        steps.extend([(45, Up), (52, Up)]);
        let (seen, _) = run(Some(LONGEST), &steps);
        assert_eq!(seen, [Down, Up, Down, Up, Down, Down, Down, Up]);
    }

    #[test]
    fn the_reason_counts_falls_and_seconds() {
        let (_, damping) = run(Some(LONGEST), &flaps(4, 5));
        let held = damping.held().unwrap();
        assert_eq!((held.falls, held.within.as_secs()), (4, 15));
        let text = held.reason(held.until.checked_sub(Duration::from_millis(24_500)).unwrap());
        assert_eq!(text, "held down: flapped 4 times in 15 s, returns in 25 s");
    }

    #[test]
    fn what_fell_rarely_is_never_held() {
        for (count, period) in [(1, 1), (2, 1), (2, 2), (50, 30)] {
            let steps = flaps(count, period);
            let (seen, damping) = run(Some(LONGEST), &steps);
            let raw: Vec<_> = steps.iter().map(|(_, raw)| *raw).collect();
            assert_eq!((seen, damping.held()), (raw, None), "{count} falls, each {period} s");
        }
    }

    #[test]
    fn without_damping_nothing_is_held() {
        let steps = flaps(100, 2);
        let (seen, damping) = run(None, &steps);
        assert_eq!(seen, steps.iter().map(|(_, raw)| *raw).collect::<Vec<_>>());
        assert_eq!(damping.held(), None);
    }

    #[test]
    fn it_is_let_go_when_damping_is_turned_off() {
        let (_, mut damping) = run(Some(LONGEST), &flaps(5, 2));
        assert!(damping.held().is_some());
        damping.resume(None, Health::Down);
        assert_eq!(damping.judge(Health::Up, Instant::now()), Health::Up);
        assert_eq!(damping.held(), None);
    }

    proptest! {
        /// Whatever happens: down stays down, no hold outlasts the longest, a hold ends when it said,
        /// and who fell at most twice in all is never held.
        #[test]
        fn holds_are_just_and_bounded(
            longest in 1_u64..600,
            steps in prop::collection::vec((0_u64..30_000, any::<bool>()), 1..80),
        ) {
            let longest = Duration::from_secs(longest);
            let mut damping = Damping::new(Some(longest), Health::Up);
            let mut now = Instant::now();
            let (mut before, mut falls, mut since) = (Health::Up, 0, None::<Instant>);
            let mut promised = None::<Instant>;
            for (pause, up) in steps {
                now += Duration::from_millis(pause);
                let raw = if up { Health::Up } else { Health::Down };
                let fell = before == Health::Up && raw == Health::Down;
                falls += u32::from(fell);
                before = raw;
                let seen = damping.judge(raw, now);
                let held = damping.held();
                prop_assert_eq!(seen, if held.is_some() { Health::Down } else { raw });
                prop_assert!(falls > 2 || held.is_none());
                if promised.is_some_and(|promised| promised <= now) {
                    (since, promised) = (None, None);
                }
                if let Some(held) = held {
                    let began = *since.get_or_insert(now);
                    prop_assert!(held.until > now && held.until <= began + longest);
                    // Only another fall moves the end; a nanosecond is what rounding may.
                    if let Some(promised) = promised.filter(|_| !fell) {
                        let moved = held.until.max(promised) - held.until.min(promised);
                        prop_assert!(moved < Duration::from_millis(1), "{:?}", moved);
                    }
                    promised = Some(held.until);
                } else {
                    since = None;
                    promised = None;
                }
            }
        }

        /// A backend that stays up returns when the hold ends, to the moment.
        #[test]
        fn a_calm_backend_returns_on_time(count in 3_u64..20, period in 1_u64..5) {
            let (_, mut damping) = run(Some(LONGEST), &flaps(count, period));
            let Some(held) = damping.held() else { return Ok(()) };
            let eve = held.until.checked_sub(Duration::from_millis(1)).unwrap();
            prop_assert_eq!(damping.judge(Health::Up, eve), Health::Down);
            let after = held.until + Duration::from_millis(1);
            prop_assert_eq!(damping.judge(Health::Up, after), Health::Up);
        }
    }
}
