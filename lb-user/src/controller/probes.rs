//! From the configuration's health checks to the probes that run and the agents that are asked, and what they judge.

use std::net::SocketAddr;

use super::Controller;
use crate::{
    config::{Backend, Config, Probe, Service},
    events::{Kind, Note},
    health::{self, AgentSpec, Health, ProbeKind, ProbeSpec},
};

/// A backend by the names of its service and itself.
pub type BackendKey = (String, String);

impl Controller {
    /// Notes what a probe judged anew.
    pub(super) fn note_health(&mut self, change: health::Change<BackendKey>) {
        let health::Change { key, from, to, reason, .. } = change;
        if self
            .loaded
            .config
            .service(&key.0)
            .is_none_or(|service| service.backend(&key.1).is_none())
        {
            return;
        }
        let note = Note::new(Kind::Health, format!("backend is {to}, was {from}: {reason}"));
        let note = note.backend(&key.0, &key.1).because(reason);
        self.told.doubt(&key.0);
        if to == Health::Down {
            self.events.tell(note.warning());
            self.has_failed(&key);
        } else {
            self.events.tell(note);
        }
        self.condition.note_change(&key);
        self.condition.health.insert(key, to);
    }
}

/// The probes of a configuration, each with the health to begin with.
pub fn wanted(
    config: &Config,
    known: impl Fn(&BackendKey) -> Health,
) -> Vec<(BackendKey, ProbeSpec, Health)> {
    probed(config)
        .map(|(service, backend, probe)| {
            let target = service.probe_target(backend);
            let key = (service.name.clone(), backend.name.clone());
            let health = known(&key);
            let kind = told(&probe.kind, &key);
            (key, ProbeSpec { target, kind, timing: probe.timing }, health)
        })
        .collect()
}

/// The agents of a configuration.
pub fn agents(config: &Config) -> Vec<(BackendKey, AgentSpec)> {
    probed(config)
        .filter_map(|(service, backend, probe)| {
            let check = probe.agent?;
            let target = SocketAddr::new(backend.address.ip(), check.port);
            Some(((service.name.clone(), backend.name.clone()), AgentSpec { target, check }))
        })
        .collect()
}

fn probed(config: &Config) -> impl Iterator<Item = (&Service, &Backend, &Probe)> {
    let services = config.services.iter();
    services.filter_map(|service| Some((service, service.health.probe()?))).flat_map(
        |(service, probe)| service.backends.iter().map(move |backend| (service, backend, probe)),
    )
}

/// A program is told whom it is about.
fn told(kind: &ProbeKind, (service, backend): &BackendKey) -> ProbeKind {
    let mut kind = kind.clone();
    if let ProbeKind::Exec(probe) = &mut kind {
        probe.environment =
            vec![("EVENKEEL_SERVICE", service.clone()), ("EVENKEEL_BACKEND", backend.clone())];
    }
    kind
}
