//! What a backend was like: its last seconds, and what came before them. Counts that fade, so that each
//! backend takes a few hundred bytes whatever happens. Pure: the time is passed in.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::facts::{BUCKETS, BackendFacts, Counts};
use crate::config::alerts::Alerts;

/// What came before fades with this one while new connections come.
const BEFORE: f64 = 600.0;
/// What is odd changes what is usual so much slower: it takes hours to become so.
const ODD: f64 = 0.02;

/// Connections that are remembered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Attempts.
    pub attempts: f64,
    /// Those of them that were refused.
    pub refused: f64,
    /// Not answered.
    pub unanswered: f64,
    /// Reset once established.
    pub reset: f64,
    handshakes: [f32; BUCKETS],
}

/// A backend's past.
#[derive(Clone, Debug)]
pub struct Past {
    at: Instant,
    counts: Counts,
    /// The last seconds.
    pub recent: Tally,
    /// What came before.
    pub before: Tally,
    /// Whether more failed lately than usual.
    pub fails_oddly: bool,
    /// Whether handshakes took longer lately than usual.
    pub is_slow: bool,
    was_healthy: bool,
    /// When it fell.
    pub falls: VecDeque<Instant>,
}

impl Past {
    /// Begins now: what was counted before is not news.
    #[must_use]
    pub fn new(backend: &BackendFacts<'_>, now: Instant) -> Self {
        Self {
            at: now,
            counts: backend.counts,
            recent: Tally::default(),
            before: Tally::default(),
            fails_oddly: false,
            is_slow: false,
            was_healthy: backend.healthy,
            falls: VecDeque::new(),
        }
    }

    /// Takes in what is seen now. Falls are remembered for `recent`; connections are so for `lately`.
    pub fn note(&mut self, backend: &BackendFacts<'_>, config: &Alerts, now: Instant) {
        self.note_fall(backend, config.recent, now);
        if backend.counts.opened < self.counts.opened {
            // Another backend has its number.
            *self = Self { falls: std::mem::take(&mut self.falls), ..Self::new(backend, now) };
            return;
        }
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        let idle = backend.counts == self.counts;
        if idle && self.recent.is_nothing() {
            return;
        }
        let left = (-seconds / config.lately.as_secs_f64()).exp();
        let odd = |odd| if odd { ODD } else { 1.0 };
        let slowly = odd(self.fails_oddly || self.is_slow);
        self.before.fade((-seconds / BEFORE * slowly).exp());
        self.before.add(
            &self.recent,
            (1.0 - left) * odd(self.fails_oddly),
            (1.0 - left) * odd(self.is_slow),
        );
        self.recent.fade(left);
        self.recent.count(&self.counts, &backend.counts);
        self.counts = backend.counts;
    }

    fn note_fall(&mut self, backend: &BackendFacts<'_>, recent: Duration, now: Instant) {
        let fell = self.was_healthy && !backend.healthy && backend.admitted && !backend.awaited;
        if fell {
            self.falls.push_back(now);
        }
        // Who is judged anew has neither fallen nor risen.
        if !backend.awaited {
            self.was_healthy = backend.healthy;
        }
        let old = |fall: &Instant| now.saturating_duration_since(*fall) > recent;
        while self.falls.front().is_some_and(old) || self.falls.len() > 100 {
            self.falls.pop_front();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a second are far below 2^52")]
fn since(before: u64, now: u64) -> f64 {
    now.saturating_sub(before) as f64
}

#[expect(clippy::cast_possible_truncation, reason = "a factor or a count of a second")]
const fn short(number: f64) -> f32 {
    number as f32
}

impl Tally {
    /// Those that failed.
    #[must_use]
    pub const fn failed(&self) -> f64 {
        self.refused + self.unanswered + self.reset
    }

    /// Part of the attempts that failed; 0 of none.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.failed() / self.attempts.max(self.failed()).max(f64::MIN_POSITIVE)
    }

    /// Handshakes.
    #[must_use]
    pub fn handshakes(&self) -> f64 {
        self.handshakes.iter().map(|count| f64::from(*count)).sum()
    }

    /// The time, in microseconds, that this part of the handshakes took at the most; within a bucket they
    /// count as spread evenly. `None` of none.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let all = self.handshakes();
        let (mut left, mut low, mut high) = (all * part, 0.0, 64.0);
        for count in self.handshakes.map(f64::from) {
            if count > 0.0 && left <= count {
                return Some(low + (high - low) * left / count);
            }
            left -= count;
            (low, high) = (high, high * 2.0);
        }
        (all > 0.0).then_some(low)
    }

    fn is_nothing(&self) -> bool {
        self.attempts + self.failed() + self.handshakes() < 0.01
    }

    fn fade(&mut self, left: f64) {
        self.attempts *= left;
        self.refused *= left;
        self.unanswered *= left;
        self.reset *= left;
        self.handshakes.iter_mut().for_each(|count| *count *= short(left));
    }

    fn add(&mut self, other: &Self, part: f64, part_of_handshakes: f64) {
        self.attempts += other.attempts * part;
        self.refused += other.refused * part;
        self.unanswered += other.unanswered * part;
        self.reset += other.reset * part;
        for (count, other) in self.handshakes.iter_mut().zip(other.handshakes) {
            *count += other * short(part_of_handshakes);
        }
    }

    fn count(&mut self, before: &Counts, now: &Counts) {
        self.attempts += since(before.opened, now.opened);
        self.refused += since(before.refused, now.refused);
        self.unanswered += since(before.unanswered, now.unanswered);
        self.reset += since(before.reset, now.reset);
        let pairs = before.handshakes.iter().zip(now.handshakes);
        for (count, (before, now)) in self.handshakes.iter_mut().zip(pairs) {
            *count += short(since(*before, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_between_a_buckets_bounds() {
        let mut tally = Tally::default();
        assert_eq!(tally.quantile(0.5), None);
        tally.handshakes[3] = 10.0;
        assert_eq!(tally.quantile(0.5), Some(384.0));
        tally.handshakes[BUCKETS - 1] = 10.0;
        assert_eq!(tally.quantile(0.5), Some(512.0));
        assert!(tally.quantile(0.99).unwrap() > 1_000_000.0);
    }

    #[test]
    fn the_past_lies_before_the_last_seconds() {
        let start = Instant::now();
        let mut backend = BackendFacts { healthy: true, admitted: true, ..BackendFacts::default() };
        let mut past = Past::new(&backend, start);
        let config = Alerts::default();
        for second in 1..=100 {
            backend.counts.opened += 10;
            past.note(&backend, &config, start + Duration::from_secs(second));
        }
        assert!((90.0..110.0).contains(&past.recent.attempts), "{past:?}");
        assert!((700.0..900.0).contains(&past.before.attempts), "{past:?}");
        for second in 101..=110 {
            backend.counts.opened += 10;
            backend.counts.refused += 10;
            past.note(&backend, &config, start + Duration::from_secs(second));
        }
        assert!(past.recent.ratio() > 0.5 && past.before.ratio() < 0.1, "{past:?}");
        // Nothing comes any more: what was usual stays known.
        let usual = past.before.attempts;
        for second in 111..2_000 {
            past.note(&backend, &config, start + Duration::from_secs(second));
        }
        assert!(past.recent.failed() < 0.1 && past.before.attempts > usual * 0.5, "{past:?}");
    }

    #[test]
    fn falls_are_forgotten_and_those_of_people_do_not_count() {
        let start = Instant::now();
        let mut backend = BackendFacts { healthy: true, admitted: true, ..BackendFacts::default() };
        let mut past = Past::new(&backend, start);
        let at = |second| start + Duration::from_secs(second);
        let config = Alerts { recent: Duration::from_mins(1), ..Alerts::default() };
        for second in 0..6 {
            backend.healthy = second % 2 == 0;
            past.note(&backend, &config, at(second));
        }
        assert_eq!(past.falls.len(), 3);
        (backend.healthy, backend.admitted) = (true, false);
        past.note(&backend, &config, at(6));
        (backend.healthy, backend.awaited) = (false, true);
        past.note(&backend, &config, at(7));
        assert_eq!(past.falls.len(), 3);
        past.note(&backend, &config, at(64));
        assert_eq!(past.falls.len(), 1);
    }
}
