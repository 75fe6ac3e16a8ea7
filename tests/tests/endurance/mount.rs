//! File systems that a test mounts for itself.

use std::{
    ffi::CString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use evenkeel_tests::wait::{PATIENCE, eventually};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

/// A mounted file system, unmounted in the end.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
    is_mounted: bool,
}

impl Mounted {
    /// A memory file system of this size on a directory, which is made.
    pub fn memory(path: &Path, size: &str) -> Result<Self> {
        Self::new(path, "tmpfs", &format!("size={size},mode=0755"))
    }

    /// A BPF file system on a directory, which is made.
    pub fn bpf(path: &Path) -> Result<Self> {
        Self::new(path, "bpf", "mode=0700")
    }

    fn new(path: &Path, kind: &str, options: &str) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
        let mut mounted = Self { path: path.to_owned(), is_mounted: false };
        mounted.mount(kind, options)?;
        Ok(mounted)
    }

    fn mount(&mut self, kind: &str, options: &str) -> Result<()> {
        let options = CString::new(options)?;
        mount(kind, &self.path, kind, MountFlags::empty(), options.as_c_str())
            .with_context(|| format!("mount {kind} on {}", self.path.display()))?;
        self.is_mounted = true;
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it read-only, or writable again.
    pub fn set_read_only(&self, is_read_only: bool) -> Result<()> {
        let flags = if is_read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        // The mount point alone: a file that is open for writing would keep the file system busy.
        eventually("nobody writes there for a moment", PATIENCE, || {
            mount_remount(&self.path, flags | MountFlags::BIND, c"").context("remount")
        })
    }

    /// Fills it to the last byte with one file; removing that makes room again.
    pub fn fill(&self) -> Result<PathBuf> {
        let path = self.path.join("filling");
        let page = [0; 4096];
        let mut file = fs::File::create(&path)?;
        while std::io::Write::write_all(&mut file, &page).is_ok() {}
        Ok(path)
    }

    /// Unmounts it at once, whoever uses it.
    pub fn unmount(&mut self) -> Result<()> {
        unmount(&self.path, UnmountFlags::DETACH).context("unmount")?;
        self.is_mounted = false;
        Ok(())
    }

    /// Mounts a new BPF file system in its place.
    pub fn mount_bpf(&mut self) -> Result<()> {
        self.mount("bpf", "mode=0700")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = unmount(&self.path, UnmountFlags::DETACH);
        }
    }
}
