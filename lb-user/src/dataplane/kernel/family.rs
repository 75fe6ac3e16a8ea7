//! The tables of one address family: that of the services' addresses.

use std::{collections::HashSet, net::IpAddr};

use anyhow::{Context as _, Result};
use aya::maps::{
    Array, HashMap, MapData, MapError,
    lpm_trie::{Key, LpmTrie},
};
use lb_common::{
    backend::{self, Backend, MAX_SOURCES},
    client::{ClientKey, prefix},
    connection::Flow,
    names,
    net::{Addr6, Address, Be16},
    service::{self, Service},
};

use super::{RawArray, audit::mend};
use crate::{
    config::{PortRange, Prefix, PrefixLists},
    dataplane::{Maps, pod::Raw},
    plan::{BackendEntry, BackendId, ServiceId, ServiceKey, Tunnel},
};

/// Bits of a prefix's scope, which stand before those of its address.
const SCOPE_BITS: u32 = 32;

/// The names of a family's tables.
pub(super) struct Names {
    addresses: &'static str,
    services: &'static str,
    backends: &'static str,
    prefixes: &'static str,
    unconfirmed: &'static str,
}

pub(super) const V4: Names = Names {
    addresses: names::ADDRESSES_V4,
    services: names::SERVICES_V4,
    backends: names::BACKENDS_V4,
    prefixes: names::PREFIXES_V4,
    unconfirmed: names::UNCONFIRMED_V4,
};

pub(super) const V6: Names = Names {
    addresses: names::ADDRESSES_V6,
    services: names::SERVICES_V6,
    backends: names::BACKENDS_V6,
    prefixes: names::PREFIXES_V6,
    unconfirmed: names::UNCONFIRMED_V6,
};

/// The tables.
pub(super) struct FamilyTables<A: Address> {
    pub(super) addresses: HashMap<MapData, Raw<A>, u32>,
    pub(super) services: HashMap<MapData, Raw<service::ServiceKey<A>>, Raw<Service>>,
    backends: RawArray<Backend<A>>,
    pub(super) prefixes: LpmTrie<MapData, Raw<ClientKey<A>>, u32>,
    unconfirmed: Array<MapData, Raw<Flow<A>>>,
}

impl<A: Address> FamilyTables<A> {
    pub(super) fn new(maps: &mut Maps, names: &Names) -> Result<Self> {
        Ok(Self {
            addresses: maps.take(names.addresses)?,
            services: maps.take(names.services)?,
            backends: maps.take(names.backends)?,
            prefixes: maps.take(names.prefixes)?,
            unconfirmed: maps.take(names.unconfirmed)?,
        })
    }

    /// Places for unconfirmed connections.
    pub(super) fn places(&self) -> u32 {
        self.unconfirmed.len()
    }

    pub(super) fn write_address(&mut self, address: A, bits: Option<u32>) -> Result<()> {
        match bits {
            Some(bits) => Ok(self.addresses.insert(Raw(address), bits, 0)?),
            None => absent_is_fine(self.addresses.remove(&Raw(address))),
        }
    }

    pub(super) fn write_service(
        &mut self,
        address: A,
        key: ServiceKey,
        id: ServiceId,
    ) -> Result<()> {
        Ok(self.services.insert(Raw(wire_key(address, key)), Raw(Service { id: id.0 }), 0)?)
    }

    pub(super) fn has_service(&self, key: ServiceKey, id: ServiceId) -> bool {
        A::from_ip(key.address.ip())
            .and_then(|address| self.services.get(&Raw(wire_key(address, key)), 0).ok())
            .is_some_and(|Raw(service)| service.id == id.0)
    }

    pub(super) fn remove_service(&mut self, address: A, key: ServiceKey) -> Result<()> {
        absent_is_fine(self.services.remove(&Raw(wire_key(address, key))))
    }

    pub(super) fn write_backend(&mut self, id: BackendId, backend: &BackendEntry) -> Result<()> {
        Ok(self.backends.set(id.0, Raw(value(backend)?), 0)?)
    }

    /// Makes a backend's value what it shall be; tells whether it was not.
    pub(super) fn mend_backend(&mut self, id: BackendId, backend: &BackendEntry) -> Result<bool> {
        mend(&mut self.backends, id.0, value(backend)?)
    }

    /// What the kernel's value holds beside the address.
    pub(super) fn read_backend(&self, id: BackendId, entry: &mut BackendEntry) -> Result<()> {
        let Raw(value) = self.backends.get(&id.0, 0)?;
        entry.hop = value.hop;
        entry.mtu = value.mtu;
        entry.active = value.flags & backend::flags::ACTIVE != 0;
        entry.service_id = ServiceId(value.service);
        entry.weight = u16::try_from(value.weight).unwrap_or(u16::MAX);
        entry.max_connections = Some(value.max_connections).filter(|most| *most != 0);
        let count = usize::from(value.source_count).min(MAX_SOURCES);
        entry.sources = value.sources[..count].iter().map(Address::ip).collect();
        entry.ports = PortRange {
            low: value.first_port,
            high: value.first_port.saturating_add(value.port_count.saturating_sub(1)),
        };
        Ok(())
    }

    /// Sets the prefixes of a scope: first what is added, then what goes, so that nobody is let in or
    /// kept out by halves of two lists that agree on him.
    pub(super) fn write_prefixes(&mut self, scope: u32, lists: &PrefixLists) -> Result<()> {
        let mut known = HashSet::new();
        for key in self.prefixes.keys() {
            let key = key.context("read the prefixes")?;
            let Raw(ClientKey { service, address }) = key.data();
            if service == scope {
                known.insert((key.prefix_len(), address));
            }
        }
        for ((length, address), said) in said::<A>(lists) {
            known.remove(&(length, address));
            let key = Key::new(length, Raw(ClientKey { service: scope, address }));
            self.prefixes.insert(&key, said, 0).with_context(|| {
                let length = length - SCOPE_BITS;
                format!(
                    "no room for prefix {}/{length}; raise `prefixes` in [tables]",
                    address.ip()
                )
            })?;
        }
        for (length, address) in known {
            let key = Key::new(length, Raw(ClientKey { service: scope, address }));
            absent_is_fine(self.prefixes.remove(&key))?;
        }
        Ok(())
    }
}

/// What is said of each prefix of this family, with its length.
pub(super) fn said<A: Address>(lists: &PrefixLists) -> std::collections::HashMap<(u32, A), u32> {
    let denied = lists.deny.iter().filter_map(own).map(|prefix| (prefix, prefix::DENY));
    let allowed = lists.allow.iter().filter_map(own).map(|prefix| (prefix, prefix::ALLOW));
    denied.chain(allowed).collect()
}

/// A prefix of this family, its length with the scope's.
fn own<A: Address>(prefix: &Prefix) -> Option<(u32, A)> {
    A::from_ip(prefix.address).map(|address| (SCOPE_BITS + u32::from(prefix.length), address))
}

/// The kernel's value of a backend.
fn value<A: Address>(backend: &BackendEntry) -> Result<Backend<A>> {
    let ip = backend.address.ip();
    // The far end of a tunnel may be of the other family; it is the tunnel's then.
    let address = match A::from_ip(ip) {
        None if backend.tunnel.is_some() => A::default(),
        address => address.context("address of the other family")?,
    };
    let mut sources = [A::default(); MAX_SOURCES];
    let given = backend.sources.iter().filter_map(|ip| A::from_ip(*ip));
    let mut source_count = 0;
    for (slot, source) in sources.iter_mut().zip(given) {
        *slot = source;
        source_count += 1;
    }
    let PortRange { low, high } = backend.ports;
    Ok(Backend {
        hop: backend.hop,
        mtu: backend.mtu,
        flags: if backend.active { backend::flags::ACTIVE } else { 0 },
        service: backend.service_id.0,
        weight: u32::from(backend.weight),
        max_connections: backend.max_connections.unwrap_or(0),
        address,
        port: Be16::new(backend.address.port()),
        source_count,
        first_port: low,
        // 1 to 65,535 is the widest range: its length fits.
        port_count: high - low + 1,
        sources,
    })
}

/// The kernel's value of a tunnel to `destination`.
pub(super) fn tunnel(tunnel: &Tunnel, destination: IpAddr) -> backend::Tunnel {
    let bits = if destination.is_ipv4() { 32 } else { 128 };
    let mask = Prefix::cut(all_ones(destination), tunnel.source_bits);
    let varies = wide(all_ones(destination));
    let fixed = wide(mask.address);
    let mut source_mask = [0; 4];
    for ((word, all), fixed) in source_mask.iter_mut().zip(varies.words()).zip(fixed.words()) {
        *word = all & !fixed;
    }
    backend::Tunnel {
        destination: wide(destination),
        source: wide(tunnel.source),
        source_mask: Addr6::from_words(source_mask),
        family: if bits == 32 { 4 } else { 6 },
        port: Be16::new(tunnel.gue_port.unwrap_or(0)),
        reserved: 0,
    }
}

/// The tunnel that the kernel's value holds.
pub(super) fn read_tunnel(value: &backend::Tunnel, destination: IpAddr) -> Option<Tunnel> {
    if value.family == 0 {
        return None;
    }
    let varying: u32 = value.source_mask.words().iter().map(|word| word.count_ones()).sum();
    let bits = u32::from(Prefix::bits(destination));
    Some(Tunnel {
        source: narrow(value.source, destination),
        source_bits: u8::try_from(bits.saturating_sub(varying)).unwrap_or(0),
        gue_port: Some(value.port.get()).filter(|port| *port != 0),
    })
}

/// All ones, in the family of an address.
fn all_ones(family: IpAddr) -> IpAddr {
    match family {
        IpAddr::V4(_) => [0xff; 4].into(),
        IpAddr::V6(_) => [0xff; 16].into(),
    }
}

/// The wide form of an address: IPv4 in the first word.
fn wide(ip: IpAddr) -> Addr6 {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            Addr6::from_words([u32::from_ne_bytes([a, b, c, d]), 0, 0, 0])
        }
        IpAddr::V6(v6) => Addr6::from_wire(v6.octets()),
    }
}

/// The address of a wide form, in the family of another.
fn narrow(wide: Addr6, family: IpAddr) -> IpAddr {
    match family {
        IpAddr::V4(_) => wide.words()[0].to_ne_bytes().into(),
        IpAddr::V6(_) => wide.ip(),
    }
}

pub(super) fn absent_is_fine(result: Result<(), MapError>) -> Result<()> {
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

pub(super) fn wire_key<A: Address>(address: A, key: ServiceKey) -> service::ServiceKey<A> {
    service::ServiceKey::new(address, Be16::new(key.address.port()), key.protocol.number())
}
