//! The configuration as a whole: plan, apply, confirm, reload, history, rollback, and what is with the
//! file on the disk.
//!
//! Every change of the configuration, also of one backend, goes through `switch`: recorded, written,
//! at work, or nothing of it.

mod back;
mod judge;
pub mod pending;
mod switch;
mod watch;

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Result;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tracing::{error, info, warn};

pub(super) use self::switch::Deed;
use self::{pending::Pending, watch::Watch};
use super::{Controller, Outcome, Refused, history::History};
use crate::{
    api::{
        Peer,
        configuration::{
            Applied, Candidate, Confirmation, Edited, HistoryEntry, HistoryList, Plan,
        },
        model::Changed,
    },
    config::{Config, Loaded, write_atomically},
    events::{Events, Kind, Note},
};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How soon a roll-back that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

type Reply<T> = oneshot::Sender<Result<T, Refused>>;

/// What is asked about the configuration as a whole.
pub enum ConfigurationCommand {
    /// What a text would change.
    Plan(Candidate, Reply<Plan>),
    /// Checks a text, and answers with what it says.
    Check(Candidate, Reply<Config>),
    /// Makes a text the configuration.
    Apply(Candidate, Manner, Peer, Reply<Outcome<Applied>>),
    /// Confirms the change that waits for it.
    Confirm(Peer, Reply<Outcome<Changed>>),
    /// Reads the file.
    Read(Reply<OnDisk>),
    /// Takes up the file, if it is still this text.
    Reload(Candidate, Manner, Peer, Reply<Outcome<Applied>>),
    /// Goes back to a number of the history, or to the one before the last change.
    Rollback(Option<u64>, Manner, Peer, Reply<Outcome<Applied>>),
    /// The history.
    History(Reply<HistoryList>),
    /// One entry of it.
    Entry(u64, Reply<HistoryEntry>),
}

/// The configuration file as it is.
pub struct OnDisk {
    /// Its text.
    pub candidate: Candidate,
    /// Whether that is at work already.
    pub is_at_work: bool,
}

/// How a change of the whole configuration is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// It is rolled back unless confirmed within this time.
    pub confirm: Option<Duration>,
    /// A service may be left with fewer active backends than its `min_active`.
    pub force: bool,
}

/// What the controller remembers of configurations.
pub struct Keeper {
    state_dir: PathBuf,
    history: History,
    /// What the daemon started with, where it could not be recorded yet.
    unrecorded: Option<Unrecorded>,
    pending: Option<Pending>,
    /// When what is pending is rolled back.
    expiry: Option<Instant>,
    watch: Watch,
    next_look: Instant,
}

/// A start that is not in the history.
struct Unrecorded {
    what: String,
    /// Why not.
    why: String,
}

/// A change of the whole configuration.
struct Wish<'a> {
    candidate: Candidate,
    manner: Manner,
    peer: &'a Peer,
    /// What the history says before the summary.
    doing: String,
}

impl Keeper {
    /// What a state directory remembers. The configuration that a daemon starts with is recorded, if
    /// it is not what was at work last.
    ///
    /// # Errors
    ///
    /// Where the history cannot be read. Where it cannot be written, the daemon starts all the same: the
    /// backends are watched, and changes are refused until it can.
    pub fn open(state_dir: &Path, path: &Path, loaded: &Loaded, events: &Events) -> Result<Self> {
        let history = History::open(state_dir, &loaded.text)?;
        let last = history.entries().last();
        let known = last
            .is_some_and(|last| history.text(last.number).is_ok_and(|text| text == loaded.text));
        let edited = if last.is_some() { ", which was edited" } else { "" };
        let what = format!("started with {}{edited}", path.display());
        if !known {
            let note = Note::new(Kind::Configuration, &what).by(&Peer::named("daemon"));
            events.note(note);
        }
        let unrecorded = (!known).then_some(Unrecorded { what, why: String::new() });
        let pending = Pending::read(state_dir).unwrap_or_else(|found| {
            error!("a change may wait for its confirmation: {found:#}; it is left as it is");
            None
        });
        // One that is not about this text could not be taken away.
        let pending = pending.filter(|pending| pending.text == loaded.text);
        if let Some(pending) = &pending {
            warn!(
                "change {} ({}) is rolled back in {} unless `evenkeel confirm` keeps it",
                pending.number,
                pending.what,
                humantime::format_duration(Duration::from_secs(pending.left().as_secs()))
            );
        }
        let mut keeper = Self {
            state_dir: state_dir.to_owned(),
            history,
            unrecorded,
            expiry: pending.as_ref().map(Pending::expiry),
            pending,
            watch: Watch::default(),
            next_look: Instant::now(),
        };
        if let Err(found) = keeper.record_start(&loaded.text) {
            error!("what the daemon started with is not in the history yet: {found:#}");
        }
        Ok(keeper)
    }

    /// Records the text that the daemon started with, where that is still to be done.
    pub(super) fn record_start(&mut self, text: &str) -> Result<()> {
        let Some(unrecorded) = &mut self.unrecorded else { return Ok(()) };
        let history = &mut self.history;
        let recorded = history
            .prepare(text, &Peer::named("daemon"), &unrecorded.what)
            .and_then(|prepared| history.commit(prepared));
        match recorded {
            Ok(_) => {
                self.unrecorded = None;
                Ok(())
            }
            Err(found) => {
                unrecorded.why = format!("{found:#}");
                Err(found)
            }
        }
    }

    /// Why what the daemon started with is not in the history; `None`: it is.
    #[must_use]
    pub fn unrecorded(&self) -> Option<String> {
        let Unrecorded { why, .. } = self.unrecorded.as_ref()?;
        Some(format!(
            "what the daemon started with is not in the history, and changes are refused: {why}"
        ))
    }

    /// What is with the file on the disk; `None`: it is what is at work.
    #[must_use]
    pub fn edited(&self) -> Option<Edited> {
        self.watch.edited().cloned()
    }

    /// The confirmation that is waited for.
    #[must_use]
    pub fn confirmation(&self) -> Option<Confirmation> {
        self.pending.as_ref().map(Pending::told)
    }

    /// The number in the history that the next change will have.
    pub(super) fn next_number(&self) -> u64 {
        self.history.next()
    }

    /// Waits until a look at the file or a roll-back is due.
    pub async fn due(&self) {
        sleep_until(self.expiry.map_or(self.next_look, |expiry| expiry.min(self.next_look))).await;
    }

    /// Refuses a change while another waits for its confirmation: rolling that one back would take
    /// this one away, too.
    pub(super) fn nothing_pending(&self) -> Result<(), Refused> {
        let Some(pending) = self.confirmation() else { return Ok(()) };
        Err(Refused::Conflict(format!(
            "change {} by {} waits for its confirmation until {}; keep it with `evenkeel confirm` or \
             take it back with `evenkeel rollback` first",
            pending.number, pending.who, pending.until
        )))
    }
}

impl Controller {
    /// Answers a command.
    pub(super) fn configuration_command(&mut self, command: ConfigurationCommand) {
        // A client that went away meanwhile needs no answer.
        match command {
            ConfigurationCommand::Plan(candidate, reply) => {
                drop(reply.send(self.plan_candidate(&candidate)));
            }
            ConfigurationCommand::Check(candidate, reply) => {
                let checked = self.configuration.nothing_pending().and_then(|()| {
                    self.would_overwrite(&candidate.text)?;
                    let judged = self.judge(&candidate)?;
                    self.admit(&judged)?;
                    Ok(judged.loaded.config)
                });
                drop(reply.send(checked));
            }
            ConfigurationCommand::Apply(candidate, manner, peer, reply) => {
                let doing = format!("applied {}", candidate.file.display());
                let wish = Wish { candidate, manner, peer: &peer, doing };
                drop(
                    reply
                        .send(self.configuration.nothing_pending().and_then(|()| self.apply(wish))),
                );
            }
            ConfigurationCommand::Confirm(peer, reply) => drop(reply.send(self.confirm(&peer))),
            ConfigurationCommand::Read(reply) => drop(reply.send(self.read_file())),
            ConfigurationCommand::Reload(candidate, manner, peer, reply) => {
                drop(reply.send(self.reload(candidate, manner, &peer)));
            }
            ConfigurationCommand::Rollback(to, manner, peer, reply) => {
                drop(reply.send(self.rollback(to, manner, &peer)));
            }
            ConfigurationCommand::History(reply) => {
                let entries = self.configuration.history.entries().to_vec();
                drop(reply.send(Ok(HistoryList { entries })));
            }
            ConfigurationCommand::Entry(number, reply) => {
                drop(reply.send(self.history_entry(number)));
            }
        }
    }

    /// Does what is due: a look at the file, a roll-back.
    pub(super) fn configuration_due(&mut self) {
        if self.configuration.expiry.is_some_and(|expiry| expiry <= Instant::now()) {
            self.expire();
        }
        if self.configuration.unrecorded.is_some()
            && self.configuration.record_start(&self.loaded.text).is_ok()
        {
            info!("what the daemon started with is in the history now");
        }
        self.look_at_file();
    }

    fn look_at_file(&mut self) {
        self.configuration.watch.look(&self.path, &self.loaded, &self.events);
        self.configuration.next_look = Instant::now() + LOOK;
    }

    /// Makes a text the configuration, all of it or nothing. What edges share is proposed to the store
    /// instead.
    fn apply(&mut self, wish: Wish<'_>) -> Result<Outcome<Applied>, Refused> {
        let Wish { candidate, manner: Manner { confirm, force }, peer, doing } = wish;
        if confirm.is_some_and(|time| time.is_zero() || time > pending::LONGEST) {
            return Err(Refused::Invalid(format!(
                "the time to confirm must be 1 second to {}",
                humantime::format_duration(pending::LONGEST)
            )));
        }
        let on_disk = self.would_overwrite(&candidate.text)?;
        let judged = self.judge(&candidate)?;
        self.admit(&judged)?;
        let (loaded, diff) = (judged.loaded, judged.diff);
        let same_files = loaded.prefix_files == self.loaded.prefix_files;
        if loaded.text == self.loaded.text && same_files {
            let message = format!("no change: {} is at work already", candidate.file.display());
            if !on_disk {
                // The file was lost; it comes back.
                write_atomically(&self.path, &loaded.text).map_err(Refused::Failed)?;
                self.look_at_file();
            }
            return Ok(Outcome::Done(Applied { message, diff, ..Applied::default() }));
        }
        let what = format!("{doing}: {}", diff.summary());
        let asked = (force, confirm);
        if let Some((proposed, notes)) = self.propose(&loaded, asked, &what, peer, Vec::new())? {
            let mut warnings = self.fresh_warnings(&loaded, &judged.host, &diff);
            warnings.extend(notes);
            let confirmation = self.to_confirm(&proposed.proposal.record);
            let applied =
                Applied { message: what, diff, confirmation, warnings, ..Applied::default() };
            return Ok(Outcome::Propose(proposed, applied));
        }
        let pending = confirm.map(|allowed| self.note_pending(allowed, &loaded.text, peer, &what));
        let pending = pending.transpose().map_err(Refused::Failed)?;
        let mut warnings = self.fresh_warnings(&loaded, &judged.host, &diff);
        let note = Note::new(Kind::Configuration, &what).by(peer);
        let deed = Deed { note, is_whole: true, peer, what: &what };
        let number = match self.switch(loaded, on_disk, force, deed) {
            Ok((number, notes)) => {
                warnings.extend(notes);
                number
            }
            Err(refused) => {
                if pending.is_some() {
                    self.forget_pending();
                }
                return Err(refused);
            }
        };
        if let Some(pending) = pending {
            self.configuration.expiry = Some(pending.expiry());
            self.configuration.pending = Some(pending);
        }
        let confirmation = self.configuration.confirmation();
        let message = format!("change {number}: {what}");
        let number = Some(number);
        Ok(Outcome::Done(Applied { message, number, diff, confirmation, warnings, fleet: None }))
    }

    /// Notes on the disk, before anything changes, that a change will wait for its confirmation.
    fn note_pending(
        &self,
        allowed: Duration,
        text: &str,
        peer: &Peer,
        what: &str,
    ) -> Result<Pending> {
        let pending = Pending {
            number: self.configuration.history.next(),
            who: peer.clone(),
            what: what.to_owned(),
            until: SystemTime::now() + allowed,
            allowed,
            previous: self.loaded.text.clone(),
            text: text.to_owned(),
        };
        pending.write(&self.configuration.state_dir)?;
        Ok(pending)
    }

    fn forget_pending(&mut self) {
        self.configuration.pending = None;
        self.configuration.expiry = None;
        if let Err(found) = pending::remove(&self.configuration.state_dir) {
            error!("{found:#}; remove it by hand, or the next start may roll back");
        }
    }

    fn read_file(&self) -> Result<OnDisk, Refused> {
        let bytes = std::fs::read(&self.path).map_err(|found| {
            let context = format!("read {}", self.path.display());
            Refused::Failed(anyhow::Error::new(found).context(context))
        })?;
        let text = String::from_utf8(bytes).map_err(|_| {
            Refused::Invalid(format!("{} is not UTF-8 text; save it as UTF-8", self.path.display()))
        })?;
        let is_at_work = text == self.loaded.text;
        Ok(OnDisk { candidate: Candidate { text, file: self.path.clone() }, is_at_work })
    }

    fn reload(
        &mut self,
        candidate: Candidate,
        manner: Manner,
        peer: &Peer,
    ) -> Result<Outcome<Applied>, Refused> {
        self.configuration.nothing_pending()?;
        if self.read_file()?.candidate.text != candidate.text {
            return Err(Refused::Conflict(format!(
                "{} was edited again while it was verified; reload once more",
                self.path.display()
            )));
        }
        let doing = format!("reloaded {}", self.path.display());
        self.apply(Wish { candidate, manner, peer, doing })
    }
}
