//! Taking backends out for a while and back: drain, maintenance, and what ends them.

use std::time::{Duration, Instant, SystemTime};

use tracing::{error, warn};

use super::{Controller, Outcome, change::Refused, probes::BackendKey};
use crate::{
    admin::{AdminState, Ended, Exception, Exceptions, Span, store},
    api::{Peer, model::Changed},
    config::Config,
    events::{Kind, Note},
    plan::BackendId,
};

/// The longest reason that is kept, in characters.
const LONGEST_REASON: usize = 200;
/// How often the log reminds of backends that are out.
const REMINDER: Duration = Duration::from_hours(1);

/// What is asked for a backend.
#[derive(Clone, Debug)]
pub struct Administer {
    /// The service's name; `None`: every service that has a backend of that name.
    pub service: Option<String>,
    /// The backend's name.
    pub backend: String,
    /// What shall become of it.
    pub wish: Wish,
    /// Whether fewer than `min_active` may stay.
    pub force: bool,
    /// Who asks.
    pub by: Peer,
}

/// What shall become of a backend.
#[derive(Clone, Debug)]
pub enum Wish {
    /// It is let finish.
    Drain(Span, String),
    /// It is taken out at once.
    Maintain(Span, String),
    /// It takes part again.
    Resume,
}

impl Wish {
    fn exception(
        &self,
        (service, backend): &BackendKey,
        discovered: bool,
        by: &Peer,
        now: SystemTime,
    ) -> Option<Exception> {
        let (state, span, reason) = match self {
            Self::Drain(span, reason) => (AdminState::Drain, span, reason),
            Self::Maintain(span, reason) => (AdminState::Maintenance, span, reason),
            Self::Resume => return None,
        };
        let until = match span {
            Span::For(span) => Some(now + *span),
            Span::Forever => None,
        };
        Some(Exception {
            service: service.clone(),
            backend: backend.clone(),
            state,
            since: now,
            until,
            reason: reason.trim().to_owned(),
            by: by.clone(),
            discovered,
        })
    }

    fn check(&self) -> Result<(), Refused> {
        let (Self::Drain(_, reason) | Self::Maintain(_, reason)) = self else { return Ok(()) };
        check_reason(reason)
    }
}

/// Whether somebody who finds the reason learns anything.
pub(super) fn check_reason(reason: &str) -> Result<(), Refused> {
    let wrong = match reason.trim() {
        "" => "the reason is empty; say why, for whoever finds it",
        text if text.chars().any(char::is_control) => "the reason has control characters in it",
        text if text.chars().count() > LONGEST_REASON => "the reason is longer than 200 characters",
        _ => return Ok(()),
    };
    Err(Refused::Invalid(wrong.to_owned()))
}

impl Controller {
    /// Takes backends out or back: notes it on disk, then in the tables. A failure on the way puts back
    /// what was.
    ///
    /// What edges share is proposed to the store instead.
    pub(super) async fn administer(
        &mut self,
        asked: Administer,
    ) -> Result<Outcome<Changed>, Refused> {
        asked.wish.check()?;
        let keys = self.named(asked.service.as_deref(), &asked.backend)?;
        let now = self.clock.now();
        let mut exceptions = self.condition.exceptions.clone();
        let (mut said, mut news) = (Vec::new(), Vec::new());
        for key in &keys {
            let label = format!("{}/{}", key.0, key.1);
            let known = self.loaded.config.service(&key.0).and_then(|s| s.backend(&key.1));
            let discovered = known.map_or_else(
                // Gone for now; it is known by its exception alone.
                || exceptions.get(key).is_some_and(|exception| exception.discovered),
                |backend| backend.origin.is_some(),
            );
            match asked.wish.exception(key, discovered, &asked.by, now) {
                Some(exception) => {
                    let line = format!("backend {label} {}", describe(&exception, now));
                    news.push(admin(key, &line).by(&asked.by).because(&exception.reason));
                    said.push(line);
                    exceptions.set(exception);
                }
                None if exceptions.end(key).is_some() => {
                    let line = format!("backend {label} is ready again");
                    news.push(admin(key, &line).by(&asked.by));
                    said.push(line);
                }
                None => said.push(format!("backend {label} is ready already")),
            }
        }
        let maintained = matches!(asked.wish, Wish::Maintain(..));
        if !news.is_empty() {
            let cut = if maintained { keys.clone() } else { Vec::new() };
            let what = said.join("; ");
            let asking = (what.as_str(), &asked.by);
            if let Some((proposed, notes)) =
                self.propose_exceptions(&exceptions, &keys, asked.force, asking, cut)?
            {
                let message = said.join("\n");
                let changed = Changed { message, warnings: notes, ..Changed::default() };
                return Ok(Outcome::Propose(proposed, changed));
            }
        }
        let notes = self.take(exceptions, &keys, asked.force, news)?;
        let mut changed =
            Changed { message: said.join("\n"), warnings: notes, ..Changed::default() };
        if maintained {
            match self.cut(self.ids(&keys)).await {
                Ok(cut) => changed.cut = cut,
                Err(error) => {
                    let warning = format!("not all open connections were cut: {error:#}");
                    changed.warnings.push(warning);
                }
            }
        }
        Ok(Outcome::Done(changed))
    }

    /// The backends of that name.
    fn named(&self, service: Option<&str>, backend: &str) -> Result<Vec<BackendKey>, Refused> {
        let config = &self.loaded.config;
        let services = match service {
            Some(name) => {
                let found = config.service(name).ok_or_else(|| {
                    let known: Vec<_> = config.services.iter().map(|s| s.name.as_str()).collect();
                    Refused::NotFound(format!(
                        "there is no service {name:?}; the services are: {}",
                        listed(&known)
                    ))
                })?;
                std::slice::from_ref(found)
            }
            None => &config.services[..],
        };
        let keys: Vec<_> = services
            .iter()
            .map(|service| (service, (service.name.clone(), backend.to_owned())))
            .filter(|(service, key)| {
                // One that was discovered, is taken out and gone can be let back in before it returns.
                service.backend(backend).is_some() || self.condition.exceptions.get(key).is_some()
            })
            .map(|(_, key)| key)
            .collect();
        if keys.is_empty() {
            let mut known: Vec<_> =
                services.iter().flat_map(|s| &s.backends).map(|b| b.name.as_str()).collect();
            known.sort_unstable();
            known.dedup();
            return Err(Refused::NotFound(format!(
                "there is no backend {backend:?}{}; the backends are: {}",
                service.map(|name| format!(" of service {name:?}")).unwrap_or_default(),
                listed(&known)
            )));
        }
        Ok(keys)
    }

    pub(super) fn ids(&self, keys: &[BackendKey]) -> Vec<BackendId> {
        let held = self.applier.held();
        keys.iter().filter_map(|(s, b)| held.backend(s, b)).map(|(id, _)| id).collect()
    }

    /// Makes these the exceptions, where the services can do without who leaves, and tells the news.
    pub(super) fn take(
        &mut self,
        exceptions: Exceptions,
        keys: &[BackendKey],
        force: bool,
        news: Vec<Note>,
    ) -> Result<Vec<String>, Refused> {
        let before = std::mem::replace(&mut self.condition.exceptions, exceptions);
        let planned = self
            .plan(&self.loaded)
            .map_err(|error| Refused::Failed(error.into()))
            .and_then(|wanted| Ok((self.guard(&self.loaded, &wanted, force)?, wanted)));
        let made = planned.and_then(|(notes, wanted)| {
            self.save_exceptions().map_err(Refused::Failed)?;
            self.applier
                .apply(&wanted)
                .map_err(|error| Refused::Failed(error.context("write the data path's tables")))?;
            Ok(notes)
        });
        let notes = made.inspect_err(|refused| {
            self.condition.exceptions = before;
            if matches!(refused, Refused::Failed(_)) {
                if let Err(error) = self.save_exceptions() {
                    error!("could not restore what was remembered: {error:#}");
                }
                self.update();
            }
        })?;
        for note in news {
            self.events.tell(note);
        }
        for key in keys {
            self.condition.note_change(key);
            self.told.doubt(&key.0);
            if self.condition.exceptions.get(key).is_some() {
                self.condition.ramps.left(key);
            }
        }
        self.follow_configuration();
        self.update();
        Ok(notes)
    }

    pub(super) fn save_exceptions(&self) -> anyhow::Result<()> {
        store::write(&self.state_dir, &self.condition.exceptions)
    }

    /// Ends the exceptions whose time is up, and those of backends that are gone; tells whether there
    /// were any.
    pub(super) fn end_exceptions(&mut self) -> bool {
        let config = &self.loaded.config;
        let configured = |exception: &Exception| is_known(config, exception);
        let ended = self.condition.exceptions.settle(self.clock.now(), configured);
        if ended.is_empty() {
            return self.end_node_drain();
        }
        for (Exception { service, backend, state, reason, .. }, how) in &ended {
            self.condition.note_change(&(service.clone(), backend.clone()));
            let message = match how {
                Ended::TimeUp => {
                    format!(
                        "the time of its {state} is up, it returns once it is healthy: {reason}"
                    )
                }
                Ended::Removed => format!("removed while in {state}: {reason}"),
            };
            let note = Note::new(Kind::Admin, message).backend(service, backend);
            self.events.tell(note.by(&Peer::named("daemon")).because(reason));
            self.told.doubt(service);
        }
        // What stays on disk ends again after a restart: its time is up then, too.
        if let Err(error) = self.save_exceptions() {
            error!("could not note which backends are ready again: {error:#}");
        }
        self.follow_configuration();
        true
    }

    /// Reminds of the backends that are out, now and then.
    pub(super) fn remind(&mut self, now: Instant) {
        if now < self.next_reminder {
            return;
        }
        self.next_reminder = now + REMINDER;
        for exception in self.condition.exceptions.iter() {
            let Exception { service, backend, since, by, .. } = exception;
            let since = humantime::format_rfc3339_seconds(*since);
            warn!(
                service, backend, %by, %since,
                "backend is out: it {}", describe(exception, self.clock.now())
            );
        }
        self.remind_of_node();
    }
}

/// Whether a configuration has the backend that is taken out, or may discover it again.
pub(super) fn is_known(config: &Config, exception: &Exception) -> bool {
    config.service(&exception.service).is_some_and(|service| {
        service.backend(&exception.backend).is_some()
            || (exception.discovered && !service.discover.is_empty())
    })
}

pub(super) fn admin((service, backend): &BackendKey, line: &str) -> Note {
    Note::new(Kind::Admin, line).backend(service, backend)
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// What an exception does to its backend, until when, and why.
pub(super) fn describe(exception: &Exception, now: SystemTime) -> String {
    let does = match exception.state {
        AdminState::Drain => "drains",
        AdminState::Maintenance => "is in maintenance",
        AdminState::Ready => "is ready",
    };
    let until = match (exception.until, exception.left(now)) {
        (Some(until), Some(left)) => format!(
            "for {} (until {})",
            humantime::format_duration(Duration::from_secs(left.as_secs())),
            humantime::format_rfc3339_seconds(until)
        ),
        _ => "until somebody resumes it".to_owned(),
    };
    format!("{does} {until}: {}", exception.reason)
}
