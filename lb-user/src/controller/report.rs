//! What the controller tells: status and counters.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use anyhow::Result;
use lb_common::counters::BackendCounters as Raw;

use super::{
    Controller, Lost, Refused, condition,
    probes::BackendKey,
    windows::{self, Piece},
};
use crate::{
    api::model::{
        BackendCounters, BackendStatus, Connections, Counters, Daemon, ExceptionStatus, Failures,
        HandshakeBucket, InOut, Interface, Removed, RemovedCounters, Repair, ServiceCounters,
        ServiceStatus, Status,
    },
    config::{Backend, Offer, Origin, Service, shown},
    connections::Directory,
    explain::{self, Standing},
    health::{Health, Wants},
    plan::{BackendEntry, BackendId, Index},
};

/// Where a backend is in the tables.
struct Place {
    id: Option<BackendId>,
    /// Its slots of its service's ring.
    slots: usize,
    /// All slots of that.
    all: usize,
}

impl Controller {
    /// How things stand, in one line.
    pub(super) fn summary(&self) -> String {
        let services = &self.loaded.config.services;
        let backends: usize = services.iter().map(|service| service.backends.len()).sum();
        let held = self.applier.held().backends.values();
        let active = held.filter(|entry| entry.live && entry.active).count();
        let out = self.condition.exceptions.iter().count();
        let out = if out > 0 { format!(", {out} taken out by people") } else { String::new() };
        let services = services.len();
        let word = if services == 1 { "service" } else { "services" };
        format!("{services} {word}, {active} of {backends} backends active{out}")
    }

    /// What keeps the data path from balancing as it should; empty: nothing.
    pub(super) fn readiness(&self) -> Vec<String> {
        let attached = self.sources.attached.borrow();
        let unattached = attached.iter().filter_map(|attachment| {
            let problem = attachment.problem.as_ref()?;
            Some(format!("interface {} {problem}", attachment.name))
        });
        let behind = "the last change of the kernel's tables failed; see the daemon's log";
        unattached.chain(self.audit.is_behind.then(|| behind.to_owned())).collect()
    }

    /// The state of everything.
    pub(super) fn status(&self) -> Result<Status> {
        let attached = self.sources.attached.borrow().clone();
        let interfaces = attached.into_iter().map(|attachment| Interface {
            name: attachment.name,
            mode: attachment.mode.to_owned(),
            problem: attachment.problem,
        });
        let daemon = Daemon {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            started_seconds: self.clock.since_epoch(self.started.elapsed()),
            interfaces: interfaces.collect(),
            layout: lb_common::names::LAYOUT_VERSION,
            config: self.path.display().to_string(),
            connection_entries: self.entries,
            connection_capacity: self.sizes.connections,
            table_repairs: self.audit.repairs,
            last_repair: self.audit.last.as_ref().map(|(at, what)| Repair {
                at: humantime::format_rfc3339_seconds(*at).to_string(),
                what: what.clone(),
            }),
            http: self.http.address().map(|address| format!("http://{address}/")),
            config_edited: self.configuration.edited(),
            confirmation: self.configuration.confirmation().or_else(|| self.shared_confirmation()),
            troubles: self.troubles(),
        };
        let held = self.applier.held().index();
        let totals = self.windows.totals();
        let services = self.loaded.config.services.iter();
        let removed = self.removed().map(|(id, entry)| {
            Ok(Removed {
                service: entry.service.clone(),
                name: entry.name.clone(),
                address: shown(entry.address),
                open: self.raw(id)?.open(),
            })
        });
        Ok(Status {
            daemon,
            services: services
                .map(|service| self.service_status(service, &held, &totals))
                .collect::<Result<_>>()?,
            removed: removed.collect::<Result<_>>()?,
            alerts: self.raised(),
            node: self.node_status(),
            announcements: self.announcements(),
            store: self.store_status(),
        })
    }

    /// What keeps the daemon from working as it should.
    fn troubles(&self) -> Vec<String> {
        let pins = self.pins.lost().map(ToOwned::to_owned);
        let (history, events) = (self.configuration.unrecorded(), self.events.trouble());
        [pins, history, events, self.http.trouble()].into_iter().flatten().collect()
    }

    fn service_status(
        &self,
        service: &Service,
        held: &Index<'_>,
        totals: &[Piece; 3],
    ) -> Result<ServiceStatus> {
        let kind = service.health.kind();
        let probe = service.health.timing().map_or_else(
            || kind.to_owned(),
            |timing| format!("{kind} every {}", humantime::format_duration(timing.interval)),
        );
        let ring = held.service(&service.name).map_or(&[][..], |(_, entry)| &entry.ring.slots[..]);
        let mut slots = HashMap::new();
        for id in ring {
            *slots.entry(*id).or_insert(0_usize) += 1;
        }
        let of = |backend: &Backend| {
            let known = held.backend(&service.name, &backend.name).map(|(id, _)| id);
            let slots = known.and_then(|id| slots.get(&id)).copied().unwrap_or(0);
            Place { id: known, slots, all: ring.len() }
        };
        let backends = service.backends.iter();
        let id = |backend: &Backend| held.backend(&service.name, &backend.name).map(|(id, _)| id);
        let ids: Vec<_> = backends.clone().map(|backend| (&*backend.name, id(backend))).collect();
        Ok(ServiceStatus {
            name: service.name.clone(),
            address: shown(service.address),
            protocol: service.protocol,
            forwarding: service.forwarding,
            scheduler: service.scheduler,
            probe,
            min_active: service.availability.min_active,
            windows: windows::of_service(totals, &ids),
            sources: self.sources_of(service),
            backends: backends
                .map(|backend| self.backend_status(service, backend, &of(backend)))
                .collect::<Result<_>>()?,
        })
    }

    fn backend_status(
        &self,
        service: &Service,
        backend: &Backend,
        &Place { id, slots, all }: &Place,
    ) -> Result<BackendStatus> {
        let key = condition::key(service, backend);
        let probe = self.monitor.reader().get(&key);
        let health = self.condition.health(service, backend);
        let now = Instant::now();
        let doing = self.condition.doing(service, backend, slots > 0, now);
        let exception = self.condition.exceptions.get(&key);
        let mut reason: Vec<_> =
            exception.map(|exception| exception.reason.clone()).into_iter().collect();
        reason.extend(self.reasons(service, backend, &key, now));
        #[expect(clippy::cast_precision_loss, reason = "a ring has at most 2^20 slots")]
        let share = if all == 0 { 0.0 } else { slots as f64 / all as f64 };
        Ok(BackendStatus {
            name: backend.name.clone(),
            address: shown(backend.address),
            origin: backend
                .origin
                .as_ref()
                .map_or_else(|| "declared".to_owned(), |origin| origin.source.to_string()),
            weight: backend.weight,
            tier: backend.tier,
            admin: self.condition.exceptions.state(&key),
            exception: exception.map(|exception| ExceptionStatus::of(exception, self.clock.now())),
            state: doing.name(),
            health,
            active: slots > 0,
            share,
            open: id.map_or(Ok(0), |id| self.raw(id).map(|raw| raw.open()))?,
            max_connections: backend.max_connections,
            reason: reason.join("; "),
            agent: self.condition.agents.get(&key).map(ToString::to_string),
            health_seconds: probe.as_ref().map(|probe| probe.stands.elapsed().as_secs()),
            since_change_seconds: self
                .condition
                .changed(&key)
                .unwrap_or(self.started)
                .elapsed()
                .as_secs(),
            probe_milliseconds: probe
                .and_then(|probe| probe.latency)
                .map(|latency| latency.as_secs_f64() * 1000.0),
        })
    }

    /// What stands in the way of a backend, beside people: the kernel's, the probes', its agent's and the
    /// network's reasons.
    pub(super) fn reasons(
        &self,
        service: &Service,
        backend: &Backend,
        key: &BackendKey,
        now: Instant,
    ) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Some(Origin { source, offer }) = &backend.origin {
            let says = match offer {
                Offer::Ready => None,
                Offer::Draining => Some("finishes what it has"),
                Offer::Out => Some("does not serve"),
            };
            reasons.extend(says.map(|says| format!("{source} says that it {says}")));
        }
        if let Some(ejection) = self.condition.watch.ejection(key, now) {
            reasons.push(ejection.why.clone());
        }
        if self.condition.health(service, backend) != Health::Up
            && let Some(probe) = self.monitor.reader().get(key)
        {
            reasons.extend(probe.last_error);
            reasons.extend(probe.held.map(|held| held.to_string()));
        }
        let agent = self.condition.agents.get(key).and_then(|agent| agent.report.as_ref());
        if let Some(report) = agent.filter(|report| report.wants != Wants::Ready) {
            reasons.push(format!("its agent says {report}"));
        }
        if let Some(Lost { why, .. }) = self.unresolved.get(&backend.address.ip()) {
            reasons.push(format!("no way there: {why}"));
        }
        reasons
    }

    /// How a service stands, for the words of `explain`.
    pub(super) fn standing(&self, name: &str) -> Result<explain::Facts, Refused> {
        let config = self.loaded.config.index();
        let service = config.service(name).ok_or_else(|| {
            let known: Vec<_> =
                self.loaded.config.services.iter().map(|service| &*service.name).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Refused::NotFound(format!("there is no service {name:?}; the services are: {known}"))
        })?;
        let held = self.applier.held().index();
        let totals = self.windows.totals();
        let status = self.service_status(service, &held, &totals).map_err(Refused::Failed)?;
        let standing = |status: BackendStatus| {
            let established = match held.backend(name, &status.name) {
                Some((id, _)) => {
                    self.applier.dataplane().backend_state(id).map_err(Refused::Failed)?.1
                }
                None => 0,
            };
            let BackendStatus { name: backend, share, state, max_connections, .. } = status;
            Ok(Standing { backend, share, state, established, max_connections })
        };
        Ok(explain::Facts {
            service: service.name.clone(),
            address: service.address,
            protocol: service.protocol,
            scheduler: service.scheduler,
            backends: status.backends.into_iter().map(standing).collect::<Result<_, Refused>>()?,
            directory: Directory::of(self.applier.held()),
        })
    }

    /// The counters.
    pub(super) fn counters(&self) -> Result<Counters> {
        let held = self.applier.held().index();
        let services = self.loaded.config.services.iter().map(|service| {
            let backends = service.backends.iter().map(|backend| {
                let address = shown(backend.address);
                match held.backend(&service.name, &backend.name) {
                    Some((id, _)) => Ok(counters(backend.name.clone(), address, self.raw(id)?)),
                    None => Ok(counters(backend.name.clone(), address, Raw::default())),
                }
            });
            Ok(ServiceCounters {
                name: service.name.clone(),
                address: shown(service.address),
                protocol: service.protocol,
                backends: backends.collect::<Result<_>>()?,
            })
        });
        let removed = self.removed().map(|(id, entry)| {
            Ok(RemovedCounters {
                service: entry.service.clone(),
                backend: counters(entry.name.clone(), shown(entry.address), self.raw(id)?),
            })
        });
        let verdicts = self.applier.dataplane().verdicts()?;
        Ok(Counters {
            controller: self.pulse.times(),
            services: services.collect::<Result<_>>()?,
            verdicts: verdicts
                .into_iter()
                .map(|(name, count)| (name.to_owned(), count))
                .collect::<BTreeMap<_, _>>(),
            removed: removed.collect::<Result<_>>()?,
        })
    }

    fn raw(&self, id: BackendId) -> Result<Raw> {
        self.applier.dataplane().backend_counters(id)
    }

    fn removed(&self) -> impl Iterator<Item = (BackendId, &BackendEntry)> {
        let backends = self.applier.held().backends.iter();
        backends.filter(|(_, entry)| !entry.live).map(|(id, entry)| (*id, entry))
    }
}

fn counters(name: String, address: String, raw: Raw) -> BackendCounters {
    BackendCounters {
        name,
        address,
        connections: Connections { total: raw.opened, open: raw.open() },
        packets: InOut { inward: raw.packets_in, outward: raw.packets_out },
        bytes: InOut { inward: raw.bytes_in, outward: raw.bytes_out },
        failures: Failures {
            refused: raw.refused,
            unanswered: raw.unanswered,
            redispatched: raw.redispatched,
            reset: raw.reset,
            evicted: raw.evicted,
        },
        handshake_microseconds: raw.handshake_microseconds,
        handshakes: handshakes(&raw),
    }
}

/// The histogram with its bounds: those of [`lb_common::counters::handshake_bucket`].
fn handshakes(raw: &Raw) -> Vec<HandshakeBucket> {
    let last = raw.handshakes.len() - 1;
    let bucket = |(index, count): (usize, &u64)| HandshakeBucket {
        below_microseconds: (index < last).then_some(64 << index),
        count: *count,
    };
    raw.handshakes.iter().enumerate().map(bucket).collect()
}

#[cfg(test)]
mod tests {
    use lb_common::counters::handshake_bucket;

    use super::*;

    #[test]
    fn bounds_are_those_that_the_program_counts_by() {
        let buckets = handshakes(&Raw::default());
        for (index, bucket) in buckets.iter().enumerate() {
            let Some(bound) = bucket.below_microseconds else { continue };
            let bound = u32::try_from(bound).unwrap();
            assert_eq!((handshake_bucket(bound - 1), handshake_bucket(bound)), (index, index + 1));
        }
        assert_eq!(buckets.last().unwrap().below_microseconds, None);
    }
}
