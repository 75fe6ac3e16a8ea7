//! The configuration as it goes on trial: without what would turn synthetic clients away, and with facts
//! that a host would have found out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::net::Hop;

use crate::{
    config::{Config, Limits, PortRange, Service},
    plan::{Facts, Standing, Way},
};

/// The loopback's index, in every network namespace.
const LOOPBACK: u32 = 1;
/// Source addresses that NAT may have.
const SOURCES: u8 = 8;

/// The configuration without limits of new connections, and with source ports for all of a run's.
pub fn lenient(config: &Config) -> Config {
    let mut lenient = config.clone();
    lenient.services = config.services.iter().map(unlimited).collect();
    let v4 = (1..=SOURCES).map(|n| IpAddr::from(Ipv4Addr::new(192, 0, 0, n)));
    // The discard prefix (RFC 6666).
    let v6 = (1..=SOURCES).map(|n| IpAddr::from(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, n.into())));
    lenient.nat.source_addresses = v4.chain(v6).collect();
    lenient.nat.source_ports = PortRange { low: 1, high: u16::MAX };
    lenient
}

/// The service without limits of new connections.
pub fn unlimited(service: &Service) -> Service {
    let limits = Limits { service: None, client: None, ..service.limits };
    Service { limits, ..service.clone() }
}

/// What is said of a backend that takes part.
pub const UP: Standing = Standing { admitted: true, healthy: true, awaited: false, percent: 100 };

/// Every backend up, and reached by a made-up next hop.
pub fn facts(config: &Config) -> Facts {
    let mut facts = Facts::default();
    for service in &config.services {
        for backend in &service.backends {
            facts.standings.insert((service.name.clone(), backend.name.clone()), UP);
            let ip = backend.address.ip();
            let source: IpAddr = match ip {
                IpAddr::V4(_) => Ipv4Addr::new(192, 0, 0, 1).into(),
                IpAddr::V6(_) => Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1).into(),
            };
            let hop = Hop {
                interface: LOOPBACK,
                source: [2, 0, 0, 0, 0, 3],
                destination: [2, 0, 0, 0, 0, 4],
            };
            facts.ways.insert(ip, Way { hop, source: Some(source), mtu: 0 });
        }
    }
    facts
}
