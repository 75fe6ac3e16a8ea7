//! What tells one state of a file from another, without reading it.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

/// Device, inode, size, and the times of the last change of its contents and of itself, in nanoseconds; `None`: there
/// is no such file.
pub type Stamp = Option<(u64, u64, u64, i128, i128)>;

/// The state of a file, behind symbolic links.
pub fn stamp(file: &Path) -> Stamp {
    let nanoseconds =
        |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    fs::metadata(file).ok().map(|found| {
        let modified = nanoseconds(found.mtime(), found.mtime_nsec());
        let changed = nanoseconds(found.ctime(), found.ctime_nsec());
        (found.dev(), found.ino(), found.size(), modified, changed)
    })
}
