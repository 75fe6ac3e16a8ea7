//! Services and backends of a configuration by their names, for whoever looks up many.

use std::collections::HashMap;

use super::{Backend, Config, Service};

/// What a configuration has, by name. Made in one walk: a search for each of many would take a walk each.
pub struct Index<'a> {
    services: HashMap<&'a str, &'a Service>,
    backends: HashMap<(&'a str, &'a str), &'a Backend>,
}

impl Config {
    /// All of it, for many look-ups.
    #[must_use]
    pub fn index(&self) -> Index<'_> {
        let services = self.services.iter();
        let backends = services.clone().flat_map(|service| {
            service.backends.iter().map(move |backend| ((&*service.name, &*backend.name), backend))
        });
        Index {
            services: services.map(|service| (&*service.name, service)).collect(),
            backends: backends.collect(),
        }
    }
}

impl<'a> Index<'a> {
    /// The service called `name`.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&'a Service> {
        self.services.get(name).copied()
    }

    /// The backend called `name` of a service.
    #[must_use]
    pub fn backend(&self, service: &str, name: &str) -> Option<&'a Backend> {
        self.backends.get(&(service, name)).copied()
    }
}
