//! Services and backends of the tables by their names, for whoever looks up many.

use std::collections::HashMap;

use super::{BackendEntry, BackendId, ServiceEntry, ServiceId, ServiceKey, Tables};
use crate::config::{Backend, Service};

/// What is configured, by name. Made in one walk: a search for each of many would take a walk each.
pub struct Index<'a> {
    services: HashMap<&'a str, (ServiceId, &'a ServiceEntry)>,
    backends: HashMap<(&'a str, &'a str), (BackendId, &'a BackendEntry)>,
}

impl<'a> Index<'a> {
    pub(super) fn of(tables: &'a Tables) -> Self {
        let services = tables.services.iter().filter(|(_, service)| service.live);
        let backends = tables.backends.iter().filter(|(_, backend)| backend.live);
        Self {
            services: services.map(|(id, service)| (&*service.name, (*id, service))).collect(),
            backends: backends
                .map(|(id, backend)| ((&*backend.service, &*backend.name), (*id, backend)))
                .collect(),
        }
    }

    /// The configured service called `name`.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<(ServiceId, &'a ServiceEntry)> {
        self.services.get(name).copied()
    }

    /// The configured backend called `name` of a service.
    #[must_use]
    pub fn backend(&self, service: &str, name: &str) -> Option<(BackendId, &'a BackendEntry)> {
        self.backends.get(&(service, name)).copied()
    }
}

/// Everything that has an id, live or not: who comes back gets it again.
pub(super) struct Known<'a> {
    services: HashMap<(&'a str, ServiceKey), ServiceId>,
    backends: HashMap<(&'a str, &'a str), Vec<(BackendId, &'a BackendEntry)>>,
}

impl<'a> Known<'a> {
    pub(super) fn of(tables: &'a Tables) -> Self {
        let mut known = Self { services: HashMap::new(), backends: HashMap::new() };
        for (id, service) in &tables.services {
            known.services.entry((&service.name, service.key)).or_insert(*id);
        }
        for (id, backend) in &tables.backends {
            let name = (&*backend.service, &*backend.name);
            known.backends.entry(name).or_default().push((*id, backend));
        }
        known
    }

    pub(super) fn service(&self, name: &str, key: ServiceKey) -> Option<ServiceId> {
        self.services.get(&(name, key)).copied()
    }

    pub(super) fn backend(
        &self,
        service: &Service,
        backend: &Backend,
    ) -> Option<(BackendId, &'a BackendEntry)> {
        let named = self.backends.get(&(&*service.name, &*backend.name))?;
        named.iter().find(|(_, entry)| is_same(entry, service, backend)).copied()
    }
}

fn is_same(entry: &BackendEntry, service: &Service, backend: &Backend) -> bool {
    entry.address == backend.address
        && entry.protocol == service.protocol
        // The table that it is in is that of its service's family.
        && entry.service_is_ipv4 == service.address.is_ipv4()
}
