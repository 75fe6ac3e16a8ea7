//! Tables in memory that fail when told to, for the tests of the control plane.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use anyhow::{Result, bail};
use lb_common::counters::BackendCounters;

use super::Dataplane;
use crate::plan::{BackendEntry, BackendId, ServiceEntry, ServiceId, ServiceKey, Tables};

/// The tables, each as the kernel has it. A clone is another handle to the same tables.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Maps>>);

#[derive(Default)]
struct Maps {
    filter: BTreeSet<IpAddr>,
    addresses: BTreeSet<IpAddr>,
    services: HashMap<ServiceKey, ServiceId>,
    rings: BTreeMap<ServiceId, Vec<BackendId>>,
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
            tables.services.insert(*id, ServiceEntry { ring, live, ..record.clone() });
        }
        assert!(maps.services.values().all(|id| maps.service_records.contains_key(id)));
        for id in maps.backend_records.keys() {
            tables.backends.insert(*id, maps.backends[id].clone());
        }
        assert_eq!(maps.filter, tables.addresses());
        assert_eq!(maps.addresses, tables.service_addresses());
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

    fn write_filter(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<()> {
        let mut maps = self.write()?;
        maps.filter.clone_from(addresses);
        Ok(())
    }

    fn write_address(&mut self, address: IpAddr, has_services: bool) -> Result<()> {
        let mut maps = self.write()?;
        if has_services {
            maps.addresses.insert(address);
        } else {
            maps.addresses.remove(&address);
        }
        Ok(())
    }

    fn write_service(&mut self, key: ServiceKey, id: ServiceId) -> Result<()> {
        let mut maps = self.write()?;
        assert!(maps.rings.contains_key(&id), "a service without a ring");
        assert!(maps.filter.contains(&key.address.ip()), "a service that the filter turns away");
        maps.services.insert(key, id);
        Ok(())
    }

    fn remove_service(&mut self, key: ServiceKey) -> Result<()> {
        let mut maps = self.write()?;
        maps.services.remove(&key);
        Ok(())
    }

    fn write_ring(&mut self, id: ServiceId, ring: &[BackendId]) -> Result<()> {
        let mut maps = self.write()?;
        assert!(ring.iter().all(|backend| maps.backend_records.contains_key(backend)));
        maps.rings.insert(id, ring.to_vec());
        Ok(())
    }

    fn write_backend(&mut self, id: BackendId, backend: &BackendEntry) -> Result<()> {
        let mut maps = self.write()?;
        maps.backends.insert(id, backend.clone());
        Ok(())
    }

    fn reset_backend(&mut self, id: BackendId) -> Result<()> {
        let maps = self.write()?;
        let used = maps.rings.values().any(|ring| ring.contains(&id));
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
        let used = maps.rings.values().any(|ring| ring.contains(&id));
        assert!(backend.is_some() || !used, "freed while in use");
        match backend {
            Some(backend) => maps.backend_records.insert(id, backend.clone()),
            None => maps.backend_records.remove(&id),
        };
        Ok(())
    }

    fn backend_counters(&self, _: BackendId) -> Result<BackendCounters> {
        Ok(BackendCounters::default())
    }

    fn verdicts(&self) -> Result<Vec<(&'static str, u64)>> {
        Ok(Vec::new())
    }
}
