//! The desk that the controller hands its facts to: rules, book and deliveries together, and the log.

use std::{
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use tracing::{info, warn};

use super::{
    book::{Book, Change},
    deliver::Deliveries,
    facts::Facts,
    rules::Rules,
    store::{self, Document, Keeper},
};
use crate::{
    api::model::{Alert, Alerts as Told, Delivery},
    config::alerts::Alerts,
};

/// Time between two judgements at the least, a little less than a second: looks come four times in one.
const EVERY: Duration = Duration::from_millis(900);
/// How long a daemon that stops waits until the last state is stored.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The alerts of a daemon.
#[derive(Debug, Default)]
pub struct Desk {
    rules: Rules,
    book: Book,
    deliveries: Deliveries,
    last: Option<Instant>,
    keeper: Option<Keeper>,
    /// The revisions of the book and the deliveries that were handed to the keeper.
    kept: (u64, u64),
}

impl Desk {
    /// Goes on with what the state directory keeps; also tells what is wrong with that.
    #[must_use]
    pub fn resume(state_dir: &Path, now: Instant, wall: SystemTime) -> (Self, Option<String>) {
        let (Document { raised, targets, .. }, mut trouble) = store::recover(state_dir);
        let keeper = Keeper::start(state_dir);
        if let Err(error) = &keeper {
            trouble = Some(format!("a restart will forget which alerts are raised: {error:#}"));
        }
        if !raised.is_empty() {
            info!(alerts = raised.len(), "going on with the alerts from before the restart");
        }
        let mut desk = Self { keeper: keeper.ok(), ..Self::default() };
        desk.book.resume(raised, now, wall);
        desk.deliveries.resume(targets);
        (desk, trouble)
    }

    /// Has what changed kept over a restart. Does not wait.
    pub fn keep(&mut self, config: &Alerts, now: Instant) {
        let revisions = (self.book.revision(), self.deliveries.revision());
        let Some(keeper) = self.keeper.as_ref().filter(|_| revisions != self.kept) else { return };
        self.kept = revisions;
        keeper.put(Document::new(self.raised(config, now), self.deliveries.waiting()));
    }

    /// Waits until what was handed over is kept, but not for long.
    pub fn finish(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.finish(LAST_WORDS);
        }
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
