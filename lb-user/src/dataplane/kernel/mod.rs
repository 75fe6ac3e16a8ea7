//! The kernel's tables behind the [`Dataplane`] trait.
//!
//! Converts between the controller's words and the values in `lb-common`. It decides nothing: what
//! is written, and in which order, is the applier's business. The tables of an address family are in
//! `family.rs`.

mod audit;
mod family;
mod rings;

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Array, MapData, PerCpuArray};
use bytemuck::Zeroable as _;
use lb_common::{
    backend::{BackendState, Tunnel},
    client::NODE_SCOPE,
    counters::BackendCounters,
    filter::{self, Bitmap},
    names,
    net::{Addr4, Addr6, Address},
    node::{self, NodeSettings, address},
    record::{BackendRecord, MAX_NAME, Name, ServiceRecord},
    service::{ServiceCursor, ServiceSettings},
    verdict,
};

use self::{family::FamilyTables, rings::Rings};
use super::{Dataplane, Filter, Maps, Scope, Written, pod::Raw};
use crate::{
    config::{PrefixLists, Protocol},
    plan::{
        BackendEntry, BackendId, NodePolicy, Policy, Ring, ServiceEntry, ServiceId, ServiceKey,
        Tables,
    },
};

type RawArray<T> = Array<MapData, Raw<T>>;

/// The kernel's tables.
pub struct Kernel {
    v4: FamilyTables<Addr4>,
    v6: FamilyTables<Addr6>,
    filter: RawArray<Bitmap>,
    rings: Rings,
    node: RawArray<NodeSettings>,
    unconfirmed_mask: u32,
    service_cursors: RawArray<ServiceCursor>,
    service_settings: RawArray<ServiceSettings>,
    tunnels: RawArray<Tunnel>,
    backend_states: RawArray<BackendState>,
    counters: PerCpuArray<MapData, Raw<BackendCounters>>,
    verdicts: PerCpuArray<MapData, u64>,
    service_records: RawArray<ServiceRecord>,
    backend_records: RawArray<BackendRecord>,
}

impl Kernel {
    /// Takes the tables out of all.
    ///
    /// # Errors
    ///
    /// Where a table is missing or of another type.
    pub fn new(maps: &mut Maps) -> Result<Self> {
        let v4 = FamilyTables::<Addr4>::new(maps, &family::V4)?;
        let service_records: RawArray<ServiceRecord> = maps.take(names::SERVICE_RECORDS)?;
        Ok(Self {
            unconfirmed_mask: v4.places().saturating_sub(1),
            v4,
            v6: FamilyTables::new(maps, &family::V6)?,
            filter: maps.take(names::ADDRESS_FILTER)?,
            rings: Rings::open(maps.take_map(names::RINGS)?, service_records.len())?,
            node: maps.take(names::NODE)?,
            service_cursors: maps.take(names::SERVICE_CURSORS)?,
            service_settings: maps.take(names::SERVICE_SETTINGS)?,
            tunnels: maps.take(names::TUNNELS)?,
            backend_states: maps.take(names::BACKEND_STATES)?,
            counters: maps.take(names::BACKEND_COUNTERS)?,
            verdicts: maps.take(names::VERDICTS)?,
            service_records,
            backend_records: maps.take(names::BACKEND_RECORDS)?,
        })
    }

    fn node_settings(&self, node: &NodePolicy, reads_quotes: bool) -> NodeSettings {
        let mut flags = 0;
        let mut set = |condition: bool, flag: u32| flags |= if condition { flag } else { 0 };
        set(!node.prefixes.is_empty(), node::flags::HAS_PREFIXES);
        set(!node.prefixes.allow.is_empty(), node::flags::DENY_OTHERS);
        set(reads_quotes, node::flags::READS_QUOTES);
        NodeSettings {
            unconfirmed_mask: self.unconfirmed_mask,
            flags,
            least_mtu: node.least_mtu,
            reserved: 0,
        }
    }
}

/// Calls a method of the tables of an address's family with the address as it stands there.
macro_rules! by_family {
    ($kernel:expr, $ip:expr, |$tables:ident, $address:ident| $call:expr) => {
        match ($ip, Addr4::from_ip($ip), Addr6::from_ip($ip)) {
            (_, Some($address), _) => {
                let $tables = &mut $kernel.v4;
                $call
            }
            (_, _, Some($address)) => {
                let $tables = &mut $kernel.v6;
                $call
            }
            (ip, ..) => Err(anyhow!("{ip} is of no known family")),
        }
    };
}

impl Dataplane for Kernel {
    fn read(&self) -> Result<Tables> {
        let mut tables = Tables::default();
        for index in 0..self.service_records.len() {
            let Raw(record) = self.service_records.get(&index, 0)?;
            let Some(name) = text(&record.name) else { continue };
            let id = ServiceId(index);
            let (address, protocol) =
                endpoint(record.address, record.port, record.family, record.protocol)?;
            let ring = self.rings.read(id)?;
            let key = ServiceKey { address, protocol };
            let live = match address {
                SocketAddr::V4(_) => self.v4.has_service(key, id),
                SocketAddr::V6(_) => self.v6.has_service(key, id),
            };
            let policy = None;
            tables.services.insert(id, ServiceEntry { name, key, ring, policy, live });
        }
        for index in 0..self.backend_records.len() {
            let Raw(record) = self.backend_records.get(&index, 0)?;
            let Some(name) = text(&record.name) else { continue };
            let id = BackendId(index);
            let (address, protocol) =
                endpoint(record.address, record.port, record.family, record.protocol)?;
            let service = text(&record.service).unwrap_or_default();
            let mut entry = BackendEntry::new(service, name, address, protocol);
            entry.service_is_ipv4 = record.service_family == 4;
            if entry.service_is_ipv4 {
                self.v4.read_backend(id, &mut entry)?;
            } else {
                self.v6.read_backend(id, &mut entry)?;
            }
            entry.tunnel = family::read_tunnel(&self.tunnels.get(&id.0, 0)?.0, address.ip());
            tables.backends.insert(id, entry);
        }
        Ok(tables)
    }

    fn write_filter(&mut self, wanted: &Filter) -> Result<()> {
        self.filter.set(0, Raw(bitmap(wanted)), 0).context("write the address filter")
    }

    fn write_address(&mut self, address: IpAddr, services: Option<bool>) -> Result<()> {
        let bits = services.map(address_bits);
        by_family!(self, address, |tables, own| tables.write_address(own, bits))
            .with_context(|| format!("write service address {address}"))
    }

    fn write_node(&mut self, node: &NodePolicy, reads_quotes: bool) -> Result<()> {
        let settings = self.node_settings(node, reads_quotes);
        self.node.set(0, Raw(settings), 0).context("write the node's settings")
    }

    fn write_prefixes(&mut self, scope: Scope, prefixes: &PrefixLists) -> Result<()> {
        let number = number(scope);
        self.v4
            .write_prefixes(number, prefixes)
            .and_then(|()| self.v6.write_prefixes(number, prefixes))
            .with_context(|| format!("write the prefixes of {scope:?}"))
    }

    fn write_service(&mut self, key: ServiceKey, id: ServiceId) -> Result<()> {
        by_family!(self, key.address.ip(), |tables, own| tables.write_service(own, key, id))
            .with_context(|| format!("write service {key}"))
    }

    fn remove_service(&mut self, key: ServiceKey) -> Result<()> {
        by_family!(self, key.address.ip(), |tables, own| tables.remove_service(own, key))
            .with_context(|| format!("remove service {key}"))
    }

    fn write_policy(&mut self, id: ServiceId, policy: &Policy, members: usize) -> Result<()> {
        self.service_settings
            .set(id.0, Raw(settings(policy, members)?), 0)
            .with_context(|| format!("write the settings of service {}", id.0))
    }

    fn write_ring(&mut self, id: ServiceId, ring: &Ring) -> Result<()> {
        self.rings.write(id, ring)
    }

    fn write_rings(&mut self, rings: &[(ServiceId, &Ring)]) -> Result<()> {
        self.rings.write_all(rings)
    }

    fn write_backend(&mut self, id: BackendId, backend: &BackendEntry) -> Result<()> {
        self.tunnels
            .set(id.0, Raw(tunnel_value(backend)), 0)
            .map_err(anyhow::Error::from)
            .and_then(|()| {
                if backend.service_is_ipv4 {
                    self.v4.write_backend(id, backend)
                } else {
                    self.v6.write_backend(id, backend)
                }
            })
            .with_context(|| format!("write backend {}", backend.label()))
    }

    fn reset_backend(&mut self, id: BackendId) -> Result<()> {
        let cpus = self.counters.get(&id.0, 0)?.len();
        let zero = vec![Raw(BackendCounters::zeroed()); cpus].try_into()?;
        self.counters.set(id.0, zero, 0)?;
        self.backend_states.set(id.0, Raw(BackendState::default()), 0)?;
        Ok(())
    }

    fn write_service_record(
        &mut self,
        id: ServiceId,
        service: Option<&ServiceEntry>,
    ) -> Result<()> {
        let record = service.map_or_else(ServiceRecord::zeroed, service_record);
        if service.is_some() {
            self.service_cursors.set(id.0, Raw(ServiceCursor::zeroed()), 0)?;
        }
        Ok(self.service_records.set(id.0, Raw(record), 0)?)
    }

    fn write_backend_record(
        &mut self,
        id: BackendId,
        backend: Option<&BackendEntry>,
    ) -> Result<()> {
        let record = backend.map_or_else(BackendRecord::zeroed, backend_record);
        Ok(self.backend_records.set(id.0, Raw(record), 0)?)
    }

    fn audit(&mut self, written: &Written<'_>) -> Result<Vec<String>> {
        self.audit_all(written)
    }

    fn backend_counters(&self, id: BackendId) -> Result<BackendCounters> {
        let mut sum = BackendCounters::zeroed();
        for cpu in self.counters.get(&id.0, 0)?.iter() {
            sum.add(&cpu.0);
        }
        Ok(sum)
    }

    fn backend_state(&self, id: BackendId) -> Result<(u64, u64)> {
        let Raw(state) = self.backend_states.get(&id.0, 0)?;
        Ok((state.open, state.established))
    }

    fn verdicts(&self) -> Result<Vec<(&'static str, u64)>> {
        (0_u32..)
            .zip(verdict::ALL)
            .map(|(index, (name, ..))| Ok((name, self.verdicts.get(&index, 0)?.iter().sum())))
            .collect()
    }
}

fn bitmap(filter: &Filter) -> Bitmap {
    let mut bitmap: Bitmap = [0; filter::WORDS];
    for ip in &filter.destinations {
        match (Addr4::from_ip(*ip), Addr6::from_ip(*ip)) {
            (Some(v4), _) => filter::insert(&mut bitmap, &v4),
            (_, Some(v6)) => filter::insert(&mut bitmap, &v6),
            _ => {}
        }
    }
    for ip in &filter.sources {
        match (Addr4::from_ip(*ip), Addr6::from_ip(*ip)) {
            (Some(v4), _) => filter::insert_source(&mut bitmap, &v4),
            (_, Some(v6)) => filter::insert_source(&mut bitmap, &v6),
            _ => {}
        }
    }
    bitmap
}

/// The number of a scope in the table of prefixes.
const fn number(scope: Scope) -> u32 {
    match scope {
        Scope::Node => NODE_SCOPE,
        Scope::Service(id) => id.0,
    }
}

const fn address_bits(host: bool) -> u32 {
    if host { address::HOST } else { 0 }
}

fn settings(policy: &Policy, members: usize) -> Result<ServiceSettings> {
    let members = u32::try_from(members).context("too many backends")?;
    Ok(ServiceSettings { members, ..policy.settings })
}

fn tunnel_value(backend: &BackendEntry) -> Tunnel {
    backend
        .tunnel
        .map_or_else(Tunnel::default, |tunnel| family::tunnel(&tunnel, backend.address.ip()))
}

fn service_record(service: &ServiceEntry) -> ServiceRecord {
    let (address, family) = octets(service.key.address.ip());
    ServiceRecord {
        name: name(&service.name),
        address,
        port: service.key.address.port(),
        family,
        protocol: service.key.protocol.number(),
    }
}

fn backend_record(backend: &BackendEntry) -> BackendRecord {
    let (address, family) = octets(backend.address.ip());
    BackendRecord {
        name: name(&backend.name),
        service: name(&backend.service),
        address,
        port: backend.address.port(),
        family,
        protocol: backend.protocol.number(),
        service_family: if backend.service_is_ipv4 { 4 } else { 6 },
        reserved: [0; 3],
    }
}

fn octets(ip: IpAddr) -> ([u8; 16], u8) {
    match ip {
        IpAddr::V4(v4) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&v4.octets());
            (octets, 4)
        }
        IpAddr::V6(v6) => (v6.octets(), 6),
    }
}

fn endpoint(
    octets: [u8; 16],
    port: u16,
    family: u8,
    protocol: u8,
) -> Result<(SocketAddr, Protocol)> {
    let ip = if family == 6 {
        IpAddr::from(octets)
    } else {
        IpAddr::from([octets[0], octets[1], octets[2], octets[3]])
    };
    let protocol = Protocol::from_number(protocol)
        .with_context(|| format!("the kernel's registry has protocol {protocol}"))?;
    Ok((SocketAddr::new(ip, port), protocol))
}

/// A name's bytes; the configuration keeps names within [`MAX_NAME`].
fn name(text: &str) -> Name {
    let mut name = [0; MAX_NAME + 1];
    for (slot, byte) in name.iter_mut().zip(text.bytes().take(MAX_NAME)) {
        *slot = byte;
    }
    name
}

fn text(name: &Name) -> Option<String> {
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    (length > 0).then(|| String::from_utf8_lossy(&name[..length]).into_owned())
}
