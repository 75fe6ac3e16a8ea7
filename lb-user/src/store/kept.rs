//! What this edge took from the store last, kept on its disk: a start without etcd knows where it stands, and
//! what was edited by hand meanwhile.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::document;

const VERSION: u32 = 1;

/// What was taken last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Tells this edge from another one of its name.
    pub id: String,
    /// What the keys begin with that it was taken from.
    #[serde(default)]
    pub prefix: String,
    /// The etcd that it was taken from; 0: none yet.
    pub cluster: u64,
    /// Its revision; 0: none yet.
    pub revision: i64,
    /// The services, as TOML.
    pub services: String,
}

impl Kept {
    fn new() -> Self {
        Self { id: format!("{:016x}", fastrand::u64(..)), ..Self::default() }
    }

    /// Whether this edge ever took anything.
    #[must_use]
    pub const fn has_joined(&self) -> bool {
        self.revision > 0
    }

    /// Reads it. A file that cannot be understood is put aside and told: what edges share is in the store.
    #[must_use]
    pub fn recover(state_dir: &Path) -> (Self, Option<String>) {
        let path = path(state_dir);
        let error = match document::read(&path, "a revision of the store", VERSION) {
            Ok(Some(kept)) => return (kept, None),
            Ok(None) => return (Self::new(), None),
            Err(error) => error,
        };
        let told = match document::put_aside(&path) {
            Ok(aside) => format!("{error:#}; it is now {}", aside.display()),
            Err(found) => format!("{error:#}; it cannot be put aside: {found}"),
        };
        (Self::new(), Some(told))
    }

    /// Writes it; it is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// Names the step that failed; the old file is then as it was.
    pub fn write(&self, state_dir: &Path) -> Result<()> {
        document::write(&path(state_dir), VERSION, self)
    }
}

/// The file below `state_dir`.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("store.json")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_not_ours_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let (mut kept, told) = Kept::recover(directory.path());
        assert!(!kept.has_joined() && told.is_none() && !kept.id.is_empty());
        (kept.cluster, kept.revision) = (u64::MAX, 9);
        kept.services = "[[service]]\n".into();
        kept.write(directory.path()).unwrap();
        assert_eq!(Kept::recover(directory.path()), (kept, None));
        fs::write(path(directory.path()), "{").unwrap();
        let (kept, told) = Kept::recover(directory.path());
        assert!(!kept.has_joined() && told.unwrap().contains("store.json.unreadable"));
    }
}
