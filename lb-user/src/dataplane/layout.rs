//! What every map must look like, so that a pinned one is never taken for what it is not.
//!
//! The loader creates a map from the object file but takes a pinned one as it is; this table is
//! what stands between a layout of another version and a misread value.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::maps::{MapInfo, MapType};
use lb_common::{
    backend::{Backend, BackendState, Tunnel},
    client::{Affinity, ClientKey, PrefixKey},
    connection::{Connection, Flow},
    counters::BackendCounters,
    filter::Bitmap,
    fragment::{FirstFragment, FragmentKey},
    names,
    net::{Addr4, Addr6},
    node::{NodeSettings, NodeState},
    record::{BackendRecord, ServiceRecord},
    service::{Service, ServiceCursor, ServiceKey, ServiceSettings},
};

/// A map's shape.
#[derive(Clone, Copy, Debug)]
pub struct MapLayout {
    /// Its name in the object file and under `maps/`.
    pub name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    /// Which of the configured sizes it has; `None` where the size is fixed.
    pub size: Option<Size>,
    /// The layout version in which its own layout, or what its values mean, last changed.
    since: u32,
    content: Content,
}

/// What is in a map, and so what becomes of it when a data path of an older layout is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// What the controller writes from the configuration: written anew.
    Written,
    /// What packets leave there: kept where its layout is still the same.
    State,
    /// What connections cannot go on without. All of them are kept, or no map at all is.
    Connections,
}

/// A size that the configuration sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Two entries a connection, confirmed or not.
    Connections,
    /// One entry an unconfirmed connection.
    Unconfirmed,
    /// One entry a client.
    Clients,
    /// One entry a packet that comes in fragments.
    Fragments,
    /// One entry a prefix.
    Prefixes,
    /// One entry a service.
    Services,
    /// One entry a backend.
    Backends,
}

const fn map<K, V>(name: &'static str, kind: MapType, size: Option<Size>) -> MapLayout {
    MapLayout {
        name,
        kind,
        key: size_of::<K>(),
        value: size_of::<V>(),
        size,
        since: OLDEST,
        content: Content::Written,
    }
}

/// The layout version that a map has which nothing else is said of.
const OLDEST: u32 = 2;

/// Every pinned map.
pub const MAPS: [MapLayout; 31] = [
    map::<u32, u32>(names::LAYOUT, MapType::Array, None),
    map::<u32, Bitmap>(names::ADDRESS_FILTER, MapType::Array, None),
    map::<u32, NodeSettings>(names::NODE, MapType::Array, None),
    map::<u32, NodeState>(names::NODE_STATE, MapType::Array, None).connections(),
    map::<Addr4, u32>(names::ADDRESSES_V4, MapType::Hash, Some(Size::Services)),
    map::<Addr6, u32>(names::ADDRESSES_V6, MapType::Hash, Some(Size::Services)),
    map::<ServiceKey<Addr4>, Service>(names::SERVICES_V4, MapType::Hash, Some(Size::Services)),
    map::<ServiceKey<Addr6>, Service>(names::SERVICES_V6, MapType::Hash, Some(Size::Services)),
    map::<u32, ServiceCursor>(names::SERVICE_CURSORS, MapType::Array, Some(Size::Services)).state(),
    map::<u32, ServiceSettings>(names::SERVICE_SETTINGS, MapType::Array, Some(Size::Services)),
    map::<u32, u32>(names::RINGS, MapType::ArrayOfMaps, Some(Size::Services)),
    map::<u32, Backend<Addr4>>(names::BACKENDS_V4, MapType::Array, Some(Size::Backends)).state(),
    map::<u32, Backend<Addr6>>(names::BACKENDS_V6, MapType::Array, Some(Size::Backends)).state(),
    map::<u32, Tunnel>(names::TUNNELS, MapType::Array, Some(Size::Backends)).state(),
    map::<u32, BackendState>(names::BACKEND_STATES, MapType::Array, Some(Size::Backends))
        .connections(),
    map::<u32, BackendCounters>(
        names::BACKEND_COUNTERS,
        MapType::PerCpuArray,
        Some(Size::Backends),
    )
    .state()
    .since(4),
    map::<u32, u64>(names::VERDICTS, MapType::PerCpuArray, None).state().since(3),
    map::<Flow<Addr4>, Connection<Addr4>>(
        names::CONNECTIONS_V4,
        MapType::Hash,
        Some(Size::Connections),
    )
    .connections(),
    map::<Flow<Addr6>, Connection<Addr6>>(
        names::CONNECTIONS_V6,
        MapType::Hash,
        Some(Size::Connections),
    )
    .connections(),
    map::<u32, Flow<Addr4>>(names::UNCONFIRMED_V4, MapType::Array, Some(Size::Unconfirmed))
        .connections(),
    map::<u32, Flow<Addr6>>(names::UNCONFIRMED_V6, MapType::Array, Some(Size::Unconfirmed))
        .connections(),
    map::<ClientKey<Addr4>, Affinity>(names::AFFINITIES_V4, MapType::LruHash, Some(Size::Clients))
        .state()
        .since(names::AFFINITIES_SINCE),
    map::<ClientKey<Addr6>, Affinity>(names::AFFINITIES_V6, MapType::LruHash, Some(Size::Clients))
        .state()
        .since(names::AFFINITIES_SINCE),
    map::<ClientKey<Addr4>, u64>(names::CLIENT_LIMITS_V4, MapType::LruHash, Some(Size::Clients))
        .state(),
    map::<ClientKey<Addr6>, u64>(names::CLIENT_LIMITS_V6, MapType::LruHash, Some(Size::Clients))
        .state(),
    map::<FragmentKey<Addr4>, FirstFragment>(
        names::FRAGMENTS_V4,
        MapType::LruHash,
        Some(Size::Fragments),
    )
    .state(),
    map::<FragmentKey<Addr6>, FirstFragment>(
        names::FRAGMENTS_V6,
        MapType::LruHash,
        Some(Size::Fragments),
    )
    .state(),
    map::<PrefixKey<Addr4>, u32>(names::PREFIXES_V4, MapType::LpmTrie, Some(Size::Prefixes)),
    map::<PrefixKey<Addr6>, u32>(names::PREFIXES_V6, MapType::LpmTrie, Some(Size::Prefixes)),
    map::<u32, ServiceRecord>(names::SERVICE_RECORDS, MapType::Array, Some(Size::Services))
        .connections(),
    map::<u32, BackendRecord>(names::BACKEND_RECORDS, MapType::Array, Some(Size::Backends))
        .connections(),
];

/// Whether connections of a data path of the layout `found` can go on: whether nothing that they need has
/// changed since. What a later version changed is not known.
#[must_use]
pub fn keeps_connections(found: u32) -> bool {
    let needed = |map: &&MapLayout| map.content == Content::Connections;
    found < names::LAYOUT_VERSION && MAPS.iter().filter(needed).all(|map| map.since <= found)
}

impl MapLayout {
    const fn state(self) -> Self {
        Self { content: Content::State, ..self }
    }

    const fn connections(self) -> Self {
        Self { content: Content::Connections, ..self }
    }

    const fn since(self, version: u32) -> Self {
        Self { since: version, ..self }
    }

    /// Whether it is kept as it is where a data path of the layout `found` is replaced: whether it holds
    /// what packets left there, and is still the same.
    #[must_use]
    pub fn is_kept(&self, found: u32) -> bool {
        self.content != Content::Written && self.since <= found && keeps_connections(found)
    }

    /// Whether packets' traces in it are lost where a data path of the layout `found` is replaced.
    #[must_use]
    pub fn is_lost(&self, found: u32) -> bool {
        self.content != Content::Written && !self.is_kept(found)
    }

    /// Bytes that its `entries` take, roughly: keys and values, and what the kernel keeps beside them in
    /// each kind of table, on `cpus` processors.
    #[must_use]
    pub fn bytes(&self, entries: u32, cpus: usize) -> u64 {
        let rounded = |size: usize| size.next_multiple_of(8) as u64;
        let (key, value) = (rounded(self.key), rounded(self.value));
        let each = match self.kind {
            MapType::Array | MapType::ArrayOfMaps => value,
            MapType::PerCpuArray => value * cpus as u64,
            // With its links and hash.
            MapType::Hash | MapType::LruHash => 48 + key + value,
            // A node, and at the most one between it and the next.
            _ => 2 * (40 + key + value),
        };
        let buckets = match self.kind {
            MapType::Hash | MapType::LruHash => 16 * u64::from(entries).next_power_of_two(),
            _ => 0,
        };
        // A trie's nodes are made as they are needed.
        if self.kind == MapType::LpmTrie { 0 } else { each * u64::from(entries) + buckets }
    }

    /// Compares a pinned map with this layout and returns how many entries it has; `None` where
    /// nothing is pinned at `path`.
    ///
    /// # Errors
    ///
    /// Where something else is pinned there.
    pub fn check(&self, path: &Path) -> Result<Option<u32>> {
        if !path.exists() {
            return Ok(None);
        }
        let info = MapInfo::from_pin(path)
            .with_context(|| format!("open pinned map {}", path.display()))?;
        let found = (info.map_type()?, info.key_size() as usize, info.value_size() as usize);
        let wanted = (self.kind, self.key, self.value);
        if found != wanted {
            bail!(
                "pinned map {} has another layout ({found:?}) than this version's ({wanted:?}); \
                 stop the traffic, run `evenkeel detach`, and start again",
                path.display()
            );
        }
        Ok(Some(info.max_entries()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux 6.18 says that it took for tables of these sizes (`memlock` of `bpftool map show`).
    #[test]
    fn hash_tables_take_what_the_kernel_says() {
        for (name, entries, taken) in [
            (names::CONNECTIONS_V4, 786_432, 117_441_680),
            (names::CONNECTIONS_V4, 22_097_152, 3_365_307_536),
            (names::CONNECTIONS_V6, 2_262_144, 465_247_472),
            (names::CONNECTIONS_V6, 22_097_152, 4_425_970_928),
        ] {
            let map = MAPS.iter().find(|map| map.name == name).unwrap();
            let reckoned: u64 = map.bytes(entries, 2);
            assert!(reckoned.abs_diff(taken) < 4096, "{name}: {reckoned}, not {taken}");
        }
    }
}
