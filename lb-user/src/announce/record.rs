//! What this node's daemon announced, on disk: so that the next one takes over what a crash left behind, and
//! never takes away an address that somebody else put there.

use std::{
    collections::BTreeSet,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::config::write_atomically;

/// Where the kernel tells which start of the host this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// An announcement that was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Made {
    /// The address.
    pub address: IpAddr,
    /// The interface that it was put on; absent in other ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Document {
    /// The host's start that it is of: after another one nothing of it is there any more.
    boot: String,
    made: BTreeSet<Made>,
}

/// The record, in memory and on disk.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    document: Document,
}

impl Record {
    /// Reads the record below `state_dir`. What is of another start of the host, or cannot be understood,
    /// is no record.
    #[must_use]
    pub fn read(state_dir: &Path) -> Self {
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        Self::of_boot(state_dir, boot)
    }

    fn of_boot(state_dir: &Path, boot: String) -> Self {
        let path = state_dir.join("announced.json");
        let known: Option<Document> = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            text => text
                .map_err(anyhow::Error::from)
                .and_then(|text| Ok(serde_json::from_str(&text)?))
                .inspect_err(|error| warn!("{} is not understood: {error:#}", path.display()))
                .ok(),
        };
        let made = known.filter(|known| known.boot == boot).map(|known| known.made);
        Self { path, document: Document { boot, made: made.unwrap_or_default() } }
    }

    /// Whether an announcement was made.
    #[must_use]
    pub fn has(&self, made: &Made) -> bool {
        self.document.made.contains(made)
    }

    /// Everything that was.
    pub fn iter(&self) -> impl Iterator<Item = &Made> {
        self.document.made.iter()
    }

    /// Notes that an announcement is about to be made: before it is, so that a crash in between leaves
    /// nothing that nobody knows of.
    ///
    /// # Errors
    ///
    /// Where it cannot be written; nothing is noted then.
    pub fn add(&mut self, made: &Made) -> Result<()> {
        if !self.document.made.insert(made.clone()) {
            return Ok(());
        }
        let written = self.write();
        if written.is_err() {
            self.document.made.remove(made);
        }
        written
    }

    /// Notes that it is made no longer. What stays on a full disk is looked for once more by the next daemon.
    pub fn remove(&mut self, made: &Made) {
        if self.document.made.remove(made)
            && let Err(error) = self.write()
        {
            warn!("{error:#}");
        }
    }

    fn write(&self) -> Result<()> {
        let mut text = serde_json::to_string_pretty(&self.document)?;
        text.push('\n');
        write_atomically(&self.path, &text).context("note what is announced")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_until_the_host_starts_anew() {
        let directory = tempfile::tempdir().unwrap();
        let open = |boot: &str| Record::of_boot(directory.path(), boot.to_owned());
        let made = Made { address: "192.0.2.10".parse().unwrap(), interface: Some("lo".into()) };
        let mut record = open("one");
        record.add(&made).unwrap();
        assert!(open("one").has(&made) && !open("two").has(&made));
        record.remove(&made);
        assert_eq!(open("one").iter().count(), 0);
        fs::write(directory.path().join("announced.json"), "{").unwrap();
        assert_eq!(open("one").iter().count(), 0);
    }

    #[test]
    fn what_cannot_be_noted_is_not() {
        let mut record = Record::of_boot(Path::new("/proc/nowhere"), "one".into());
        let made = Made { address: "192.0.2.10".parse().unwrap(), interface: None };
        assert!(record.add(&made).is_err() && !record.has(&made));
    }
}
