//! Files that are replaced whole or not at all: the configuration, and what the daemon remembers. What
//! the text says does not matter here.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, fchown},
    path::Path,
};

use anyhow::{Context, Result};

/// The mode of a file that was not there before; the umask takes its share.
const NEW_FILE_MODE: u32 = 0o644;

/// How the names of files end that are to replace another.
const UNFINISHED: &str = ".evenkeel-tmp";

/// Replaces the file at `path` by `text`, so that a reader or a crash sees the old text or the new
/// one and nothing between.
///
/// The new file keeps the mode and owner of the old; a symbolic link stays and its target is
/// replaced. When this returns, the text is on the disk.
///
/// # Errors
/// Names the step that failed; the old file is then as it was, except that a failed flush of the
/// directory leaves the new file in place.
pub fn write_atomically(path: &Path, text: &str) -> Result<()> {
    replace(path, text).map_err(|error| {
        let way_out = way_out(&error);
        error.context(format!("write {}{way_out}", path.display()))
    })
}

/// What to do about a disk that took nothing more.
fn way_out(error: &anyhow::Error) -> &'static str {
    let cause =
        |cause: &(dyn std::error::Error + 'static)| Some(cause.downcast_ref::<io::Error>()?.kind());
    match error.chain().find_map(cause) {
        Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            " (make room there, and try again)"
        }
        Some(io::ErrorKind::ReadOnlyFilesystem) => " (make it writable, and try again)",
        _ => "",
    }
}

/// Removes what a process that was killed left of a replacement of the file at `path`. Nobody else may
/// be writing it.
pub fn sweep_unfinished(path: &Path) {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let Some((directory, prefix)) = path.parent().zip(prefix(&path)) else { return };
    // It is in nobody's way where it cannot be removed.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&prefix) && name.ends_with(UNFINISHED) {
            drop(fs::remove_file(entry.path()));
        }
    }
}

fn prefix(target: &Path) -> Option<String> {
    Some(format!(".{}-", target.file_name()?.to_string_lossy()))
}

fn replace(path: &Path, text: &str) -> Result<()> {
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
            path.to_owned()
        }
        Err(error) => return Err(error).context("follow it to the file"),
    };
    let directory = match target.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => anyhow::bail!("it is a directory"),
    };
    let old = match fs::metadata(&target) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).context("read its mode and owner"),
    };

    // Until it is renamed, the file is removed when it goes out of scope.
    let mut file = tempfile::Builder::new()
        .prefix(&prefix(&target).unwrap_or_default())
        .suffix(UNFINISHED)
        .permissions(Permissions::from_mode(NEW_FILE_MODE))
        .tempfile_in(directory)
        .with_context(|| format!("create a file in {}", directory.display()))?;
    if let Some(old) = old {
        let new = file.as_file().metadata().context("read the new file's owner")?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(file.as_file(), Some(old.uid()), Some(old.gid())).context("keep its owner")?;
        }
        // After the owner: changing that clears bits of the mode.
        let mode = Permissions::from_mode(old.mode() & 0o7777);
        file.as_file().set_permissions(mode).context("keep its mode")?;
    }
    file.write_all(text.as_bytes()).context("write the new text")?;
    file.as_file().sync_all().context("flush the new text")?;
    file.persist(&target).map_err(|error| error.error).context("put the new file in place")?;
    let directory_handle = File::open(directory).and_then(|directory| directory.sync_all());
    directory_handle.with_context(|| format!("flush the directory {}", directory.display()))
}
