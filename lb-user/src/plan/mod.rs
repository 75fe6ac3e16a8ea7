//! The plan: a pure function from what people configured and what probes and routes say, to what
//! the data path's tables shall hold.
//!
//! No kernel, no clock, no file. Start, change, reload and recovery all come through here.

mod build;
pub mod diff;
mod index;
mod maglev;
mod policy;
mod ring;
mod standing;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use lb_common::net::Hop;

pub use self::{
    build::{Facts, PlanError, Way, build},
    diff::Diff,
    index::Index,
    maglev::Member,
    policy::{NodePolicy, Policy, Tunnel},
    ring::{Age, Ring},
    standing::{Standing, effective, members},
};
use crate::config::{Endpoint, PortRange, Protocol};

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
        write!(f, "{}/{}", Endpoint(self.address), self.protocol)
    }
}

/// The contents of the data path's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Services by id.
    pub services: BTreeMap<ServiceId, ServiceEntry>,
    /// Backends by id, over all services.
    pub backends: BTreeMap<BackendId, BackendEntry>,
    /// What the whole node does; `None`: not known.
    pub node: Option<NodePolicy>,
}

/// A service in the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Its name.
    pub name: String,
    /// Its address and protocol.
    pub key: ServiceKey,
    /// Its compiled scheduler.
    pub ring: Ring,
    /// How it schedules and forwards; `None`: not known.
    pub policy: Option<Policy>,
    /// Whether it is configured. One that is not only keeps its id until its last connection ends.
    pub live: bool,
}

/// A backend in the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four facts that do not depend on each other")]
pub struct BackendEntry {
    /// The service's name.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its address and port.
    pub address: SocketAddr,
    /// The service's protocol.
    pub protocol: Protocol,
    /// Whether its service's address is of IPv4: that of a tunnel's far end may be of the other family.
    pub service_is_ipv4: bool,
    /// Its service's id.
    pub service_id: ServiceId,
    /// The way there; not known where its interface is zero.
    pub hop: Hop,
    /// Bytes of the largest IP packet on the way there; zero: not known.
    pub mtu: u32,
    /// Its share of new connections now, relative to the other weights.
    pub weight: u16,
    /// Established connections that it takes at the most.
    pub max_connections: Option<u32>,
    /// Whether new connections may go there.
    pub active: bool,
    /// The tunnel to it.
    pub tunnel: Option<Tunnel>,
    /// Whether NAT keeps the clients' addresses towards it, or did for connections that may be open.
    pub keeps_source: bool,
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
            service_is_ipv4: address.is_ipv4(),
            service_id: ServiceId(0),
            hop: Hop::default(),
            mtu: 0,
            weight: 1,
            max_connections: None,
            active: false,
            tunnel: None,
            keeps_source: false,
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
    /// Addresses of the backends whose packets to anybody concern us: their services' NAT keeps the
    /// clients' addresses.
    #[must_use]
    pub fn reply_sources(&self) -> BTreeSet<IpAddr> {
        let kept = self.backends.values().filter(|backend| backend.keeps_source);
        kept.map(|backend| backend.address.ip()).collect()
    }

    /// Whether ICMP errors to any address may be about packets of ours.
    #[must_use]
    pub fn reads_quotes(&self) -> bool {
        self.backends.values().any(|backend| backend.keeps_source || backend.tunnel.is_some())
    }

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

    /// All that is configured, for many look-ups.
    #[must_use]
    pub fn index(&self) -> Index<'_> {
        Index::of(self)
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
