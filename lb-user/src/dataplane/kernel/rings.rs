//! The services' rings: an array of inner maps, each swapped as a whole.
//!
//! The kernel opens a map by its number for `CAP_SYS_ADMIN` alone (`BPF_MAP_GET_FD_BY_ID`), which a
//! daemon drops once it has loaded. So every ring is opened at the start, and held from then on.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{ArrayOfMaps, Map, MapData};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY;
use lb_common::ring;

use crate::{
    bpf,
    plan::{BackendId, Ring, ServiceId},
};

/// Rings of any length may take a slot (include/uapi/linux/bpf.h).
const BPF_F_INNER_MAP: u32 = 0x1000;

/// What a map answers to a batch that it does not know (include/linux/errno.h).
const ENOTSUPP: i32 = 524;

/// Elements of a ring that are read at once.
const BATCH: usize = 4096;

/// The table of rings, and each ring in it.
pub(super) struct Rings {
    table: ArrayOfMaps<MapData>,
    /// The same once more: what the table holds are numbers, which aya does not give out.
    numbers: OwnedFd,
    held: HashMap<ServiceId, Held>,
}

/// A ring's map, and its number in the kernel.
struct Held {
    number: u32,
    map: MapData,
}

impl Rings {
    /// Opens every ring that is in a table, which has `capacity` elements.
    pub(super) fn open(table: Map, capacity: u32) -> Result<Self> {
        let Map::ArrayOfMaps(table) = table else { bail!("the table of rings is another one") };
        let numbers = table.fd().as_fd().try_clone_to_owned().context("the table of rings")?;
        let table = ArrayOfMaps::try_from(Map::ArrayOfMaps(table))?;
        let mut rings = Self { table, numbers, held: HashMap::new() };
        for id in (0..capacity).map(ServiceId) {
            let Some(number) = rings.number(id)? else { continue };
            let map = MapData::from_id(number).with_context(|| {
                format!("open the ring of service {}, which needs CAP_SYS_ADMIN", id.0)
            })?;
            rings.held.insert(id, Held { number, map });
        }
        Ok(rings)
    }

    /// The number of the map that is a service's ring now.
    fn number(&self, id: ServiceId) -> Result<Option<u32>> {
        match bpf::lookup(self.numbers.as_fd(), &id.0) {
            Ok(number) => Ok(Some(number)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("ring of service {}", id.0)),
        }
    }

    /// A service's ring; empty where it has none.
    pub(super) fn read(&self, id: ServiceId) -> Result<Ring> {
        let Some(held) = self.held.get(&id) else { return Ok(Ring::default()) };
        let slots = held.slots().with_context(|| format!("read the ring of service {}", id.0))?;
        let (length, slots) = slots.split_first().context("a ring without a length")?;
        let length = (*length as usize).min(slots.len());
        let (slots, rest) = slots.split_at(length);
        let backends = |ids: &[u32]| {
            ids.iter().copied().filter(|id| *id != ring::NOBODY).map(BackendId).collect()
        };
        // Only with former slots are there as many elements behind the slots; of small tables' backends, each
        // stands there once.
        let once = rest.iter().collect::<HashSet<_>>().len() == rest.len();
        let remembers = rest.len() == 2 * length && !once;
        let (members, former) = if remembers { rest.split_at(length) } else { (rest, &[][..]) };
        let (slots, members, former) = (backends(slots), backends(members), backends(former));
        Ok(Ring { slots, members, former })
    }

    /// Whether a service's ring is this one.
    pub(super) fn is(&self, id: ServiceId, ring: &Ring) -> Result<bool> {
        let Some(held) = self.held.get(&id) else { return Ok(false) };
        if self.number(id)? != Some(held.number) {
            return Ok(false);
        }
        let found = held.slots().with_context(|| format!("read the ring of service {}", id.0))?;
        Ok(found == slots(ring)?)
    }

    /// Swaps a service's ring.
    pub(super) fn write(&mut self, id: ServiceId, ring: &Ring) -> Result<()> {
        let held = slots(ring)
            .and_then(|slots| Held::make(&slots))
            .with_context(|| format!("make the ring of service {}", id.0))?;
        self.table
            .set(id.0, &held.map, 0)
            .with_context(|| format!("swap the ring of service {}", id.0))?;
        self.held.insert(id, held);
        Ok(())
    }

    /// Swaps the rings of several services; the kernel waits once for the programs that look at the old ones.
    pub(super) fn write_all(&mut self, rings: &[(ServiceId, &Ring)]) -> Result<()> {
        let make = |(id, ring): &(ServiceId, &Ring)| {
            slots(ring)
                .and_then(|slots| Held::make(&slots))
                .with_context(|| format!("make the ring of service {}", id.0))
        };
        let fresh = rings.iter().map(make).collect::<Result<Vec<_>>>()?;
        let ids: Vec<_> = rings.iter().map(|(id, _)| id.0).collect();
        let fds: Vec<_> = fresh.iter().map(|held| held.map.fd().as_fd().as_raw_fd()).collect();
        match bpf::write_elements(self.numbers.as_fd(), &ids, &fds) {
            // An older kernel (before 5.13) knows no batches of these.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | ENOTSUPP)) => {
                rings.iter().try_for_each(|(id, ring)| self.write(*id, ring))
            }
            written => {
                written.with_context(|| format!("swap the rings of {} services", ids.len()))?;
                self.held.extend(rings.iter().map(|(id, _)| *id).zip(fresh));
                Ok(())
            }
        }
    }
}

impl Held {
    /// A new inner map with these elements.
    fn make(slots: &[u32]) -> Result<Self> {
        let size = u32::try_from(slots.len())?;
        let word = 4;
        let kind = BPF_MAP_TYPE_ARRAY as u32;
        let definition = aya_obj::Map::new_from_params(kind, word, word, size, BPF_F_INNER_MAP);
        let map = MapData::create(definition, "ring", None)?;
        bpf::write_array(map.fd().as_fd(), slots)?;
        Ok(Self { number: map.info()?.id(), map })
    }

    fn slots(&self) -> io::Result<Vec<u32>> {
        let mut read = Vec::new();
        bpf::read_all::<u32, u32>(self.map.fd().as_fd(), BATCH, |_, some| read.extend(some))?;
        Ok(read)
    }
}

/// The elements of a ring's array: how many slots it has, the slots, each backend once, and the former slots.
fn slots(ring: &Ring) -> Result<Vec<u32>> {
    let length = u32::try_from(ring.slots.len()).context("ring too long")?;
    ensure!(length <= ring::MAX_SLOTS, "a ring of {length} slots is too long");
    let mut slots = Vec::with_capacity(ring.slots.len() + ring.members.len() + 1);
    slots.push(length);
    slots.extend(ring.slots.iter().chain(&ring.members).map(|backend| backend.0));
    if !ring.former.is_empty() {
        let turn = ring::former(0, length, u32::try_from(ring.members.len())?) as usize;
        ensure!(
            slots.len() <= turn,
            "a ring of more backends than slots has no room for former ones"
        );
        slots.resize(turn, ring::NOBODY);
        slots.extend(ring.former.iter().map(|backend| backend.0));
    }
    Ok(slots)
}
