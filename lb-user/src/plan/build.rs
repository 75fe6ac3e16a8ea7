//! Builds the tables: gives ids, compiles rings, finds ways and source addresses.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

use lb_common::net::Hop;

use super::{BackendEntry, BackendId, ServiceEntry, ServiceId, ServiceKey, Tables, ring};
use crate::config::{Backend, Config, Service};

/// How a backend is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// The next hop; unknown where its interface is zero.
    pub hop: Hop,
    /// The host's own address towards it.
    pub source: Option<IpAddr>,
}

/// What the controller has found out.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Whether each backend, by service and name, may get new connections. Absent: may not.
    pub active: HashMap<(String, String), bool>,
    /// Ways by the backend's address. Absent: not known yet.
    pub ways: HashMap<IpAddr, Way>,
}

/// Why no tables can be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No service id is left.
    #[error(
        "the data path has room for {0} services and all are taken, finishing ones included; \
         raise `services` in [tables], run `evenkeel detach` and start again"
    )]
    Services(u32),
    /// No backend id is left.
    #[error(
        "the data path has room for {0} backends and all are taken, finishing ones included; \
         raise `backends` in [tables], run `evenkeel detach` and start again"
    )]
    Backends(u32),
}

/// The tables for a configuration. What `previous` holds keeps its id; what is configured no longer
/// stays on, not live, for its open connections' sake, until the caller takes it out.
///
/// # Errors
///
/// [`PlanError`] where the ids of a table are used up.
pub fn build(config: &Config, facts: &Facts, previous: &Tables) -> Result<Tables, PlanError> {
    let mut tables = Tables::default();
    let mut services = Ids::new(&previous.services, config.tables.services);
    let mut backends = Ids::new(&previous.backends, config.tables.backends);
    for service in &config.services {
        let mut members = Vec::new();
        for backend in &service.backends {
            let known =
                previous.backends.iter().find(|(_, entry)| is_same(entry, service, backend));
            let id = match known {
                Some((id, _)) => *id,
                None => {
                    backends.free().map(BackendId).ok_or(PlanError::Backends(backends.limit))?
                }
            };
            let entry = entry(config, facts, service, backend, known.map(|(_, entry)| entry));
            let key = (service.name.clone(), backend.name.clone());
            // Without a source address no connection can be made: wait for the route.
            if facts.active.get(&key) == Some(&true) && !entry.sources.is_empty() {
                members.push((id, backend.weight));
            }
            tables.backends.insert(id, entry);
        }
        let key = ServiceKey { address: service.address, protocol: service.protocol };
        let known = previous
            .services
            .iter()
            .find(|(_, entry)| entry.name == service.name && entry.key == key);
        let id = match known {
            Some((id, _)) => *id,
            None => services.free().map(ServiceId).ok_or(PlanError::Services(services.limit))?,
        };
        let ring = ring::compile(&members);
        tables
            .services
            .insert(id, ServiceEntry { name: service.name.clone(), key, ring, live: true });
    }
    for (id, entry) in &previous.services {
        tables.services.entry(*id).or_insert_with(|| ServiceEntry {
            ring: Vec::new(),
            live: false,
            ..entry.clone()
        });
    }
    for (id, entry) in &previous.backends {
        tables.backends.entry(*id).or_insert_with(|| BackendEntry {
            hop: hop(facts, entry.address, Some(entry)),
            live: false,
            ..entry.clone()
        });
    }
    Ok(tables)
}

fn is_same(entry: &BackendEntry, service: &Service, backend: &Backend) -> bool {
    entry.service == service.name
        && entry.name == backend.name
        && entry.address == backend.address
        && entry.protocol == service.protocol
}

fn hop(facts: &Facts, address: SocketAddr, previous: Option<&BackendEntry>) -> Hop {
    let way = facts.ways.get(&address.ip());
    way.map_or_else(|| previous.map(|entry| entry.hop).unwrap_or_default(), |way| way.hop)
}

fn entry(
    config: &Config,
    facts: &Facts,
    service: &Service,
    backend: &Backend,
    previous: Option<&BackendEntry>,
) -> BackendEntry {
    let family = |ip: &IpAddr| ip.is_ipv4() == backend.address.is_ipv4();
    let mut sources: Vec<IpAddr> =
        config.nat.source_addresses.iter().copied().filter(family).collect();
    if sources.is_empty() {
        let own = facts.ways.get(&backend.address.ip()).and_then(|way| way.source).filter(family);
        // A route that is gone for a moment does not take the connections' source away.
        sources = own
            .map(|own| vec![own])
            .or_else(|| previous.map(|entry| entry.sources.clone()))
            .unwrap_or_default();
    }
    BackendEntry {
        service: service.name.clone(),
        name: backend.name.clone(),
        address: backend.address,
        protocol: service.protocol,
        hop: hop(facts, backend.address, previous),
        sources,
        ports: config.nat.source_ports,
        live: true,
    }
}

/// Hands out the lowest ids that nothing holds.
struct Ids {
    taken: Vec<bool>,
    next: usize,
    limit: u32,
}

impl Ids {
    fn new<K: Copy + Into<u32>, V>(taken: &BTreeMap<K, V>, limit: u32) -> Self {
        let mut flags = vec![false; limit as usize];
        for id in taken.keys() {
            if let Some(flag) = flags.get_mut(Into::<u32>::into(*id) as usize) {
                *flag = true;
            }
        }
        Self { taken: flags, next: 0, limit }
    }

    fn free(&mut self) -> Option<u32> {
        while *self.taken.get(self.next)? {
            self.next += 1;
        }
        self.next += 1;
        u32::try_from(self.next - 1).ok()
    }
}

impl From<ServiceId> for u32 {
    fn from(id: ServiceId) -> Self {
        id.0
    }
}

impl From<BackendId> for u32 {
    fn from(id: BackendId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        let head = "[node]\ninterfaces = [\"eth0\"]\n";
        Config::parse(&format!("{head}{text}"), Path::new("test.toml")).unwrap().config
    }

    const TWO: &str = r#"
        [[service]]
        name = "web"
        address = "192.0.2.10:80"
        [[service.backend]]
        name = "web-01"
        address = "10.0.0.11:8080"
        [[service.backend]]
        name = "web-02"
        address = "10.0.0.12:8080"
        weight = 2
    "#;

    fn facts(active: &[(&str, bool)]) -> Facts {
        let way = Way {
            hop: Hop { interface: 3, ..Hop::default() },
            source: Some("10.0.0.2".parse().unwrap()),
        };
        Facts {
            active: active
                .iter()
                .map(|(name, active)| (("web".into(), (*name).into()), *active))
                .collect(),
            ways: [("10.0.0.11".parse().unwrap(), way), ("10.0.0.12".parse().unwrap(), way)].into(),
        }
    }

    #[test]
    fn only_active_backends_are_in_the_ring() {
        let config = config(TWO);
        let both =
            build(&config, &facts(&[("web-01", true), ("web-02", true)]), &Tables::default())
                .unwrap();
        let ring = &both.service("web").unwrap().1.ring;
        assert_eq!(ring, &[BackendId(1), BackendId(0), BackendId(1)]);
        let one = build(&config, &facts(&[("web-01", true), ("web-02", false)]), &both).unwrap();
        assert_eq!(one.service("web").unwrap().1.ring, [BackendId(0)]);
        assert_eq!(one.backends.len(), 2);
        assert_eq!(both.addresses().len(), 2);
    }

    #[test]
    fn what_is_removed_keeps_its_id_until_it_is_taken_out() {
        let two = config(TWO);
        let active = facts(&[("web-01", true), ("web-02", true), ("web-03", true)]);
        let before = build(&two, &active, &Tables::default()).unwrap();
        let other = config(&TWO.replace("web-02", "web-03"));
        let after = build(&other, &active, &before).unwrap();
        assert!(!after.backends[&BackendId(1)].live);
        assert_eq!(after.backend("web", "web-03").unwrap().0, BackendId(2));
        // Coming back before the last connection ended, it is itself again.
        let again = build(&two, &active, &after).unwrap();
        assert_eq!(again.backend("web", "web-02").unwrap().0, BackendId(1));
        let gone = build(&config(""), &active, &again).unwrap();
        assert!(gone.services[&ServiceId(0)].ring.is_empty());
        assert!(gone.services.values().all(|service| !service.live));
        assert!(gone.addresses().contains(&"192.0.2.10".parse().unwrap()));
    }

    #[test]
    fn a_backend_without_a_route_waits_and_keeps_what_it_had() {
        let config = config(TWO);
        let mut unknown = facts(&[("web-01", true), ("web-02", true)]);
        unknown.ways.clear();
        let waiting = build(&config, &unknown, &Tables::default()).unwrap();
        assert!(waiting.service("web").unwrap().1.ring.is_empty());
        let known = build(&config, &facts(&[("web-01", true)]), &waiting).unwrap();
        let kept = build(&config, &unknown, &known).unwrap();
        assert_eq!(kept.backends[&BackendId(0)].hop.interface, 3);
        assert_eq!(kept.service("web").unwrap().1.ring.len(), 3);
    }

    #[test]
    fn ids_run_out_with_a_message() {
        let mut config = config(TWO);
        config.tables.backends = 1;
        let error = build(&config, &Facts::default(), &Tables::default()).unwrap_err();
        assert_eq!(error, PlanError::Backends(1));
    }
}
