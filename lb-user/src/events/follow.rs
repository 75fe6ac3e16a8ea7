//! Following: every event once and in order, however slow the reader is, as long as memory has it; what
//! it has no longer is told as a number.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Event, Events, Filter};

/// What a follower gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// The next event.
    Event(Arc<Event>),
    /// Events were forgotten before they could be read: so many, where that is known.
    Missed(Option<u64>),
}

/// Somebody who follows the events.
pub struct Follower {
    events: Events,
    filter: Filter,
    /// The number of the next event to look at.
    next: u64,
    tip: watch::Receiver<u64>,
    /// What was asked for is so old that some may be forgotten since.
    late: bool,
}

impl Follower {
    pub(super) fn new(events: Events, after: Option<u64>, filter: Filter) -> Self {
        let tip = events.0.tip.subscribe();
        let held = events.lock();
        let (next, late) = match after {
            None => (held.end(), false),
            Some(after) => {
                let from = held.ring.partition_point(|event| event.id <= after);
                let first = held.ring.front().map_or(0, |event| event.id);
                let gap = after > 0 && from == 0 && after.saturating_add(1) < first;
                (held.before + from as u64, gap && held.forgotten)
            }
        };
        drop(held);
        Self { events, filter, next, tip, late }
    }

    /// The next event that fits; waits for it. `None`: there will be no more.
    pub async fn next(&mut self) -> Option<Followed> {
        loop {
            self.tip.mark_unchanged();
            match self.look() {
                Some(found) => return found,
                // The sender lives as long as the events, which are here.
                None => self.tip.changed().await.ok()?,
            }
        }
    }

    /// What there is now; the outer `None`: nothing yet.
    #[expect(clippy::option_option, reason = "nothing yet, and nothing ever again")]
    fn look(&mut self) -> Option<Option<Followed>> {
        if std::mem::take(&mut self.late) {
            return Some(Some(Followed::Missed(None)));
        }
        let held = self.events.lock();
        if self.next < held.before {
            let missed = held.before - self.next;
            self.next = held.before;
            return Some(Some(Followed::Missed(Some(missed))));
        }
        for event in held.from(self.next) {
            self.next += 1;
            if self.filter.fits(event) {
                return Some(Some(Followed::Event(Arc::clone(event))));
            }
        }
        held.ended.then_some(None)
    }
}
