//! Replacing a data path of another layout: a new one is made beside it and filled while the old one
//! serves, and takes its place at once.
//!
//! It is made below `next`. What moves it is two renames: the old maps away, the new ones to their place.
//! Between them, and after a crash there, nothing but the new maps can be meant, so [`Pins::recover`] goes
//! on; before them it is the old data path's, and what was made for it goes.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use lb_common::names::LAYOUT_VERSION;
use tracing::{info, warn};

use super::{
    Pins, Sizes,
    load::{Datapath, load_over},
};
use crate::{
    bpf,
    dataplane::layout::{self, MAPS},
};

/// A data path that is to take another's place.
pub struct Replacement {
    pins: Pins,
    /// The layout of the other one.
    found: u32,
    committed: bool,
}

/// Loads the programs over new maps, and over those of the data path pinned at `pins`, of the layout
/// `found`, that are still the same.
///
/// # Errors
///
/// Where pinned maps are not what their layout says, or the kernel refuses a map or a program.
pub(super) fn load_beside(
    pins: &Pins,
    found: u32,
    wanted: &Sizes,
    log_drops: bool,
) -> Result<Datapath> {
    let next = pins.next();
    fs::create_dir_all(next.maps())
        .with_context(|| format!("make directory {}", next.maps().display()))?;
    let replacement = Replacement { pins: pins.clone(), found, committed: false };
    for map in MAPS.iter().filter(|map| map.is_kept(found)) {
        let (from, to) = (pins.map(map.name), next.map(map.name));
        if map.check(&from)?.is_some() {
            fs::hard_link(&from, &to)
                .with_context(|| format!("pin {} at {}, too", from.display(), to.display()))?;
        }
    }
    let mut datapath = load_over(&next, wanted, log_drops)?;
    datapath.taken_over = true;
    datapath.replacement = Some(replacement);
    Ok(datapath)
}

/// What an operator is told who meets a data path of another layout.
pub(super) fn refusal(pins: &Pins, found: u32) -> String {
    let price = if layout::keeps_connections(found) {
        "open connections go on"
    } else {
        "open connections are cut"
    };
    format!(
        "the data path pinned at {} has layout version {found}, and this evenkeel has \
         {LAYOUT_VERSION}, so it cannot work with its tables; they are untouched and go on balancing. \
         Start the evenkeel that made them, or replace them with `evenkeel run --replace-data-path` \
         ({price}), or remove them with `evenkeel detach` first, which stops the traffic",
        pins.root().display()
    )
}

impl Replacement {
    /// Says what becomes of what the old data path holds.
    pub fn announce(&self) {
        let found = self.found;
        info!(
            "replacing the data path of layout version {found} by one of version {LAYOUT_VERSION}"
        );
        if !layout::keeps_connections(found) {
            let entries: u64 = [lb_common::names::CONNECTIONS_V4, lb_common::names::CONNECTIONS_V6]
                .iter()
                .map(|name| bpf::count(&self.pins.map(name)).unwrap_or_default())
                .sum();
            warn!(
                "its connection tables are of another layout: open connections will be cut ({entries} \
                 entries, of which a connection has two), and counters begin at zero"
            );
            return;
        }
        let lost: Vec<_> =
            MAPS.iter().filter(|map| map.is_lost(found)).map(|map| map.name).collect();
        if lost.is_empty() {
            info!("connections and counters are kept");
        } else {
            info!("connections are kept; these tables begin empty: {}", lost.join(", "));
        }
    }

    /// Makes the new maps those of the data path. From now on every start works with them, and the program
    /// that is attached to the interfaces is the old one until it is swapped.
    ///
    /// # Errors
    ///
    /// Where pins cannot be moved.
    pub fn commit(mut self) -> Result<()> {
        rename(&self.pins.maps(), &self.pins.old_maps())?;
        self.committed = true;
        self.pins.recover()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = self.pins.recover()
        {
            warn!("the new data path's pins stay behind: {error:#}");
        }
    }
}

impl Pins {
    /// Where a data path is made that is to take this one's place.
    fn next(&self) -> Self {
        Self::new(&self.root().join("next"))
    }

    /// Finishes what a daemon began that was killed while it replaced the data path, or undoes it.
    ///
    /// # Errors
    ///
    /// Where pins cannot be moved or removed.
    pub fn recover(&self) -> Result<()> {
        let (next, old) = (self.next(), self.old_maps());
        if !self.maps().exists() && old.exists() && next.maps().exists() {
            rename(&next.maps(), &self.maps())?;
        }
        for (from, to) in [(next.expire(), self.expire()), (next.program(), self.program())] {
            if old.exists() && from.exists() {
                rename(&from, &to)?;
            }
        }
        next.remove_all()?;
        super::bpffs::remove(&old)
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("rename {} to {}", from.display(), to.display()))
}
