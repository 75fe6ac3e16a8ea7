//! From raw values to the meaning: where nothing that is required is missing, a [`Config`].

use toml::Spanned;

use super::{RawBackend, RawConfig, RawPrefixes, RawService};
use crate::config::{
    model::{Backend, Config, Nat, Node, Service, Tunnel},
    prefix::Prefix,
};

impl RawConfig {
    /// `None` when a required value is missing; its error is in the sink then.
    pub(in crate::config) fn into_config(self) -> Option<Config> {
        Some(Config {
            node: Node {
                interfaces: self.interfaces.into_iter().map(Spanned::into_inner).collect(),
                xdp_mode: self.xdp_mode,
                prefixes: self.prefixes.map(RawPrefixes::into_lists).unwrap_or_default(),
            },
            nat: Nat {
                source_addresses: self
                    .source_addresses
                    .into_iter()
                    .map(Spanned::into_inner)
                    .collect(),
                source_ports: self.source_ports.map(Spanned::into_inner).unwrap_or_default(),
            },
            tables: self.tables,
            http: self.http,
            verify: self.verify,
            alerts: self.alerts,
            store: self.store,
            discovery: self.discovery,
            tunnel: tunnel(self.tunnel_sources),
            services: self
                .services
                .into_iter()
                .map(RawService::into_service)
                .collect::<Option<_>>()?,
        })
    }
}

impl RawService {
    fn into_service(self) -> Option<Service> {
        Some(Service {
            name: self.name?.into_inner(),
            address: self.address?.into_inner(),
            protocol: self.protocol,
            scheduler: self.scheduler?,
            table_size: self.table_size,
            forwarding: self.forwarding?,
            snat: self.snat,
            gue_port: self.gue_port,
            sticky: self.sticky,
            overload: self.overload,
            availability: self.availability,
            announce: self.announce.map(|told| told.announce),
            timeouts: self.timeouts,
            limits: self.limits,
            prefixes: self.prefixes.into_lists(),
            health: self.health?,
            expected_connections: self.expected_connections,
            discover: self.discover,
            backends: self
                .backends
                .into_iter()
                .map(RawBackend::into_backend)
                .collect::<Option<_>>()?,
        })
    }
}

impl RawBackend {
    fn into_backend(self) -> Option<Backend> {
        Some(Backend {
            name: self.name?.into_inner(),
            address: self.address?.into_inner(),
            weight: self.weight?,
            tier: self.tier,
            max_connections: self.max_connections,
            capacity: self.capacity.map(Spanned::into_inner),
            origin: None,
        })
    }
}

fn tunnel(sources: Vec<Spanned<Prefix>>) -> Tunnel {
    let mut tunnel = Tunnel::default();
    for source in sources.into_iter().map(Spanned::into_inner) {
        if source.address.is_ipv4() { tunnel.source_v4 = source } else { tunnel.source_v6 = source }
    }
    tunnel
}
