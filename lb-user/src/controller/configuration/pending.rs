//! A change that waits for its confirmation, kept in the state directory so that a daemon that is
//! restarted or killed meanwhile rolls back, too.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::{error, warn};

use super::super::history::History;
use crate::{
    api::{Peer, configuration::Confirmation},
    config::write_atomically,
    events::{Events, Kind, Note},
};

/// The longest time that a change may wait for its confirmation.
pub const LONGEST: Duration = Duration::from_hours(24);

/// A change that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Its number in the history.
    pub number: u64,
    /// Who made it.
    pub who: Peer,
    /// What it was.
    pub what: String,
    /// When it is rolled back.
    pub until: SystemTime,
    /// How long it could be confirmed when it was made: a clock that was set back gives no more.
    pub allowed: Duration,
    /// The configuration before it.
    pub previous: String,
    /// The configuration that it made.
    pub text: String,
}

impl Pending {
    /// What a state directory holds of one.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read or is not ours.
    pub fn read(state_dir: &Path) -> Result<Option<Self>> {
        let path = file(state_dir);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display())).map(Some)
    }

    /// Writes it, whole and flushed.
    ///
    /// # Errors
    ///
    /// Where the state directory cannot be written.
    pub fn write(&self, state_dir: &Path) -> Result<()> {
        let path = file(state_dir);
        write_atomically(&path, &serde_json::to_string(self)?)
            .with_context(|| format!("note the confirmation to wait for in {}", path.display()))
    }

    /// How long it may still be confirmed.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.until.duration_since(SystemTime::now()).unwrap_or_default().min(self.allowed)
    }

    /// When it is rolled back.
    #[must_use]
    pub fn expiry(&self) -> Instant {
        Instant::now() + self.left()
    }

    /// As the API tells it.
    #[must_use]
    pub fn told(&self) -> Confirmation {
        Confirmation {
            number: self.number,
            until: humantime::format_rfc3339_seconds(self.until).to_string(),
            seconds_left: self.left().as_secs(),
            who: self.who.clone(),
            what: self.what.clone(),
        }
    }
}

/// Takes the note away, durably.
///
/// # Errors
///
/// Where the state directory cannot be written.
pub fn remove(state_dir: &Path) -> Result<()> {
    let path = file(state_dir);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        removed => removed.with_context(|| format!("remove {}", path.display()))?,
    }
    let directory = path.parent().unwrap_or(state_dir);
    fs::File::open(directory)?.sync_all().with_context(|| format!("flush {}", directory.display()))
}

/// Puts back a configuration that was not confirmed in time, before a daemon reads it. One whose time
/// is not over is left, unless `works` says that the daemon could not start with it.
///
/// # Errors
///
/// Where the configuration file cannot be written.
pub fn recover(
    state_dir: &Path,
    path: &Path,
    events: &Events,
    works: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let pending = match Pending::read(state_dir) {
        Ok(Some(pending)) => pending,
        Ok(None) => return Ok(()),
        Err(found) => {
            error!("a change may wait for its confirmation: {found:#}; it is left as it is");
            return Ok(());
        }
    };
    if fs::read_to_string(path).ok().as_deref() != Some(&*pending.text) {
        // Not made after all, or the file is what somebody wrote since.
        warn!(
            "change {} waited for its confirmation, but {} is not what it made; nothing is rolled \
             back",
            pending.number,
            path.display()
        );
        forget(state_dir);
        return Ok(());
    }
    let works = works();
    let is_usable = works.is_ok();
    let why = match works {
        _ if pending.left().is_zero() => "was not confirmed in time".to_owned(),
        Err(found) => format!("is not confirmed, and no daemon can start with it: {found:#}"),
        Ok(()) => return Ok(()),
    };
    let message = format!("change {} ({}) {why}; rolled back", pending.number, pending.what);
    let note = Note::new(Kind::Configuration, message).error();
    events.tell(note.by(&Peer::named("daemon")).because(why));
    match write_atomically(path, &pending.previous) {
        Err(found) if is_usable => {
            // The daemon that starts takes it back in the data path at once, and goes on trying here.
            error!("the configuration file is not rolled back yet: {found:#}");
            return Ok(());
        }
        written => written?,
    }
    let record = || -> Result<()> {
        let mut history = History::open(state_dir, &pending.text)?;
        let what = rolled_back(pending.number);
        let prepared = history.prepare(&pending.previous, &Peer::named("daemon"), &what)?;
        history.commit(prepared).map(drop)
    };
    record().unwrap_or_else(|found| warn!("not in the history: {found:#}"));
    forget(state_dir);
    Ok(())
}

/// Takes the note away. One that stays means nothing while another text is in the file.
fn forget(state_dir: &Path) {
    remove(state_dir).unwrap_or_else(|found| warn!("{found:#}; the next start tries it again"));
}

/// How the history tells it.
#[must_use]
pub fn rolled_back(number: u64) -> String {
    format!("rolled back: change {number} was not confirmed in time")
}

/// Where it is kept.
#[must_use]
pub fn file(state_dir: &Path) -> PathBuf {
    // Beside texts that nobody else may read.
    state_dir.join("history").join("unconfirmed.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(until: SystemTime) -> Pending {
        Pending {
            number: 7,
            who: Peer::named("deploy"),
            what: "applied".to_owned(),
            until,
            allowed: Duration::from_mins(1),
            previous: "old".to_owned(),
            text: "new".to_owned(),
        }
    }

    #[test]
    fn it_is_kept_whole_and_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("history")).unwrap();
        let wanted = pending(SystemTime::now());
        wanted.write(directory.path()).unwrap();
        assert_eq!(Pending::read(directory.path()).unwrap().unwrap(), wanted);
        remove(directory.path()).unwrap();
        remove(directory.path()).unwrap();
        assert_eq!(Pending::read(directory.path()).unwrap(), None);
    }

    #[test]
    fn a_clock_that_was_set_back_gives_no_more_time() {
        let now = SystemTime::now();
        assert!(pending(now + Duration::from_hours(1)).left() <= Duration::from_mins(1));
        assert!(pending(now - Duration::from_hours(1)).left().is_zero());
    }

    #[test]
    fn a_start_puts_back_what_nobody_confirmed() {
        let directory = tempfile::tempdir().unwrap();
        let (state, config) = (directory.path(), directory.path().join("evenkeel.toml"));
        fs::create_dir(state.join("history")).unwrap();
        let past = SystemTime::now() - Duration::from_secs(1);
        for (found, left) in [("new", "old"), ("edited", "edited")] {
            fs::write(&config, found).unwrap();
            pending(past).write(state).unwrap();
            recover(state, &config, &Events::in_memory(), || Ok(())).unwrap();
            assert_eq!(fs::read_to_string(&config).unwrap(), left);
            assert_eq!(Pending::read(state).unwrap(), None);
        }
        // In time, but no daemon starts with such a text.
        fs::write(&config, "new").unwrap();
        pending(SystemTime::now() + Duration::from_mins(1)).write(state).unwrap();
        recover(state, &config, &Events::in_memory(), || Ok(())).unwrap();
        assert_eq!(fs::read_to_string(&config).unwrap(), "new");
        assert!(Pending::read(state).unwrap().is_some());
        recover(state, &config, &Events::in_memory(), || anyhow::bail!("no such interface"))
            .unwrap();
        assert_eq!(fs::read_to_string(&config).unwrap(), "old");
        let history = History::open(state, "old").unwrap();
        assert_eq!(history.entries().last().unwrap().what, rolled_back(7));
    }
}
