//! The start: what a data path taken over tells, and what is waited for before the controller runs.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use super::{Controller, SETTLING, condition, probes::BackendKey};
use crate::{
    admin::AdminState,
    config::Loaded,
    health::Health,
    plan::{BackendEntry, Tables, Way},
};

/// How long probes may take to judge every backend, before a data path is replaced without their word.
const JUDGING: Duration = Duration::from_secs(30);

impl Controller {
    /// Waits until the way to every backend is known, but not for long: some may be down.
    pub async fn settle(&mut self) {
        let deadline = tokio::time::Instant::now() + SETTLING;
        let unknown = |controller: &Self| {
            let services = controller.loaded.config.services.iter();
            let mut backends = services.flat_map(|service| &service.backends);
            backends.any(|backend| {
                let way = controller.ways.get(&backend.address.ip());
                way.is_none_or(|way| !way.hop.is_known())
            })
        };
        while unknown(self) {
            match tokio::time::timeout_at(deadline, self.sources.next_hops.recv()).await {
                Ok(Some(update)) => self.note_next_hop(update),
                Ok(None) | Err(_) => break,
            }
        }
        self.update();
    }

    /// Waits until probes have judged every backend that they did not know, but not for ever.
    pub async fn judge_all(&mut self) {
        let deadline = tokio::time::Instant::now() + JUDGING;
        while self.condition.health.values().any(|health| *health == Health::Unknown)
            || self.is_unheard()
        {
            tokio::select! {
                Some(change) = self.sources.health.recv() => self.note_health(change),
                Some(update) = self.sources.next_hops.recv() => self.note_next_hop(update),
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        self.update();
    }

    /// Whether probes have not said yet what a backend is.
    fn is_unheard(&self) -> bool {
        let services = self.loaded.config.services.iter();
        let probed = services.filter(|service| service.health.timing().is_some());
        let mut keys = probed.flat_map(|service| {
            service.backends.iter().map(|backend| condition::key(service, backend))
        });
        keys.any(|key| {
            self.condition.exceptions.state(&key) != AdminState::Maintenance
                && !self.condition.health.contains_key(&key)
        })
    }
}

/// The health that a data path taken over tells: what is in a ring was up, if it still is the same
/// server.
pub fn known_health(loaded: &Loaded, held: &Tables) -> HashMap<BackendKey, Health> {
    let rings = held.services.values().flat_map(|service| &service.ring.slots);
    let configured = |entry: &&BackendEntry| {
        let service = loaded.config.service(&entry.service);
        let backend = service.and_then(|service| service.backend(&entry.name));
        backend.is_some_and(|backend| backend.address == entry.address)
    };
    rings
        .filter_map(|id| held.backends.get(id))
        .filter(configured)
        .map(|backend| ((backend.service.clone(), backend.name.clone()), Health::Up))
        .collect()
}

/// The ways that a data path taken over holds, until the kernel is asked anew.
pub fn known_ways(held: &Tables) -> HashMap<IpAddr, Way> {
    held.backends
        .values()
        .filter(|backend| backend.hop.is_known())
        .map(|backend| {
            (backend.address.ip(), Way { hop: backend.hop, source: None, mtu: backend.mtu })
        })
        .collect()
}
