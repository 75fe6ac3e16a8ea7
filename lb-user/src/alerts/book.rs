//! The book of alerts: findings become alerts when they last, and alerts clear when the finding has been
//! gone for longer than that. So what comes and goes makes one alert, and not one each time. Pure: the time
//! is passed in.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant, SystemTime},
};

use super::{Kind, Severity, rules::Finding};
use crate::{
    api::model::{Alert, Evidence},
    config::alerts::Alerts,
};

/// Alerts at once; more would be read by nobody.
const MOST: usize = 10_000;
/// Alerts that cleared and are still told of, and for how long.
const MOST_CLEARED: usize = 100;
const TOLD: Duration = Duration::from_hours(1);

/// The order in which alerts are told: the most severe first.
type Key = (Severity, Kind, Option<String>, Option<String>);

/// The alerts.
#[derive(Debug, Default)]
pub struct Book {
    kept: BTreeMap<Key, Kept>,
    cleared: VecDeque<(Instant, Alert)>,
}

#[derive(Debug)]
struct Kept {
    summary: String,
    evidence: BTreeMap<String, Evidence>,
    /// When it was first seen.
    first: Instant,
    since: SystemTime,
    raised: bool,
    /// Since when it has been gone.
    gone: Option<Instant>,
}

/// An alert that rose or cleared.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It rose.
    Raised(Alert),
    /// It cleared.
    Cleared(Alert),
}

impl Book {
    /// Takes in all findings of a look, `now` by the monotonic clock and `wall` by the other. Answers what
    /// rose and cleared, in the order in which alerts are told.
    pub fn note(
        &mut self,
        findings: Vec<Finding>,
        config: &Alerts,
        now: Instant,
        wall: SystemTime,
    ) -> Vec<Change> {
        let mut seen = BTreeMap::new();
        for finding in findings {
            let Finding { kind, service, backend, certain, summary, evidence } = finding;
            let key = (kind.severity(), kind, service, backend);
            seen.insert(key, (certain, summary, evidence));
        }
        self.cleared.retain(|(at, _)| now.saturating_duration_since(*at) < TOLD);
        let mut changes = Vec::new();
        let mut ended = Vec::new();
        for (key, kept) in &mut self.kept {
            let clear_after = config.clear_after.unwrap_or(key.1.entry().clear_after);
            match seen.remove(key) {
                Some((certain, summary, evidence)) if certain || kept.raised => {
                    (kept.summary, kept.evidence, kept.gone) = (summary, evidence, None);
                }
                // One that never rose needs no time to go.
                _ if !kept.raised => ended.push(key.clone()),
                _ => {
                    let gone = *kept.gone.get_or_insert(now);
                    if now.saturating_duration_since(gone) >= clear_after {
                        ended.push(key.clone());
                    }
                }
            }
        }
        for key in ended {
            let Some(kept) = self.kept.remove(&key).filter(|kept| kept.raised) else { continue };
            let alert = Alert { cleared: Some(shown(wall)), ..kept.alert(&key, config, now) };
            self.cleared.push_front((now, alert.clone()));
            self.cleared.truncate(MOST_CLEARED);
            changes.push(Change::Cleared(alert));
        }
        for (key, (certain, summary, evidence)) in seen {
            if certain && self.kept.len() < MOST {
                let (first, since) = (now, wall);
                let kept = Kept { summary, evidence, first, since, raised: false, gone: None };
                self.kept.insert(key, kept);
            }
        }
        for (key, kept) in &mut self.kept {
            let raise_after = config.raise_after.unwrap_or(key.1.entry().raise_after);
            if !kept.raised && now.saturating_duration_since(kept.first) >= raise_after {
                kept.raised = true;
                changes.push(Change::Raised(kept.alert(key, config, now)));
            }
        }
        changes
    }

    /// The alerts that are raised, the most severe first.
    pub fn raised(&self, config: &Alerts, now: Instant) -> impl Iterator<Item = Alert> {
        let raised = self.kept.iter().filter(|(_, kept)| kept.raised);
        raised.map(move |(key, kept)| kept.alert(key, config, now))
    }

    /// Those that cleared lately, the last one first.
    pub fn cleared(&self) -> impl Iterator<Item = &Alert> {
        self.cleared.iter().map(|(_, alert)| alert)
    }
}

impl Kept {
    fn alert(
        &self,
        (severity, kind, service, backend): &Key,
        config: &Alerts,
        now: Instant,
    ) -> Alert {
        let names = [service.as_deref(), backend.as_deref()].into_iter().flatten();
        let id = std::iter::once(kind.name()).chain(names).collect::<Vec<_>>().join("/");
        Alert {
            id,
            kind: kind.name().to_owned(),
            severity: *severity,
            service: service.clone(),
            backend: backend.clone(),
            since: shown(self.since),
            since_seconds: now.saturating_duration_since(self.first).as_secs(),
            cleared: None,
            summary: self.summary.clone(),
            evidence: self.evidence.clone(),
            page: kind.page(config.playbook.as_deref()),
        }
    }
}

fn shown(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests;
