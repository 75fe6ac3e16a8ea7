//! Passive health: connections that the kernel saw refused or unanswered take a backend out, sooner
//! than probes could. Pure: counts and the time are passed in.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use lb_common::counters::BackendCounters;

use super::probes::BackendKey;
use crate::config::Passive;

/// Over how long failures are counted together.
const WINDOW: Duration = Duration::from_secs(1);
/// The longest that a backend is out at once.
const LONGEST: Duration = Duration::from_mins(5);
/// Ejections this many times `eject_for` after the last one begin anew.
const MEMORY: u32 = 10;

/// What of a backend's counters tells of its health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts that it was given.
    pub opened: u64,
    /// Those that it refused.
    pub refused: u64,
    /// Those that it did not answer.
    pub unanswered: u64,
}

impl From<&BackendCounters> for Counts {
    fn from(raw: &BackendCounters) -> Self {
        Self { opened: raw.opened, refused: raw.refused, unanswered: raw.unanswered }
    }
}

impl Counts {
    fn since(self, earlier: Self) -> Self {
        Self {
            opened: self.opened.saturating_sub(earlier.opened),
            refused: self.refused.saturating_sub(earlier.refused),
            unanswered: self.unanswered.saturating_sub(earlier.unanswered),
        }
    }

    const fn failed(self) -> u64 {
        self.refused + self.unanswered
    }
}

/// What is seen of every backend, and who is out for it.
#[derive(Debug, Default)]
pub struct Watch {
    seen: HashMap<BackendKey, VecDeque<(Instant, Counts)>>,
    ejected: HashMap<BackendKey, Ejection>,
}

/// A backend that was taken out.
#[derive(Clone, Debug)]
pub struct Ejection {
    /// Until when it is out; it is remembered longer.
    pub until: Instant,
    /// For how long it is out.
    pub span: Duration,
    /// What was seen, for people.
    pub why: String,
    forgotten: Instant,
}

impl Watch {
    /// Notes a backend's counts. Answers with its ejection where they are reason for one and it `may` be
    /// ejected.
    pub fn observe(
        &mut self,
        key: &BackendKey,
        counts: Counts,
        policy: &Passive,
        now: Instant,
        may: bool,
    ) -> Option<&Ejection> {
        let seen = self.seen.entry(key.clone()).or_default();
        seen.push_back((now, counts));
        // The last one that is older than the window stays: it is what the window began with.
        while seen.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            seen.pop_front();
        }
        let (_, first) = seen.front()?;
        let recent = counts.since(*first);
        let bad =
            recent.failed() >= u64::from(policy.failures) && recent.failed() * 2 >= recent.opened;
        if !bad || !may || self.is_ejected(key, now) {
            return None;
        }
        let before = self.ejected.get(key).filter(|ejection| now < ejection.forgotten);
        let span = before.map_or(policy.eject_for, |before| (before.span * 2).min(LONGEST));
        let span = span.max(policy.eject_for);
        let why = format!(
            "{} of {} attempts failed within a second ({} refused, {} unanswered)",
            recent.failed(),
            recent.opened.max(recent.failed()),
            recent.refused,
            recent.unanswered
        );
        let until = now + span;
        let ejection = Ejection { until, span, why, forgotten: until + policy.eject_for * MEMORY };
        // It is judged by what comes after its return.
        self.seen.remove(key);
        self.ejected.insert(key.clone(), ejection);
        self.ejected.get(key)
    }

    /// Why a backend is out, if it is.
    #[must_use]
    pub fn ejection(&self, key: &BackendKey, now: Instant) -> Option<&Ejection> {
        self.ejected.get(key).filter(|ejection| now < ejection.until)
    }

    /// Whether a backend is out.
    #[must_use]
    pub fn is_ejected(&self, key: &BackendKey, now: Instant) -> bool {
        self.ejection(key, now).is_some()
    }

    /// Forgets what is long ago, and backends that are not known any more.
    pub fn settle(&mut self, now: Instant, known: impl Fn(&BackendKey) -> bool) {
        self.seen.retain(|key, _| known(key));
        self.ejected.retain(|key, ejection| now < ejection.forgotten && known(key));
    }

    /// Those whose ejection ended after `last`, until `now`.
    #[must_use]
    pub fn returned(&self, last: Instant, now: Instant) -> Vec<BackendKey> {
        let ended = |ejection: &Ejection| ejection.until > last && ejection.until <= now;
        let ejected = self.ejected.iter().filter(|(_, ejection)| ended(ejection));
        ejected.map(|(key, _)| key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> BackendKey {
        ("web".into(), "web-01".into())
    }

    /// Feeds samples of (milliseconds, opened, refused, unanswered); tells when it was ejected.
    fn play(samples: &[(u64, u64, u64, u64)], may: bool) -> Option<u64> {
        let (start, mut watch) = (Instant::now(), Watch::default());
        let policy = Passive::default();
        samples.iter().find_map(|(at, opened, refused, unanswered)| {
            let counts = Counts { opened: *opened, refused: *refused, unanswered: *unanswered };
            let now = start + Duration::from_millis(*at);
            watch.observe(&key(), counts, &policy, now, may).map(|_| *at)
        })
    }

    #[test]
    fn many_failures_at_once_eject() {
        let refusing = [(0, 100, 0, 0), (250, 103, 3, 0), (500, 106, 6, 0)];
        assert_eq!(play(&refusing, true), Some(500));
        assert_eq!(play(&refusing, false), None, "nobody else would be left");
        let silent = [(0, 0, 0, 0), (500, 10, 0, 5)];
        assert_eq!(play(&silent, true), Some(500));
    }

    #[test]
    fn few_failures_or_a_small_part_do_not() {
        assert_eq!(play(&[(0, 0, 0, 0), (250, 4, 4, 0), (900, 4, 4, 0)], true), None);
        assert_eq!(play(&[(0, 0, 0, 0), (250, 1000, 400, 0)], true), None);
        let slow: Vec<_> = (0..40).map(|n| (n * 1000, n * 3, n * 3, 0)).collect();
        assert_eq!(play(&slow, true), None, "three a second");
        // What came before the daemon is not news.
        assert_eq!(play(&[(0, 5000, 5000, 0), (250, 5000, 5000, 0)], true), None);
    }

    #[test]
    fn who_fails_again_is_out_longer() {
        let (mut now, mut watch) = (Instant::now(), Watch::default());
        let policy = Passive::default();
        let mut counts = Counts::default();
        let mut spans = Vec::new();
        for _ in 0..7 {
            watch.observe(&key(), counts, &policy, now, true);
            now += Duration::from_millis(250);
            (counts.opened, counts.refused) = (counts.opened + 9, counts.refused + 9);
            let ejection = watch.observe(&key(), counts, &policy, now, true).unwrap();
            spans.push(ejection.span.as_secs());
            assert_eq!(ejection.until, now + ejection.span);
            let until = ejection.until;
            assert!(ejection.why.contains("9 of 9") && ejection.why.contains("9 refused"));
            assert!(watch.is_ejected(&key(), now));
            let last = now;
            now = until;
            assert_eq!(watch.returned(last, now), [key()]);
            assert_eq!(watch.returned(now, now + Duration::from_secs(1)), []);
            assert!(!watch.is_ejected(&key(), now));
        }
        assert_eq!(spans, [10, 20, 40, 80, 160, 300, 300]);
        now += Duration::from_secs(101);
        watch.settle(now, |_| true);
        watch.observe(&key(), counts, &policy, now, true);
        counts.refused += 9;
        let ejection = watch.observe(&key(), counts, &policy, now, true).unwrap();
        assert_eq!(ejection.span, policy.eject_for, "it was good for long enough");
    }
}
