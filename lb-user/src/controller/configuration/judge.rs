//! What a text has to pass before it becomes the configuration, and what it would change.

use std::{collections::HashSet, fs, io, time::Instant};

use super::super::{Controller, Refused, change, condition};
use crate::{
    admin::AdminState,
    api::configuration::{Candidate, Plan},
    config::{Backend, Config, Diagnostic, HostFacts, Loaded, Service, Severity},
    plan::{
        Diff, Tables,
        diff::{self, Fate, Side},
    },
};

/// A text that may become the configuration.
pub(in super::super) struct Judged {
    /// It.
    pub(in super::super) loaded: Loaded,
    /// What this host says about it.
    pub(super) host: Vec<Diagnostic>,
    /// What it changes.
    pub(in super::super) diff: Diff,
}

impl Controller {
    /// Checks a text and says what it changes.
    pub(in super::super) fn judge(&self, candidate: &Candidate) -> Result<Judged, Refused> {
        let (loaded, host) = self.check(candidate)?;
        let loaded = self.effective(loaded);
        let diff = self.diff(&loaded.config);
        Ok(Judged { loaded, host, diff })
    }

    /// The errors of a text and of this host with it, all at once; files that it names are looked for
    /// beside the configuration file, where they will be.
    fn check(&self, candidate: &Candidate) -> Result<(Loaded, Vec<Diagnostic>), Refused> {
        let refuse = |mut found: Vec<Diagnostic>| {
            found.sort_by_key(|diagnostic| diagnostic.position);
            let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
            let file = candidate.file.display();
            Refused::Invalid(format!(
                "{file} is invalid, nothing was changed:\n{}",
                lines.join("\n")
            ))
        };
        let loaded = Config::parse_for(&candidate.text, &candidate.file, &self.path)
            .map_err(|invalid| refuse(invalid.diagnostics))?;
        let host = HostFacts::read()
            .map(|facts| loaded.check_host(&facts.with_interfaces(&self.interfaces)))
            .unwrap_or_default();
        if host.iter().any(|found| found.severity == Severity::Error) {
            return Err(refuse(loaded.warnings.into_iter().chain(host).collect()));
        }
        Ok((loaded, host))
    }

    /// What `POST /v1/configuration/plan` answers.
    pub(super) fn plan_candidate(&self, candidate: &Candidate) -> Result<Plan, Refused> {
        let Judged { loaded, host, diff } = self.judge(candidate)?;
        let mut refused = self.beyond_reach(&diff);
        let pending = self.configuration.nothing_pending().err();
        let edited = self.would_overwrite(&candidate.text).err();
        let room = self.plan(&loaded).err().map(|full| full.to_string());
        refused.extend([pending, edited].into_iter().flatten().map(|found| found.to_string()));
        refused.extend(room);
        let warnings = self.fresh_warnings(&loaded, &host, &diff);
        Ok(Plan { against: "running".to_owned(), diff, refused, warnings })
    }

    /// What changes from what is at work: shares are by who is active now, and count new servers as up.
    fn diff(&self, new: &Config) -> Diff {
        let now = Instant::now();
        let olds = self.loaded.config.index();
        let before = |service: &Service, backend: &Backend| {
            self.condition.standing(service, backend, now).is_usable()
        };
        let after = |service: &Service, backend: &Backend| {
            let old = olds.service(&service.name);
            let known = olds.backend(&service.name, &backend.name);
            let probed = |service: &Service| service.health.timing().is_some();
            let key = condition::key(service, backend);
            let admitted = self.condition.exceptions.state(&key) == AdminState::Ready;
            let same = known.filter(|known| known.address == backend.address);
            let Some((old, known)) = old.zip(same) else { return admitted };
            // What no probe looks at any more counts as up.
            before(old, known) || (admitted && probed(old) && !probed(service))
        };
        Diff::between(
            Side { config: &self.loaded.config, active: &before },
            Side { config: new, active: &after },
        )
    }

    /// What is asked of a valid text before it goes live. The test of it with the program itself takes
    /// seconds, so it is the API's: the controller has other things to do meanwhile.
    pub(in super::super) fn admit(&self, judged: &Judged) -> Result<(), Refused> {
        let refused = self.beyond_reach(&judged.diff);
        if refused.is_empty() { Ok(()) } else { Err(Refused::Conflict(refused.join("\n"))) }
    }

    /// Why changes are refused that a running daemon cannot make.
    fn beyond_reach(&self, diff: &Diff) -> Vec<String> {
        let path = self.path.display();
        let way_out = |key: &str| {
            if key.starts_with("tables.") {
                format!(
                    "tables keep their sizes for as long as they are loaded: write it into {path}, \
                     stop the daemon, run `evenkeel detach`, which cuts connections, and start it again"
                )
            } else if key.starts_with("store.") {
                format!(
                    "the store is joined when the daemon starts: write it into {path} and restart \
                     `evenkeel run` (no connection is lost)"
                )
            } else {
                format!(
                    "interfaces are attached when the daemon starts: write it into {path} and restart \
                     `evenkeel run` (no connection is lost)"
                )
            }
        };
        // The other value may be the tables' own, which a daemon that took them over did not make.
        let ours = |key: &str, after: &serde_json::Value| {
            let sizes = serde_json::to_value(self.sizes).unwrap_or_default();
            key.strip_prefix("tables.").is_some_and(|key| sizes.get(key) == Some(after))
        };
        diff.needs_restart()
            .filter(|setting| !ours(&setting.key, &setting.after))
            .map(|setting| {
                format!(
                    "{} cannot change from {} to {} while the daemon runs; {}",
                    setting.key,
                    diff::plain(&setting.before),
                    diff::plain(&setting.after),
                    way_out(&setting.key)
                )
            })
            .collect()
    }

    /// Refuses to write over edits that nobody took live. Says whether the file has this text already.
    pub(in super::super) fn would_overwrite(&self, text: &str) -> Result<bool, Refused> {
        match fs::read_to_string(&self.path) {
            Ok(found) if found == text => Ok(true),
            Ok(found) if found == self.loaded.text => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Ok(_) => {
                Err(Refused::Conflict(change::was_edited(&self.path, "overwrite those edits")))
            }
            Err(error) => {
                let context = format!("read {}", self.path.display());
                Err(Refused::Failed(anyhow::Error::new(error).context(context)))
            }
        }
    }

    /// What is dangerous about a configuration and was not before.
    pub(super) fn fresh_warnings(
        &self,
        loaded: &Loaded,
        host: &[Diagnostic],
        diff: &Diff,
    ) -> Vec<String> {
        let services = loaded.config.index();
        let mut warnings = change::fresh(&self.loaded, loaded, host);
        for service in diff.services.iter().filter(|service| service.fate != Fate::Removed) {
            let works = service.backends.iter().any(|backend| backend.share_before > 0.0);
            let probed = services
                .service(&service.name)
                .is_some_and(|service| service.health.timing().is_some());
            let moved = |backend: &diff::BackendDiff| {
                backend.settings.iter().any(|setting| setting.key == "address")
            };
            let stays = service.backends.iter().any(|backend| {
                backend.share_before > 0.0 && backend.share_after > 0.0 && !moved(backend)
            });
            if works && probed && !stays {
                warnings.push(format!(
                    "no backend of service {:?} stays, so it has none until probes have passed at new \
                     ones; keep an old one until then",
                    service.name
                ));
            }
        }
        warnings
    }
}

/// The configured backends that get new connections, by the names of their services and their own.
pub(super) fn active(held: &Tables) -> HashSet<(&str, &str)> {
    let active = held.backends.values().filter(|backend| backend.live && backend.active);
    active.map(|backend| (backend.service.as_str(), backend.name.as_str())).collect()
}
