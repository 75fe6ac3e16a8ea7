//! The look at the counters, a few times a second: load, failing connections, and whose time is up.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use lb_common::counters::BackendCounters;
use tracing::{info, warn};

use super::{Controller, condition, passive::Counts, probes::BackendKey};
use crate::{
    config::{OnDown, Passive, Service},
    events::{Kind, Note},
    plan::BackendId,
};

/// Time from one look to the next at the least.
const PAUSE: Duration = Duration::from_millis(250);
/// A look may take this part of the time at the most.
const DUTY: u32 = 20;
/// But for this: where the host stalled for a second in the middle of a look, twenty without one would be blindness.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The verdict of packets that the connection table had no room for.
pub(super) const FULL: &str = "drop-table-full";

/// Time between two comparisons of the tables with what was written, at the least.
const BETWEEN_AUDITS: Duration = Duration::from_secs(3);
/// A comparison may take this part of the time at the most.
const AUDIT_DUTY: u32 = 100;
/// How many differences are named.
const NAMED: usize = 5;

/// What comparing the tables with what was written to them has found.
#[derive(Debug)]
pub struct Audit {
    /// How often they differed.
    pub repairs: u64,
    /// When they did last, and in what.
    pub last: Option<(SystemTime, String)>,
    /// Whether the last write failed: what is in the tables is not known then.
    pub is_behind: bool,
    next: Instant,
}

impl Audit {
    /// Nothing was found yet.
    pub fn new() -> Self {
        Self { repairs: 0, last: None, is_behind: false, next: Instant::now() + BETWEEN_AUDITS }
    }

    /// Notes a difference that was mended.
    pub fn note(&mut self, at: SystemTime, what: String) {
        self.repairs += 1;
        self.last = Some((at, what));
    }
}

/// What a look does next. With tens of thousands of backends each turn takes tens of milliseconds: whoever waits
/// for the controller is answered in between.
#[derive(Debug, Default)]
pub enum Turn {
    /// Reads the counters, and follows what they say.
    #[default]
    Counters,
    /// Compares the tables with what was written, having read these counters.
    Tables(Seen),
    /// Judges what may be an alert.
    Alerts(Seen),
}

/// What a look saw.
#[derive(Debug)]
pub struct Seen {
    counters: HashMap<BackendId, BackendCounters>,
    /// The time that its turns took so far.
    took: Duration,
}

impl Controller {
    /// Takes a turn of a look. Returns when the next one is due: at once, until the look is over.
    pub(super) fn look(&mut self) -> Instant {
        let began = Instant::now();
        match std::mem::take(&mut self.turn) {
            Turn::Counters => {
                let late = began.saturating_duration_since(self.look_due);
                self.look_late = self.look_late.max(late);
                let counters = self.look_at_counters(began);
                self.turn = Turn::Tables(Seen { counters, took: began.elapsed() });
            }
            Turn::Tables(seen) => {
                self.compare(began);
                self.check_pins(began);
                self.turn = Turn::Alerts(Seen { took: seen.took + began.elapsed(), ..seen });
            }
            Turn::Alerts(seen) => {
                self.note_alerts(&seen.counters, began);
                self.tell_fleet_soon(began);
                let took = seen.took + began.elapsed();
                self.look_due = Instant::now() + (took * DUTY).clamp(PAUSE, LONGEST_PAUSE);
                return self.look_due;
            }
        }
        Instant::now()
    }

    /// Notes what came, takes out whose connections fail, and brings back whose time is up.
    fn look_at_counters(&mut self, began: Instant) -> HashMap<BackendId, BackendCounters> {
        let last = std::mem::replace(&mut self.last_look, began);
        let counters = self.read_counters();
        let opened = counters.iter().map(|(id, raw)| (*id, raw.opened)).collect();
        self.meter.observe(began, opened);
        let applier = &self.applier;
        let revision = |service| applier.revision(service);
        self.windows.observe(began, &counters, applier.held(), revision);
        let ejected = self.watch_failures(&counters, began);
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= began);
        let returned = self.condition.watch.returned(last, began);
        let grown = due(self.condition.ramps.next(last));
        let ended = self.end_exceptions();
        let news = ejected || !returned.is_empty() || self.formers.is_due(began);
        self.tell_returned(returned);
        if news || grown || ended {
            self.update();
        }
        self.condition.settle(&self.loaded.config, began);
        self.remind(began);
        self.announce(began);
        counters
    }

    fn read_counters(&self) -> HashMap<BackendId, BackendCounters> {
        let (held, dataplane) = (self.applier.held(), self.applier.dataplane());
        let live = held.backends.iter().filter(|(_, entry)| entry.live);
        live.filter_map(|(id, _)| Some((*id, dataplane.backend_counters(*id).ok()?))).collect()
    }

    /// Compares the tables with what was written, mends them and tells, every few seconds.
    fn compare(&mut self, now: Instant) {
        if now < self.audit.next || self.audit.is_behind {
            return;
        }
        let (began, found) = (Instant::now(), self.applier.audit());
        self.audit.next = Instant::now() + BETWEEN_AUDITS.max(began.elapsed() * AUDIT_DUTY);
        match found {
            Ok(found) if found.is_empty() => {}
            Ok(mut found) => {
                let more = found.len().saturating_sub(NAMED);
                found.truncate(NAMED);
                if more > 0 {
                    found.push(format!("{more} more"));
                }
                let found = found.join(", ");
                let message = format!(
                    "the kernel's tables were changed by somebody else, and are mended: {found}"
                );
                self.events.tell(Note::new(Kind::Drift, message).because(&found).warning());
                self.audit.note(self.clock.now(), found);
            }
            Err(error) => warn!("could not compare the kernel's tables: {error:#}"),
        }
    }

    /// Takes out the backends whose connections fail; tells whether there were any.
    fn watch_failures(
        &mut self,
        counters: &HashMap<BackendId, BackendCounters>,
        now: Instant,
    ) -> bool {
        let mut ejected = Vec::new();
        let held = self.applier.held().index();
        for service in &self.loaded.config.services {
            let Some(policy) = service.availability.passive else { continue };
            let Some((_, entry)) = held.service(&service.name) else { continue };
            let mut members = entry.ring.members.len();
            for backend in &service.backends {
                let Some((id, known)) = held.backend(&service.name, &backend.name) else {
                    continue;
                };
                let Some(raw) = counters.get(&id) else { continue };
                // One that is kept because nobody is up is not judged: there is nobody else.
                let healthy = self.condition.standing(service, backend, now).healthy;
                if !known.active || !healthy {
                    continue;
                }
                let may = members > least(service, &policy);
                let key = condition::key(service, backend);
                let watch = &mut self.condition.watch;
                let found = watch.observe(&key, Counts::from(raw), &policy, now, may);
                if let Some(ejection) = found {
                    members -= 1;
                    let span = humantime::format_duration(ejection.span);
                    let why = &ejection.why;
                    let message = format!("backend is ejected for {span}: {why}");
                    let note = Note::new(Kind::Ejected, message).backend(&key.0, &key.1);
                    self.events.tell(note.because(why).warning());
                    ejected.push(key);
                }
            }
        }
        for key in &ejected {
            self.has_failed(key);
        }
        !ejected.is_empty()
    }

    /// What a backend's failure, seen by probes or by the kernel, does beside taking it out.
    pub(super) fn has_failed(&mut self, key: &BackendKey) {
        self.told.doubt(&key.0);
        self.condition.ramps.left(key);
        let service = self.loaded.config.service(&key.0);
        if service.is_none_or(|service| service.availability.on_down == OnDown::Keep) {
            return;
        }
        let Some((id, _)) = self.applier.held().backend(&key.0, &key.1) else { return };
        let (connections, key) = (std::sync::Arc::clone(&self.connections), key.clone());
        tokio::task::spawn_blocking(move || {
            let (service, backend) = (&key.0, &key.1);
            match connections.cut(id) {
                Ok(cut) => {
                    info!(service, backend, cut, "cut the open connections of a failed backend");
                }
                Err(error) => {
                    warn!(service, backend, "could not cut its open connections: {error:#}");
                }
            }
        });
    }
}

/// How many backends of a service stay, whatever is seen.
fn least(service: &Service, policy: &Passive) -> usize {
    let half = service.backends.len().div_ceil(2);
    policy.keep.map_or(half, |keep| keep as usize).max(1)
}
