//! The program's tables by name, until somebody takes them, wherever they come from: a loaded object,
//! or pins.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf,
    maps::{Map, MapData, MapError},
};

use super::layout::MAPS;

/// Tables that nobody has taken yet.
pub struct Maps(BTreeMap<&'static str, Map>);

impl Maps {
    /// Takes them out of an object.
    ///
    /// # Errors
    ///
    /// Where one is missing.
    pub fn of(object: &mut Ebpf) -> Result<Self> {
        let take = |name| {
            let map = object.take_map(name).ok_or_else(|| anyhow!("the program has no map {name}"));
            Ok((name, map?))
        };
        Ok(Self(MAPS.iter().map(|map| map.name).map(take).collect::<Result<_>>()?))
    }

    /// Opens those that are pinned at the paths that `path` tells.
    ///
    /// # Errors
    ///
    /// Where one is missing.
    pub fn pinned(path: impl Fn(&str) -> PathBuf) -> Result<Self> {
        let open = |name| {
            let path = path(name);
            let map = MapData::from_pin(&path)
                .and_then(Map::from_map_data)
                .with_context(|| format!("open pinned map {}", path.display()))?;
            Ok((name, map))
        };
        Ok(Self(MAPS.iter().map(|map| map.name).map(open).collect::<Result<_>>()?))
    }

    /// One of them, to be shared.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Map> {
        self.0.get(name)
    }

    /// Takes one.
    ///
    /// # Errors
    ///
    /// Where it was taken already, or is of another type.
    pub fn take<T>(&mut self, name: &str) -> Result<T>
    where
        T: TryFrom<Map, Error = MapError>,
    {
        let map = self.0.remove(name).ok_or_else(|| anyhow!("there is no map {name}"))?;
        T::try_from(map).with_context(|| format!("map {name}"))
    }

    /// Takes one as it is.
    ///
    /// # Errors
    ///
    /// Where it was taken already.
    pub fn take_map(&mut self, name: &str) -> Result<Map> {
        self.0.remove(name).ok_or_else(|| anyhow!("there is no map {name}"))
    }
}
