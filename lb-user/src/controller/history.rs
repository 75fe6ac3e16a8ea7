//! Every configuration that was at work, in the state directory: its text byte for byte, since when,
//! who asked for it, and what it changed.
//!
//! An entry is two files in `history/`: `000007.toml`, the text, which a person may copy back by hand
//! when all else fails, and `000007.json`, the rest, which makes the entry count. It is prepared on the
//! disk before the change and takes its name after it, so a change is recorded or not made; one that a
//! crash interrupted in between is taken up at the next start if its text is at work.

use std::{
    fs::{self, File, Permissions},
    io::{ErrorKind, Write as _},
    os::unix::fs::PermissionsExt as _,
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
    time::SystemTime,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::api::Peer;

/// How many entries are kept.
const MOST_ENTRIES: usize = 100;

/// A configuration that was at work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, from 1; numbers are never given again.
    pub number: u64,
    /// Since when, RFC 3339 in UTC.
    pub time: String,
    /// Who asked for it.
    pub who: Peer,
    /// What it changed, for people.
    pub what: String,
}

/// The entries in the state directory.
pub struct History {
    directory: PathBuf,
    /// By number, the oldest first.
    entries: Vec<Entry>,
    /// The number that no entry ever had.
    next: u64,
}

/// An entry that is on the disk and does not count yet. Dropping it takes it away.
#[must_use = "an entry that is not committed does not count"]
pub struct Prepared {
    entry: Entry,
    text: PathBuf,
    waiting: PathBuf,
    committed: bool,
}

impl History {
    /// Opens the history of a state directory; makes an empty one where there is none and it can be made.
    /// An entry that a crash left half-way counts if its text is `current`.
    ///
    /// # Errors
    ///
    /// Where the directory cannot be read. An entry that cannot be read is passed over with a
    /// warning.
    pub fn open(state_dir: &Path, current: &str) -> Result<Self> {
        let directory = state_dir.join("history");
        let mut history = Self { directory, entries: Vec::new(), next: 1 };
        if let Err(error) = history.make() {
            // A daemon has to start with a full disk, too; changes are refused until there is room.
            warn!("the history cannot be written: {error:#}");
        }
        history.take_up(current)?;
        history.read()?;
        Ok(history)
    }

    fn make(&self) -> Result<()> {
        let directory = &self.directory;
        fs::create_dir_all(directory)
            .with_context(|| format!("make directory {}", directory.display()))?;
        // Texts may hold what the configuration's own mode hides.
        let mode = fs::metadata(directory).map(|found| found.permissions().mode() & 0o7777);
        if mode.is_ok_and(|mode| mode == 0o700) {
            return Ok(());
        }
        fs::set_permissions(directory, Permissions::from_mode(0o700))
            .with_context(|| format!("set the mode of {}", directory.display()))
    }

    /// The entries, the oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The number that the next entry will have.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The entry with this number.
    #[must_use]
    pub fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.number == number)
    }

    /// The entry before that one.
    #[must_use]
    pub fn before(&self, number: u64) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.number < number)
    }

    /// Where an entry's text is.
    #[must_use]
    pub fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:06}.toml"))
    }

    /// An entry's text.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read.
    pub fn text(&self, number: u64) -> Result<String> {
        let path = self.path(number);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// Puts an entry onto the disk, to be [committed](Self::commit) once `text` is at work.
    ///
    /// # Errors
    ///
    /// Where it cannot be written; nothing is left of it then.
    pub fn prepare(&self, text: &str, who: &Peer, what: &str) -> Result<Prepared> {
        let number = self.next;
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let entry = Entry { number, time, who: who.clone(), what: what.to_owned() };
        let waiting = self.directory.join(format!("{number:06}.new"));
        let prepared = Prepared { entry, text: self.path(number), waiting, committed: false };
        let write = || -> Result<()> {
            if !self.directory.exists() {
                self.make()?;
            }
            let text = fresh(&prepared.text, text.as_bytes())?;
            let waiting = fresh(&prepared.waiting, &serde_json::to_vec(&prepared.entry)?)?;
            // At the same time: the file system's journal is written once for both.
            thread::scope(|scope| {
                let other = scope.spawn(|| text.sync_all());
                waiting.sync_all()?;
                other.join().unwrap_or_else(|panicked| resume_unwind(panicked))
            })?;
            Ok(File::open(&self.directory)?.sync_all()?)
        };
        write().with_context(|| {
            format!(
                "keep the configuration in {}; make room there or make it writable",
                self.directory.display()
            )
        })?;
        Ok(prepared)
    }

    /// Has a prepared entry count, and forgets the oldest where there are too many.
    ///
    /// # Errors
    ///
    /// Where its file cannot be renamed.
    pub fn commit(&mut self, mut prepared: Prepared) -> Result<u64> {
        let number = prepared.entry.number;
        self.next = number + 1;
        self.settle(&prepared.waiting, number)?;
        prepared.committed = true;
        self.entries.push(prepared.entry.clone());
        while self.entries.len() > MOST_ENTRIES {
            let oldest = self.entries.remove(0);
            // What makes it count goes first. What stays behind is in nobody's way.
            drop(fs::remove_file(self.meta(oldest.number)));
            drop(fs::remove_file(self.path(oldest.number)));
        }
        Ok(number)
    }

    fn meta(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:06}.json"))
    }

    /// Not flushed: should a power failure undo it, the next start does it again.
    fn settle(&self, waiting: &Path, number: u64) -> Result<()> {
        let meta = self.meta(number);
        fs::rename(waiting, &meta).with_context(|| format!("write {}", meta.display()))
    }

    /// Ends what a crash interrupted.
    fn take_up(&self, current: &str) -> Result<()> {
        for (number, path) in self.files("new")? {
            if self.text(number).is_ok_and(|text| text == current) {
                if let Err(error) = self.settle(&path, number) {
                    warn!("a change that was interrupted is not in the history yet: {error:#}");
                    continue;
                }
                info!(number, "a change that was interrupted is in the history now");
            } else {
                // The change was not made, or was put back.
                drop(fs::remove_file(&path));
                drop(fs::remove_file(self.path(number)));
            }
        }
        for (number, path) in self.files("toml")? {
            // The crash came before or after all else of the entry was there.
            if !self.meta(number).exists() && !path.with_extension("new").exists() {
                drop(fs::remove_file(path));
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        for (number, path) in self.files("json")? {
            self.next = self.next.max(number + 1);
            let read = || -> Result<Entry> { Ok(serde_json::from_slice(&fs::read(&path)?)?) };
            match read() {
                Ok(entry) if entry.number == number && self.path(number).exists() => {
                    self.entries.push(entry);
                }
                Ok(_) => warn!("{} has no text beside it; passed over", path.display()),
                Err(error) => warn!("cannot read {}: {error:#}; passed over", path.display()),
            }
        }
        Ok(())
    }

    /// The numbered files of a kind, by number.
    fn files(&self, extension: &str) -> Result<Vec<(u64, PathBuf)>> {
        let unread = || format!("read {}", self.directory.display());
        let mut files = Vec::new();
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(files),
            entries => entries.with_context(unread)?,
        };
        for file in entries {
            let path = file.with_context(unread)?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            if path.extension().is_some_and(|found| found == extension)
                && let Some(number) = number
            {
                files.push((number, path));
            }
        }
        files.sort();
        Ok(files)
    }
}

impl Prepared {
    /// The number that it will have.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.entry.number
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if !self.committed {
            drop(fs::remove_file(&self.waiting));
            drop(fs::remove_file(&self.text));
        }
    }
}

/// Writes a file anew. It is still to be flushed.
fn fresh(path: &Path, bytes: &[u8]) -> Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer { uid: Some(1000), user: Some("deploy".to_owned()) }
    }

    fn record(history: &mut History, text: &str) -> u64 {
        let prepared = history.prepare(text, &peer(), &format!("made {text:?}")).unwrap();
        history.commit(prepared).unwrap()
    }

    #[test]
    fn texts_come_back_byte_for_byte_and_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let mut history = History::open(directory.path(), "").unwrap();
        let text = |n: usize| format!("# é {n}\r\n\tno newline at the end");
        for n in 0..MOST_ENTRIES + 5 {
            assert_eq!(record(&mut history, &text(n)), n as u64 + 1);
        }
        let again = History::open(directory.path(), "").unwrap();
        assert_eq!(again.entries(), history.entries());
        assert_eq!(again.entries().len(), MOST_ENTRIES);
        assert_eq!((again.entries()[0].number, again.next), (6, MOST_ENTRIES as u64 + 6));
        assert_eq!(again.text(6).unwrap(), text(5));
        assert_eq!(again.before(8).unwrap().number, 7);
        assert!(again.before(6).is_none() && again.entry(5).is_none());
        assert_eq!(fs::read_dir(&again.directory).unwrap().count(), 2 * MOST_ENTRIES);
    }

    #[test]
    fn what_was_not_committed_never_was() {
        let directory = tempfile::tempdir().unwrap();
        let history = History::open(directory.path(), "").unwrap();
        drop(history.prepare("one", &peer(), "not made").unwrap());
        assert_eq!(fs::read_dir(&history.directory).unwrap().count(), 0);
    }

    #[test]
    fn a_crash_in_between_is_settled_by_what_is_at_work() {
        for (current, entries) in [("new", 2), ("old", 1)] {
            let directory = tempfile::tempdir().unwrap();
            let mut history = History::open(directory.path(), "").unwrap();
            record(&mut history, "old");
            std::mem::forget(history.prepare("new", &peer(), "interrupted").unwrap());
            let again = History::open(directory.path(), current).unwrap();
            assert_eq!(again.entries().len(), entries, "{current}");
            assert_eq!(fs::read_dir(&again.directory).unwrap().count(), 2 * entries);
            assert_eq!(again.text(entries as u64).unwrap(), current);
        }
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_passed_over_and_its_number_is_not_given_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut history = History::open(directory.path(), "").unwrap();
        record(&mut history, "one");
        record(&mut history, "two");
        fs::write(history.meta(2), "{").unwrap();
        let mut again = History::open(directory.path(), "").unwrap();
        assert_eq!(again.entries().len(), 1);
        assert_eq!(record(&mut again, "three"), 3);
    }
}
