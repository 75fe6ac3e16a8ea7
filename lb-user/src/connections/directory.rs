//! Names of what the connection table knows by numbers, those of services and backends that are no longer
//! configured included: their connections finish.

use std::collections::{HashMap, HashSet};

use crate::plan::{BackendId, ServiceId, Tables};

/// What a backend's id stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The service's name.
    pub service: String,
    /// Its own name.
    pub name: String,
    /// Its address and port.
    pub address: String,
    /// Its place among all, by the service's name and its own.
    pub rank: u32,
}

/// Names of services and backends by their ids.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    services: HashMap<ServiceId, String>,
    backends: HashMap<BackendId, Named>,
}

impl Directory {
    /// Of everything that has an id.
    #[must_use]
    pub fn of(tables: &Tables) -> Self {
        let services = tables.services.iter().map(|(id, service)| (*id, service.name.clone()));
        let mut sorted: Vec<_> = tables.backends.iter().collect();
        sorted.sort_by(|(_, a), (_, b)| (&a.service, &a.name).cmp(&(&b.service, &b.name)));
        let backends = (0..).zip(sorted).map(|(rank, (id, backend))| {
            let (service, name) = (backend.service.clone(), backend.name.clone());
            let address = crate::config::shown(backend.address);
            (*id, Named { service, name, address, rank })
        });
        Self { services: services.collect(), backends: backends.collect() }
    }

    /// The service with this id.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> Option<&str> {
        self.services.get(&id).map(String::as_str)
    }

    /// The backend with this id.
    #[must_use]
    pub fn backend(&self, id: BackendId) -> Option<&Named> {
        self.backends.get(&id)
    }

    /// The ids of the services called `name`: one that was removed and added again may have two.
    #[must_use]
    pub fn services_called(&self, name: &str) -> HashSet<ServiceId> {
        let called = self.services.iter().filter(|(_, known)| *known == name);
        called.map(|(id, _)| *id).collect()
    }

    /// The ids of the backends called `name`, of this service alone where one is given.
    #[must_use]
    pub fn backends_called(&self, service: Option<&str>, name: &str) -> HashSet<BackendId> {
        let called = self.backends.iter().filter(|(_, known)| {
            known.name == name && service.is_none_or(|service| known.service == service)
        });
        called.map(|(id, _)| *id).collect()
    }

    /// Every service's name, sorted.
    #[must_use]
    pub fn service_names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.services.values().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Every backend as `SERVICE/NAME`, of this service alone where one is given; sorted.
    #[must_use]
    pub fn backend_labels(&self, service: Option<&str>) -> Vec<String> {
        let of = |named: &&Named| service.is_none_or(|service| named.service == service);
        let mut known: Vec<_> = self.backends.values().filter(of).collect();
        known.sort_unstable_by_key(|named| named.rank);
        let mut labels: Vec<_> =
            known.iter().map(|named| format!("{}/{}", named.service, named.name)).collect();
        labels.dedup();
        labels
    }
}
