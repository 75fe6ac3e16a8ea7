//! From the configuration's health checks to the probes that run.

use crate::{
    config::{Config, HealthCheck},
    health::{Health, ProbeKind, ProbeSpec},
};

/// A backend by the names of its service and itself.
pub type BackendKey = (String, String);

/// The probes of a configuration, each with the health to begin with.
pub fn wanted(
    config: &Config,
    known: impl Fn(&BackendKey) -> Health,
) -> Vec<(BackendKey, ProbeSpec, Health)> {
    let mut probes = Vec::new();
    for service in &config.services {
        let (kind, timing) = match &service.health {
            HealthCheck::None => continue,
            HealthCheck::Tcp { timing, .. } => (ProbeKind::Tcp, *timing),
            HealthCheck::Http { exchange, timing, .. } => {
                (ProbeKind::Http(exchange.clone()), *timing)
            }
        };
        for backend in &service.backends {
            let target = service.probe_target(backend);
            let key = (service.name.clone(), backend.name.clone());
            let health = known(&key);
            probes.push((key, ProbeSpec { target, kind: kind.clone(), timing }, health));
        }
    }
    probes
}
