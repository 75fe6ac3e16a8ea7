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
/// What a daemon that starts again has not seen for so long is not over yet: it has hardly looked.
const SETTLING: Duration = Duration::from_secs(5);

/// The order in which alerts are told: the most severe first.
type Key = (Severity, Kind, Option<String>, Option<String>);

/// The alerts.
#[derive(Debug, Default)]
pub struct Book {
    kept: BTreeMap<Key, Kept>,
    cleared: VecDeque<(Instant, Alert)>,
    revision: u64,
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
    /// Until when it is not gone, though nobody sees it.
    settles: Option<Instant>,
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
                    kept.gone = None;
                    // Where nobody knows anything new, it stays as it was.
                    if !summary.is_empty() {
                        (kept.summary, kept.evidence) = (summary, evidence);
                    }
                }
                // One that never rose needs no time to go.
                _ if !kept.raised => ended.push(key.clone()),
                _ if kept.settles.is_some_and(|until| now < until) => {}
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
                let (raised, gone, settles) = (false, None, None);
                let kept = Kept { summary, evidence, first, since, raised, gone, settles };
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
        self.revision += u64::from(!changes.is_empty());
        changes
    }

    /// Goes on with alerts that were raised before a restart. They are told to nobody as news, and clear as any
    /// other where their cause is gone.
    pub fn resume(&mut self, raised: Vec<Alert>, now: Instant, wall: SystemTime) {
        for alert in raised {
            let Alert { kind, service, backend, since, summary, evidence, .. } = alert;
            // One that another version knew has no rule here.
            let kind = Kind::from_name(&kind);
            let Some((kind, since)) = kind.zip(humantime::parse_rfc3339(&since).ok()) else {
                continue;
            };
            let lasted = wall.duration_since(since).unwrap_or_default();
            let first = now.checked_sub(lasted).unwrap_or(now);
            let (raised, gone, settles) = (true, None, Some(now + SETTLING));
            let kept = Kept { summary, evidence, first, since, raised, gone, settles };
            self.kept.insert((kind.severity(), kind, service, backend), kept);
        }
    }

    /// Another number when other alerts are raised.
    pub const fn revision(&self) -> u64 {
        self.revision
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
