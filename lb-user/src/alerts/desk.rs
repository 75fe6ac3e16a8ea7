//! The desk that the controller hands its facts to: rules, book and deliveries together, and the log.

use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use super::{
    book::{Book, Change},
    deliver::Deliveries,
    facts::Facts,
    rules::Rules,
};
use crate::{
    api::model::{Alert, Alerts as Told, Delivery},
    config::alerts::Alerts,
};

/// Time between two judgements at the least, a little less than a second: looks come four times in one.
const EVERY: Duration = Duration::from_millis(900);

/// The alerts of a daemon.
#[derive(Debug, Default)]
pub struct Desk {
    rules: Rules,
    book: Book,
    deliveries: Deliveries,
    last: Option<Instant>,
}

impl Desk {
    /// A desk with nothing on it.
    #[must_use]
    pub fn new() -> Self {
        let deliveries = Deliveries::default();
        Self { rules: Rules::default(), book: Book::default(), deliveries, last: None }
    }

    /// Whether facts are wanted again.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= EVERY)
    }

    /// Makes the targets those of the configuration, within a runtime. Who is new is told what is raised.
    pub fn follow(&mut self, config: &Alerts, now: Instant) {
        let raised: Vec<_> = self.book.raised(config, now).collect();
        self.deliveries.set(config, &raised);
    }

    /// Judges what a look saw; logs and delivers what rose and cleared, and answers with it.
    pub fn note(
        &mut self,
        facts: &Facts<'_>,
        config: &Alerts,
        now: Instant,
        wall: SystemTime,
    ) -> Vec<Change> {
        self.last = Some(now);
        let findings = self.rules.judge(facts, config, now);
        let changes = self.book.note(findings, config, now, wall);
        for change in &changes {
            log(change);
            self.deliveries.tell(change.alert());
        }
        changes
    }

    /// The alerts that are raised, the most severe first.
    #[must_use]
    pub fn raised(&self, config: &Alerts, now: Instant) -> Vec<Alert> {
        self.book.raised(config, now).collect()
    }

    /// What there is to tell.
    #[must_use]
    pub fn told(&self, config: &Alerts, now: Instant) -> Told {
        Told {
            alerts: self.raised(config, now),
            cleared: self.book.cleared().cloned().collect(),
            deliveries: self.deliveries(),
        }
    }

    /// How the deliveries go.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries.state()
    }
}

impl Change {
    /// The alert.
    #[must_use]
    pub const fn alert(&self) -> &Alert {
        match self {
            Self::Raised(alert) | Self::Cleared(alert) => alert,
        }
    }
}

fn log(change: &Change) {
    let Alert { kind, severity, service, backend, page, summary, since_seconds, .. } =
        change.alert();
    let (service, backend) = (service.as_deref(), backend.as_deref());
    match change {
        Change::Raised(_) => {
            warn!(kind, %severity, service, backend, page, "alert raised: {summary}");
        }
        Change::Cleared(_) => {
            let lasted = humantime::format_duration(Duration::from_secs(*since_seconds));
            info!(kind, %severity, service, backend, page, "alert cleared after {lasted}: {summary}");
        }
    }
}
