//! Places that the daemon writes to: its state, its socket, the configuration's folder, and bpffs.

use super::{Finding, Level};

/// Free bytes of the state's file system below which it is worth a warning: a few hundred histories.
const SCARCE: u64 = 16 << 20;

/// What is known of the places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The directory of the pins, and whether it is, or will be, on a BPF file system.
    pub pins: (String, Bpffs),
    /// Directories with what they are for.
    pub directories: Vec<Directory>,
}

/// Whether there is a BPF file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bpffs {
    /// There is.
    Mounted,
    /// `run` mounts it, in its usual place.
    Mountable,
    /// There is none, and nobody mounts one.
    Missing,
}

/// A directory that the daemon writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// The directory; it need not exist yet.
    pub path: String,
    /// What is in it.
    pub holds: &'static str,
    /// Whether we may write, there or where it will be made, or what the kernel answered.
    pub writable: Result<(), String>,
    /// Whether root asked, who is the daemon.
    pub as_root: bool,
    /// Free bytes of its file system.
    pub free: Option<u64>,
}

/// Judges the places.
pub fn check(places: &Places) -> Vec<Finding> {
    let mut found = vec![bpffs(&places.pins.0, places.pins.1)];
    found.extend(places.directories.iter().map(directory));
    found
}

fn bpffs(path: &str, state: Bpffs) -> Finding {
    match state {
        Bpffs::Mounted => Finding::new(Level::Ok, "bpffs", path, "on a BPF file system"),
        Bpffs::Mountable => {
            let message = "no BPF file system is mounted; `run` mounts it";
            Finding::new(Level::Note, "bpffs", path, message)
        }
        Bpffs::Missing => Finding::new(Level::Problem, "bpffs", path, "not on a BPF file system")
            .remedy("mount one (`mount -t bpf bpf DIR`), or choose another place with --bpffs"),
    }
}

fn directory(directory: &Directory) -> Finding {
    let Directory { path, holds, writable, as_root, free } = directory;
    let found = |level, message| Finding::new(level, "directory", path, message);
    if let Err(error) = writable {
        if !as_root {
            return found(Level::Unseen, format!("whether the daemon may write {holds} there"))
                .remedy("run as root");
        }
        return found(Level::Problem, format!("{holds} cannot be written there: {error}"))
            .remedy("make it writable for root, or choose another place (`evenkeel --help`)");
    }
    match free {
        Some(free) if *free < SCARCE => {
            let message = format!("{} MiB are free for {holds}", free >> 20);
            found(Level::Warning, message).remedy("make room on its file system")
        }
        _ => found(Level::Ok, format!("{holds} can be written")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_judged_by_whether_the_daemon_can_write() {
        let level = |writable: Result<(), &str>, as_root, free| {
            let writable = writable.map_err(str::to_owned);
            let path = "/var/lib/evenkeel".to_owned();
            directory(&Directory { path, holds: "state", writable, as_root, free }).level
        };
        assert_eq!(level(Ok(()), true, Some(1 << 30)), Level::Ok);
        assert_eq!(level(Ok(()), true, Some(1 << 20)), Level::Warning);
        assert_eq!(level(Err("read-only"), true, None), Level::Problem);
        assert_eq!(level(Err("permission denied"), false, None), Level::Unseen);
        assert_eq!(bpffs("/sys/fs/bpf", Bpffs::Mountable).level, Level::Note);
        assert_eq!(bpffs("/tmp/pins", Bpffs::Missing).level, Level::Problem);
    }
}
