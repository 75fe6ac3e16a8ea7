//! Tables in memory that fail when told to, for the tests of the control plane.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use anyhow::{Result, bail};
use lb_common::counters::BackendCounters;

use super::{Dataplane, Filter, Scope, Written};
use crate::{
    config::PrefixLists,
    plan::{
        BackendEntry, BackendId, NodePolicy, Policy, Ring, ServiceEntry, ServiceId, ServiceKey,
        Tables,
    },
};

/// The tables, each as the kernel has it. A clone is another handle to the same tables.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Maps>>);

#[derive(Default)]
struct Maps {
    filter: Filter,
    addresses: BTreeMap<IpAddr, bool>,
    node: Option<(NodePolicy, bool)>,
    prefixes: BTreeMap<Scope, PrefixLists>,
    policies: BTreeMap<ServiceId, (Policy, usize)>,
    services: HashMap<ServiceKey, ServiceId>,
    rings: BTreeMap<ServiceId, Ring>,
    backends: BTreeMap<BackendId, BackendEntry>,
    service_records: BTreeMap<ServiceId, ServiceEntry>,
    backend_records: BTreeMap<BackendId, BackendEntry>,
    writes_left: Option<usize>,
}

impl Fake {
    /// Lets `writes` more writes pass and fails those after; `None`: never fails.
    pub fn fail_after(&self, writes: Option<usize>) {
        self.maps().writes_left = writes;
    }

    /// What the tables say, put together, after checking that they agree with each other.
    ///
    /// # Panics
    ///
    /// Where they do not.
    #[must_use]
    pub fn contents(&self) -> Tables {
        let maps = self.maps();
        let mut tables = Tables::default();
        for (id, record) in &maps.service_records {
            let live = maps.services.get(&record.key) == Some(id);
            let ring = maps.rings.get(id).cloned().unwrap_or_default();
            let policy = maps.policies.get(id).map(|(policy, members)| {
                assert!(!live || *members == ring.members.len(), "miscounted backends");
                let prefixes = maps.prefixes.get(&Scope::Service(*id));
                Policy { prefixes: prefixes.cloned().unwrap_or_default(), ..policy.clone() }
            });
            tables.services.insert(*id, ServiceEntry { ring, policy, live, ..record.clone() });
        }
        assert!(maps.services.values().all(|id| maps.service_records.contains_key(id)));
        for id in maps.backend_records.keys() {
            tables.backends.insert(*id, maps.backends[id].clone());
        }
        assert_eq!(maps.filter.destinations, tables.addresses());
        assert_eq!(maps.filter.sources, tables.reply_sources());
        tables.node = maps.node.as_ref().map(|(node, reads_quotes)| {
            assert_eq!(*reads_quotes, tables.reads_quotes());
            let prefixes = maps.prefixes.get(&Scope::Node);
            NodePolicy { prefixes: prefixes.cloned().unwrap_or_default(), ..node.clone() }
        });
        let known: BTreeSet<_> = maps.addresses.keys().copied().collect();
        assert_eq!(known, tables.service_addresses());
        for (address, host) in &maps.addresses {
            let has = tables.node.as_ref().map(|node| node.host_addresses.contains(address));
            assert_eq!(has, Some(*host));
        }
        tables
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.0.lock().unwrap()
    }

    /// The tables for one write, or the failure that was asked for.
    fn write(&self) -> Result<MutexGuard<'_, Maps>> {
        let mut maps = self.maps();
        match &mut maps.writes_left {
            Some(0) => bail!("told to fail"),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(maps)
    }
}

impl Dataplane for Fake {
    fn read(&self) -> Result<Tables> {
        Ok(self.contents())
    }

    fn write_filter(&mut self, filter: &Filter) -> Result<()> {
        let mut maps = self.write()?;
        maps.filter.clone_from(filter);
        Ok(())
    }

    fn write_address(&mut self, address: IpAddr, services: Option<bool>) -> Result<()> {
        let mut maps = self.write()?;
        match services {
            Some(host) => maps.addresses.insert(address, host),
            None => maps.addresses.remove(&address),
        };
        Ok(())
    }

    fn write_node(&mut self, node: &NodePolicy, reads_quotes: bool) -> Result<()> {
        let mut maps = self.write()?;
        maps.node = Some((node.clone(), reads_quotes));
        Ok(())
    }

    fn write_prefixes(&mut self, scope: Scope, prefixes: &PrefixLists) -> Result<()> {
        let mut maps = self.write()?;
        maps.prefixes.insert(scope, prefixes.clone());
        Ok(())
    }

    fn write_policy(&mut self, id: ServiceId, policy: &Policy, members: usize) -> Result<()> {
        let mut maps = self.write()?;
        maps.policies.insert(id, (policy.clone(), members));
        Ok(())
    }

    fn write_service(&mut self, key: ServiceKey, id: ServiceId) -> Result<()> {
        let mut maps = self.write()?;
        assert!(maps.rings.contains_key(&id), "a service without a ring");
        assert!(maps.policies.contains_key(&id), "a service without settings");
        assert!(
            maps.filter.destinations.contains(&key.address.ip()),
            "a service that the filter turns away"
        );
        maps.services.insert(key, id);
        Ok(())
    }

    fn remove_service(&mut self, key: ServiceKey) -> Result<()> {
        let mut maps = self.write()?;
        maps.services.remove(&key);
        Ok(())
    }

    fn write_ring(&mut self, id: ServiceId, ring: &Ring) -> Result<()> {
        let mut maps = self.write()?;
        let mut named = ring.slots.iter().chain(&ring.members).chain(&ring.former);
        assert!(named.all(|backend| maps.backend_records.contains_key(backend)));
        maps.rings.insert(id, ring.clone());
        Ok(())
    }

    fn write_backend(&mut self, id: BackendId, backend: &BackendEntry) -> Result<()> {
        let mut maps = self.write()?;
        maps.backends.insert(id, backend.clone());
        Ok(())
    }

    fn reset_backend(&mut self, id: BackendId) -> Result<()> {
        let maps = self.write()?;
        let used =
            maps.rings.values().any(|ring| ring.slots.contains(&id) || ring.former.contains(&id));
        assert!(!used, "reset the counters of a backend in use");
        Ok(())
    }

    fn write_service_record(
        &mut self,
        id: ServiceId,
        service: Option<&ServiceEntry>,
    ) -> Result<()> {
        let mut maps = self.write()?;
        match service {
            Some(service) => maps.service_records.insert(id, service.clone()),
            None => maps.service_records.remove(&id),
        };
        Ok(())
    }

    fn write_backend_record(
        &mut self,
        id: BackendId,
        backend: Option<&BackendEntry>,
    ) -> Result<()> {
        let mut maps = self.write()?;
        let used =
            maps.rings.values().any(|ring| ring.slots.contains(&id) || ring.former.contains(&id));
        assert!(backend.is_some() || !used, "freed while in use");
        match backend {
            Some(backend) => maps.backend_records.insert(id, backend.clone()),
            None => maps.backend_records.remove(&id),
        };
        Ok(())
    }

    fn audit(&mut self, written: &Written<'_>) -> Result<Vec<String>> {
        let mut maps = self.write()?;
        let mut found = Vec::new();
        for (id, wanted) in &written.tables.backends {
            if maps.backends.get(id) != Some(wanted) {
                maps.backends.insert(*id, wanted.clone());
                found.push(wanted.label());
            }
        }
        for (id, wanted) in &written.tables.services {
            if wanted.live && maps.services.get(&wanted.key) != Some(id) {
                maps.services.insert(wanted.key, *id);
                found.push(wanted.name.clone());
            }
        }
        Ok(found)
    }

    fn backend_counters(&self, _: BackendId) -> Result<BackendCounters> {
        Ok(BackendCounters::default())
    }

    fn backend_state(&self, _: BackendId) -> Result<(u64, u64)> {
        Ok((0, 0))
    }

    fn verdicts(&self) -> Result<Vec<(&'static str, u64)>> {
        Ok(Vec::new())
    }
}
