//! Ids of services and backends that are configured no longer: they are free when a walk over the whole
//! connection table, begun after they were retired, found no entry of theirs.

use std::{collections::HashMap, time::Instant};

use tracing::{error, info};

use super::{Controller, sweep::Swept};
use crate::plan::{BackendId, ServiceId};

/// Since when ids wait for their last connection.
#[derive(Default)]
pub struct Retired {
    services: HashMap<ServiceId, Instant>,
    backends: HashMap<BackendId, Instant>,
}

impl Controller {
    /// Notes which ids wait for their last connection.
    pub(super) fn note_retired(&mut self) {
        let (held, now) = (self.applier.held(), Instant::now());
        let retired = &mut self.retired;
        for (id, service) in &held.services {
            if service.live {
                retired.services.remove(id);
            } else {
                retired.services.entry(*id).or_insert(now);
            }
        }
        for (id, backend) in &held.backends {
            if backend.live {
                retired.backends.remove(id);
            } else {
                retired.backends.entry(*id).or_insert(now);
            }
        }
    }

    /// Frees the ids whose last connection is gone.
    pub(super) fn note_swept(&mut self, swept: &Swept) {
        self.entries = swept.census.entries;
        self.balance.note_clients(&swept.census.clients, self.applier.held());
        for correction in &swept.corrections {
            self.tell_corrected(correction);
        }
        self.say_what_is_lost();
        self.note_host();
        let (census, began) = (&swept.census, swept.began);
        let services = over(&self.retired.services, began, |id| census.by_service.contains_key(id));
        let backends = over(&self.retired.backends, began, |id| census.by_backend.contains_key(id));
        // To copy all tables for nothing would take long where they are large.
        if services.is_empty() && backends.is_empty() {
            return;
        }
        let mut freed = self.applier.held().clone();
        for id in &services {
            freed.services.remove(id);
        }
        for id in &backends {
            if let Some(entry) = freed.backends.remove(id) {
                info!(backend = entry.label(), "removed backend has no connection left");
            }
        }
        if let Err(error) = self.applier.apply(&freed) {
            error!("the data path is behind: {error:#}");
        }
        let held = self.applier.held();
        self.retired.services.retain(|id, _| held.services.contains_key(id));
        self.retired.backends.retain(|id, _| held.backends.contains_key(id));
        self.follow_configuration();
    }
}

/// The ids that were retired before a walk began that found no entry of theirs.
fn over<I: Copy>(
    retired: &HashMap<I, Instant>,
    began: Instant,
    is_used: impl Fn(&I) -> bool,
) -> Vec<I> {
    let over = retired.iter().filter(|(id, since)| **since < began && !is_used(id));
    over.map(|(id, _)| *id).collect()
}
