//! The decapsulator in the kernel: loading it with what it is told, and reading its counters.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, LpmTrie, Map, MapData, PerCpuArray, lpm_trie::Key},
    programs::Xdp,
};
use lb_common::decap::{
    ADDRESSES_V4, ADDRESSES_V6, ALL, EDGES_V4, EDGES_V6, FATES, GUE_PORT, PROGRAM,
};

use crate::config::Prefix;

/// The program that the build script compiled. Aligned, as an ELF reader wants it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("EVENKEEL_DECAP"));

/// The loaded program with its tables.
pub struct Decapsulator {
    object: Ebpf,
    fates: PerCpuArray<MapData, u64>,
}

impl Decapsulator {
    /// Loads the program: packets for `addresses` are unwrapped that come from `edges`, by GUE
    /// where they are for `gue_port`. It is attached nowhere yet.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses a table or the program.
    pub fn load(
        addresses: &BTreeSet<IpAddr>,
        edges: &BTreeSet<Prefix>,
        gue_port: u16,
    ) -> Result<Self> {
        let (addresses_v4, addresses_v6) = families(addresses.iter().map(|address| (*address, ())));
        let (edges_v4, edges_v6) =
            families(edges.iter().map(|edge| (edge.address, u32::from(edge.length))));
        let mut object = EbpfLoader::new()
            .override_global(GUE_PORT, &gue_port, true)
            .map_max_entries(ADDRESSES_V4, entries(addresses_v4.len()))
            .map_max_entries(ADDRESSES_V6, entries(addresses_v6.len()))
            .map_max_entries(EDGES_V4, entries(edges_v4.len()))
            .map_max_entries(EDGES_V6, entries(edges_v6.len()))
            .load(OBJECT)
            .context("load the decapsulator's tables")?;
        fill_addresses(&mut object, ADDRESSES_V4, addresses_v4)?;
        fill_addresses(&mut object, ADDRESSES_V6, addresses_v6)?;
        fill_edges(&mut object, EDGES_V4, edges_v4)?;
        fill_edges(&mut object, EDGES_V6, edges_v6)?;
        let fates =
            object.take_map(FATES).ok_or_else(|| anyhow!("the program has no map {FATES}"))?;
        let fates = PerCpuArray::try_from(fates)?;
        let mut decapsulator = Self { object, fates };
        decapsulator
            .program_mut()?
            .load()
            .with_context(|| format!("load program {PROGRAM}: the kernel's verifier refused it"))?;
        Ok(decapsulator)
    }

    /// The program.
    ///
    /// # Errors
    ///
    /// Where the object has no such program.
    pub fn program(&self) -> Result<&Xdp> {
        let program = self.object.program(PROGRAM);
        Ok(program.ok_or_else(|| anyhow!("no program {PROGRAM}"))?.try_into()?)
    }

    /// The same, to attach it.
    ///
    /// # Errors
    ///
    /// Where the object has no such program.
    pub fn program_mut(&mut self) -> Result<&mut Xdp> {
        let program = self.object.program_mut(PROGRAM);
        Ok(program.ok_or_else(|| anyhow!("no program {PROGRAM}"))?.try_into()?)
    }

    /// How many packets met which fate since the program was loaded.
    ///
    /// # Errors
    ///
    /// Where the table cannot be read.
    pub fn packets(&self) -> Result<Vec<(&'static str, u64)>> {
        let count = |index| self.fates.get(&index, 0).map(|cpus| cpus.iter().sum());
        (0..)
            .zip(ALL)
            .map(|(index, (name, _))| Ok((name, count(index).context("read the counters")?)))
            .collect()
    }
}

/// What goes into the tables of each family, by address.
type Families<T> = (Vec<([u8; 4], T)>, Vec<([u8; 16], T)>);

fn families<T>(all: impl Iterator<Item = (IpAddr, T)>) -> Families<T> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (address, rest) in all {
        match address {
            IpAddr::V4(address) => v4.push((address.octets(), rest)),
            IpAddr::V6(address) => v6.push((address.octets(), rest)),
        }
    }
    (v4, v6)
}

/// The size of a table that holds so many entries; the kernel makes none of size zero.
fn entries(count: usize) -> u32 {
    u32::try_from(count.max(1)).unwrap_or(u32::MAX)
}

/// A table, left in the object: the program is not loaded yet, and keeps it alive from then on.
fn table<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Map> {
    object.map_mut(name).ok_or_else(|| anyhow!("the program has no map {name}"))
}

fn fill_addresses<const N: usize>(
    object: &mut Ebpf,
    name: &str,
    addresses: Vec<([u8; N], ())>,
) -> Result<()> {
    let mut map = HashMap::<_, [u8; N], u32>::try_from(table(object, name)?)?;
    for (address, ()) in addresses {
        map.insert(address, 0, 0).with_context(|| format!("write map {name}"))?;
    }
    Ok(())
}

fn fill_edges<const N: usize>(
    object: &mut Ebpf,
    name: &str,
    edges: Vec<([u8; N], u32)>,
) -> Result<()> {
    let mut map = LpmTrie::<_, [u8; N], u32>::try_from(table(object, name)?)?;
    for (address, length) in edges {
        let key = Key::new(length, address);
        map.insert(&key, 0, 0).with_context(|| format!("write map {name}"))?;
    }
    Ok(())
}
