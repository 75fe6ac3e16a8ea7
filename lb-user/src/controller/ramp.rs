//! Slow start: the share of a backend that returns grows. Pure: the time is passed in.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use super::probes::BackendKey;

/// What a backend begins with, in percent of its weight.
const FIRST: u8 = 10;
/// By how much it grows at once: each step makes a new ring.
const STEP: u8 = 5;

/// Backends that were out, and those that are on their way back.
#[derive(Debug, Default)]
pub struct Ramps {
    out: HashSet<BackendKey>,
    rising: HashMap<BackendKey, Rise>,
}

#[derive(Clone, Copy, Debug)]
struct Rise {
    since: Instant,
    over: Duration,
}

impl Rise {
    fn percent(self, now: Instant) -> u8 {
        let part =
            now.saturating_duration_since(self.since).as_secs_f64() / self.over.as_secs_f64();
        let grown = f64::from(FIRST) + f64::from(100 - FIRST) * part.min(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "10 to 100")]
        let grown = grown as u8;
        grown / STEP * STEP
    }

    /// When it grows next.
    fn next(self, now: Instant) -> Instant {
        let wanted = f64::from(self.percent(now).saturating_add(STEP).min(100) - FIRST);
        let part = wanted / f64::from(100 - FIRST);
        // A little later, so that rounding does not leave it just below.
        self.since + self.over.mul_f64(part) + Duration::from_millis(1)
    }
}

impl Ramps {
    /// A backend is out, or was just added: it will have to grow.
    pub fn left(&mut self, key: &BackendKey) {
        self.rising.remove(key);
        self.out.insert(key.clone());
    }

    /// A backend gets new connections; where it was out it starts to grow, over a service's
    /// `slow_start`.
    pub fn joined(&mut self, key: &BackendKey, over: Option<Duration>, now: Instant) {
        if self.out.remove(key)
            && let Some(over) = over
        {
            self.rising.insert(key.clone(), Rise { since: now, over });
        }
    }

    /// The part of its weight that a backend gets, in percent, or would get if it joined now.
    #[must_use]
    pub fn percent(&self, key: &BackendKey, over: Option<Duration>, now: Instant) -> u8 {
        match (self.rising.get(key), over) {
            (Some(rise), Some(_)) => rise.percent(now),
            (None, Some(_)) if self.out.contains(key) => FIRST,
            _ => 100,
        }
    }

    /// Forgets those that have all of their share, and backends that are not known any more.
    pub fn settle(&mut self, now: Instant, known: impl Fn(&BackendKey) -> bool) {
        self.rising.retain(|key, rise| rise.percent(now) < 100 && known(key));
        self.out.retain(known);
    }

    /// When the next share grows.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<Instant> {
        self.rising.values().map(|rise| rise.next(now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> BackendKey {
        ("web".into(), "web-01".into())
    }

    #[test]
    fn a_share_grows_in_steps_to_the_whole() {
        let (start, over) = (Instant::now(), Duration::from_secs(30));
        let mut ramps = Ramps::default();
        assert_eq!(ramps.percent(&key(), Some(over), start), 100, "it never was out");
        ramps.left(&key());
        assert_eq!(ramps.percent(&key(), Some(over), start), 10);
        assert_eq!(ramps.percent(&key(), None, start), 100, "its service has no slow start");
        ramps.joined(&key(), Some(over), start);
        let (mut now, mut seen) = (start, Vec::new());
        while let Some(next) = ramps.next(now) {
            assert!(next > now, "time goes on");
            now = next;
            seen.push(ramps.percent(&key(), Some(over), now));
            ramps.settle(now, |_| true);
        }
        let steps: Vec<u8> = (3..=20).map(|step| step * 5).collect();
        assert_eq!(seen, steps);
        assert!(now >= start + over && now < start + over + Duration::from_secs(1));
        assert_eq!(ramps.percent(&key(), Some(over), now), 100);
    }

    #[test]
    fn who_leaves_on_the_way_starts_anew() {
        let (start, over) = (Instant::now(), Some(Duration::from_secs(10)));
        let mut ramps = Ramps::default();
        ramps.left(&key());
        ramps.joined(&key(), over, start);
        let later = start + Duration::from_secs(8);
        assert!(ramps.percent(&key(), over, later) > 70);
        ramps.left(&key());
        assert_eq!(ramps.percent(&key(), over, later), 10);
        ramps.settle(later, |_| false);
        assert_eq!(ramps.percent(&key(), over, later), 100, "a backend that is gone is forgotten");
    }
}
