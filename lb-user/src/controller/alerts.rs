//! Facts for the alerts: what a look saw, and what else is known, about once a second.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use lb_common::counters::BackendCounters;

use super::{
    Controller, condition,
    look::FULL,
    probes::BackendKey,
    windows::{self, Imbalance, Piece, SECONDS},
};
use crate::{
    admin::AdminState,
    alerts::{
        Change, Severity,
        facts::{BackendFacts, Counts, Drawn, Facts, ServiceFacts, TableFacts, WindowFacts},
    },
    api::model::{Alert, Alerts, Interface},
    config::{Backend, Service, Tier},
    events::{Kind, Note},
    health::Health,
    plan::{BackendId, Index, ServiceId, Tables},
};

/// Time between two looks at the windows at the least, and the part of the time that they may take at the
/// most: with many backends they are much to add up.
const BETWEEN: Duration = Duration::from_secs(2);
const DUTY: u32 = 50;
/// But for this: the host may have stalled meanwhile.
const LONGEST: Duration = Duration::from_secs(10);

/// How the connections of the services were shared out, as it was last looked at.
#[derive(Debug, Default)]
pub struct Balance {
    windows: HashMap<String, [Option<Imbalance>; 3]>,
    next: Option<Instant>,
    /// From how many clients new connections came, where clients are drawn, as it was last seen.
    clients: HashMap<ServiceId, f64>,
}

impl Balance {
    /// Takes in from how many clients new connections come. A service that has none now keeps what was seen.
    pub(super) fn note_clients(&mut self, found: &HashMap<ServiceId, f64>, held: &Tables) {
        self.clients.extend(found);
        self.clients.retain(|id, _| held.services.contains_key(id));
    }
}

/// What the facts of all backends need.
struct Sources<'a> {
    held: Index<'a>,
    counters: &'a HashMap<BackendId, BackendCounters>,
    flapping: HashSet<BackendKey>,
    unproven: HashSet<BackendKey>,
    active: HashSet<BackendId>,
    balance: &'a Balance,
    now: Instant,
}

impl Controller {
    /// Hands on what the look saw, if it is time again.
    pub(super) fn note_alerts(
        &mut self,
        counters: &HashMap<BackendId, BackendCounters>,
        now: Instant,
    ) {
        self.alerts.keep(&self.loaded.config.alerts, now);
        if !self.alerts.is_due(now) {
            return;
        }
        let look_late = std::mem::take(&mut self.look_late);
        // Out of the way, for the facts borrow the rest.
        let mut desk = std::mem::take(&mut self.alerts);
        let mut balance = std::mem::take(&mut self.balance);
        if balance.next.is_none_or(|next| now >= next) {
            let began = Instant::now();
            balance.windows = self.measure();
            let pause = (began.elapsed() * DUTY).clamp(BETWEEN, LONGEST);
            balance.next = Some(Instant::now() + pause);
        }
        let edited = self.configuration.edited();
        let state = self.fleet.as_ref().map(|fleet| fleet.store().state());
        let mut facts = self.alert_facts(counters, &balance, now);
        facts.store =
            self.fleet.as_ref().zip(state.as_ref()).map(|(fleet, state)| fleet.facts(state));
        facts.look_late = look_late;
        facts.deliveries = desk.deliveries();
        facts.edited = edited.as_ref().map(|edited| (edited.file.as_str(), edited.what.as_str()));
        let changes = desk.note(&facts, &self.loaded.config.alerts, now, self.clock.now());
        desk.keep(&self.loaded.config.alerts, now);
        self.alerts = desk;
        self.balance = balance;
        for change in &changes {
            self.events.note(event(change));
        }
    }

    /// How each service's connections were shared out.
    fn measure(&self) -> HashMap<String, [Option<Imbalance>; 3]> {
        let (totals, held) = (self.windows.totals(), self.applier.held().index());
        let services = self.loaded.config.services.iter();
        let measured = services.map(|service| {
            let of = |piece: &Piece| {
                let backends = service.backends.iter();
                let amounts = backends.map(|backend| {
                    let known = held.backend(&service.name, &backend.name);
                    known.map(|(id, _)| piece.of(id)).unwrap_or_default()
                });
                windows::imbalance(&amounts.collect::<Vec<_>>())
            };
            (service.name.clone(), totals.each_ref().map(of))
        });
        measured.collect()
    }

    /// The alerts that are raised.
    pub(super) fn raised(&self) -> Vec<Alert> {
        self.alerts.raised(&self.loaded.config.alerts, Instant::now())
    }

    /// What there is to tell of alerts.
    pub(super) fn told_alerts(&self) -> Alerts {
        self.alerts.told(&self.loaded.config.alerts, Instant::now())
    }

    fn alert_facts<'a>(
        &'a self,
        counters: &'a HashMap<BackendId, BackendCounters>,
        balance: &'a Balance,
        now: Instant,
    ) -> Facts<'a> {
        let reader = self.monitor.reader();
        let rings = self.applier.held().services.values().flat_map(|service| &service.ring.members);
        let sources = Sources {
            held: self.applier.held().index(),
            counters,
            flapping: reader.held(),
            unproven: reader.unproven(),
            active: rings.copied().collect(),
            balance,
            now,
        };
        let services = self.loaded.config.services.iter();
        let attached = self.sources.attached.borrow();
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
            announcements: self.announcements(),
            node_drain: self.condition.exceptions.node.as_ref().map(|drain| {
                (drain, self.clock.now().duration_since(drain.since).unwrap_or_default())
            }),
            ..Facts::default()
        }
    }

    fn service_facts<'a>(
        &'a self,
        service: &'a Service,
        sources: &Sources<'a>,
    ) -> ServiceFacts<'a> {
        let backends = service.backends.iter();
        let mut windows = [None; 3];
        if let Some(measured) = sources.balance.windows.get(&service.name) {
            for ((window, measured), seconds) in windows.iter_mut().zip(measured).zip(SECONDS) {
                *window = measured.and_then(|measured| {
                    Some(WindowFacts {
                        seconds,
                        connections: measured.connections,
                        index: measured.index,
                        variation: measured.variation,
                        // A change of the members may have come in between.
                        most: &service.backends.get(measured.most)?.name,
                        fair: measured.fair,
                    })
                });
            }
        }
        let drawn = if service.draws_clients() {
            let known = sources.held.service(&service.name);
            Drawn::Clients(known.and_then(|(id, _)| sources.balance.clients.get(&id).copied()))
        } else {
            Drawn::Connections
        };
        ServiceFacts {
            drawn,
            sources: self.sources_of(service),
            name: &service.name,
            min_active: service.availability.min_active,
            windows,
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
            awaited: standing.awaited || sources.unproven.contains(&key),
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
        let mut why = self.reasons(service, backend, key, now);
        if why.is_empty() && self.condition.health(service, backend) == Health::Down {
            why.push("its probes failed".to_owned());
        }
        why.join("; ")
    }
}

/// What the events say of an alert.
fn event(change: &Change) -> Note {
    let alert = change.alert();
    let (kind, does) = match change {
        Change::Raised(_) => (Kind::AlertRaised, "raised"),
        Change::Cleared(_) => (Kind::AlertCleared, "cleared"),
    };
    let note = Note::new(kind, format!("alert {} {does}: {}", alert.id, alert.summary));
    let note = note.because(&alert.summary);
    let note = match (&alert.service, &alert.backend) {
        (Some(service), Some(backend)) => note.backend(service, backend),
        (Some(service), None) => note.service(service),
        _ => note,
    };
    match (change, alert.severity) {
        (Change::Raised(_), Severity::Critical) => note.error(),
        (Change::Raised(_), Severity::Warning) => note.warning(),
        _ => note,
    }
}
