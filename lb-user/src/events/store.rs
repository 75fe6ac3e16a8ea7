//! The events in the state directory: a line of JSON each in `events/events.jsonl`, and those from before in
//! `events/events.1.jsonl`. When the first has its size it takes the place of the second.
//!
//! No file stays open between two writes: one that is open for writing would keep a file system from being
//! made read-only or unmounted.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::{Event, Events, Kind, Note};

/// Bytes of a file at the most, but for its last line.
const LONGEST_FILE: u64 = 4 << 20;
/// How many events are written at once.
const AT_ONCE: usize = 512;
/// How soon it is tried again to write what could not be written.
const AGAIN: Duration = Duration::from_secs(1);

/// The files.
#[derive(Clone, Debug)]
pub(super) struct Store {
    directory: PathBuf,
    longest: u64,
}

/// What the files have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Loaded {
    /// The last events, the oldest first.
    pub(super) events: Vec<Event>,
    /// Whether there are, or were, more before those.
    pub(super) forgotten: bool,
    /// What could not be read.
    pub(super) troubles: Vec<String>,
}

impl Store {
    /// Those of a state directory; nothing is made yet.
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("events"), longest: LONGEST_FILE }
    }

    fn current(&self) -> PathBuf {
        self.directory.join("events.jsonl")
    }

    fn previous(&self) -> PathBuf {
        self.directory.join("events.1.jsonl")
    }

    /// Reads the last `most` events.
    pub(super) fn load(&self, most: usize) -> Loaded {
        let mut loaded = Loaded::default();
        let mut newest_first = Vec::new();
        for path in [self.current(), self.previous()] {
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    loaded.troubles.push(format!("cannot read {}: {error}", path.display()));
                    continue;
                }
            };
            let (whole, torn) = bytes.split_at(whole_lines(&bytes));
            if !torn.is_empty() {
                loaded.troubles.push(format!(
                    "the last event in {} is torn, as a crash leaves it, and passed over",
                    path.display()
                ));
            }
            let mut garbled = 0_usize;
            for line in whole.rsplit(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                if newest_first.len() == most {
                    loaded.forgotten = true;
                    break;
                }
                match serde_json::from_slice::<Event>(line) {
                    Ok(event) => newest_first.push(event),
                    Err(_) => garbled += 1,
                }
            }
            if garbled > 0 {
                let path = path.display();
                loaded
                    .troubles
                    .push(format!("{garbled} lines of {path} are no events, and passed over"));
            }
        }
        newest_first.reverse();
        // Should somebody have put files together by hand: in order all the same.
        newest_first.sort_by_key(|event| event.id);
        newest_first.dedup_by_key(|event| event.id);
        loaded.events = newest_first;
        loaded.forgotten |= self.previous().exists();
        loaded
    }

    /// Adds whole lines; all of them or none.
    fn append(&self, lines: &[u8]) -> io::Result<()> {
        let mut file = self.open()?;
        let mut length = mended(&mut file)?;
        if length > 0 && length + lines.len() as u64 > self.longest {
            drop(file);
            fs::rename(self.current(), self.previous())?;
            file = self.open()?;
            length = mended(&mut file)?;
        }
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        if written.is_err() {
            // Half of it may be there. Where this fails, too, the next one mends it.
            drop(file.set_len(length));
        }
        written
    }

    fn open(&self) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600).open(self.current())
    }
}

/// How many bytes the whole lines at the beginning have.
fn whole_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1)
}

/// Takes away a line without an end, and returns the file's length.
fn mended(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(0);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(length);
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    let whole = whole_lines(&bytes) as u64;
    file.set_len(whole)?;
    Ok(whole)
}

/// Writes events until they are closed. What fails is tried again; what memory forgets meanwhile is
/// told.
pub(super) fn write(events: &Events) {
    let Some(store) = &events.0.store else { return };
    // How many memory had to forget before they could be written.
    let mut lost = 0;
    while let Some((batch, number)) = next_batch(events, &mut lost) {
        let mut lines = Vec::new();
        for event in &batch {
            // An event is made of texts and numbers.
            if serde_json::to_writer(&mut lines, &**event).is_ok() {
                lines.push(b'\n');
            }
        }
        match store.append(&lines) {
            Ok(()) => {
                note_stored(events, number + batch.len() as u64);
                if lost > 0 {
                    let message =
                        format!("{lost} events are in no file: memory had to forget them first");
                    lost = 0;
                    events.tell(Note::new(Kind::Trouble, message).warning());
                }
            }
            Err(error) => {
                note_trouble(events, store, &error);
                if rest(events) {
                    return;
                }
            }
        }
    }
}

/// Waits for events to write, and for their number; `None`: there will be no more.
fn next_batch(events: &Events, lost: &mut u64) -> Option<(Vec<Arc<Event>>, u64)> {
    let mut held = events.lock();
    loop {
        *lost += held.before.saturating_sub(held.stored);
        held.stored = held.stored.max(held.before);
        let batch: Vec<_> = held.from(held.stored).take(AT_ONCE).cloned().collect();
        if !batch.is_empty() {
            return Some((batch, held.stored));
        }
        if held.closing {
            return None;
        }
        held = events.0.news.wait(held).unwrap_or_else(PoisonError::into_inner);
    }
}

fn note_stored(events: &Events, stored: u64) {
    let mut held = events.lock();
    held.stored = held.stored.max(stored);
    let over = held.trouble.take().is_some();
    drop(held);
    events.0.news.notify_all();
    if over {
        events.tell(Note::new(Kind::Trouble, "events are stored again"));
    }
}

fn note_trouble(events: &Events, store: &Store, error: &io::Error) {
    let way_out = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there",
        io::ErrorKind::ReadOnlyFilesystem => "make it writable",
        _ => "see to it that the daemon can write there",
    };
    let directory = store.directory.display();
    let text = format!(
        "events are in memory alone, and a restart forgets them: cannot write below {directory}: {error}; \
         {way_out}"
    );
    let mut held = events.lock();
    let news = held.trouble.as_ref() != Some(&text);
    held.trouble = Some(text.clone());
    drop(held);
    events.0.news.notify_all();
    if news {
        events.tell(Note::new(Kind::Trouble, text).warning());
    }
}

/// Waits until it is time to try again; tells whether there is no use in that.
fn rest(events: &Events) -> bool {
    let held = events.lock();
    let closing = |held: &mut super::Held| !held.closing;
    let waited = events.0.news.wait_timeout_while(held, AGAIN, closing);
    waited.unwrap_or_else(PoisonError::into_inner).0.closing
}

#[cfg(test)]
mod tests;
