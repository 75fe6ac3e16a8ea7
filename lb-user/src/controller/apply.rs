//! Writes the difference between what the tables hold and what they shall hold.
//!
//! The order keeps every moment whole: a backend is complete before a ring names it, a ring before
//! its service, and an address leaves the filter last. What was written is noted step by step, so
//! after an error the same call goes on where it failed.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::Result;

use crate::{
    dataplane::Dataplane,
    plan::{ServiceKey, Tables},
};

/// A data path together with what it is known to hold.
pub struct Applier {
    dataplane: Box<dyn Dataplane>,
    held: Tables,
    /// Addresses in the filter; `None`: not known.
    filter: Option<BTreeSet<IpAddr>>,
    /// Addresses noted as services'; `None`: not known.
    addresses: Option<BTreeSet<IpAddr>>,
}

impl Applier {
    /// Takes over a data path, reading what it holds.
    ///
    /// # Errors
    ///
    /// What the data path answered.
    pub fn new(dataplane: Box<dyn Dataplane>) -> Result<Self> {
        let held = dataplane.read()?;
        Ok(Self { dataplane, held, filter: None, addresses: None })
    }

    /// What the tables hold.
    pub fn held(&self) -> &Tables {
        &self.held
    }

    /// The data path, to read counters.
    pub fn dataplane(&self) -> &dyn Dataplane {
        &*self.dataplane
    }

    /// Makes the tables hold `wanted`.
    ///
    /// # Errors
    ///
    /// What the data path answered; the next call goes on from there.
    pub fn apply(&mut self, wanted: &Tables) -> Result<()> {
        let (filter, addresses) = (wanted.addresses(), wanted.service_addresses());
        self.write_filter(&filter | &self.held.addresses())?;
        self.write_backends(wanted)?;
        self.add_addresses(&addresses)?;
        self.write_services(wanted)?;
        self.remove_services(wanted)?;
        self.remove_addresses(&addresses)?;
        self.remove_backends(wanted)?;
        self.write_filter(filter)
    }

    fn write_filter(&mut self, addresses: BTreeSet<IpAddr>) -> Result<()> {
        if self.filter.as_ref() != Some(&addresses) {
            self.dataplane.write_filter(&addresses)?;
            self.filter = Some(addresses);
        }
        Ok(())
    }

    fn add_addresses(&mut self, wanted: &BTreeSet<IpAddr>) -> Result<()> {
        if let Some(noted) = &mut self.addresses {
            for address in wanted - &*noted {
                self.dataplane.write_address(address, true)?;
                noted.insert(address);
            }
            return Ok(());
        }
        for address in wanted {
            self.dataplane.write_address(*address, true)?;
        }
        // What an earlier daemon noted is told by the services that it left.
        let left = self.held.services.values().map(|service| service.key.address.ip());
        self.addresses = Some(left.chain(wanted.iter().copied()).collect());
        Ok(())
    }

    fn remove_addresses(&mut self, wanted: &BTreeSet<IpAddr>) -> Result<()> {
        let noted = self.addresses.get_or_insert_default();
        for address in &*noted - wanted {
            self.dataplane.write_address(address, false)?;
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
        for (id, service) in wanted.services.iter().filter(|(_, service)| service.live) {
            let known = self.held.services.get(id);
            if known == Some(service) {
                continue;
            }
            if known.is_none() {
                self.dataplane.write_service_record(*id, Some(service))?;
            }
            if known.is_none_or(|known| known.ring != service.ring) {
                self.dataplane.write_ring(*id, &service.ring)?;
            }
            if known.is_none_or(|known| !known.live) {
                self.dataplane.write_service(service.key, *id)?;
            }
            self.held.services.insert(*id, service.clone());
        }
        Ok(())
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
            if !service.ring.is_empty() {
                self.dataplane.write_ring(id, &[])?;
            }
            if let Some(retiring) = stays {
                self.held.services.insert(id, retiring.clone());
            } else {
                self.dataplane.write_service_record(id, None)?;
                self.held.services.remove(&id);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::Protocol,
        dataplane::fake::Fake,
        plan::{BackendEntry, BackendId, ServiceEntry, ServiceId},
    };

    /// Tables of a few services and backends out of a few possible ones.
    fn tables() -> impl Strategy<Value = Tables> {
        let service = (0_u32..4, any::<bool>(), prop::collection::vec(0_u32..5, 0..4));
        let backend = (0_u32..5, any::<bool>(), 0_u32..3);
        (prop::collection::vec(service, 0..4), prop::collection::vec(backend, 0..5)).prop_map(
            |(services, backends)| {
                let mut tables = Tables::default();
                for (id, live, hop) in backends {
                    let address = format!("10.0.0.{id}:80").parse().unwrap();
                    let mut entry =
                        BackendEntry::new("s".into(), format!("b{id}"), address, Protocol::Tcp);
                    entry.live = live;
                    entry.hop.interface = hop;
                    entry.sources = vec!["10.0.0.200".parse().unwrap()];
                    tables.backends.insert(BackendId(id), entry);
                }
                for (id, live, ring) in services {
                    let ids = ring.into_iter().map(BackendId);
                    let ring = ids.filter(|id| tables.backends.contains_key(id) && live).collect();
                    let address = format!("192.0.2.{id}:80").parse().unwrap();
                    let key = ServiceKey { address, protocol: Protocol::Tcp };
                    let name = format!("s{id}");
                    let entry = ServiceEntry { name, key, ring, live };
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
                    service.ring.retain(|id| wanted.backends.contains_key(id));
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
