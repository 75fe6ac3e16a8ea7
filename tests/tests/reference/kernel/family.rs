//! The tables of one address family.

use std::{collections::BTreeMap, time::Duration};

use aya::{
    maps::{HashMap, LpmTrie, Map, MapData, lpm_trie::Key},
    programs::{TestRun as _, TestRunOptions},
};
use evenkeel_tests::model::{Flow, world};
use lb_common::{
    backend::{self, Backend, MAX_SOURCES},
    client::{Affinity, ClientKey, prefix},
    connection::{Connection, Flow as Wire},
    expire::{Candidate, ExpireHeader, MAX_CANDIDATES},
    fragment::{FirstFragment, FragmentKey},
    net::{Address, Be16, Hop},
    service,
};

use super::{
    Values,
    words::{Entry, flow, octets, own, read},
};
use crate::load::{Loaded, Raw};

/// The tables of one address family.
pub struct Family<A: Address> {
    addresses: HashMap<MapData, Raw<A>, u32>,
    services: HashMap<MapData, Raw<service::ServiceKey<A>>, u32>,
    pub backends: Values<Backend<A>>,
    pub connections: HashMap<MapData, Raw<Wire<A>>, Raw<Connection<A>>>,
    unconfirmed: Values<Wire<A>>,
    affinities: HashMap<MapData, Raw<ClientKey<A>>, Raw<Affinity>>,
    limits: HashMap<MapData, Raw<ClientKey<A>>, u64>,
    fragments: HashMap<MapData, Raw<FragmentKey<A>>, Raw<FirstFragment>>,
    prefixes: LpmTrie<MapData, Raw<ClientKey<A>>, u32>,
}

/// The maps that a program refers to, by their names, which the kernel cuts to fifteen bytes, and the
/// sizes of their keys.
pub struct Maps(pub BTreeMap<(String, u32), MapData>);

impl Maps {
    pub fn take<T: TryFrom<Map, Error = aya::maps::MapError>>(&mut self, name: &str) -> T {
        let cut = &name[..name.len().min(15)];
        // Those that the cut makes alike are of two families: IPv4's keys are the shorter ones.
        let of_name = |(key, _): &&(String, u32)| key == cut;
        let mut known: Vec<_> = self.0.keys().filter(of_name).cloned().collect();
        known.sort_by_key(|(_, size)| *size);
        let key = if name.ends_with('6') { known.pop() } else { known.first().cloned() };
        let data = key.and_then(|key| self.0.remove(&key));
        let map = Map::from_map_data(data.unwrap_or_else(|| panic!("no map {name}"))).unwrap();
        T::try_from(map).unwrap_or_else(|error| panic!("map {name}: {error}"))
    }
}

impl<A: Address> Family<A> {
    pub fn open(maps: &mut Maps, version: u8) -> Self {
        let name = |table: &str| format!("{table}_V{version}");
        Self {
            addresses: maps.take(&name("ADDRESSES")),
            services: maps.take(&name("SERVICES")),
            backends: maps.take(&name("BACKENDS")),
            connections: maps.take(&name("CONNECTIONS")),
            unconfirmed: maps.take(&name("UNCONFIRMED")),
            affinities: maps.take(&name("AFFINITIES")),
            limits: maps.take(&name("CLIENT_LIMITS")),
            fragments: maps.take(&name("FRAGMENTS")),
            prefixes: maps.take(&name("PREFIXES")),
        }
    }

    pub fn clear(&mut self, places: u32) {
        for Raw(key) in keys(self.addresses.keys()) {
            self.addresses.remove(&Raw(key)).unwrap();
        }
        for Raw(key) in keys(self.services.keys()) {
            self.services.remove(&Raw(key)).unwrap();
        }
        for Raw(key) in keys(self.connections.keys()) {
            self.connections.remove(&Raw(key)).unwrap();
        }
        for Raw(key) in keys(self.affinities.keys()) {
            self.affinities.remove(&Raw(key)).unwrap();
        }
        for Raw(key) in keys(self.limits.keys()) {
            self.limits.remove(&Raw(key)).unwrap();
        }
        for Raw(key) in keys(self.fragments.keys()) {
            self.fragments.remove(&Raw(key)).unwrap();
        }
        for key in keys(self.prefixes.keys()) {
            self.prefixes.remove(&key).unwrap();
        }
        for place in 0..places {
            self.unconfirmed.set(place, Raw(Wire::default()), 0).unwrap();
        }
    }

    pub fn write_service(&mut self, key: service::ServiceKey<A>, id: u32, bits: u32) {
        self.addresses.insert(Raw(key.address), bits, 0).unwrap();
        self.services.insert(Raw(key), id, 0).unwrap();
    }

    pub fn remove_service(&mut self, key: service::ServiceKey<A>, last: bool) {
        self.services.remove(&Raw(key)).unwrap();
        if last {
            self.addresses.remove(&Raw(key.address)).unwrap();
        }
    }

    pub fn write_backend(&mut self, id: u32, backend: &world::Backend) {
        let mut sources = [A::default(); MAX_SOURCES];
        for (slot, source) in sources.iter_mut().zip(&backend.sources) {
            *slot = own(*source);
        }
        let hop = backend.hop.map(|hop| Hop {
            interface: hop.interface,
            source: hop.source,
            destination: hop.destination,
        });
        let value = Backend {
            hop: hop.unwrap_or_default(),
            mtu: backend.mtu,
            flags: if backend.active { backend::flags::ACTIVE } else { 0 },
            service: backend.service,
            weight: 1,
            max_connections: backend.max_connections,
            // A tunnel's far end may be of the other family: it is in the tunnel's table.
            address: A::from_ip(backend.address).unwrap_or_default(),
            port: Be16::new(backend.port),
            source_count: backend.sources.len().try_into().unwrap(),
            first_port: backend.first_port,
            port_count: backend.ports,
            sources,
        };
        self.backends.set(id, Raw(value), 0).unwrap();
    }

    pub fn write_prefixes(&mut self, scope: u32, access: &world::Access) {
        for key in keys(self.prefixes.keys()) {
            if key.data().0.service == scope {
                self.prefixes.remove(&key).unwrap();
            }
        }
        let said = [(&access.allow, prefix::ALLOW), (&access.deny, prefix::DENY)];
        for (prefixes, value) in said {
            for prefix in prefixes {
                let Some(address) = A::from_ip(prefix.address) else { continue };
                let address = address.prefix(prefix.bits.into());
                let key = ClientKey { service: scope, address };
                let key = Key::new(32 + u32::from(prefix.bits), Raw(key));
                self.prefixes.insert(&key, value, 0).unwrap();
            }
        }
    }

    pub fn age(&mut self, time: Duration) {
        let seconds = u32::try_from(time.as_secs()).unwrap();
        let microseconds = u32::try_from(time.as_micros() & 0xffff_ffff).unwrap();
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap();
        for Raw(key) in keys(self.connections.keys()) {
            let Raw(mut entry) = self.connections.get(&Raw(key), 0).unwrap();
            entry.opened = entry.opened.wrapping_sub(microseconds);
            self.connections.insert(Raw(key), Raw(entry), 0).unwrap();
        }
        for Raw(key) in keys(self.affinities.keys()) {
            let Raw(mut affinity) = self.affinities.get(&Raw(key), 0).unwrap();
            affinity.seen = affinity.seen.wrapping_sub(seconds);
            self.affinities.insert(Raw(key), Raw(affinity), 0).unwrap();
        }
        for Raw(key) in keys(self.fragments.keys()) {
            let Raw(mut first) = self.fragments.get(&Raw(key), 0).unwrap();
            first.seen = first.seen.wrapping_sub(seconds);
            self.fragments.insert(Raw(key), Raw(first), 0).unwrap();
        }
        for Raw(key) in keys(self.limits.keys()) {
            let due = self.limits.get(&Raw(key), 0).unwrap();
            self.limits.insert(Raw(key), due.saturating_sub(nanoseconds), 0).unwrap();
        }
    }

    pub fn entries(&self, all: &mut BTreeMap<Flow, Entry>) {
        for item in &self.connections {
            let (Raw(key), Raw(entry)) = item.unwrap();
            all.insert(flow(&key), read(&entry));
        }
    }

    /// Ends every connection; returns how many.
    pub fn end_all(&self, version: u32, loaded: &Loaded) -> u32 {
        let keys: Vec<Wire<A>> =
            keys(self.connections.keys()).into_iter().map(|Raw(key)| key).collect();
        let mut ended = 0;
        for flows in keys.chunks(MAX_CANDIDATES) {
            let count = u32::try_from(flows.len()).unwrap();
            let mut request = Vec::new();
            request.extend(version.to_ne_bytes());
            request.extend(count.to_ne_bytes());
            request.extend([0; size_of::<ExpireHeader>() - 8]);
            for flow in flows {
                request.extend(octets(flow.source.ip()));
                request.extend(octets(flow.destination.ip()));
                request.extend(flow.ports.to_wire());
                request.extend(flow.protocol.to_ne_bytes());
                // Idle for no time at all.
                request.extend(0_u32.to_ne_bytes());
            }
            assert_eq!(
                request.len(),
                size_of::<ExpireHeader>() + flows.len() * size_of::<Candidate<A>>()
            );
            let options = TestRunOptions { data_in: Some(&request), ..TestRunOptions::new() };
            ended += loaded.expire().test_run(options).unwrap().return_value;
        }
        ended
    }
}

fn keys<K>(keys: impl Iterator<Item = Result<K, aya::maps::MapError>>) -> Vec<K> {
    keys.map(Result::unwrap).collect()
}
