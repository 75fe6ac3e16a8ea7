//! Changes of what edges share that wait for their confirmation. They wait in the store: anybody may confirm them or
//! take them back, on every edge, and whichever edge comes first takes back what nobody has confirmed in time.

use std::time::{Duration, Instant};

use super::{
    super::{Controller, Refused},
    Outcome,
    propose::unconfirmed,
};
use crate::{
    api::{
        Peer,
        configuration::{Applied, Candidate, Confirmation},
        model::Changed,
    },
    config::edit::with_services,
    store::Record,
};

/// How long other edges wait for the one that made a change to take it back.
const GRACE: Duration = Duration::from_secs(5);
/// How soon it is tried again to take a change back.
const AGAIN: Duration = Duration::from_secs(1);

impl Controller {
    /// The confirmation that a change will wait for.
    pub(in super::super) fn to_confirm(&self, record: &Record) -> Option<Confirmation> {
        self.waiting(record, self.configuration.next_number())
    }

    /// The confirmation that the store waits for.
    pub(in super::super) fn shared_confirmation(&self) -> Option<Confirmation> {
        let fleet = self.fleet.as_ref()?;
        let seen = fleet.store.state().seen?;
        let (record, _) = unconfirmed(&seen)?;
        self.waiting(record, fleet.settled.number.unwrap_or_default())
    }

    fn waiting(&self, record: &Record, number: u64) -> Option<Confirmation> {
        let waits = record.unconfirmed.as_ref()?;
        let left = waits.until.duration_since(self.clock.now()).unwrap_or_default();
        Some(Confirmation {
            number,
            until: humantime::format_rfc3339_seconds(waits.until).to_string(),
            seconds_left: left.as_secs(),
            who: record.by.clone(),
            what: record.what.clone(),
        })
    }

    /// Keeps the change that the store waits for; `None`: it waits for none.
    pub(in super::super) fn confirm_shared(
        &mut self,
        peer: &Peer,
    ) -> Result<Option<Outcome<Changed>>, Refused> {
        if self.shared_confirmation().is_none() {
            return Ok(None);
        }
        let seen = self.settled()?;
        let Some((record, _)) = unconfirmed(&seen) else { return Ok(None) };
        let what = format!("confirmed: {}", record.what);
        let at = self.clock.now();
        let Some(fleet) = &mut self.fleet else { return Ok(None) };
        let record = Record::new(fleet.store.edge(), peer.clone(), what.clone(), at, Vec::new());
        let shared = (seen.services.clone(), seen.exceptions.clone());
        let proposed = fleet.propose(&seen, shared, record, None);
        let changed = Changed { message: what, ..Changed::default() };
        Ok(Some(Outcome::Propose(proposed, changed)))
    }

    /// Takes back the change that the store waits for; `None`: it waits for none.
    pub(in super::super) fn take_back(
        &mut self,
        peer: &Peer,
    ) -> Result<Option<Outcome<Applied>>, Refused> {
        if self.shared_confirmation().is_none() {
            return Ok(None);
        }
        let seen = self.settled()?;
        let Some((record, waits)) = unconfirmed(&seen) else { return Ok(None) };
        let text = with_services(&self.loaded.text, &waits.previous)?;
        let file = "what was before".into();
        let judged = self.judge(&Candidate { text: text.clone(), file })?;
        let what = format!("taken back: {}", record.what);
        let (shared, at) = ((waits.previous.clone(), seen.exceptions.clone()), self.clock.now());
        let Some(fleet) = &mut self.fleet else { return Ok(None) };
        let record = Record::new(fleet.store.edge(), peer.clone(), what.clone(), at, Vec::new());
        // Not verified: it was at work a moment ago.
        let proposed = fleet.propose(&seen, shared, record, Some(text));
        let applied = Applied { message: what, diff: judged.diff, ..Applied::default() };
        Ok(Some(Outcome::Propose(proposed, applied)))
    }

    /// Takes back what nobody has confirmed in time, and notes when that will be.
    pub(super) fn expire_shared(&mut self) {
        let now = self.clock.now();
        let Some(fleet) = &mut self.fleet else { return };
        fleet.expiry = None;
        let Some(seen) = fleet.store.state().seen else { return };
        let Some((record, waits)) = unconfirmed(&seen) else { return };
        // The clock that set the time decides; others come in only where that edge does not.
        let is_own = record.edge == fleet.store.edge();
        let until = if is_own { waits.until } else { waits.until + GRACE };
        if let Ok(left) = until.duration_since(now)
            && !left.is_zero()
        {
            fleet.expiry = Some(Instant::now() + left);
            return;
        }
        fleet.expiry = Some(Instant::now() + AGAIN);
        let what = format!("not confirmed in time, rolled back: {}", record.what);
        self.write_aside(waits.previous.clone(), seen.exceptions.clone(), what);
    }
}
