//! Facts for the alerts: what a look saw, and what else is known, about once a second.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use lb_common::counters::BackendCounters;

use super::{Controller, condition, look::FULL, probes::BackendKey};
use crate::{
    admin::AdminState,
    alerts::facts::{BackendFacts, Counts, Facts, ServiceFacts, TableFacts},
    api::model::{Alert, Alerts, Interface},
    config::{Backend, Service, Tier},
    health::{Health, Wants},
    plan::{BackendId, Index},
};

/// What the facts of all backends need.
struct Sources<'a> {
    held: Index<'a>,
    counters: &'a HashMap<BackendId, BackendCounters>,
    flapping: HashSet<BackendKey>,
    active: HashSet<BackendId>,
    now: Instant,
}

impl Controller {
    /// Hands on what the look saw, if it is time again.
    pub(super) fn note_alerts(
        &mut self,
        counters: &HashMap<BackendId, BackendCounters>,
        now: Instant,
    ) {
        if !self.alerts.is_due(now) {
            return;
        }
        let look_late = std::mem::take(&mut self.look_late);
        // Out of the way, for the facts borrow the rest.
        let mut desk = std::mem::take(&mut self.alerts);
        let edited = self.configuration.edited();
        let mut facts = self.facts(counters, now);
        facts.look_late = look_late;
        facts.deliveries = desk.deliveries();
        facts.edited = edited.as_ref().map(|edited| (edited.file.as_str(), edited.what.as_str()));
        desk.note(&facts, &self.loaded.config.alerts, now, self.clock.now());
        self.alerts = desk;
    }

    /// The alerts that are raised.
    pub(super) fn raised(&self) -> Vec<Alert> {
        self.alerts.raised(&self.loaded.config.alerts, Instant::now())
    }

    /// What there is to tell of alerts.
    pub(super) fn told_alerts(&self) -> Alerts {
        self.alerts.told(&self.loaded.config.alerts, Instant::now())
    }

    fn facts<'a>(
        &'a self,
        counters: &'a HashMap<BackendId, BackendCounters>,
        now: Instant,
    ) -> Facts<'a> {
        let reader = self.monitor.reader();
        let rings = self.applier.held().services.values().flat_map(|service| &service.ring.members);
        let sources = Sources {
            held: self.applier.held().index(),
            counters,
            flapping: reader.held(),
            active: rings.copied().collect(),
            now,
        };
        let services = self.loaded.config.services.iter();
        let attached = self.events.attached.borrow();
        let broken = attached.iter().filter(|attachment| attachment.problem.is_some());
        let verdicts = self.applier.dataplane().verdicts().unwrap_or_default();
        let refused = verdicts.iter().find(|(name, _)| *name == FULL);
        Facts {
            services: services.map(|service| self.service_facts(service, &sources)).collect(),
            interfaces: broken
                .map(|attachment| Interface {
                    name: attachment.name.clone(),
                    mode: attachment.mode.to_owned(),
                    problem: attachment.problem.clone(),
                })
                .collect(),
            table: TableFacts {
                entries: self.entries,
                // A connection has two entries.
                room: u64::from(self.sizes.connections) * 2,
                refused: refused.map_or(0, |(_, count)| *count),
            },
            repairs: self.audit.repairs,
            repaired: self.audit.last.as_ref().map_or("", |(_, what)| what.as_str()),
            probe_late: reader.take_lateness(),
            ..Facts::default()
        }
    }

    fn service_facts<'a>(
        &'a self,
        service: &'a Service,
        sources: &Sources<'a>,
    ) -> ServiceFacts<'a> {
        let backends = service.backends.iter();
        ServiceFacts {
            name: &service.name,
            min_active: service.availability.min_active,
            windows: [None; 3],
            backends: backends
                .map(|backend| self.backend_facts(service, backend, sources))
                .collect(),
        }
    }

    fn backend_facts<'a>(
        &'a self,
        service: &'a Service,
        backend: &'a Backend,
        sources: &Sources<'a>,
    ) -> BackendFacts<'a> {
        let (key, now) = (condition::key(service, backend), sources.now);
        let known = sources.held.backend(&service.name, &backend.name).map(|(id, _)| id);
        let counters = known.and_then(|id| sources.counters.get(&id));
        let exception = self.condition.exceptions.get(&key);
        let standing = self.condition.standing(service, backend, now);
        let lost = self.unresolved.get(&backend.address.ip());
        // A neighbour that answers in a moment is not lost.
        let lost = lost.filter(|lost| lost.said);
        let usable = standing.is_usable() && lost.is_none();
        let wall = self.clock.now();
        BackendFacts {
            id: known,
            name: &backend.name,
            weight: backend.weight,
            is_backup: backend.tier == Tier::Backup,
            exception,
            out_for: exception.map_or(Duration::ZERO, |exception| {
                wall.duration_since(exception.since).unwrap_or_default()
            }),
            admitted: standing.admitted,
            healthy: standing.healthy,
            awaited: standing.awaited,
            active: known.is_some_and(|id| sources.active.contains(&id)),
            reason: if usable { String::new() } else { self.why_down(service, backend, &key, now) },
            held: sources.flapping.contains(&key),
            lost: lost.is_some(),
            open: counters.map_or(0, BackendCounters::open),
            max_connections: backend.max_connections,
            capacity: backend.capacity,
            counts: counters.map_or_else(Counts::default, Counts::from),
        }
    }

    /// Why a backend takes no part, though people let it.
    fn why_down(
        &self,
        service: &Service,
        backend: &Backend,
        key: &BackendKey,
        now: Instant,
    ) -> String {
        if self.condition.exceptions.state(key) != AdminState::Ready {
            return String::new();
        }
        let mut why = Vec::new();
        if let Some(ejection) = self.condition.watch.ejection(key, now) {
            why.push(ejection.why.clone());
        }
        if self.condition.health(service, backend) == Health::Down {
            let probe = self.monitor.reader().get(key);
            let error = probe.and_then(|probe| probe.last_error);
            why.push(error.unwrap_or_else(|| "its probes failed".to_owned()));
        }
        let agent = self.condition.agents.get(key).and_then(|agent| agent.report.as_ref());
        if let Some(report) = agent.filter(|report| report.wants != Wants::Ready) {
            why.push(format!("its agent says {report}"));
        }
        if let Some(lost) = self.unresolved.get(&backend.address.ip()) {
            why.push(format!("its address {}", lost.why));
        }
        why.join("; ")
    }
}
