//! Changes of what edges share, on their way to the store. Nothing changes here: that comes back from there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{debug, info};

use super::{
    super::{Controller, Refused, administer::is_known, probes::BackendKey},
    Fleet, Outcome, Proposed, Trial,
};
use crate::{
    admin::{Exception, Exceptions},
    api::{Peer, configuration::Candidate, model::Changed},
    config::{
        Loaded,
        edit::{services_of, with_services},
    },
    store::{Failure, Record, Snapshot, Unconfirmed, Way},
};

/// How often exceptions that are over are taken out of the store at the most.
const BETWEEN_TIDYINGS: Duration = Duration::from_secs(5);

/// A proposal, and what is to be said of it.
pub type Proposing = Option<(Box<Proposed>, Vec<String>)>;

impl Controller {
    /// What has to be written to the store for `loaded` to become the configuration, and who carries the load
    /// of those that leave; `None`: the change is this edge's own.
    pub(in super::super) fn propose(
        &mut self,
        loaded: &Loaded,
        (force, confirm): (bool, Option<Duration>),
        what: &str,
        peer: &Peer,
        cut: Vec<BackendKey>,
    ) -> Result<Proposing, Refused> {
        if self.fleet.is_none() {
            return Ok(None);
        }
        let services = services_of(&loaded.text)?;
        let previous = services_of(&self.loaded.text)?;
        if services == previous {
            return Ok(None);
        }
        let seen = self.followed()?;
        if confirm.is_some() && with_services(&loaded.text, &previous)? != self.loaded.text {
            return Err(Refused::Invalid(
                "services, which edges share, and sections of this edge alone cannot wait for one \
                 confirmation: change them one after the other"
                    .to_owned(),
            ));
        }
        let effective = self.effective(loaded.clone());
        // As it will be at the switch, where health goes with the servers.
        let health = self.carry_health(&effective);
        let planned = self.plan(&effective).map_err(|error| Refused::Invalid(error.to_string()));
        let guarded = planned.and_then(|wanted| self.guard(&effective, &wanted, force));
        self.condition.health = health;
        let notes = guarded?;
        let at = self.clock.now();
        let Some(fleet) = &mut self.fleet else { return Ok(None) };
        let mut record = Record::new(fleet.store.edge(), peer.clone(), what.to_owned(), at, cut);
        record.unconfirmed = confirm.map(|span| Unconfirmed { until: at + span, previous });
        let text = Some(loaded.text.clone());
        let mut proposed = fleet.propose(&seen, (services, seen.exceptions.clone()), record, text);
        let before = Some(self.loaded.config.clone());
        proposed.trial = Some(Trial { config: effective.config, before });
        Ok(Some((proposed, notes)))
    }

    /// The same for these backends, which are taken out, or back, as `wanted` has them.
    pub(in super::super) fn propose_exceptions(
        &mut self,
        wanted: &Exceptions,
        keys: &[BackendKey],
        force: bool,
        (what, peer): (&str, &Peer),
        cut: Vec<BackendKey>,
    ) -> Result<Proposing, Refused> {
        if self.fleet.is_none() {
            return Ok(None);
        }
        let seen = self.followed()?;
        let before = std::mem::replace(&mut self.condition.exceptions, wanted.clone());
        let planned = self.plan(&self.loaded).map_err(|error| Refused::Failed(error.into()));
        let guarded = planned.and_then(|tables| self.guard(&self.loaded, &tables, force));
        self.condition.exceptions = before;
        let notes = guarded?;
        let others = seen.exceptions.iter().filter(|exception| !is_of(exception, keys)).cloned();
        let ours = wanted.iter().filter(|exception| is_of(exception, keys)).cloned();
        let exceptions = others.chain(ours).collect();
        let services = services_of(&self.loaded.text)?;
        let at = self.clock.now();
        let Some(fleet) = &mut self.fleet else { return Ok(None) };
        let record = Record::new(fleet.store.edge(), peer.clone(), what.to_owned(), at, cut);
        Ok(Some((fleet.propose(&seen, (services, exceptions), record, None), notes)))
    }

    /// What the store has, if this edge has it, too, and nothing waits there: so that a change can be made of
    /// it.
    fn followed(&self) -> Result<Arc<Snapshot>, Refused> {
        let seen = self.settled()?;
        if let Some((record, waits)) = unconfirmed(&seen) {
            return Err(Refused::Conflict(format!(
                "a change by {} on {} ({}) waits for its confirmation until {}; keep it with `evenkeel \
                 confirm` or take it back with `evenkeel rollback` first",
                record.by,
                record.edge,
                record.what,
                humantime::format_rfc3339_seconds(waits.until)
            )));
        }
        Ok(seen)
    }

    /// What the store has, if this edge has it, too.
    pub(super) fn settled(&self) -> Result<Arc<Snapshot>, Refused> {
        let fleet = self.shared()?;
        let seen = self.reached(fleet)?;
        if let Some(refused) = &fleet.refused {
            return Err(Refused::Conflict(format!(
                "this edge does not follow the store, so it changes nothing there: {}",
                refused.why
            )));
        }
        let is_new = seen.is_empty() && !fleet.kept.has_joined();
        if !is_new && (seen.revision(), seen.cluster) != (fleet.kept.revision, fleet.kept.cluster) {
            return Err(Refused::Behind(format!(
                "this edge is at revision {} and the store at {}; try again",
                fleet.kept.revision,
                seen.revision()
            )));
        }
        Ok(seen)
    }

    /// What the store has, if it answers.
    fn reached(&self, fleet: &Fleet) -> Result<Arc<Snapshot>, Refused> {
        let state = fleet.store.state();
        state.seen.filter(|_| state.member.is_some()).ok_or_else(|| {
            let why = format!(
                "the store does not answer, so nothing was changed; what is at work goes on ({}). To change \
                 this edge alone, take [store] out of {} and restart the daemon",
                fleet.store.why_not(),
                self.path.display()
            );
            let lost_for = self.clock.now().duration_since(state.since).unwrap_or_default();
            // Another member is asked just now, or the others elect a leader.
            if lost_for < fleet.store.settings().timeout {
                Refused::Behind(why)
            } else {
                Refused::Unavailable(why)
            }
        })
    }

    /// Settles a difference between this edge and the store.
    pub(super) async fn settle_difference(
        &mut self,
        way: Way,
        force: bool,
        peer: &Peer,
    ) -> Result<Outcome<Changed>, Refused> {
        self.configuration.nothing_pending()?;
        let fleet = self.shared()?;
        let seen = self.reached(fleet)?;
        let store = fleet.store.clone();
        let (revision, at) = (seen.revision(), self.clock.now());
        let here = services_of(&self.loaded.text)?;
        let done = |message: String| Ok(Outcome::Done(Changed { message, ..Changed::default() }));
        let (shared, text, what, trial) = match way {
            Way::Push => {
                let exceptions: Vec<_> = self.condition.exceptions.iter().cloned().collect();
                if seen.problem.is_none()
                    && (&here, &exceptions) == (&seen.services, &seen.exceptions)
                    && fleet.refused.is_none()
                {
                    return done(format!(
                        "the store has what is at work here, revision {revision}"
                    ));
                }
                let what = format!("pushed what is at work on {}", store.edge());
                ((here, exceptions), None, what, None)
            }
            Way::Pull if seen.is_empty() => {
                return Err(Refused::Conflict(format!(
                    "the store has nothing under {}; `evenkeel store push` writes what is at work here",
                    store.keys().all()
                )));
            }
            Way::Pull if seen.services.is_empty() && !here.is_empty() && !force => {
                return Err(Refused::Conflict(format!(
                    "the store has no service at all: taking that would end every service that is at work here; \
                     `evenkeel store push` writes them to {}, and --force takes them away",
                    store.keys().services()
                )));
            }
            Way::Pull => {
                let text = with_services(&self.loaded.text, &seen.services)?;
                let file = store.keys().services().into();
                let judged = self.judge(&Candidate { text: text.clone(), file })?;
                self.would_overwrite(&text)?;
                self.admit(&judged)?;
                let wanted = self.plan(&judged.loaded);
                let wanted = wanted.map_err(|error| Refused::Invalid(error.to_string()))?;
                self.guard(&judged.loaded, &wanted, force)?;
                if seen.problem.is_none() {
                    // Other edges have it: it is taken here alone.
                    let settled = self.take_shared(&seen).await?;
                    self.note_taken(Some((&seen, settled)));
                    return done(format!("took revision {revision} of the store"));
                }
                let what =
                    format!("pulled what was put into the store by hand (revision {revision})");
                let trial = Trial { config: judged.loaded.config, before: None };
                ((seen.services.clone(), seen.exceptions.clone()), Some(text), what, Some(trial))
            }
        };
        let Some(fleet) = &mut self.fleet else { return done(what) };
        let record = Record::new(store.edge(), peer.clone(), what.clone(), at, Vec::new());
        let mut proposed = fleet.propose(&seen, shared, record, text);
        proposed.trial = trial;
        Ok(Outcome::Propose(proposed, Changed { message: what, ..Changed::default() }))
    }

    /// Fills a store that nobody has written to with what is at work here.
    pub(super) fn fill_store(&mut self) {
        let Some(fleet) = &self.fleet else { return };
        if fleet.tidied.is_some_and(|at| at.elapsed() < BETWEEN_TIDYINGS) {
            return;
        }
        let Ok(services) = services_of(&self.loaded.text) else { return };
        let exceptions = self.condition.exceptions.iter().cloned().collect();
        let what = format!("filled the store with the services of {}", fleet.store.edge());
        info!("the store is empty: it gets this edge's services");
        self.write_aside(services, exceptions, what);
    }

    /// Takes exceptions out of the store that are over, or whose backend is gone.
    pub(super) fn tidy_store(&mut self) {
        let Some(fleet) = &self.fleet else { return };
        if fleet.refused.is_some() || fleet.tidied.is_some_and(|at| at.elapsed() < BETWEEN_TIDYINGS)
        {
            return;
        }
        let Ok(seen) = self.settled() else { return };
        if unconfirmed(&seen).is_some() {
            return;
        }
        let now = self.clock.now();
        let (over, left): (Vec<_>, Vec<_>) = seen.exceptions.iter().cloned().partition(|e| {
            e.until.is_some_and(|until| until <= now) || !is_known(&self.loaded.config, e)
        });
        if over.is_empty() {
            return;
        }
        let names: Vec<_> = over.iter().map(|e| format!("{}/{}", e.service, e.backend)).collect();
        let what = format!("the exceptions of {} are over", names.join(", "));
        self.write_aside(seen.services.clone(), left, what);
    }

    /// Writes something that nobody waits for. Every edge tries; one of them succeeds.
    pub(super) fn write_aside(
        &mut self,
        services: String,
        exceptions: Vec<Exception>,
        what: String,
    ) {
        let at = self.clock.now();
        let Some(fleet) = &mut self.fleet else { return };
        let state = fleet.store.state();
        // Otherwise what waits for a member would pile up.
        let Some(seen) = state.seen.filter(|_| state.member.is_some()) else { return };
        fleet.tidied = Some(Instant::now());
        let record = Record::new(fleet.store.edge(), Peer::named("daemon"), what, at, Vec::new());
        let Proposed { store, proposal, .. } =
            *fleet.propose(&seen, (services, exceptions), record, None);
        tokio::spawn(async move {
            match store.write(proposal).await {
                Ok(_) | Err(Failure::Conflict) => {}
                Err(failure) => debug!("{failure}"),
            }
        });
    }
}

/// The change that waits for its confirmation.
pub(super) fn unconfirmed(seen: &Snapshot) -> Option<(&Record, &Unconfirmed)> {
    let record = seen.change.as_ref()?;
    Some((record, record.unconfirmed.as_ref()?))
}

fn is_of(exception: &Exception, keys: &[BackendKey]) -> bool {
    keys.iter()
        .any(|(service, backend)| (&exception.service, &exception.backend) == (service, backend))
}
