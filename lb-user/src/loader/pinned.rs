//! The pinned programs: pinning what was loaded, and knowing it again.
//!
//! Beside the maps there is one more, `maps/BUILD`, with a digest of what was pinned together: the object
//! file, whether drops are logged, and the kernel's numbers of both programs and of all maps. A start
//! that finds the same digest finds what it would load itself. The numbers are the kernel's for as long as
//! it runs, and pins last no longer.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::fd::AsFd as _,
    path::Path,
};

use anyhow::{Context as _, Result};
use aya::{
    maps::{Array, Map, MapData, MapInfo},
    programs::Xdp,
};
use aya_obj::{generated::bpf_map_type::BPF_MAP_TYPE_ARRAY, programs::XdpAttachType};
use tracing::warn;

use super::{Pins, Programs, load::OBJECT};
use crate::{bpf, dataplane::layout::MAPS};

/// The pinned programs, the balancer first, where they are of this build and over the pinned maps.
pub(super) fn programs(pins: &Pins, log_drops: bool) -> Option<(Xdp, Xdp)> {
    // The log's ring buffer is not pinned: it needs programs of this daemon.
    if log_drops || !pins.build().exists() {
        return None;
    }
    let open = || -> Result<Option<(Xdp, Xdp)>> {
        let program = |path: &Path| {
            Xdp::from_pin(path, XdpAttachType::Interface)
                .with_context(|| format!("open pinned program {}", path.display()))
        };
        let (balancer, expire) = (program(&pins.program())?, program(&pins.expire())?);
        let noted = Array::<_, u64>::try_from(Map::Array(MapData::from_pin(pins.build())?))?;
        let same = noted.get(&0, 0)? == digest(pins, &balancer, &expire, log_drops)?;
        Ok(same.then_some((balancer, expire)))
    };
    open().unwrap_or_else(|error| {
        warn!("the pinned programs are not what they should be, and are loaded anew: {error:#}");
        None
    })
}

/// Pins the programs; those that were pinned before give way at the same instant.
///
/// # Errors
///
/// Names the pin.
pub(super) fn pin(pins: &Pins, programs: &Programs, log_drops: bool) -> Result<()> {
    let (balancer, expire) = (programs.balancer()?, programs.expire()?);
    for (program, path) in [(expire, pins.expire()), (balancer, pins.program())] {
        let fresh = pins.root().join("program-new");
        remove(&fresh)?;
        bpf::pin(program.fd()?.as_fd(), &fresh)
            .and_then(|()| fs::rename(&fresh, &path))
            .with_context(|| format!("pin {}", path.display()))?;
    }
    let path = pins.build();
    let note = || -> Result<()> {
        remove(&path)?;
        let (key, value) = (4, 8);
        let kind = BPF_MAP_TYPE_ARRAY as u32;
        let definition = aya_obj::Map::new_from_params(kind, key, value, 1, 0);
        let map = MapData::create(definition, "BUILD", None)?;
        let mut note = Array::<_, u64>::try_from(Map::Array(map))?;
        note.set(0, digest(pins, balancer, expire, log_drops)?, 0)?;
        Ok(note.pin(&path)?)
    };
    note().with_context(|| format!("pin {}", path.display()))
}

fn digest(pins: &Pins, balancer: &Xdp, expire: &Xdp, log_drops: bool) -> Result<u64> {
    let mut digest = DefaultHasher::new();
    (OBJECT, log_drops).hash(&mut digest);
    for program in [balancer, expire] {
        program.info()?.id().hash(&mut digest);
    }
    for map in MAPS {
        let path = pins.map(map.name);
        let info = MapInfo::from_pin(&path)
            .with_context(|| format!("open pinned map {}", path.display()))?;
        info.id().hash(&mut digest);
    }
    Ok(digest.finish())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
