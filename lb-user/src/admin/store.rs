//! The exceptions on disk: a file in the state directory, replaced whole or not at all.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Exception, Exceptions, NodeDrain};
use crate::document;

/// The file's format.
const VERSION: u32 = 1;

#[derive(Default, Serialize, Deserialize)]
struct Document {
    exceptions: Vec<Exception>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<NodeDrain>,
}

/// The file of the exceptions below `state_dir`.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("exceptions.json")
}

/// Reads the exceptions; none where there is no file yet.
///
/// # Errors
///
/// Where the file cannot be read, or is not ours.
pub fn read(state_dir: &Path) -> Result<Exceptions> {
    let known = document::read(&path(state_dir), "a list of exceptions", VERSION)?;
    let Document { exceptions, node } = known.unwrap_or_default();
    let mut known: Exceptions = exceptions.into_iter().collect();
    known.node = node;
    Ok(known)
}

/// Reads the exceptions of a daemon that starts. A file that cannot be understood is put aside, not
/// overwritten, and told: the balancer has to start.
///
/// # Errors
///
/// Where the file cannot be put aside.
pub fn recover(state_dir: &Path) -> Result<(Exceptions, Option<String>)> {
    let error = match read(state_dir) {
        Ok(exceptions) => return Ok((exceptions, None)),
        Err(error) => error,
    };
    let path = path(state_dir);
    let aside =
        document::put_aside(&path).with_context(|| format!("put {} aside", path.display()))?;
    let told = format!(
        "{error:#}; it is now {}, and every backend is ready: take out again what has to stay out",
        aside.display()
    );
    Ok((Exceptions::default(), Some(told)))
}

/// Writes the exceptions; they are on the disk when this returns.
///
/// # Errors
///
/// Names the step that failed; the old file is then as it was.
pub fn write(state_dir: &Path, exceptions: &Exceptions) -> Result<()> {
    let (all, node) = (exceptions.iter().cloned().collect(), exceptions.node.clone());
    document::write(&path(state_dir), VERSION, &Document { exceptions: all, node })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{admin::AdminState, api::Peer};

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()).unwrap(), Exceptions::default());
        let exception = Exception {
            service: "web".into(),
            backend: "web-02".into(),
            state: AdminState::Maintenance,
            since: SystemTime::UNIX_EPOCH + Duration::from_secs(7),
            until: None,
            reason: "a \"test\"".into(),
            by: Peer::of(0),
            discovered: true,
        };
        let mut exceptions: Exceptions = [exception].into_iter().collect();
        write(directory.path(), &exceptions).unwrap();
        assert_eq!(recover(directory.path()).unwrap(), (exceptions.clone(), None));
        exceptions.node = Some(NodeDrain {
            since: SystemTime::UNIX_EPOCH,
            until: Some(SystemTime::UNIX_EPOCH + Duration::from_mins(1)),
            reason: "new kernel".into(),
            by: Peer::of(0),
        });
        write(directory.path(), &exceptions).unwrap();
        assert_eq!(recover(directory.path()).unwrap(), (exceptions, None));
    }

    #[test]
    fn what_cannot_be_understood_is_kept_aside_and_told() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["{", "[]", "{\"version\": 99, \"exceptions\": []}"] {
            fs::write(path(directory.path()), text).unwrap();
            let (exceptions, told) = recover(directory.path()).unwrap();
            assert_eq!(exceptions, Exceptions::default());
            assert!(told.unwrap().contains("exceptions.json"));
            let aside = directory.path().join("exceptions.json.unreadable");
            assert_eq!(fs::read_to_string(aside).unwrap(), text);
        }
    }
}
