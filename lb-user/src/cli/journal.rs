//! The log in systemd's journal: natively, so that `SERVICE=`, `BACKEND=`, `WHO=` and `KIND=` are fields to
//! search by and not a part of a text.

use std::{env, os::fd::AsFd};

use tracing_journald::{Layer, Priority, PriorityMappings};

/// What systemd sets where it connects a service's output with the journal (systemd.exec(5)).
const STREAM: &str = "JOURNAL_STREAM";

/// A layer that writes to the journal; `None` where stderr does not go there, or nobody answers there.
pub fn layer() -> Option<Layer> {
    let stream = env::var(STREAM).ok()?;
    if !is(&stream, std::io::stderr()) {
        return None;
    }
    let priorities = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    let layer = Layer::new().ok()?;
    Some(layer.with_field_prefix(None).with_priority_mappings(priorities))
}

/// Whether this is the file that the variable names: by its device and inode. A service may have sent its
/// output elsewhere since.
fn is(stream: &str, file: impl AsFd) -> bool {
    let Some((device, inode)) = stream.split_once(':') else { return false };
    let Ok(found) = rustix::fs::fstat(file) else { return false };
    device.parse() == Ok(found.st_dev) && inode.parse() == Ok(found.st_ino)
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::MetadataExt as _, net::UnixStream};

    use super::*;

    #[test]
    fn a_stream_is_the_one_that_the_variable_names() {
        let (one, other) = UnixStream::pair().unwrap();
        let found = rustix::fs::fstat(&one).unwrap();
        let stream = format!("{}:{}", found.st_dev, found.st_ino);
        assert!(is(&stream, &one));
        assert!(!is(&stream, &other));
        let file = tempfile::tempfile().unwrap();
        assert!(!is(&stream, &file));
        let found = file.metadata().unwrap();
        assert!(is(&format!("{}:{}", found.dev(), found.ino()), &file));
        for wrong in ["", "7", "7:", "a:b"] {
            assert!(!is(wrong, &one), "{wrong}");
        }
    }
}
