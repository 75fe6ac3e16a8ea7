//! The program that answers questions, loaded over the data path's tables when the first one is put: its
//! verification takes the kernel about as long as that of the XDP program, which no start should wait for.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use aya::{Ebpf, EbpfLoader, programs::Xdp};
use lb_common::names::{EXPLAIN_PROGRAM, LAYOUT_VERSION};

use super::{
    Pins,
    load::{OBJECT, pinned_version, xdp, xdp_mut},
};
use crate::dataplane::{Maps, layout::MAPS, turn};

/// The `explain` program over the maps of a data path.
pub struct Explain {
    pins: Pins,
    /// The object, once it is loaded.
    object: Mutex<Option<Ebpf>>,
}

impl Explain {
    /// Of the data path at `pins`; loads nothing yet.
    #[must_use]
    pub const fn new(pins: Pins) -> Self {
        Self { pins, object: Mutex::new(None) }
    }

    /// Has `ask` put a question to the program.
    ///
    /// # Errors
    ///
    /// Where the maps are not there or are of another layout, the kernel refuses the program, or `ask` fails.
    pub fn with<T>(&self, ask: impl FnOnce(&Xdp) -> Result<T>) -> Result<T> {
        let mut object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        let object = match &mut *object {
            Some(object) => object,
            none => none.insert(self.load()?),
        };
        let program = xdp(object, EXPLAIN_PROGRAM)?;
        let _turn = turn();
        ask(program)
    }

    fn load(&self) -> Result<Ebpf> {
        // The loader makes maps that are not there, and takes those that are as they are.
        match pinned_version(&self.pins)? {
            Some(LAYOUT_VERSION) => drop(Maps::pinned(|name| self.pins.map(name))?),
            _ => bail!("{} holds no tables of this layout", self.pins.maps().display()),
        }
        let mut loader = EbpfLoader::new();
        loader.override_global(aya_log::LEVEL, &0u8, true);
        for map in MAPS {
            loader.map_pin_path(map.name, self.pins.map(map.name));
        }
        let mut object = loader.load(OBJECT).context("open the program's maps")?;
        // Until the program is loaded: it names maps by descriptors. Then it holds them itself.
        let maps = Maps::of(&mut object)?;
        xdp_mut(&mut object, EXPLAIN_PROGRAM)?
            .load()
            .context("load program explain: the kernel's verifier refused it")?;
        drop(maps);
        Ok(object)
    }
}
