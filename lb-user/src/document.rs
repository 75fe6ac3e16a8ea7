//! Documents of the state directory: JSON with the version of its format, replaced whole or not at all, and put
//! aside where it cannot be understood.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::config::write_atomically;

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    content: T,
}

/// Reads a document; `None` where there is no file yet. `what` it is stands in errors, like "a list of alerts".
///
/// # Errors
///
/// Where the file cannot be read, is something else, or is of another version.
pub fn read<T: DeserializeOwned>(path: &Path, what: &str, version: u32) -> Result<Option<T>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("read {}", path.display()))?,
    };
    let document: Versioned<T> =
        serde_json::from_str(&text).with_context(|| format!("{} is not {what}", path.display()))?;
    ensure!(
        document.version == version,
        "{} is of version {}, and this daemon knows version {version}",
        path.display(),
        document.version
    );
    Ok(Some(document.content))
}

/// Writes a document; it is on the disk when this returns.
///
/// # Errors
///
/// Names the step that failed; the old file is then as it was.
pub fn write<T: Serialize>(path: &Path, version: u32, content: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(&Versioned { version, content })?;
    text.push('\n');
    write_atomically(path, &text)
}

/// Puts a document that cannot be understood aside, so that it is not overwritten; returns where it is.
///
/// # Errors
///
/// What the kernel answered.
pub fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".unreadable");
    fs::rename(path, &aside)?;
    Ok(aside.into())
}
