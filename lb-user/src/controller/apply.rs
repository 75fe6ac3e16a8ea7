//! Writes the difference between what the tables hold and what they shall hold.
//!
//! The order keeps every moment whole: a backend is complete before a ring names it, a ring before
//! its service, and an address leaves the filter last. What was written is noted step by step, so
//! after an error the same call goes on where it failed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::Result;

use crate::{
    config::PrefixLists,
    dataplane::{Dataplane, Filter, Scope, Written},
    plan::{NodePolicy, Ring, ServiceEntry, ServiceId, ServiceKey, Tables},
};

/// Services whose rings are swapped at once: each needs a file descriptor for a moment.
const AT_ONCE: usize = 256;

/// A data path together with what it is known to hold.
pub struct Applier {
    dataplane: Box<dyn Dataplane>,
    held: Tables,
    /// What is in the filter; `None`: not known.
    filter: Option<Filter>,
    /// Addresses noted as services', and whether as the host's, too; `None`: not known.
    addresses: Option<BTreeMap<IpAddr, bool>>,
    /// The node's settings as written, and whether quotes of ICMP errors are read.
    node: Option<(NodePolicy, bool)>,
    /// The prefixes of each scope as written.
    prefixes: BTreeMap<Scope, PrefixLists>,
    /// Services whose ring may be another than the one that is held: to write it, or what belongs to it,
    /// failed.
    unsure: BTreeSet<ServiceId>,
    /// A number for each service that goes up with every change of its ring.
    revisions: BTreeMap<ServiceId, u64>,
}

impl Applier {
    /// Takes over a data path, reading what it holds.
    ///
    /// # Errors
    ///
    /// What the data path answered.
    pub fn new(dataplane: Box<dyn Dataplane>) -> Result<Self> {
        let held = dataplane.read()?;
        Ok(Self {
            dataplane,
            held,
            filter: None,
            addresses: None,
            node: None,
            prefixes: BTreeMap::new(),
            unsure: BTreeSet::new(),
            revisions: BTreeMap::new(),
        })
    }

    /// What the tables hold.
    pub fn held(&self) -> &Tables {
        &self.held
    }

    /// A number that goes up with every change of a service's ring.
    pub fn revision(&self, service: ServiceId) -> u64 {
        self.revisions.get(&service).copied().unwrap_or(0)
    }

    /// The data path, to read counters.
    pub fn dataplane(&self) -> &dyn Dataplane {
        &*self.dataplane
    }

    /// The data path itself, for whoever writes it without asking what it holds.
    pub fn into_dataplane(self) -> Box<dyn Dataplane> {
        self.dataplane
    }

    /// Makes the tables hold `wanted`.
    ///
    /// # Errors
    ///
    /// What the data path answered; the next call goes on from there.
    pub fn apply(&mut self, wanted: &Tables) -> Result<()> {
        let filter = filter(wanted);
        let held = self::filter(&self.held);
        self.write_filter(Filter {
            destinations: &filter.destinations | &held.destinations,
            sources: &filter.sources | &held.sources,
        })?;
        // Where the filter lets backends' packets to anybody in before this, they find their
        // connections all the same.
        self.write_node(wanted)?;
        self.write_backends(wanted)?;
        let addresses = addresses(wanted);
        self.add_addresses(&addresses)?;
        self.write_services(wanted)?;
        self.remove_services(wanted)?;
        self.remove_addresses(&addresses)?;
        self.remove_backends(wanted)?;
        self.write_filter(filter)
    }

    /// Compares the tables with what was written, and makes them that. Tells what differed.
    ///
    /// # Errors
    ///
    /// What the data path answered.
    pub fn audit(&mut self) -> Result<Vec<String>> {
        self.dataplane.audit(&Written {
            tables: &self.held,
            filter: self.filter.as_ref(),
            addresses: self.addresses.as_ref(),
            node: self.node.as_ref(),
            prefixes: &self.prefixes,
        })
    }

    fn write_filter(&mut self, filter: Filter) -> Result<()> {
        if self.filter.as_ref() != Some(&filter) {
            self.dataplane.write_filter(&filter)?;
            self.filter = Some(filter);
        }
        Ok(())
    }

    fn write_node(&mut self, wanted: &Tables) -> Result<()> {
        let policy = wanted.node.clone().unwrap_or_default();
        let written = (policy, wanted.reads_quotes());
        if self.node.as_ref() == Some(&written) {
            return Ok(());
        }
        self.write_prefixes(Scope::Node, &written.0.prefixes)?;
        self.dataplane.write_node(&written.0, written.1)?;
        self.held.node.clone_from(&wanted.node);
        self.node = Some(written);
        Ok(())
    }

    fn write_prefixes(&mut self, scope: Scope, prefixes: &PrefixLists) -> Result<()> {
        if self.prefixes.get(&scope) != Some(prefixes) {
            self.dataplane.write_prefixes(scope, prefixes)?;
            self.prefixes.insert(scope, prefixes.clone());
        }
        Ok(())
    }

    fn add_addresses(&mut self, wanted: &BTreeMap<IpAddr, bool>) -> Result<()> {
        // What an earlier daemon noted is told by the services that it left; whether the host has
        // it, by nothing.
        let unknown = self.addresses.is_none();
        let services = &self.held.services;
        let noted = self.addresses.get_or_insert_with(|| {
            services.values().map(|service| (service.key.address.ip(), false)).collect()
        });
        for (address, host) in wanted {
            if unknown || noted.get(address) != Some(host) {
                self.dataplane.write_address(*address, Some(*host))?;
                noted.insert(*address, *host);
            }
        }
        Ok(())
    }

    fn remove_addresses(&mut self, wanted: &BTreeMap<IpAddr, bool>) -> Result<()> {
        let noted = self.addresses.get_or_insert_default();
        let gone: Vec<_> =
            noted.keys().filter(|address| !wanted.contains_key(*address)).copied().collect();
        for address in gone {
            self.dataplane.write_address(address, None)?;
            noted.remove(&address);
        }
        Ok(())
    }

    fn write_backends(&mut self, wanted: &Tables) -> Result<()> {
        for (id, backend) in &wanted.backends {
            let known = self.held.backends.get(id);
            if known == Some(backend) {
                continue;
            }
            if known.is_none() {
                self.dataplane.reset_backend(*id)?;
                self.dataplane.write_backend_record(*id, Some(backend))?;
            }
            self.dataplane.write_backend(*id, backend)?;
            self.held.backends.insert(*id, backend.clone());
        }
        Ok(())
    }

    fn remove_backends(&mut self, wanted: &Tables) -> Result<()> {
        for id in self.held.backends.keys().copied().collect::<Vec<_>>() {
            if !wanted.backends.contains_key(&id) {
                self.dataplane.write_backend_record(id, None)?;
                self.held.backends.remove(&id);
            }
        }
        Ok(())
    }

    fn write_services(&mut self, wanted: &Tables) -> Result<()> {
        let live = wanted.services.iter().filter(|(_, service)| service.live);
        let differs = |(id, service): &(&ServiceId, &ServiceEntry)| {
            self.unsure.contains(*id) || self.held.services.get(*id) != Some(*service)
        };
        let changed: Vec<_> = live.filter(differs).collect();
        changed.chunks(AT_ONCE).try_for_each(|some| self.write_some_services(some))
    }

    /// Writes services that are not what they shall be, their rings at once: after a swap the kernel waits
    /// until no program looks at what was there, which for thousands one by one takes minutes.
    fn write_some_services(&mut self, changed: &[(&ServiceId, &ServiceEntry)]) -> Result<()> {
        // How many members there are is never fewer than the ring has: the kernel takes its time to swap
        // a ring, and who is refused meanwhile by one that returned too early must find the other.
        let grows = |known: Option<&ServiceEntry>, service: &ServiceEntry| {
            known.is_some_and(|known| known.ring.members.len() < service.ring.members.len())
        };
        let known: Vec<_> =
            changed.iter().map(|(id, _)| self.held.services.get(*id).cloned()).collect();
        for ((id, service), known) in changed.iter().zip(&known) {
            if known.is_none() {
                self.dataplane.write_service_record(**id, Some(service))?;
            }
            if grows(known.as_ref(), service) {
                self.write_policy(**id, service)?;
            }
        }
        let has_moved = |((id, service), known): &(&(&ServiceId, &ServiceEntry), &Option<_>)| {
            self.unsure.contains(*id)
                || known.as_ref().is_none_or(|known: &ServiceEntry| known.ring != service.ring)
        };
        let moved: BTreeMap<_, _> = changed
            .iter()
            .zip(&known)
            .filter(has_moved)
            .map(|((id, service), _)| (**id, &service.ring))
            .collect();
        // Until all that belongs to the ring is written, too.
        self.unsure.extend(moved.keys());
        for id in moved.keys() {
            *self.revisions.entry(*id).or_default() += 1;
        }
        if !moved.is_empty() {
            let rings: Vec<_> = moved.iter().map(|(id, ring)| (*id, *ring)).collect();
            self.dataplane.write_rings(&rings)?;
        }
        for ((id, service), known) in changed.iter().zip(&known) {
            let (fresh, live) = (
                known.as_ref().is_none_or(|known| known.policy != service.policy),
                known.as_ref().is_some_and(|known| known.live),
            );
            // A ring that was emptied when the service retired is not told by what it holds now.
            if !grows(known.as_ref(), service) && (fresh || moved.contains_key(*id) || !live) {
                self.write_policy(**id, service)?;
            }
            if !live {
                self.dataplane.write_service(service.key, **id)?;
            }
            self.held.services.insert(**id, (*service).clone());
            self.unsure.remove(*id);
        }
        Ok(())
    }

    fn write_policy(&mut self, id: ServiceId, service: &ServiceEntry) -> Result<()> {
        let Some(policy) = &service.policy else { return Ok(()) };
        self.write_prefixes(Scope::Service(id), &policy.prefixes)?;
        self.dataplane.write_policy(id, policy, service.ring.members.len())
    }

    fn remove_services(&mut self, wanted: &Tables) -> Result<()> {
        let claimed = |key: ServiceKey| wanted.services.values().any(|s| s.live && s.key == key);
        for (id, service) in self.held.services.clone() {
            let stays = wanted.services.get(&id);
            if stays.is_some_and(|stays| stays.live) || stays == Some(&service) {
                continue;
            }
            if service.live && !claimed(service.key) {
                self.dataplane.remove_service(service.key)?;
            }
            if !service.ring.is_empty() || self.unsure.contains(&id) {
                *self.revisions.entry(id).or_default() += 1;
                self.dataplane.write_ring(id, &Ring::default())?;
                self.unsure.remove(&id);
            }
            if let Some(retiring) = stays {
                self.held.services.insert(id, retiring.clone());
            } else {
                self.write_prefixes(Scope::Service(id), &PrefixLists::default())?;
                self.dataplane.write_service_record(id, None)?;
                self.held.services.remove(&id);
            }
        }
        Ok(())
    }
}

/// What the filter must hold for these tables.
fn filter(tables: &Tables) -> Filter {
    Filter { destinations: tables.addresses(), sources: tables.reply_sources() }
}

/// Configured services' addresses, and whether the host has them.
fn addresses(tables: &Tables) -> BTreeMap<IpAddr, bool> {
    let host = |address: &IpAddr| {
        tables.node.as_ref().is_some_and(|node| node.host_addresses.contains(address))
    };
    let addresses = tables.service_addresses();
    addresses.into_iter().map(|address| (address, host(&address))).collect()
}

#[cfg(test)]
mod tests {
    use lb_common::service::ServiceSettings;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::Protocol,
        dataplane::fake::Fake,
        plan::{BackendEntry, BackendId, Policy},
    };

    /// A policy of which some have prefixes.
    fn policy(id: u32) -> Policy {
        let allow =
            if id.is_multiple_of(2) { vec!["10.0.0.0/8".parse().unwrap()] } else { Vec::new() };
        let prefixes = PrefixLists { allow, deny: Vec::new() };
        let settings = ServiceSettings { scheduler: id, ..ServiceSettings::default() };
        Policy { settings, prefixes }
    }

    /// Tables of a few services and backends out of a few possible ones.
    fn tables() -> impl Strategy<Value = Tables> {
        let service = (0_u32..4, any::<bool>(), prop::collection::vec(0_u32..5, 0..4));
        let backend = (0_u32..5, any::<bool>(), 0_u32..3);
        (prop::collection::vec(service, 0..4), prop::collection::vec(backend, 0..5)).prop_map(
            |(services, backends)| {
                let node = NodePolicy {
                    host_addresses: ["192.0.2.1".parse().unwrap()].into(),
                    least_mtu: u32::try_from(services.len()).unwrap(),
                    ..NodePolicy::default()
                };
                let mut tables = Tables { node: Some(node), ..Tables::default() };
                for (id, live, hop) in backends {
                    let address = format!("10.0.0.{id}:80").parse().unwrap();
                    let mut entry =
                        BackendEntry::new("s".into(), format!("b{id}"), address, Protocol::Tcp);
                    entry.live = live;
                    entry.hop.interface = hop;
                    entry.keeps_source = hop == 2;
                    entry.sources = vec!["10.0.0.200".parse().unwrap()];
                    tables.backends.insert(BackendId(id), entry);
                }
                for (id, live, ring) in services {
                    let ids = ring.into_iter().map(BackendId);
                    let ring = ids.filter(|id| tables.backends.contains_key(id) && live).collect();
                    let address = format!("192.0.2.{id}:80").parse().unwrap();
                    let key = ServiceKey { address, protocol: Protocol::Tcp };
                    let name = format!("s{id}");
                    let policy = Some(policy(id));
                    let entry = ServiceEntry { name, key, ring: Ring::of(ring), policy, live };
                    tables.services.insert(ServiceId(id), entry);
                }
                tables
            },
        )
    }

    proptest! {
        /// Whatever came before and wherever it failed on the way, the tables end as wanted, and no
        /// ring ever names a backend that is not there.
        #[test]
        fn ends_as_wanted(steps in prop::collection::vec((tables(), 0_usize..40), 1..5)) {
            let fake = Fake::default();
            let mut applier = Applier::new(Box::new(fake.clone())).unwrap();
            for (mut wanted, fails_after) in steps {
                // What is not configured is there only as long as it was before.
                let held = applier.held().clone();
                wanted.services.retain(|id, entry| entry.live || held.services.contains_key(id));
                wanted.backends.retain(|id, entry| entry.live || held.backends.contains_key(id));
                for service in wanted.services.values_mut() {
                    service.ring.slots.retain(|id| wanted.backends.contains_key(id));
                    service.ring = Ring::of(std::mem::take(&mut service.ring.slots));
                }
                fake.fail_after(Some(fails_after));
                let first = applier.apply(&wanted);
                fake.fail_after(None);
                if first.is_err() {
                    applier.apply(&wanted).unwrap();
                }
                prop_assert_eq!(applier.held(), &wanted);
                prop_assert_eq!(fake.contents(), wanted);
            }
        }
    }
}
