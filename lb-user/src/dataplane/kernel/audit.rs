//! The audit: are the tables what was written? Whatever else is in them, because somebody wrote it or
//! took it away, is mended and told.
//!
//! Tables that the program writes itself (connections, counters, cursors) are not in it.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use anyhow::{Context as _, Result};
use bytemuck::bytes_of;
use lb_common::net::Address;

use super::{
    Kernel, RawArray, backend_record, bitmap,
    family::{self, FamilyTables},
    number, service_record, tunnel_value,
};
use crate::{
    config::PrefixLists,
    dataplane::{Dataplane as _, Scope, Written, pod::Raw},
    plan::Tables,
};

/// Makes an element of an array what it shall be; tells whether it was not.
pub(super) fn mend<T: bytemuck::Pod>(map: &mut RawArray<T>, index: u32, wanted: T) -> Result<bool> {
    let Raw(found) = map.get(&index, 0)?;
    let differs = bytes_of(&found) != bytes_of(&wanted);
    if differs {
        map.set(index, Raw(wanted), 0)?;
    }
    Ok(differs)
}

impl Kernel {
    /// Compares every table with what was written, and mends it.
    pub(super) fn audit_all(&mut self, written: &Written<'_>) -> Result<Vec<String>> {
        let mut found = Vec::new();
        if let Some(filter) = written.filter
            && mend(&mut self.filter, 0, bitmap(filter))?
        {
            found.push("the address filter".to_owned());
        }
        if let Some((node, reads_quotes)) = written.node {
            let settings = self.node_settings(node, *reads_quotes);
            if mend(&mut self.node, 0, settings)? {
                found.push("the node's settings".to_owned());
            }
        }
        self.audit_backends(written.tables, &mut found)?;
        self.audit_services(written.tables, &mut found)?;
        self.v4.audit(written, &mut found)?;
        self.v6.audit(written, &mut found)?;
        Ok(found)
    }

    fn audit_backends(&mut self, tables: &Tables, found: &mut Vec<String>) -> Result<()> {
        for (id, backend) in &tables.backends {
            let mut differs = mend(&mut self.tunnels, id.0, tunnel_value(backend))?;
            differs |= if backend.service_is_ipv4 {
                self.v4.mend_backend(*id, backend)?
            } else {
                self.v6.mend_backend(*id, backend)?
            };
            differs |= mend(&mut self.backend_records, id.0, backend_record(backend))?;
            if differs {
                found.push(format!("backend {}", backend.label()));
            }
        }
        Ok(())
    }

    fn audit_services(&mut self, tables: &Tables, found: &mut Vec<String>) -> Result<()> {
        for (id, service) in &tables.services {
            if mend(&mut self.service_records, id.0, service_record(service))? {
                found.push(format!("the record of service {}", service.name));
            }
            if !service.live {
                continue;
            }
            if !self.rings.is(*id, &service.ring)? {
                self.write_ring(*id, &service.ring)?;
                found.push(format!("the ring of service {}", service.name));
            }
            if let Some(policy) = &service.policy {
                let settings = super::settings(policy, service.ring.members.len())?;
                if mend(&mut self.service_settings, id.0, settings)? {
                    found.push(format!("the settings of service {}", service.name));
                }
            }
        }
        Ok(())
    }
}

impl<A: Address> FamilyTables<A> {
    fn audit(&mut self, written: &Written<'_>, found: &mut Vec<String>) -> Result<()> {
        if let Some(addresses) = written.addresses {
            self.audit_addresses(addresses, found)?;
        }
        self.audit_keys(written.tables, found)?;
        self.audit_prefixes(written.prefixes, found)
    }

    fn audit_addresses(
        &mut self,
        written: &BTreeMap<IpAddr, bool>,
        found: &mut Vec<String>,
    ) -> Result<()> {
        let own = written.iter().filter_map(|(ip, host)| Some((A::from_ip(*ip)?, *host)));
        let wanted: HashMap<A, u32> =
            own.map(|(address, host)| (address, super::address_bits(host))).collect();
        let mut there = HashMap::new();
        for entry in &self.addresses {
            let (Raw(address), bits) = entry.context("read the services' addresses")?;
            there.insert(address, bits);
        }
        for (address, bits) in &wanted {
            if there.remove(address) != Some(*bits) {
                self.write_address(*address, Some(*bits))?;
                found.push(format!("address {}", address.ip()));
            }
        }
        for address in there.into_keys() {
            self.write_address(address, None)?;
            found.push(format!("address {}, of no service", address.ip()));
        }
        Ok(())
    }

    fn audit_keys(&mut self, tables: &Tables, found: &mut Vec<String>) -> Result<()> {
        let mut there = HashMap::new();
        for entry in &self.services {
            let (Raw(key), Raw(service)) = entry.context("read the services")?;
            there.insert(bytes_of(&key).to_vec(), (key, service.id));
        }
        for (id, service) in tables.services.iter().filter(|(_, service)| service.live) {
            let Some(address) = A::from_ip(service.key.address.ip()) else { continue };
            let key = family::wire_key(address, service.key);
            let known = there.remove(bytes_of(&key));
            if known.is_none_or(|(_, known)| known != id.0) {
                self.write_service(address, service.key, *id)?;
                found.push(format!("service {} at {}", service.name, service.key));
            }
        }
        for (key, id) in there.into_values() {
            family::absent_is_fine(self.services.remove(&Raw(key)))?;
            found.push(format!("a service that is none, with id {id}"));
        }
        Ok(())
    }

    fn audit_prefixes(
        &mut self,
        written: &BTreeMap<Scope, PrefixLists>,
        found: &mut Vec<String>,
    ) -> Result<()> {
        let mut there: HashMap<u32, HashMap<(u32, A), u32>> = HashMap::new();
        for entry in &self.prefixes {
            let (key, said) = entry.context("read the prefixes")?;
            let Raw(client) = key.data();
            let scope = there.entry(client.service).or_default();
            scope.insert((key.prefix_len(), client.address), said);
        }
        for (scope, lists) in written {
            let known = there.remove(&number(*scope)).unwrap_or_default();
            if known != family::said::<A>(lists) {
                self.write_prefixes(number(*scope), lists)?;
                found.push(match scope {
                    Scope::Node => "the node's prefixes".to_owned(),
                    Scope::Service(id) => format!("the prefixes of service {}", id.0),
                });
            }
        }
        for scope in there.into_keys() {
            self.write_prefixes(scope, &PrefixLists::default())?;
            found.push(format!("prefixes of a service that is none, with id {scope}"));
        }
        Ok(())
    }
}
