//! The BPF file system: where everything of one data path is pinned.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{bpf, lock};

/// Magic number of bpffs (include/uapi/linux/magic.h, `BPF_FS_MAGIC`).
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Where the kernel's administrators expect bpffs.
const USUAL_MOUNT: &str = "/sys/fs/bpf";

/// The pins of one data path: `program`, `expire`, `links/IFACE`, `maps/NAME`.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// The pins under `root`, a directory on bpffs that need not exist yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The directory that holds them all.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The live XDP program.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.root.join("program")
    }

    /// The program that ends connections.
    #[must_use]
    pub fn expire(&self) -> PathBuf {
        self.root.join("expire")
    }

    /// The note of what was pinned together.
    #[must_use]
    pub fn build(&self) -> PathBuf {
        self.map("BUILD")
    }

    /// The directory of the links.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// An interface's link. bpffs allows no dot in a name, a VLAN's interface often has one, and
    /// no interface has a colon (`dev_valid_name` in the kernel): it stands for the dot.
    #[must_use]
    pub fn link(&self, interface: &str) -> PathBuf {
        self.links().join(interface.replace('.', ":"))
    }

    /// Where a link is pinned that is about to take its place.
    #[must_use]
    pub fn fresh_link(&self) -> PathBuf {
        self.root.join("link-new")
    }

    /// The directory of the maps.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// Where the maps are that others are taking the place of.
    #[must_use]
    pub fn old_maps(&self) -> PathBuf {
        self.root.join("old-maps")
    }

    /// A map.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Interfaces that have a pinned link.
    ///
    /// # Errors
    ///
    /// Where the directory cannot be read.
    pub fn linked_interfaces(&self) -> Result<Vec<String>> {
        let links = self.links();
        let entries = match fs::read_dir(&links) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("read {}", links.display()))?,
        };
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().replace(':', ".")))
            .collect::<io::Result<_>>()
            .with_context(|| format!("read {}", links.display()))
    }

    /// Mounts bpffs in its usual place where it is not mounted yet.
    ///
    /// # Errors
    ///
    /// Where that fails, or the directory is on another file system.
    fn ensure_bpffs(&self) -> Result<()> {
        if self.root.starts_with(USUAL_MOUNT) && !is_bpffs(Path::new(USUAL_MOUNT)) {
            rustix::mount::mount(
                "bpf",
                USUAL_MOUNT,
                "bpf",
                rustix::mount::MountFlags::empty(),
                None,
            )
            .with_context(|| format!("mount bpffs on {USUAL_MOUNT}"))?;
        }
        // Before anything is made: it would be hidden by what is mounted there next.
        let there = self.root.ancestors().find(|path| path.exists());
        if !there.is_some_and(is_bpffs) {
            bail!(
                "{} is not on a BPF file system; mount one (`mount -t bpf bpf {}`) or choose \
                 another place with --bpffs",
                self.root.display(),
                self.root.display()
            );
        }
        Ok(())
    }

    /// Makes the directories, after finishing or undoing what a daemon began that was killed. Only for who
    /// holds the [lock](Self::lock): another daemon's work may look like that.
    ///
    /// # Errors
    ///
    /// Where that fails, or the directory is on another file system.
    pub fn prepare(&self) -> Result<()> {
        self.ensure_bpffs()?;
        // Before the directories are made: that one is missing says how far a daemon came.
        self.recover()?;
        for directory in [self.links(), self.maps()] {
            fs::create_dir_all(&directory)
                .with_context(|| format!("make directory {}", directory.display()))?;
        }
        Ok(())
    }

    /// Takes the lock that a running daemon holds on the pins.
    ///
    /// # Errors
    ///
    /// Where another process holds it: says which.
    pub fn lock(&self) -> Result<File> {
        self.ensure_bpffs()?;
        fs::create_dir_all(&self.root)
            .with_context(|| format!("make directory {}", self.root.display()))?;
        lock::take(&self.root, "--bpffs")
    }

    /// Takes the program off an interface.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses, or the pin cannot be removed.
    pub fn detach(&self, interface: &str) -> Result<()> {
        let path = self.link(interface);
        match bpf::detach_link(&path) {
            // The interface itself is gone.
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
            result => result.with_context(|| format!("detach interface {interface}"))?,
        }
        fs::remove_file(&path).with_context(|| format!("remove pin {}", path.display()))
    }

    /// Removes every pin: the interfaces lose the program, then the maps go. Says which interfaces
    /// were detached.
    ///
    /// # Errors
    ///
    /// Where a pin cannot be removed.
    pub fn remove_all(&self) -> Result<Vec<String>> {
        let interfaces = self.linked_interfaces()?;
        for interface in &interfaces {
            self.detach(interface)?;
        }
        for directory in [self.links(), self.maps(), self.old_maps()] {
            remove(&directory)?;
        }
        if self.root.join("next").exists() {
            // One that was to take its place.
            Self::new(&self.root.join("next")).remove_all()?;
        }
        remove(&self.root)?;
        Ok(interfaces)
    }
}

/// Removes a directory with what is pinned in it, if it is there.
pub(super) fn remove(directory: &Path) -> Result<()> {
    remove_files(directory)?;
    remove_directory(directory)
}

fn remove_files(directory: &Path) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("read {}", directory.display()))?,
    };
    for entry in entries {
        let path = entry?.path();
        if !path.is_dir() {
            fs::remove_file(&path).with_context(|| format!("remove pin {}", path.display()))?;
        }
    }
    Ok(())
}

fn remove_directory(directory: &Path) -> Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.with_context(|| format!("remove directory {}", directory.display())),
    }
}

/// Whether a path is on a BPF file system.
#[must_use]
pub fn is_bpffs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|statfs| {
        u64::try_from(statfs.f_type).unwrap_or_default() & 0xffff_ffff == BPF_FS_MAGIC
    })
}
