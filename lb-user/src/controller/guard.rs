//! What keeps people from taking out a server too many, and tells them who carries the load then.

use super::Controller;
use crate::{
    config::{Loaded, Service},
    plan::{ServiceEntry, Tables},
};

use super::change::Refused;

/// How many of those that stay are named.
const NAMED: usize = 4;

impl Controller {
    /// Refuses tables in which a service would have fewer active backends than it has now, and fewer
    /// than it shall have. Otherwise tells who carries the load of those that leave.
    pub(super) fn guard(
        &self,
        loaded: &Loaded,
        wanted: &Tables,
        force: bool,
    ) -> Result<Vec<String>, Refused> {
        let mut notes = Vec::new();
        let (held, wanted) = (self.applier.held().index(), wanted.index());
        for service in &loaded.config.services {
            let Some((_, before)) = held.service(&service.name) else { continue };
            let Some((_, after)) = wanted.service(&service.name) else { continue };
            let (had, left) = (before.ring.members.len(), after.ring.members.len());
            if left >= had {
                continue;
            }
            let carried = self.who_carries(before, after);
            let least = service.availability.min_active as usize;
            if left < least && !force {
                return Err(Refused::Guarded(refusal(service, had, left, &carried)));
            }
            if carried.is_empty() {
                notes.push(format!("service {} has no active backend left", service.name));
            }
            let lone = if left == 1 { "alone " } else { "" };
            notes.extend(
                carried.iter().map(|text| format!("service {}: {lone}{text}", service.name)),
            );
        }
        Ok(notes)
    }

    /// What each of those that stay in a service's ring would carry, measured.
    fn who_carries(&self, before: &ServiceEntry, after: &ServiceEntry) -> Vec<String> {
        let held = self.applier.held();
        let rates: Vec<f64> =
            before.ring.members.iter().filter_map(|id| self.meter.rate(*id)).collect();
        let total: f64 = rates.iter().sum();
        let share = |entry: &ServiceEntry, id| {
            let slots = entry.ring.slots.iter().filter(|slot| **slot == id).count();
            #[expect(clippy::cast_precision_loss, reason = "a ring has at most 2^20 slots")]
            let share = slots as f64 / entry.ring.slots.len().max(1) as f64;
            share
        };
        let mut texts: Vec<String> = Vec::new();
        for id in after.ring.members.iter().take(NAMED) {
            let Some(backend) = held.backends.get(id) else { continue };
            let (now, then) = (share(before, *id), share(after, *id));
            let own = self.meter.rate(*id).unwrap_or_default();
            let rate = if rates.is_empty() {
                String::new()
            } else {
                format!(", about {:.1} a second (now {own:.1})", total * then)
            };
            let open = self.applier.dataplane().backend_counters(*id);
            let open = open
                .map_or_else(|_| String::new(), |raw| format!("; {} are open there", raw.open()));
            texts.push(format!(
                "{} gets {:.1}% of new connections (now {:.1}%){rate}{open}",
                backend.name,
                then * 100.0,
                now * 100.0
            ));
        }
        let more = after.ring.members.len().saturating_sub(NAMED);
        if more > 0 {
            texts.push(format!("and {more} more carry the rest"));
        }
        texts
    }
}

fn refusal(service: &Service, had: usize, left: usize, carried: &[String]) -> String {
    let least = service.availability.min_active;
    let then = if carried.is_empty() {
        "new connections would be turned away".to_owned()
    } else {
        carried.join("; ")
    };
    format!(
        "service {} would have {left} of now {had} active backends, and min_active is {least}: {then}; \
         bring another backend in first, or use --force",
        service.name
    )
}
