//! Changes: the configuration file and the running data path, together or not at all.

use std::{collections::HashSet, fs, path::Path, sync::Arc};

use super::{Controller, Outcome, condition, configuration::Deed, probes::BackendKey};
use crate::{
    api::{Peer, model::Changed},
    config::{
        Config, Diagnostic, HostFacts, Invalid, Loaded, Scheduler, Severity,
        edit::{self, BackendSpec, EditError, ServiceSpec},
        shown,
    },
    events::{Kind, Note},
    plan::BackendId,
};

/// A change that was asked for.
#[derive(Clone, Debug)]
pub enum Change {
    /// Adds a service without backends.
    AddService(ServiceSpec),
    /// Removes a service with its backends; `now` cuts their connections.
    RemoveService {
        /// Its name.
        name: String,
        /// Whether open connections are cut.
        now: bool,
    },
    /// Sets a service's scheduler. Open connections stay where they are.
    SetScheduler {
        /// The service's name.
        service: String,
        /// The scheduler.
        scheduler: Scheduler,
        /// Slots of its table, where it hashes; `None`: as before.
        table_size: Option<u32>,
    },
    /// Adds a backend.
    AddBackend {
        /// The service's name.
        service: String,
        /// The backend.
        backend: BackendSpec,
    },
    /// Removes a backend; `now` cuts its connections.
    RemoveBackend {
        /// The service's name.
        service: String,
        /// Its name.
        name: String,
        /// Whether open connections are cut.
        now: bool,
        /// Whether fewer than `min_active` may stay.
        force: bool,
    },
    /// Sets a backend's weight.
    SetWeight {
        /// The service's name.
        service: String,
        /// Its name.
        name: String,
        /// The weight, from 1.
        weight: u16,
    },
}

/// Why a change was not made. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It names what is not there.
    #[error("{0}")]
    NotFound(String),
    /// Too few backends would stay.
    #[error("{0}")]
    Guarded(String),
    /// It names what the history has not.
    #[error("{0}")]
    Absent(String),
    /// It would make what is there already, or the file was edited by hand.
    #[error("{0}")]
    Conflict(String),
    /// The configuration would be invalid.
    #[error("{0}")]
    Invalid(String),
    /// Another edge has changed what this one has not taken yet, or a member of the store has just failed: it is
    /// another matter in a moment.
    #[error("{0}")]
    Behind(String),
    /// The store does not answer.
    #[error("{0}")]
    Unavailable(String),
    /// The file or the tables could not be written.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

impl From<EditError> for Refused {
    fn from(error: EditError) -> Self {
        match error {
            EditError::UnknownService { .. } | EditError::UnknownBackend { .. } => {
                Self::NotFound(error.to_string())
            }
            EditError::Exists { .. } => Self::Conflict(error.to_string()),
            EditError::InvalidAfter(Invalid { diagnostics }) => Self::Invalid(errors(&diagnostics)),
            _ => Self::Invalid(error.to_string()),
        }
    }
}

/// The errors among diagnostics, without the places of a text that nobody has seen.
fn errors(diagnostics: &[Diagnostic]) -> String {
    let errors = diagnostics.iter().filter(|found| found.severity == Severity::Error);
    let texts: Vec<_> =
        errors.map(|found| format!("{}; {}", found.message, found.remedy)).collect();
    texts.join("\n")
}

impl Change {
    fn edit(&self, text: &str) -> Result<Loaded, EditError> {
        match self {
            Self::AddService(spec) => edit::add_service(text, spec),
            Self::RemoveService { name, .. } => edit::remove_service(text, name),
            Self::SetScheduler { service, scheduler, table_size } => {
                edit::set_scheduler(text, service, *scheduler, *table_size)
            }
            Self::AddBackend { service, backend } => edit::add_backend(text, service, backend),
            Self::RemoveBackend { service, name, .. } => edit::remove_backend(text, service, name),
            Self::SetWeight { service, name, weight } => {
                edit::set_weight(text, service, name, *weight)
            }
        }
    }

    /// As an event.
    fn note(&self, what: &str) -> Note {
        let note = Note::new(Kind::Membership, what);
        match self {
            Self::AddService(ServiceSpec { name: service, .. })
            | Self::RemoveService { name: service, .. }
            | Self::SetScheduler { service, .. } => note.service(service),
            Self::AddBackend { service, backend: BackendSpec { name, .. } }
            | Self::RemoveBackend { service, name, .. }
            | Self::SetWeight { service, name, .. } => note.backend(service, name),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::AddService(spec) => {
                format!("service {} added at {}/{}", spec.name, shown(spec.address), spec.protocol)
            }
            Self::RemoveService { name, .. } => format!("service {name} removed"),
            Self::SetScheduler { service, scheduler, .. } => {
                format!("service {service} schedules by {scheduler}")
            }
            Self::AddBackend { service, backend } => {
                format!("backend {service}/{} added at {}", backend.name, shown(backend.address))
            }
            Self::RemoveBackend { service, name, .. } => {
                format!("backend {service}/{name} removed")
            }
            Self::SetWeight { service, name, weight } => {
                format!("backend {service}/{name} has weight {weight}")
            }
        }
    }
}

impl Controller {
    /// Makes a change: checks it, writes the file, then the tables. A failure on the way puts
    /// back what was. What edges share is proposed to the store instead.
    pub(super) async fn change(
        &mut self,
        change: Change,
        peer: &Peer,
    ) -> Result<Outcome<Changed>, Refused> {
        self.configuration.nothing_pending()?;
        match &change {
            Change::RemoveBackend { service, name, .. } => {
                let instead = "it leaves when it is gone there; take it out with `evenkeel backend drain` until then";
                self.is_declared(service, name, instead)?;
            }
            Change::SetWeight { service, name, .. } => {
                let instead = "set its weight there, or declare it with `evenkeel backend add`";
                self.is_declared(service, name, instead)?;
            }
            _ => {}
        }
        let text = self.text_on_disk()?;
        let edited = change.edit(&text)?;
        let loaded = if self.loaded.prefix_files.is_empty() {
            edited.of_file(&self.path)
        } else {
            // With what is in the files that it names.
            Config::parse(&edited.text, &self.path)
                .map_err(|invalid| Refused::Invalid(errors(&invalid.diagnostics)))?
        };
        self.same_prefix_files(&loaded)?;
        let host = match HostFacts::read() {
            Ok(facts) => loaded.check_host(&facts.with_interfaces(&self.interfaces)),
            Err(_) => Vec::new(),
        };
        let force = matches!(change, Change::RemoveBackend { force: true, .. });
        let cut = self.to_cut(&change);
        let mut warnings = fresh(&self.loaded, &loaded, &host);
        let what = change.describe();
        if let Some((proposed, notes)) =
            self.propose(&loaded, (force, None), &what, peer, self.keys_of(&cut))?
        {
            warnings.extend(notes);
            let changed = Changed { message: what, warnings, ..Changed::default() };
            return Ok(Outcome::Propose(proposed, changed));
        }
        let deed = Deed { note: change.note(&what).by(peer), is_whole: false, peer, what: &what };
        let (_, notes) = self.switch(loaded, false, force, deed)?;
        warnings.extend(notes);
        let cut = self.cut(cut).await.unwrap_or_else(|error| {
            // The change is made; what remains is to say what is left of it.
            warnings.push(format!("not all open connections were cut: {error:#}"));
            0
        });
        Ok(Outcome::Done(Changed { message: what, warnings, cut, ..Changed::default() }))
    }

    /// The configuration's text, if it still is what the data path was made from.
    fn text_on_disk(&self) -> Result<String, Refused> {
        let text = fs::read_to_string(&self.path).map_err(|error| {
            Refused::Failed(
                anyhow::Error::new(error).context(format!("read {}", self.path.display())),
            )
        })?;
        if text != self.loaded.text {
            return Err(Refused::Conflict(was_edited(&self.path, "take those edits live")));
        }
        Ok(text)
    }

    /// Refuses what would take edits of a file of prefixes live, too.
    fn same_prefix_files(&self, new: &Loaded) -> Result<(), Refused> {
        let edited = self.loaded.prefix_files.iter().find(|(path, digest)| {
            new.prefix_files.get(*path).is_some_and(|found| found != *digest)
        });
        edited.map_or(Ok(()), |(path, _)| {
            Err(Refused::Conflict(was_edited(path, "take those edits live")))
        })
    }

    /// Backends whose connections a change cuts.
    fn to_cut(&self, change: &Change) -> Vec<BackendId> {
        let held = self.applier.held();
        match change {
            Change::RemoveBackend { service, name, now: true, .. } => {
                held.backend(service, name).map(|(id, _)| id).into_iter().collect()
            }
            Change::RemoveService { name, now: true } => held
                .backends
                .iter()
                .filter(|(_, backend)| backend.live && backend.service == *name)
                .map(|(id, _)| *id)
                .collect(),
            _ => Vec::new(),
        }
    }

    fn keys_of(&self, backends: &[BackendId]) -> Vec<BackendKey> {
        let held = &self.applier.held().backends;
        let entries = backends.iter().filter_map(|id| held.get(id));
        entries.map(|entry| (entry.service.clone(), entry.name.clone())).collect()
    }

    /// A backend that is added is cold: its share grows.
    pub(super) fn note_added(&mut self, new: &Loaded) {
        let before = self.loaded.config.index();
        for service in &new.config.services {
            for backend in &service.backends {
                if before.backend(&service.name, &backend.name).is_none() {
                    self.condition.ramps.left(&condition::key(service, backend));
                }
            }
        }
    }

    pub(super) async fn cut(&self, backends: Vec<BackendId>) -> anyhow::Result<u64> {
        if backends.is_empty() {
            return Ok(0);
        }
        let connections = Arc::clone(&self.connections);
        tokio::task::spawn_blocking(move || {
            backends.into_iter().map(|backend| connections.cut(backend)).sum()
        })
        .await?
    }
}

/// How a change is refused that would do something to edits which nobody took live.
pub(super) fn was_edited(path: &Path, harm: &str) -> String {
    let path = path.display();
    format!(
        "{path} was edited since it was loaded, and this change would {harm}; see what they change \
         with `evenkeel plan {path}` and take them with `evenkeel reload`, or restore the file"
    )
}

/// The warnings that a change brought.
pub(super) fn fresh(old: &Loaded, new: &Loaded, host: &[Diagnostic]) -> Vec<String> {
    let said: HashSet<_> = old.warnings.iter().map(|warning| &warning.message).collect();
    let known: HashSet<_> = old.config.services.iter().map(|service| &*service.name).collect();
    // The service that a message is about is the word in quotes: names have none in them.
    let is_known =
        |message: &str| message.split('"').skip(1).step_by(2).any(|name| known.contains(name));
    let own = new.warnings.iter().filter(|warning| !said.contains(&warning.message));
    let host = host
        .iter()
        .filter(|found| found.severity == Severity::Warning && !is_known(&found.message));
    own.chain(host).map(|found| format!("{}; {}", found.message, found.remedy)).collect()
}
