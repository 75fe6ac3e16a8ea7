//! This edge among those that share a store: which revision is at work here, and what is not taken and why.
//!
//! A change goes to the store first (`propose`), and every edge, also the one that wrote it, takes it from there
//! (`follow`). `tell` is what others learn of this edge, and what is known of them.

mod confirm;
mod follow;
mod propose;
mod tell;
mod verdict;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{oneshot, watch},
    time::sleep_until,
};

use super::{Controller, Refused};
use crate::{
    admin::Exception,
    api::{
        Peer,
        model::{Changed, Fleet as FleetStatus},
    },
    config::Config,
    store::{self, Kept, Proposal, Record, Refusal, Report, Snapshot, Store, Way},
};

/// How soon a revision that could not be taken is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Changes of this edge's own that are remembered until they come back from the store.
const MOST_INTENTS: usize = 16;

/// What becomes of something that was asked.
pub enum Outcome<T> {
    /// It is done.
    Done(T),
    /// It has to be written to the store; once this edge has taken it from there, this is the answer.
    Propose(Box<Proposed>, T),
}

/// A change of what edges share.
pub struct Proposed {
    /// Where it is to be written.
    pub store: Store,
    /// What.
    pub proposal: Proposal,
    /// What is to be verified before; `None`: no server or service changes.
    pub trial: Option<Trial>,
}

/// A configuration that is to be verified.
pub struct Trial {
    /// What the change makes of it.
    pub config: Config,
    /// What is at work, where what that does not pass either shall not refuse the change.
    pub before: Option<Config>,
}

/// What became of a revision here.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// Why it was not taken; `None`: it is at work.
    pub refused: Option<String>,
    /// Its number in the history; `None`: no text changed.
    pub number: Option<u64>,
    /// Connections that were cut.
    pub cut: u64,
}

/// What is asked about the edges that share a store.
pub enum FleetCommand {
    /// How every edge is.
    Show(oneshot::Sender<Result<FleetStatus, Refused>>),
    /// What became of a revision here, once that is known.
    Settled(i64, oneshot::Sender<Settled>),
    /// Settles a difference between this edge and the store; whether fewer than `min_active` may stay.
    Settle(Way, bool, Peer, oneshot::Sender<Result<Outcome<Changed>, Refused>>),
    /// The store.
    Store(oneshot::Sender<Result<Store, Refused>>),
}

/// A change of this edge's own that goes the way by the store.
struct Intent {
    /// As the record has it.
    id: String,
    /// The whole text that it makes, with what is this edge's alone.
    text: Option<String>,
}

/// What the controller knows of the store.
pub struct Fleet {
    store: Store,
    kept: Kept,
    /// The revision that is not taken.
    refused: Option<Refusal>,
    intents: VecDeque<Intent>,
    /// What became of the last revision that was taken.
    settled: Settled,
    waiting: Vec<(i64, oneshot::Sender<Settled>)>,
    /// What the store had when it was last looked at.
    handled: Option<Arc<Snapshot>>,
    told: Report,
    told_at: Option<Instant>,
    looked_at: Option<Instant>,
    retry: Option<Instant>,
    /// When a change is taken back that nobody has confirmed.
    expiry: Option<Instant>,
    tidied: Option<Instant>,
}

impl Fleet {
    /// An edge that took this last. What it took under another prefix counts for nothing.
    #[must_use]
    pub fn new(store: Store, kept: Kept) -> Self {
        let prefix = &store.settings().prefix;
        let kept = if kept.prefix == *prefix {
            kept
        } else {
            Kept { id: kept.id, prefix: prefix.clone(), ..Kept::default() }
        };
        Self {
            store,
            kept,
            refused: None,
            intents: VecDeque::new(),
            settled: Settled::default(),
            waiting: Vec::new(),
            handled: None,
            told: Report::default(),
            told_at: None,
            looked_at: None,
            retry: None,
            expiry: None,
            tidied: None,
        }
    }

    /// Why a revision is not taken.
    pub(super) const fn refused(&self) -> Option<&Refusal> {
        self.refused.as_ref()
    }

    /// The store.
    pub(super) const fn store(&self) -> &Store {
        &self.store
    }

    /// Whether a change was made here.
    fn intends(&self, record: &Record) -> bool {
        self.intents.iter().any(|intent| intent.id == record.id)
    }

    /// What has to be written to the store so that it has these in the place of what was `seen`. It is remembered
    /// until it comes back, with the whole text that it makes here; `None`: nothing beside the services changes.
    fn propose(
        &mut self,
        seen: &Snapshot,
        (services, exceptions): (String, Vec<Exception>),
        record: Record,
        text: Option<String>,
    ) -> Box<Proposed> {
        self.intents.truncate(MOST_INTENTS - 1);
        self.intents.push_front(Intent { id: record.id.clone(), text });
        let proposal = Proposal { bases: seen.bases, services, exceptions, record };
        Box::new(Proposed { store: self.store.clone(), proposal, trial: None })
    }

    /// Answers those who wait for what is known now.
    fn answer(&mut self) {
        let (revision, refused) = (self.kept.revision, self.refused.clone());
        let waiting = std::mem::take(&mut self.waiting);
        for (wanted, reply) in waiting {
            if revision >= wanted {
                drop(reply.send(self.settled.clone()));
            } else if let Some(refused) = refused.as_ref().filter(|r| r.revision >= wanted) {
                let refused = Some(refused.why.clone());
                drop(reply.send(Settled { refused, ..Settled::default() }));
            } else if !reply.is_closed() {
                self.waiting.push((wanted, reply));
            }
        }
    }
}

/// Where no edges share anything: nothing ever comes.
pub fn nobody() -> watch::Receiver<store::State> {
    let state = store::State {
        member: None,
        problem: None,
        since: std::time::SystemTime::UNIX_EPOCH,
        seen: None,
        edges: Arc::default(),
    };
    watch::channel(state).1
}

/// Resolves when what could not be taken is tried again, or a change is over that nobody has confirmed.
pub async fn due(fleet: Option<&Fleet>) {
    let next = fleet.and_then(|fleet| fleet.retry.into_iter().chain(fleet.expiry).min());
    match next {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl Controller {
    /// Answers a command.
    pub(super) async fn fleet_command(&mut self, command: FleetCommand) {
        // A client that went away meanwhile needs no answer.
        match command {
            FleetCommand::Show(reply) => drop(reply.send(self.show_fleet())),
            FleetCommand::Settled(revision, reply) => match &mut self.fleet {
                Some(fleet) => {
                    fleet.waiting.push((revision, reply));
                    fleet.answer();
                }
                None => drop(reply.send(Settled::default())),
            },
            FleetCommand::Settle(way, force, peer, reply) => {
                drop(reply.send(self.settle_difference(way, force, &peer).await));
            }
            FleetCommand::Store(reply) => drop(reply.send(self.shared().map(|f| f.store.clone()))),
        }
    }

    /// What is known of the store, where there is one.
    fn shared(&self) -> Result<&Fleet, Refused> {
        self.fleet.as_ref().ok_or_else(|| {
            Refused::Absent(format!(
                "this host shares its services with no other edge: {} has no [store]",
                self.path.display()
            ))
        })
    }
}
