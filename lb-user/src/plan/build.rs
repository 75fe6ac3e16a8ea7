//! Builds the tables: gives ids, compiles rings, finds ways and source addresses.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use lb_common::net::Hop;

use super::{
    Age, BackendEntry, BackendId, NodePolicy, Policy, Ring, ServiceEntry, ServiceId, ServiceKey,
    Standing, Tables, Tunnel, effective, index::Known, maglev::Member, members,
};
use crate::config::{Backend, Config, Forwarding, Scheduler, Service};

/// How a backend is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// The next hop; unknown where its interface is zero.
    pub hop: Hop,
    /// The host's own address towards it.
    pub source: Option<IpAddr>,
    /// Bytes of the largest IP packet on the way; zero: not known.
    pub mtu: u32,
}

/// What the controller has found out.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What is said of each backend, by service and name. Absent: nothing is known.
    pub standings: HashMap<(String, String), Standing>,
    /// Ways by the backend's address. Absent: not known yet.
    pub ways: HashMap<IpAddr, Way>,
    /// Bytes of the largest IP packet that every interface takes; zero: not known.
    pub least_mtu: u32,
    /// The host's own addresses.
    pub host_addresses: BTreeSet<IpAddr>,
    /// How long the services' rings have been in force. Absent: long enough.
    pub ages: HashMap<ServiceId, Age>,
}

impl Facts {
    fn standing(&self, service: &Service, backend: &Backend) -> Standing {
        let key = (service.name.clone(), backend.name.clone());
        self.standings.get(&key).copied().unwrap_or_default()
    }
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
    let mut tables = Tables { node: Some(node(config, facts)), ..Tables::default() };
    let known = Known::of(previous);
    let mut services = Ids::new(&previous.services, config.tables.services);
    let mut backends = Ids::new(&previous.backends, config.tables.backends);
    for service in &config.services {
        let key = ServiceKey { address: service.address, protocol: service.protocol };
        let service_id = match known.service(&service.name, key) {
            Some(id) => id,
            None => services.free().map(ServiceId).ok_or(PlanError::Services(services.limit))?,
        };
        let mut entries = Vec::new();
        for backend in &service.backends {
            let known = known.backend(service, backend);
            let id = match known {
                Some((id, _)) => id,
                None => {
                    backends.free().map(BackendId).ok_or(PlanError::Backends(backends.limit))?
                }
            };
            let known = known.map(|(_, entry)| entry);
            let mut entry = entry(config, facts, service, backend, known);
            entry.service_id = service_id;
            entries.push((id, entry));
        }
        let members = admit(service, facts, &mut entries);
        let ids: Vec<_> = entries.iter().map(|(id, _)| *id).collect();
        tables.backends.extend(entries);
        let ring = Ring::compile(service.scheduler, &members, service.table_size);
        let ring = match previous.services.get(&service_id) {
            Some(before) if is_alike_everywhere(service) => {
                let backends = ids.iter().zip(&service.backends);
                let usable: HashSet<_> = backends
                    .filter(|(_, backend)| facts.standing(service, backend).is_usable())
                    .map(|(id, _)| *id)
                    .collect();
                let usable = |id| usable.contains(&id);
                let age = facts.ages.get(&service_id).copied().unwrap_or_default();
                ring.after(&before.ring, age, usable)
            }
            _ => ring,
        };
        let policy = Some(Policy::of(service, awaits(service, facts)));
        tables.services.insert(
            service_id,
            ServiceEntry { name: service.name.clone(), key, ring, policy, live: true },
        );
    }
    for (id, entry) in &previous.services {
        tables.services.entry(*id).or_insert_with(|| ServiceEntry {
            ring: Ring::default(),
            live: false,
            ..entry.clone()
        });
    }
    for (id, entry) in &previous.backends {
        tables.backends.entry(*id).or_insert_with(|| BackendEntry {
            hop: way(facts, entry.address.ip(), Some(entry)).0,
            mtu: way(facts, entry.address.ip(), Some(entry)).1,
            active: false,
            live: false,
            ..entry.clone()
        });
    }
    Ok(tables)
}

/// Whether every edge chooses alike for a flow, so that a connection that another one opened goes on here: as
/// the program has it.
fn is_alike_everywhere(service: &Service) -> bool {
    service.scheduler == Scheduler::Maglev && service.forwarding != Forwarding::Nat
}

/// Whether a backend of a service may be up in a moment.
fn awaits(service: &Service, facts: &Facts) -> bool {
    service.backends.iter().any(|backend| {
        let standing = facts.standing(service, backend);
        standing.admitted && standing.awaited
    })
}

/// Decides which backends of a service get new connections, and notes it in their entries, which stand
/// in the order of the configuration.
fn admit(
    service: &Service,
    facts: &Facts,
    entries: &mut [(BackendId, BackendEntry)],
) -> Vec<Member> {
    // Full NAT without a source address makes no connection: wait for the route.
    let needs_source = service.forwarding == Forwarding::Nat && service.snat;
    let lacks_source: BTreeSet<_> = entries
        .iter()
        .filter(|(_, entry)| needs_source && entry.sources.is_empty())
        .map(|(_, entry)| entry.name.clone())
        .collect();
    let standing = |backend: &Backend| {
        let mut standing = facts.standing(service, backend);
        standing.admitted &= !lacks_source.contains(&backend.name);
        standing
    };
    let chosen = members(service, standing);
    let parts: Vec<_> = chosen
        .iter()
        .map(|index| &service.backends[*index])
        .map(|backend| (backend.weight, standing(backend).percent))
        .collect();
    let mut admitted = Vec::new();
    for (index, weight) in chosen.into_iter().zip(effective(&parts)) {
        let (id, entry) = &mut entries[index];
        (entry.active, entry.weight) = (true, weight);
        admitted.push(Member { id: *id, weight, address: entry.address });
    }
    admitted
}

fn node(config: &Config, facts: &Facts) -> NodePolicy {
    let addresses: BTreeSet<_> =
        config.services.iter().map(|service| service.address.ip()).collect();
    NodePolicy {
        prefixes: config.node.prefixes.clone(),
        least_mtu: facts.least_mtu,
        host_addresses: &addresses & &facts.host_addresses,
    }
}

/// The next hop and its MTU; what is not known stays as it was.
fn way(facts: &Facts, address: IpAddr, previous: Option<&BackendEntry>) -> (Hop, u32) {
    facts.ways.get(&address).map_or_else(
        || previous.map(|entry| (entry.hop, entry.mtu)).unwrap_or_default(),
        |way| (way.hop, way.mtu),
    )
}

fn entry(
    config: &Config,
    facts: &Facts,
    service: &Service,
    backend: &Backend,
    previous: Option<&BackendEntry>,
) -> BackendEntry {
    let ip = backend.address.ip();
    let own = facts.ways.get(&ip).and_then(|way| way.source);
    let (hop, mtu) = way(facts, ip, previous);
    let mut tunnel = Tunnel::of(config, service, backend.address, own);
    let kept = previous.and_then(|entry| entry.tunnel);
    if own.is_none() && kept.is_some_and(|kept| kept.gue_port == tunnel.and_then(|t| t.gue_port)) {
        // A route that is gone for a moment does not move the tunnel's near end.
        tunnel = kept;
    }
    BackendEntry {
        service_is_ipv4: service.address.is_ipv4(),
        hop,
        mtu,
        weight: backend.weight,
        max_connections: backend.max_connections,
        tunnel,
        // Connections of an earlier way of forwarding go on: what they need stays.
        keeps_source: (service.forwarding == Forwarding::Nat && !service.snat)
            || previous.is_some_and(|entry| entry.keeps_source),
        sources: sources(config, ip, own, previous),
        ports: config.nat.source_ports,
        live: true,
        ..BackendEntry::new(
            service.name.clone(),
            backend.name.clone(),
            backend.address,
            service.protocol,
        )
    }
}

/// The source addresses that NAT has towards a backend.
fn sources(
    config: &Config,
    backend: IpAddr,
    own: Option<IpAddr>,
    previous: Option<&BackendEntry>,
) -> Vec<IpAddr> {
    let family = |ip: &IpAddr| ip.is_ipv4() == backend.is_ipv4();
    let sources: Vec<IpAddr> = config.nat.source_addresses.iter().copied().filter(family).collect();
    if !sources.is_empty() {
        return sources;
    }
    // A route that is gone for a moment does not take the connections' source away.
    own.filter(family)
        .map(|own| vec![own])
        .or_else(|| previous.map(|entry| entry.sources.clone()))
        .unwrap_or_default()
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

    use lb_common::service::flags;

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
            mtu: 1500,
        };
        Facts {
            standings: active
                .iter()
                .map(|(name, healthy)| {
                    let standing =
                        Standing { healthy: *healthy, awaited: false, ..Standing::default() };
                    (("web".into(), (*name).into()), standing)
                })
                .collect(),
            ways: [("10.0.0.11".parse().unwrap(), way), ("10.0.0.12".parse().unwrap(), way)].into(),
            ..Facts::default()
        }
    }

    #[test]
    fn only_active_backends_are_in_the_ring() {
        let config = config(TWO);
        let both =
            build(&config, &facts(&[("web-01", true), ("web-02", true)]), &Tables::default())
                .unwrap();
        let ring = &both.service("web").unwrap().1.ring.slots;
        assert_eq!(ring, &[BackendId(1), BackendId(0), BackendId(1)]);
        let one = build(&config, &facts(&[("web-01", true), ("web-02", false)]), &both).unwrap();
        assert_eq!(one.service("web").unwrap().1.ring.slots, [BackendId(0)]);
        assert_eq!(one.backends.len(), 2);
        assert_eq!(both.addresses().len(), 2);
    }

    #[test]
    fn clients_are_told_that_nobody_is_active_once_every_backend_is_judged() {
        let config = config(TWO);
        let tells = |facts: &Facts| {
            let tables = build(&config, facts, &Tables::default()).unwrap();
            let policy = tables.service("web").unwrap().1.policy.clone().unwrap();
            policy.settings.flags & flags::REJECT_NO_BACKEND != 0
        };
        assert!(!tells(&Facts::default()), "their probes have yet to say");
        assert!(!tells(&facts(&[("web-01", false)])), "the other one's have");
        let mut judged = facts(&[("web-01", false), ("web-02", false)]);
        assert!(tells(&judged));
        // Whom people keep out is not waited for.
        let key = ("web".to_owned(), "web-02".to_owned());
        let out = Standing { admitted: false, ..Standing::default() };
        judged.standings.insert(key, out);
        assert!(tells(&judged));
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
        assert_eq!(kept.service("web").unwrap().1.ring.slots.len(), 3);
    }

    #[test]
    fn ids_run_out_with_a_message() {
        let mut config = config(TWO);
        config.tables.backends = 1;
        let error = build(&config, &Facts::default(), &Tables::default()).unwrap_err();
        assert_eq!(error, PlanError::Backends(1));
    }
}
