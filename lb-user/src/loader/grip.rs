//! A running daemon's grip on what is pinned: should the pins go (somebody unmounts bpffs), the data path
//! goes on, and is pinned again as soon as it can be.
//!
//! The kernel keeps a link for as long as somebody has a descriptor of it or a pin is there. With the
//! pins alone, to unmount bpffs would take the program off every interface at once.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{DirEntryExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::Pins;
use crate::bpf;

/// What is pinned below one directory, held open.
pub struct Grip {
    pins: Pins,
    /// The locked directory itself.
    directory: File,
    held: Vec<Held>,
}

struct Held {
    /// Where it is pinned, below the directory.
    path: PathBuf,
    /// The pin's number in the file system.
    inode: u64,
    object: OwnedFd,
}

/// What is with the pins.
#[derive(Debug, PartialEq, Eq)]
pub enum Pinned {
    /// All are there.
    Whole,
    /// Some were gone, and are there again.
    Mended(String),
    /// Some are gone; what is at work ends with the daemon.
    Lost(String),
}

impl Grip {
    /// Takes hold of everything that is pinned. `directory` is the lock on the pins.
    ///
    /// # Errors
    ///
    /// Where a pin cannot be opened.
    pub fn take(pins: Pins, directory: File) -> Result<Self> {
        let mut grip = Self { pins, directory, held: Vec::new() };
        grip.follow()?;
        Ok(grip)
    }

    /// Lets go of everything, and takes hold of what is pinned now.
    ///
    /// # Errors
    ///
    /// Where a pin cannot be opened.
    pub fn renew(&mut self) -> Result<()> {
        self.held.clear();
        self.follow()
    }

    /// Looks whether all is pinned still, and pins what is not.
    pub fn check(&mut self) -> Pinned {
        let root = self.pins.root().display().to_string();
        let missing = match self.missing() {
            Ok(missing) if missing.is_empty() => {
                return match self.follow() {
                    Ok(()) => Pinned::Whole,
                    Err(error) => Pinned::Lost(format!("the pins below {root}: {error:#}")),
                };
            }
            Ok(missing) => missing,
            Err(error) => return Pinned::Lost(format!("the pins below {root}: {error:#}")),
        };
        let what = if missing.len() == self.held.len() {
            format!("all pins below {root} were gone")
        } else {
            let names: Vec<_> = missing.iter().map(|path| path.display().to_string()).collect();
            format!("pins below {root} were gone: {}", names.join(", "))
        };
        match self.restore(&missing) {
            Ok(()) => Pinned::Mended(what),
            Err(error) => Pinned::Lost(format!(
                "{what}, and cannot be put back: {error:#}; connections go on as long as this \
                 daemon runs, so keep it running and mount the BPF file system again (`mount -t bpf \
                 bpf MOUNTPOINT`)"
            )),
        }
    }

    /// What is held and not pinned. A link whose interface is gone is let go of, and so is one whose pin has
    /// another name now.
    fn missing(&mut self) -> Result<Vec<PathBuf>> {
        let mut missing = Vec::new();
        let mut dead = Vec::new();
        let links = inodes(&self.pins.links())?;
        for Held { path, object, inode } in &self.held {
            match fs::symlink_metadata(self.pins.root().join(path)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let is_gone = || -> Result<bool> {
                        Ok(path.starts_with("links") && bpf::link(object.as_fd())?.interface == 0)
                    };
                    if links.contains(inode) || is_gone()? {
                        dead.push(path.clone());
                    } else {
                        missing.push(path.clone());
                    }
                }
                Err(error) => return Err(error).context("look for them"),
            }
        }
        self.held.retain(|held| !dead.contains(&held.path));
        Ok(missing)
    }

    /// Pins again what is missing, perhaps on a file system that was mounted since.
    fn restore(&mut self, missing: &[PathBuf]) -> Result<()> {
        self.pins.prepare()?;
        let root = self.pins.root().to_owned();
        let found = fs::metadata(&root).with_context(|| format!("open {}", root.display()))?;
        let ours = self.directory.metadata()?;
        if (found.dev(), found.ino()) != (ours.dev(), ours.ino()) {
            self.directory = self.pins.lock()?;
        }
        for held in self.held.iter_mut().filter(|held| missing.contains(&held.path)) {
            let path = root.join(&held.path);
            bpf::pin(held.object.as_fd(), &path)
                .with_context(|| format!("pin {}", path.display()))?;
            held.inode = fs::symlink_metadata(&path)?.ino();
        }
        Ok(())
    }

    /// Takes hold of what was pinned since the last time.
    fn follow(&mut self) -> Result<()> {
        let root = self.pins.root().to_owned();
        for directory in [root.clone(), self.pins.links(), self.pins.maps()] {
            let unread = || format!("read {}", directory.display());
            for entry in fs::read_dir(&directory).with_context(unread)? {
                let entry = entry.with_context(unread)?;
                if entry.file_type().with_context(unread)?.is_dir() {
                    continue;
                }
                self.follow_pin(&entry.path(), &root, entry.ino())?;
            }
        }
        Ok(())
    }

    fn follow_pin(&mut self, pin: &Path, root: &Path, inode: u64) -> Result<()> {
        let path = pin.strip_prefix(root)?.to_owned();
        let known = self.held.iter().position(|held| held.path == path);
        if known.is_some_and(|known| self.held[known].inode == inode) {
            return Ok(());
        }
        let object = bpf::open_pin(pin).with_context(|| format!("open {}", pin.display()))?;
        let held = Held { path, inode, object };
        match known {
            Some(known) => self.held[known] = held,
            None => self.held.push(held),
        }
        Ok(())
    }
}

/// The numbers of a directory's files; none where it is not there.
fn inodes(directory: &Path) -> Result<HashSet<u64>> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashSet::new()),
        entries => entries
            .and_then(|entries| entries.map(|entry| Ok(entry?.ino())).collect())
            .with_context(|| format!("read {}", directory.display())),
    }
}
