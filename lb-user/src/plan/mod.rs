//! The plan: a pure function from what people configured and what probes and routes say, to what
//! the data path's tables shall hold.
//!
//! No kernel, no clock, no file. Start, change, reload and recovery all come through here.

mod build;
mod ring;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use lb_common::net::Hop;

pub use self::build::{Facts, PlanError, Way, build};
use crate::config::{PortRange, Protocol};

/// A service's id: its index in the service tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u32);

/// A backend's id: its index in the backend tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub u32);

/// What makes a service for a packet: address, port and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceKey {
    /// The virtual address and port.
    pub address: SocketAddr,
    /// The transport protocol.
    pub protocol: Protocol,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.protocol)
    }
}

/// The contents of the data path's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Services by id.
    pub services: BTreeMap<ServiceId, ServiceEntry>,
    /// Backends by id, over all services.
    pub backends: BTreeMap<BackendId, BackendEntry>,
}

/// A service in the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Its name.
    pub name: String,
    /// Its address and protocol.
    pub key: ServiceKey,
    /// Its compiled scheduler: backends in the order of their turns.
    pub ring: Vec<BackendId>,
    /// Whether it is configured. One that is not only keeps its id until its last connection ends.
    pub live: bool,
}

/// A backend in the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendEntry {
    /// The service's name.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its address and port.
    pub address: SocketAddr,
    /// The service's protocol.
    pub protocol: Protocol,
    /// The way there; not known where its interface is zero.
    pub hop: Hop,
    /// NAT's source addresses towards it.
    pub sources: Vec<IpAddr>,
    /// NAT's source ports towards it.
    pub ports: PortRange,
    /// Whether it is configured. One that is not only keeps its id until its last connection ends.
    pub live: bool,
}

impl BackendEntry {
    /// An entry of which only the identity is known.
    #[must_use]
    pub fn new(service: String, name: String, address: SocketAddr, protocol: Protocol) -> Self {
        Self {
            service,
            name,
            address,
            protocol,
            hop: Hop::default(),
            sources: Vec::new(),
            ports: PortRange { low: 1, high: 1 },
            live: false,
        }
    }

    /// How people call it.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}/{}", self.service, self.name)
    }
}

impl Tables {
    /// Every address whose packets concern us: of services, retiring ones included, whose open
    /// connections go on, and NAT's sources.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        let services = self.services.values().map(|service| service.key.address.ip());
        let sources = self.backends.values().flat_map(|backend| backend.sources.iter().copied());
        services.chain(sources).collect()
    }

    /// Addresses that configured services have.
    #[must_use]
    pub fn service_addresses(&self) -> BTreeSet<IpAddr> {
        let live = self.services.values().filter(|service| service.live);
        live.map(|service| service.key.address.ip()).collect()
    }

    /// The configured service called `name`.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<(ServiceId, &ServiceEntry)> {
        self.services
            .iter()
            .find(|(_, service)| service.live && service.name == name)
            .map(|(id, service)| (*id, service))
    }

    /// The configured backend called `name` of a service.
    #[must_use]
    pub fn backend(&self, service: &str, name: &str) -> Option<(BackendId, &BackendEntry)> {
        self.backends
            .iter()
            .find(|(_, backend)| backend.live && backend.service == service && backend.name == name)
            .map(|(id, backend)| (*id, backend))
    }
}
