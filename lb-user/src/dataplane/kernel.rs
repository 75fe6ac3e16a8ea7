//! The kernel's tables behind the [`Dataplane`] trait.
//!
//! Converts between the controller's words and the values in `lb-common`. It decides nothing: what
//! is written, and in which order, is the applier's business.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd as _,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::{
    Ebpf,
    maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError, PerCpuArray},
};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY;
use bytemuck::Zeroable as _;
use lb_common::{
    backend::{Backend, BackendCursor, MAX_SOURCES},
    counters::BackendCounters,
    filter::{self, Bitmap},
    names,
    net::{Addr4, Addr6, Address, Be16},
    record::{BackendRecord, MAX_NAME, Name, ServiceRecord},
    ring,
    service::{self, Service, ServiceCursor},
    verdict,
};

use super::{Dataplane, pod::Raw};
use crate::{
    bpf,
    config::{PortRange, Protocol},
    plan::{BackendEntry, BackendId, ServiceEntry, ServiceId, ServiceKey, Tables},
};

/// Rings of any length may take a slot (include/uapi/linux/bpf.h).
const BPF_F_INNER_MAP: u32 = 0x1000;

type RawArray<T> = Array<MapData, Raw<T>>;

/// The tables of one address family.
struct FamilyTables<A: Address> {
    addresses: HashMap<MapData, Raw<A>, u32>,
    services: HashMap<MapData, Raw<service::ServiceKey<A>>, Raw<Service>>,
    backends: RawArray<Backend<A>>,
}

/// The kernel's tables.
pub struct Kernel {
    v4: FamilyTables<Addr4>,
    v6: FamilyTables<Addr6>,
    filter: RawArray<Bitmap>,
    rings: ArrayOfMaps<MapData>,
    service_cursors: RawArray<ServiceCursor>,
    backend_cursors: RawArray<BackendCursor>,
    counters: PerCpuArray<MapData, Raw<BackendCounters>>,
    verdicts: PerCpuArray<MapData, u64>,
    service_records: RawArray<ServiceRecord>,
    backend_records: RawArray<BackendRecord>,
}

fn take<T>(object: &mut Ebpf, name: &str) -> Result<T>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map = object.take_map(name).ok_or_else(|| anyhow!("the program has no map {name}"))?;
    T::try_from(map).with_context(|| format!("map {name}"))
}

impl Kernel {
    /// Takes the tables out of a loaded object.
    ///
    /// # Errors
    ///
    /// Where a table is missing or of another type.
    pub fn new(object: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            v4: FamilyTables {
                addresses: take(object, names::ADDRESSES_V4)?,
                services: take(object, names::SERVICES_V4)?,
                backends: take(object, names::BACKENDS_V4)?,
            },
            v6: FamilyTables {
                addresses: take(object, names::ADDRESSES_V6)?,
                services: take(object, names::SERVICES_V6)?,
                backends: take(object, names::BACKENDS_V6)?,
            },
            filter: take(object, names::ADDRESS_FILTER)?,
            rings: take(object, names::RINGS)?,
            service_cursors: take(object, names::SERVICE_CURSORS)?,
            backend_cursors: take(object, names::BACKEND_CURSORS)?,
            counters: take(object, names::BACKEND_COUNTERS)?,
            verdicts: take(object, names::VERDICTS)?,
            service_records: take(object, names::SERVICE_RECORDS)?,
            backend_records: take(object, names::BACKEND_RECORDS)?,
        })
    }

    fn read_ring(&self, id: ServiceId) -> Result<Vec<BackendId>> {
        let ring = match self.rings.get(&id.0, 0) {
            Ok(ring) => ring,
            Err(MapError::KeyNotFound) => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("ring of service {}", id.0)),
        };
        let ring = Array::<_, u32>::try_from(Map::Array(ring))?;
        let length = ring.get(&ring::LENGTH_SLOT, 0)?;
        (1..=length).map(|slot| Ok(BackendId(ring.get(&slot, 0)?))).collect()
    }
}

impl<A: Address> FamilyTables<A> {
    fn write_address(&mut self, address: A, has_services: bool) -> Result<()> {
        if has_services {
            return Ok(self.addresses.insert(Raw(address), 1, 0)?);
        }
        absent_is_fine(self.addresses.remove(&Raw(address)))
    }

    fn write_service(&mut self, address: A, key: ServiceKey, id: ServiceId) -> Result<()> {
        Ok(self.services.insert(Raw(wire_key(address, key)), Raw(Service { id: id.0 }), 0)?)
    }

    fn has_service(&self, key: ServiceKey, id: ServiceId) -> bool {
        A::from_ip(key.address.ip())
            .and_then(|address| self.services.get(&Raw(wire_key(address, key)), 0).ok())
            .is_some_and(|Raw(service)| service.id == id.0)
    }

    fn remove_service(&mut self, address: A, key: ServiceKey) -> Result<()> {
        absent_is_fine(self.services.remove(&Raw(wire_key(address, key))))
    }

    fn write_backend(&mut self, id: BackendId, backend: &BackendEntry) -> Result<()> {
        let address = A::from_ip(backend.address.ip()).context("address of the other family")?;
        let mut sources = [A::default(); MAX_SOURCES];
        let given = backend.sources.iter().filter_map(|ip| A::from_ip(*ip));
        let mut source_count = 0;
        for (slot, source) in sources.iter_mut().zip(given) {
            *slot = source;
            source_count += 1;
        }
        let PortRange { low, high } = backend.ports;
        let value = Backend {
            hop: backend.hop,
            address,
            port: Be16::new(backend.address.port()),
            source_count,
            first_port: low,
            // 1 to 65,535 is the widest range: its length fits.
            port_count: high - low + 1,
            sources,
        };
        Ok(self.backends.set(id.0, Raw(value), 0)?)
    }

    /// The way and the sources that the kernel's value holds.
    fn read_backend(&self, id: BackendId, entry: &mut BackendEntry) -> Result<()> {
        let Raw(value) = self.backends.get(&id.0, 0)?;
        entry.hop = value.hop;
        let count = usize::from(value.source_count).min(MAX_SOURCES);
        entry.sources = value.sources[..count].iter().map(Address::ip).collect();
        entry.ports = PortRange {
            low: value.first_port,
            high: value.first_port.saturating_add(value.port_count.saturating_sub(1)),
        };
        Ok(())
    }
}

fn absent_is_fine(result: Result<(), MapError>) -> Result<()> {
    match result {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn wire_key<A: Address>(address: A, key: ServiceKey) -> service::ServiceKey<A> {
    service::ServiceKey::new(address, Be16::new(key.address.port()), key.protocol.number())
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
            let ring = self.read_ring(id)?;
            let key = ServiceKey { address, protocol };
            let live = match address {
                SocketAddr::V4(_) => self.v4.has_service(key, id),
                SocketAddr::V6(_) => self.v6.has_service(key, id),
            };
            tables.services.insert(id, ServiceEntry { name, key, ring, live });
        }
        for index in 0..self.backend_records.len() {
            let Raw(record) = self.backend_records.get(&index, 0)?;
            let Some(name) = text(&record.name) else { continue };
            let id = BackendId(index);
            let (address, protocol) =
                endpoint(record.address, record.port, record.family, record.protocol)?;
            let service = text(&record.service).unwrap_or_default();
            let mut entry = BackendEntry::new(service, name, address, protocol);
            match address {
                SocketAddr::V4(_) => self.v4.read_backend(id, &mut entry)?,
                SocketAddr::V6(_) => self.v6.read_backend(id, &mut entry)?,
            }
            tables.backends.insert(id, entry);
        }
        Ok(tables)
    }

    fn write_filter(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<()> {
        let mut bitmap: Bitmap = [0; filter::WORDS];
        for ip in addresses {
            if let Some(address) = Addr4::from_ip(*ip) {
                filter::insert(&mut bitmap, &address);
            } else if let Some(address) = Addr6::from_ip(*ip) {
                filter::insert(&mut bitmap, &address);
            }
        }
        self.filter.set(0, Raw(bitmap), 0).context("write the address filter")
    }

    fn write_address(&mut self, address: IpAddr, has_services: bool) -> Result<()> {
        by_family!(self, address, |tables, own| tables.write_address(own, has_services))
            .with_context(|| format!("write service address {address}"))
    }

    fn write_service(&mut self, key: ServiceKey, id: ServiceId) -> Result<()> {
        by_family!(self, key.address.ip(), |tables, own| tables.write_service(own, key, id))
            .with_context(|| format!("write service {key}"))
    }

    fn remove_service(&mut self, key: ServiceKey) -> Result<()> {
        by_family!(self, key.address.ip(), |tables, own| tables.remove_service(own, key))
            .with_context(|| format!("remove service {key}"))
    }

    fn write_ring(&mut self, id: ServiceId, ring: &[BackendId]) -> Result<()> {
        let length = u32::try_from(ring.len()).context("ring too long")?;
        ensure!(length <= ring::MAX_SLOTS, "a ring of {length} slots is too long");
        let mut slots = Vec::with_capacity(ring.len() + 1);
        slots.push(length);
        slots.extend(ring.iter().map(|backend| backend.0));
        let inner =
            make_ring(&slots).with_context(|| format!("make the ring of service {}", id.0))?;
        self.rings
            .set(id.0, &inner, 0)
            .with_context(|| format!("swap the ring of service {}", id.0))
    }

    fn write_backend(&mut self, id: BackendId, backend: &BackendEntry) -> Result<()> {
        match backend.address {
            SocketAddr::V4(_) => self.v4.write_backend(id, backend),
            SocketAddr::V6(_) => self.v6.write_backend(id, backend),
        }
        .with_context(|| format!("write backend {}", backend.label()))
    }

    fn reset_backend(&mut self, id: BackendId) -> Result<()> {
        let cpus = self.counters.get(&id.0, 0)?.len();
        let zero = vec![Raw(BackendCounters::zeroed()); cpus].try_into()?;
        self.counters.set(id.0, zero, 0)?;
        self.backend_cursors.set(id.0, Raw(BackendCursor::default()), 0)?;
        Ok(())
    }

    fn write_service_record(
        &mut self,
        id: ServiceId,
        service: Option<&ServiceEntry>,
    ) -> Result<()> {
        let record = service.map_or_else(ServiceRecord::zeroed, |service| {
            let (address, family) = octets(service.key.address.ip());
            ServiceRecord {
                name: name(&service.name),
                address,
                port: service.key.address.port(),
                family,
                protocol: service.key.protocol.number(),
            }
        });
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
        let record = backend.map_or_else(BackendRecord::zeroed, |backend| {
            let (address, family) = octets(backend.address.ip());
            BackendRecord {
                name: name(&backend.name),
                service: name(&backend.service),
                address,
                port: backend.address.port(),
                family,
                protocol: backend.protocol.number(),
            }
        });
        Ok(self.backend_records.set(id.0, Raw(record), 0)?)
    }

    fn backend_counters(&self, id: BackendId) -> Result<BackendCounters> {
        let mut sum = BackendCounters::zeroed();
        for cpu in self.counters.get(&id.0, 0)?.iter() {
            sum.add(&cpu.0);
        }
        Ok(sum)
    }

    fn verdicts(&self) -> Result<Vec<(&'static str, u64)>> {
        (0_u32..)
            .zip(verdict::ALL)
            .map(|(index, (name, ..))| Ok((name, self.verdicts.get(&index, 0)?.iter().sum())))
            .collect()
    }
}

/// A new inner map with these slots.
fn make_ring(slots: &[u32]) -> Result<MapData> {
    let size = u32::try_from(slots.len())?;
    let word = 4;
    let kind = BPF_MAP_TYPE_ARRAY as u32;
    let definition = aya_obj::Map::new_from_params(kind, word, word, size, BPF_F_INNER_MAP);
    let map = MapData::create(definition, "ring", None)?;
    bpf::write_array(map.fd().as_fd(), slots)?;
    Ok(map)
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
