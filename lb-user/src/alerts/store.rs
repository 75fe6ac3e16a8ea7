//! What is raised, and what targets wait for, in the state directory: a file that is replaced whole or not at
//! all. So a daemon that starts again goes on with the alerts that there were: with their `since`, and
//! without telling anybody a second time.
//!
//! A thread of its own writes, always the newest state alone: the controller waits for no disk.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::{api::model::Alert, document};

/// The file's format.
const VERSION: u32 = 1;
/// Alerts that are kept, the most severe ones: more would be read by nobody, and written at each change.
const MOST: usize = 1_000;
/// How soon it is tried again to write what could not be written.
const AGAIN: Duration = Duration::from_secs(1);

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Document {
    /// Those that are raised, the most severe first.
    pub(super) raised: Vec<Alert>,
    /// What each target has yet to be told, the oldest first. A target that is not here is a new one.
    pub(super) targets: BTreeMap<String, Vec<Alert>>,
}

impl Document {
    pub(super) fn new(mut raised: Vec<Alert>, targets: BTreeMap<String, Vec<Alert>>) -> Self {
        raised.truncate(MOST);
        Self { raised, targets }
    }
}

/// The file below `state_dir`.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("alerts.json")
}

/// Reads the alerts of a daemon that starts. What cannot be understood is put aside and told, and keeps
/// nothing from starting.
pub(super) fn recover(state_dir: &Path) -> (Document, Option<String>) {
    let path = path(state_dir);
    let error = match document::read(&path, "a list of alerts", VERSION) {
        Ok(known) => return (known.unwrap_or_default(), None),
        Err(error) => error,
    };
    let now = match document::put_aside(&path) {
        Ok(aside) => format!("it is now {}", aside.display()),
        Err(error) => format!("it cannot be put aside ({error}) and is written anew"),
    };
    let told = format!("{error:#}; {now}, and alerts whose cause goes on rise again");
    (Document::default(), Some(told))
}

/// Writes what it is given. Dropping it has the thread end.
#[derive(Debug)]
pub(super) struct Keeper(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    desk: Mutex<Desk>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Desk {
    next: Option<Document>,
    is_writing: bool,
    is_closing: bool,
}

impl Shared {
    /// What is behind the lock is whole between statements.
    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// Where there can be no other thread.
    pub(super) fn start(state_dir: &Path) -> Result<Self> {
        let shared = Arc::new(Shared { desk: Mutex::default(), news: Condvar::new() });
        let (path, desk) = (path(state_dir), Arc::clone(&shared));
        let work = move || write(&desk, &path);
        thread::Builder::new().name("alerts".into()).spawn(work).context("start a thread")?;
        Ok(Self(shared))
    }

    /// Has this written, in the place of what is not yet.
    pub(super) fn put(&self, document: Document) {
        self.0.lock().next = Some(document);
        self.0.news.notify_all();
    }

    /// Waits until all is written, but not for long.
    pub(super) fn finish(&self, patience: Duration) {
        let busy = |desk: &mut Desk| desk.next.is_some() || desk.is_writing;
        drop(self.0.news.wait_timeout_while(self.0.lock(), patience, busy));
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.lock().is_closing = true;
        self.0.news.notify_all();
    }
}

/// Writes until there will be no more. What fails is tried again, and said once.
fn write(shared: &Shared, path: &Path) {
    let mut fails = false;
    loop {
        let waits = |desk: &mut Desk| desk.next.is_none() && !desk.is_closing;
        let desk = shared.news.wait_while(shared.lock(), waits);
        let mut desk = desk.unwrap_or_else(PoisonError::into_inner);
        let Some(content) = desk.next.take() else { return };
        desk.is_writing = true;
        drop(desk);
        let written = document::write(path, VERSION, &content);
        let mut desk = shared.lock();
        desk.is_writing = false;
        if let Err(error) = written {
            if !fails {
                warn!("a restart would forget which alerts are raised: {error:#}");
            }
            fails = true;
            desk.next.get_or_insert(content);
            if desk.is_closing {
                return;
            }
            let open = |desk: &mut Desk| !desk.is_closing;
            drop(shared.news.wait_timeout_while(desk, AGAIN, open));
        } else {
            if std::mem::take(&mut fails) {
                info!("which alerts are raised is stored again");
            }
            drop(desk);
            shared.news.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{super::deliver::tests::alert, *};

    fn document() -> Document {
        let [raised, waits] = ["drift", "all-down/web"].map(|id| Alert::clone(&alert(id, id)));
        Document::new(vec![raised], BTreeMap::from([("webhook http://a/".into(), vec![waits])]))
    }

    #[test]
    fn the_newest_is_written_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(recover(directory.path()), (Document::default(), None));
        let keeper = Keeper::start(directory.path()).unwrap();
        for _ in 0..100 {
            keeper.put(Document::default());
        }
        keeper.put(document());
        keeper.finish(Duration::from_mins(1));
        assert_eq!(recover(directory.path()), (document(), None));
    }

    #[test]
    fn what_cannot_be_written_is_written_later() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let keeper = Keeper::start(&state).unwrap();
        keeper.put(document());
        keeper.finish(Duration::from_millis(100));
        fs::create_dir(&state).unwrap();
        keeper.finish(Duration::from_mins(1));
        assert_eq!(recover(&state), (document(), None));
    }

    #[test]
    fn what_cannot_be_understood_is_put_aside_and_told() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["{", "[]", "{\"version\": 99, \"raised\": [], \"targets\": {}}"] {
            fs::write(path(directory.path()), text).unwrap();
            let (document, told) = recover(directory.path());
            assert_eq!(document, Document::default());
            assert!(told.unwrap().contains("alerts.json.unreadable"));
            let aside = directory.path().join("alerts.json.unreadable");
            assert_eq!(fs::read_to_string(aside).unwrap(), text);
        }
        // Nor does one that cannot be put aside keep anything from starting.
        fs::create_dir(path(directory.path())).unwrap();
        assert!(recover(directory.path()).1.unwrap().contains("alerts.json"));
    }

    #[test]
    fn it_is_bounded() {
        let many = vec![Alert::clone(&alert("drift", "")); MOST + 1];
        assert_eq!(Document::new(many, BTreeMap::new()).raised.len(), MOST);
    }
}
