//! Locks on directories, by which a daemon keeps others from its state and its pins.
//!
//! The directory itself is locked, not a file in it: that works on a full disk and on a read-only one,
//! too. The lock ends with the process, however that ends.

use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail};

/// Where the kernel tells of all locks on files (`proc_locks(5)`).
const LOCKS: &str = "/proc/locks";

/// Takes the lock on a directory, which `option` of the command line chooses. It lasts as long as the
/// file is open.
///
/// # Errors
///
/// Where another process holds it: says which.
pub fn take(directory: &Path, option: &str) -> Result<File> {
    let shown = directory.display();
    let file = File::open(directory).with_context(|| format!("open {shown}"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "a daemon ({}) works with {shown} already; stop it first, or choose another {option}",
            holder(&file).map_or("process unknown".to_owned(), |pid| format!("process {pid}")),
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {shown}")),
    }
}

/// The process that holds the lock, where the kernel tells.
fn holder(file: &File) -> Option<u32> {
    let found = file.metadata().ok()?;
    let (major, minor) = (libc::major(found.dev()), libc::minor(found.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", found.ino());
    holder_in(&fs::read_to_string(LOCKS).ok()?, &place)
}

/// The holder in a list like `3: FLOCK  ADVISORY  WRITE 1234 00:1f:5678 0 EOF`; zero stands for a process of
/// another namespace.
fn holder_in(locks: &str, place: &str) -> Option<u32> {
    let fields = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut holders = fields.filter_map(|fields| match fields[..] {
        [_, "FLOCK", _, _, pid, found, ..] if found == place => pid.parse().ok(),
        _ => None,
    });
    holders.find(|pid| *pid != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_lock_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let lock = take(directory.path(), "--state-dir").unwrap();
        let error = take(directory.path(), "--state-dir").unwrap_err().to_string();
        let process = format!("process {}", std::process::id());
        assert!(error.contains(&process) && error.contains("--state-dir"), "{error}");
        drop(lock);
        take(directory.path(), "--state-dir").unwrap();
    }

    #[test]
    fn a_list_of_locks_is_read_as_the_kernel_writes_it() {
        let locks = "1: POSIX  ADVISORY  WRITE 77 00:1f:5678 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 0 00:1f:5678 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 1234 00:1f:5678 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 99 00:1f:5678 0 EOF\n";
        assert_eq!(holder_in(locks, "00:1f:5678"), Some(1234));
        assert_eq!(holder_in(locks, "00:1f:567"), None);
    }
}
