//! Events: every change of membership, state, configuration and health, with who and why, in order.
//!
//! To note one takes a lock for an instant and never waits for a disk: the last few thousand are in
//! memory, from where they are read and followed, and a thread of its own (`store`) puts them into the
//! state directory. A disk that takes nothing more is told, and is no reason to forget anything that
//! memory has room for.

mod event;
mod follow;
mod store;

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{error, info, warn};

use self::store::Store;
pub use self::{
    event::{Event, Filter, Kind, Level, NotAKind, Note},
    follow::{Followed, Follower},
};

/// How many events are in memory.
pub const KEPT: usize = 4096;

/// The events of a daemon. Clones are of the same.
#[derive(Clone)]
pub struct Events(Arc<Shared>);

struct Shared {
    held: Mutex<Held>,
    /// Something is to be written, or the writer shall end, or has done what it had to.
    news: Condvar,
    /// The number of events that there were, for those who follow.
    tip: watch::Sender<u64>,
    store: Option<Store>,
}

struct Held {
    ring: VecDeque<Arc<Event>>,
    /// How many were before the first of the ring. With it every event has a number without gaps.
    before: u64,
    /// Whether there were events before those, some day.
    forgotten: bool,
    next_id: u64,
    /// How many of all are in the files, or never will be.
    stored: u64,
    /// Why some are not.
    trouble: Option<String>,
    /// Nobody is to follow any more.
    ended: bool,
    /// The writer is to end as soon as it has written all.
    closing: bool,
}

/// Events as they are asked for: `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The events, the oldest first.
    pub events: Vec<Event>,
    /// The id of the oldest event that can be asked for; 0 where there is none.
    pub first: u64,
    /// What to ask for next, as `after`.
    pub next: u64,
}

impl Events {
    /// The events that a state directory keeps. They are kept there only once [`Self::keep`] was called.
    ///
    /// What cannot be read is told as an event, and is no reason not to start.
    #[must_use]
    pub fn open(state_dir: &Path) -> Self {
        let store = Store::new(state_dir);
        let loaded = store.load(KEPT);
        let events = Self::new(Some(store), loaded.events, loaded.forgotten);
        for trouble in loaded.troubles {
            events.tell(Note::new(Kind::Trouble, trouble).warning());
        }
        events
    }

    /// Events in memory alone.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(None, Vec::new(), false)
    }

    fn new(store: Option<Store>, loaded: Vec<Event>, forgotten: bool) -> Self {
        let last = loaded.last().map_or(0, |event| event.id);
        // By the time of the start: so ids rise also over a daemon whose disk took nothing, or that
        // was killed before it had written what was told already.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let held = Held {
            stored: loaded.len() as u64,
            ring: loaded.into_iter().map(Arc::new).collect(),
            before: 0,
            forgotten,
            next_id: (last + 1).max(u64::try_from(now).unwrap_or(0)),
            trouble: None,
            ended: false,
            closing: false,
        };
        let (tip, _) = watch::channel(held.end());
        Self(Arc::new(Shared { held: Mutex::new(held), news: Condvar::new(), tip, store }))
    }

    /// Notes a change, and returns its id. Does not wait.
    #[expect(clippy::must_use_candidate, reason = "it is noted, whether its id matters or not")]
    pub fn note(&self, note: Note) -> u64 {
        let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut held = self.lock();
        let id = held.next_id;
        held.next_id += 1;
        held.ring.push_back(Arc::new(note.placed(id, at)));
        if held.ring.len() > KEPT {
            held.ring.pop_front();
            held.before += 1;
            held.forgotten = true;
        }
        // In order, so under the lock.
        self.0.tip.send_replace(held.end());
        drop(held);
        self.0.news.notify_all();
        id
    }

    /// Says a change in the log and notes it.
    pub fn tell(&self, note: Note) -> u64 {
        let Note { kind, level, service, backend, who, message, .. } = &note;
        let (kind, service, backend) = (kind.name(), service.as_deref(), backend.as_deref());
        let who = who.as_ref().map(tracing::field::display);
        match level {
            Level::Info => info!(kind, service, backend, who, "{message}"),
            Level::Warning => warn!(kind, service, backend, who, "{message}"),
            Level::Error => error!(kind, service, backend, who, "{message}"),
        }
        self.note(note)
    }

    /// At most `limit` events that fit: the first ones after the one with the id `after`, or else the
    /// last ones.
    #[must_use]
    pub fn page(&self, after: Option<u64>, limit: usize, filter: &Filter) -> Page {
        let held = self.lock();
        let first = held.ring.front().map_or(0, |event| event.id);
        let last = held.ring.back().map_or(0, |event| event.id);
        let fits = |event: &&Arc<Event>| filter.fits(event);
        let (found, next): (Vec<_>, u64) = if let Some(after) = after {
            let from = held.ring.partition_point(|event| event.id <= after);
            let found: Vec<_> = held.ring.range(from..).filter(fits).take(limit).cloned().collect();
            let more = found.len() == limit;
            let reached = found.last().filter(|_| more).map(|event| event.id);
            (found, reached.unwrap_or(last.max(after)))
        } else {
            let mut found: Vec<_> =
                held.ring.iter().rev().filter(fits).take(limit).cloned().collect();
            found.reverse();
            (found, last)
        };
        drop(held);
        let events = found.into_iter().map(Arc::unwrap_or_clone).collect();
        Page { events, first, next }
    }

    /// Follows the events that fit, from the one after the id `after` on; `None`: from now on.
    #[must_use]
    pub fn follow(&self, after: Option<u64>, filter: Filter) -> Follower {
        Follower::new(self.clone(), after, filter)
    }

    /// Why events are in memory alone; `None`: they are not.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// Starts the thread that keeps the events in the state directory. It has the capabilities of the
    /// thread that calls.
    ///
    /// # Errors
    ///
    /// Where no thread can be made.
    pub fn keep(&self) -> Result<()> {
        let events = self.clone();
        let writer = thread::Builder::new().name("events".into());
        writer.spawn(move || store::write(&events)).context("start the events' thread")?;
        Ok(())
    }

    /// Nobody follows any more: those who do are told what there is, and that this was all.
    pub fn end(&self) {
        let mut held = self.lock();
        held.ended = true;
        self.0.tip.send_replace(held.end());
    }

    /// Has the thread write what there is and end; waits for it no longer than `within`.
    pub fn close(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let mut held = self.lock();
        held.closing = true;
        self.0.news.notify_all();
        while held.stored < held.end() && held.trouble.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.news.wait_timeout(held, left);
            held = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The state is whole between statements, so a panic elsewhere leaves nothing half-done.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// How many events there were.
    fn end(&self) -> u64 {
        self.before + self.ring.len() as u64
    }

    /// The events from that number on.
    fn from(&self, number: u64) -> impl Iterator<Item = &Arc<Event>> {
        let skipped = usize::try_from(number.saturating_sub(self.before)).unwrap_or(usize::MAX);
        self.ring.range(skipped.min(self.ring.len())..)
    }
}

#[cfg(test)]
mod tests;
