//! Loading the programs, over pinned maps or maps of their own; or none, where those that are pinned are
//! what would be loaded.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map, MapData},
    programs::Xdp,
};
use aya_log::{EbpfLogger, Level};
use lb_common::names::{self, LAYOUT_VERSION};

use super::{
    Pins, Replacement, kernel_version, pinned,
    replace::{load_beside, refusal},
};
use crate::{
    config,
    dataplane::{
        ConnectionTable, Kernel, Maps,
        layout::{self, Size},
    },
};

/// The program that the build script compiled. Aligned, as an ELF reader wants it.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("EVENKEEL_PROGRAM"));

/// How many entries the tables have.
pub type Sizes = config::Tables;

/// The loaded programs.
pub struct Programs(Source);

/// Where they come from.
enum Source {
    /// The object that was loaded.
    Object(Box<Ebpf>),
    /// Pins of an earlier daemon.
    Pins(Box<Reopened>),
}

/// Pinned programs, opened again.
struct Reopened {
    /// The XDP program.
    balancer: Xdp,
    /// The program that ends connections.
    expire: Xdp,
}

/// A loaded data path: programs and tables.
pub struct Datapath {
    /// The programs.
    pub programs: Programs,
    /// The tables.
    pub tables: Kernel,
    /// The connection tables.
    pub connections: ConnectionTable,
    /// The sizes that the tables really have: those of pinned ones stay as they were made.
    pub sizes: Sizes,
    /// Whether the tables were there already.
    pub taken_over: bool,
    /// Where the XDP program is pinned, if it is.
    pub program: PathBuf,
    /// What makes it the data path, where it was made beside one of another layout.
    pub replacement: Option<Replacement>,
    /// What the program says of dropped packets, where that was asked for.
    pub drops: Option<EbpfLogger<&'static dyn log::Log>>,
}

/// How a data path is loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// The program tells of every packet that it drops.
    pub log_drops: bool,
    /// Where the pinned maps are of another layout, a new data path is made beside them instead of an error.
    pub replace: bool,
}

fn entries(size: Size, sizes: &Sizes) -> u32 {
    match size {
        // A connection has two entries; the unconfirmed ones have room of their own.
        Size::Connections => sizes.connections.saturating_add(sizes.unconfirmed).saturating_mul(2),
        Size::Unconfirmed => sizes.unconfirmed,
        Size::Clients => sizes.clients,
        Size::Fragments => sizes.fragments,
        Size::Prefixes => sizes.prefixes,
        Size::Services => sizes.services,
        Size::Backends => sizes.backends,
    }
}

/// Loads the programs over the maps pinned at `pins`, making those that are not there; or beside them,
/// where they are of another layout and `manner` permits it.
///
/// # Errors
///
/// Where pinned maps are of another layout, or the kernel refuses a map or a program.
pub fn load(pins: &Pins, wanted: &Sizes, manner: Manner) -> Result<Datapath> {
    match pinned_version(pins)? {
        // Zero: made by a daemon that was killed before it could write the version.
        None | Some(0 | LAYOUT_VERSION) => load_over(pins, wanted, manner.log_drops),
        Some(found) if manner.replace => load_beside(pins, found, wanted, manner.log_drops),
        Some(found) => bail!(refusal(pins, found)),
    }
}

/// Loads the programs over the maps pinned at `pins`, which are of this layout, making those that are not
/// there. Programs that an earlier daemon pinned are taken as they are, where they are of this very build
/// and over these maps: the kernel takes seconds to verify them.
pub(super) fn load_over(pins: &Pins, wanted: &Sizes, log_drops: bool) -> Result<Datapath> {
    let mut sizes = *wanted;
    let (mut taken_over, mut counted) = (false, false);
    for map in layout::MAPS {
        let Some(found) = map.check(&pins.map(map.name))? else { continue };
        taken_over = true;
        match map.size {
            Some(Size::Connections) => (sizes.connections, counted) = (found / 2, true),
            Some(Size::Unconfirmed) => sizes.unconfirmed = found,
            Some(Size::Clients) => sizes.clients = found,
            Some(Size::Fragments) => sizes.fragments = found,
            Some(Size::Prefixes) => sizes.prefixes = found,
            Some(Size::Services) => sizes.services = found,
            Some(Size::Backends) => sizes.backends = found,
            None => {}
        }
    }
    if counted {
        sizes.connections = sizes.connections.saturating_sub(sizes.unconfirmed);
    }
    if let Some((balancer, expire)) = pinned::programs(pins, log_drops) {
        let mut maps = Maps::pinned(|name| pins.map(name))?;
        let connections = ConnectionTable::new(&mut maps)?;
        let tables = Kernel::new(&mut maps)?;
        let programs = Programs(Source::Pins(Box::new(Reopened { balancer, expire })));
        let (program, replacement, drops) = (pins.program(), None, None);
        return Ok(Datapath {
            programs,
            tables,
            connections,
            sizes,
            taken_over,
            program,
            replacement,
            drops,
        });
    }
    let mut loader = EbpfLoader::new();
    for map in layout::MAPS {
        loader.map_pin_path(map.name, pins.map(map.name));
    }
    let datapath = finish(&mut loader, sizes, taken_over, log_drops)?;
    pinned::pin(pins, &datapath.programs, log_drops)?;
    Ok(Datapath { program: pins.program(), ..datapath })
}

/// Loads the programs over maps of their own, which go when the returned value does: for trials beside
/// whatever runs.
///
/// # Errors
///
/// Where the kernel refuses a map or a program.
pub fn load_unpinned(sizes: &Sizes) -> Result<Datapath> {
    finish(&mut EbpfLoader::new(), *sizes, false, false)
}

/// Bytes of kernel memory that the tables of these sizes take, roughly.
#[must_use]
pub fn memory(sizes: &Sizes) -> u64 {
    let cpus = aya::util::nr_cpus().unwrap_or(1);
    let bytes =
        |map: &layout::MapLayout| map.bytes(map.size.map_or(1, |size| entries(size, sizes)), cpus);
    layout::MAPS.iter().map(bytes).sum()
}

fn finish(
    loader: &mut EbpfLoader<'_>,
    sizes: Sizes,
    taken_over: bool,
    log_drops: bool,
) -> Result<Datapath> {
    kernel_version::ensure_supported()?;
    let level: &'static u8 = if log_drops { &(Level::Info as u8) } else { &0 };
    loader.override_global(aya_log::LEVEL, level, true);
    for map in layout::MAPS {
        if let Some(size) = map.size {
            loader.map_max_entries(map.name, entries(size, &sizes));
        }
    }
    let mut object = loader.load(OBJECT).context("load the program's maps")?;
    // Until the programs are loaded: they name maps by descriptors, also those that nobody takes.
    let mut maps = Maps::of(&mut object)?;
    maps.take::<Array<MapData, u32>>(names::LAYOUT)?.set(0, LAYOUT_VERSION, 0)?;
    // First, because it shares some of the tables that the other takes.
    let connections = ConnectionTable::new(&mut maps)?;
    let tables = Kernel::new(&mut maps)?;
    for name in [names::PROGRAM, names::EXPIRE_PROGRAM] {
        xdp_mut(&mut object, name)?
            .load()
            .with_context(|| format!("load program {name}: the kernel's verifier refused it"))?;
    }
    let drops = log_drops.then(|| EbpfLogger::init(&mut object)).transpose()?;
    let programs = Programs(Source::Object(Box::new(object)));
    let (program, replacement) = (PathBuf::new(), None);
    Ok(Datapath { programs, tables, connections, sizes, taken_over, program, replacement, drops })
}

impl Programs {
    /// The XDP program that the interfaces run.
    ///
    /// # Errors
    ///
    /// Where the object has no such program.
    pub fn balancer(&self) -> Result<&Xdp> {
        match &self.0 {
            Source::Object(object) => xdp(object, names::PROGRAM),
            Source::Pins(pins) => Ok(&pins.balancer),
        }
    }

    /// The same, to attach it.
    ///
    /// # Errors
    ///
    /// Where the object has no such program.
    pub fn balancer_mut(&mut self) -> Result<&mut Xdp> {
        match &mut self.0 {
            Source::Object(object) => xdp_mut(object, names::PROGRAM),
            Source::Pins(pins) => Ok(&mut pins.balancer),
        }
    }

    /// The program that ends connections.
    ///
    /// # Errors
    ///
    /// Where the object has no such program.
    pub fn expire(&self) -> Result<&Xdp> {
        match &self.0 {
            Source::Object(object) => xdp(object, names::EXPIRE_PROGRAM),
            Source::Pins(pins) => Ok(&pins.expire),
        }
    }
}

pub(super) fn xdp<'a>(object: &'a Ebpf, name: &str) -> Result<&'a Xdp> {
    let program = object.program(name).ok_or_else(|| anyhow!("no program {name}"))?;
    Ok(program.try_into()?)
}

pub(super) fn xdp_mut<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = object.program_mut(name).ok_or_else(|| anyhow!("no program {name}"))?;
    Ok(program.try_into()?)
}

/// The layout version of the maps pinned at `pins`; `None` where there are none.
pub(super) fn pinned_version(pins: &Pins) -> Result<Option<u32>> {
    let path = pins.map(names::LAYOUT);
    if !path.exists() {
        return Ok(None);
    }
    let map = MapData::from_pin(&path).with_context(|| format!("open {}", path.display()))?;
    Ok(Some(Array::<_, u32>::try_from(Map::Array(map))?.get(&0, 0)?))
}
