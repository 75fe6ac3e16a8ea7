//! The way back: confirming a change or taking it back, and what the history has.

use tokio::time::Instant;
use tracing::{error, warn};

use super::{AGAIN, Manner, Wish, pending};
use crate::{
    api::{
        Peer,
        configuration::{Applied, Candidate, HistoryEntry},
        model::Changed,
    },
    config::{Config, write_atomically},
    controller::{Controller, Outcome, Refused},
    events::{Kind, Note},
};

impl Controller {
    /// Keeps the change that waits.
    pub(super) fn confirm(&mut self, peer: &Peer) -> Result<Outcome<Changed>, Refused> {
        let Some(pending) = self.configuration.pending.clone() else {
            if let Some(kept) = self.confirm_shared(peer)? {
                return Ok(kept);
            }
            return Err(Refused::Conflict(
                "no change waits for its confirmation; see `evenkeel history`".to_owned(),
            ));
        };
        if self.loaded.text != pending.text {
            return Err(Refused::Conflict(format!(
                "change {} was not confirmed in time and is rolled back; the file {} follows as soon \
                 as it can be written",
                pending.number,
                self.path.display()
            )));
        }
        // Off the disk first: what is said to be confirmed stays so whatever happens next.
        pending::remove(&self.configuration.state_dir).map_err(Refused::Failed)?;
        self.configuration.pending = None;
        self.configuration.expiry = None;
        let message = format!("change {} is confirmed", pending.number);
        self.events.tell(Note::new(Kind::Configuration, message).by(peer).because(&pending.what));
        let message = format!("change {} is confirmed: {}", pending.number, pending.what);
        Ok(Outcome::Done(Changed { message, ..Changed::default() }))
    }

    /// Goes back to a number of the history; without one, what waits is taken back, or the last change.
    pub(super) fn rollback(
        &mut self,
        to: Option<u64>,
        manner: Manner,
        peer: &Peer,
    ) -> Result<Outcome<Applied>, Refused> {
        if self.configuration.pending.is_none()
            && to.is_none()
            && let Some(taken) = self.take_back(peer)?
        {
            return Ok(taken);
        }
        let (number, text) = match (&self.configuration.pending, to) {
            // What waits is taken back, and nothing else.
            (Some(pending), None) => {
                let before = self.configuration.history.before(pending.number);
                (before.map_or(0, |entry| entry.number), pending.previous.clone())
            }
            (Some(_), Some(_)) => {
                self.configuration.nothing_pending()?;
                return Err(Refused::Conflict("a change waits for its confirmation".to_owned()));
            }
            (None, to) => self.recorded(to)?,
        };
        let file = self.configuration.history.path(number);
        let doing = format!("rolled back to {number}");
        let candidate = Candidate { text, file };
        if self.configuration.pending.is_none() {
            return self.apply(Wish { candidate, manner, peer, doing });
        }
        // It was at work a moment ago, and comes back by itself otherwise.
        let manner = Manner { confirm: None, force: true };
        let applied = self.apply(Wish { candidate, manner, peer, doing })?;
        if let Outcome::Done(applied) = applied {
            self.forget_pending();
            return Ok(Outcome::Done(Applied { confirmation: None, ..applied }));
        }
        Ok(applied)
    }

    /// The number and text of the history to go back to.
    fn recorded(&self, to: Option<u64>) -> Result<(u64, String), Refused> {
        let history = &self.configuration.history;
        let current = history.entries().last().map_or(0, |entry| entry.number);
        let number = match to {
            Some(number) => history.entry(number),
            None => history.before(current),
        };
        let Some(number) = number.map(|entry| entry.number) else {
            let oldest = history.entries().first().map_or(0, |entry| entry.number);
            return Err(Refused::Absent(match to {
                Some(number) => format!(
                    "there is no change {number} in the history, which has {oldest} to {current}; \
                     see `evenkeel history`"
                ),
                None => "there is nothing to go back to: the history has one configuration alone"
                    .to_owned(),
            }));
        };
        Ok((number, history.text(number).map_err(Refused::Failed)?))
    }

    /// One entry with its text and the one before.
    pub(super) fn history_entry(&self, number: u64) -> Result<HistoryEntry, Refused> {
        let (number, text) = self.recorded(Some(number))?;
        let history = &self.configuration.history;
        let previous = history.before(number);
        let previous_text = previous.map(|entry| history.text(entry.number)).transpose();
        let Some(entry) = history.entry(number).cloned() else {
            return Err(Refused::Absent(format!("there is no change {number} in the history")));
        };
        Ok(HistoryEntry {
            previous_number: previous.map(|entry| entry.number),
            previous_text: previous_text.map_err(Refused::Failed)?,
            entry,
            text,
        })
    }

    /// Takes back what was not confirmed in time: the data path whatever happens, then the file. What
    /// fails is tried again.
    pub(super) fn expire(&mut self) {
        let Some(pending) = self.configuration.pending.clone() else {
            self.configuration.expiry = None;
            return;
        };
        self.configuration.expiry = Some(Instant::now() + AGAIN);
        let previous = match Config::parse(&pending.previous, &self.path) {
            Ok(previous) => self.effective(previous),
            Err(invalid) => {
                error!("change {} cannot be rolled back: {invalid}", pending.number);
                return;
            }
        };
        if self.loaded.text != previous.text {
            let message = format!(
                "change {} ({}) was not confirmed in time; rolled back",
                pending.number, pending.what
            );
            let daemon = Peer::named("daemon");
            let note = Note::new(Kind::Configuration, message).by(&daemon).error();
            self.events.tell(note.because("it was not confirmed in time"));
            self.carry_health(&previous);
            self.note_added(&previous);
            let before = std::mem::replace(&mut self.loaded, previous);
            self.note_membership(&before.config, &daemon);
            self.update();
            self.follow_configuration();
            self.configuration.watch.forget();
        }
        let found = std::fs::read_to_string(&self.path).ok();
        if found.as_ref() == Some(&pending.text)
            && let Err(found) = write_atomically(&self.path, &pending.previous)
        {
            error!("the configuration file is not rolled back yet: {found:#}");
            return;
        }
        let history = &mut self.configuration.history;
        let what = pending::rolled_back(pending.number);
        let prepared = history.prepare(&pending.previous, &Peer::named("daemon"), &what);
        if let Err(found) = prepared.and_then(|prepared| history.commit(prepared)) {
            warn!("not in the history: {found:#}");
        }
        self.forget_pending();
    }
}
