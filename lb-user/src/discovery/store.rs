//! What the sources said last, in the state directory: a daemon that starts while nobody answers has its backends.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{error, warn};

use super::{Book, Found};
use crate::{
    config::{Config, DiscoverySource},
    document,
};

const VERSION: u32 = 1;
/// How soon a write that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    sources: Vec<Known>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    service: String,
    source: DiscoverySource,
    answered: SystemTime,
    found: Vec<Found>,
}

/// Where it is kept.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("discovered.json")
}

/// What is kept of the sources of a configuration. A file that cannot be understood is put aside, and told.
#[must_use]
pub fn recover(state_dir: &Path, config: &Config) -> (Book, Option<String>) {
    let path = path(state_dir);
    let mut book = Book::default();
    match document::read::<Document>(&path, "a list of discovered backends", VERSION) {
        Ok(document) => {
            for Known { service, source, answered, found } in document.unwrap_or_default().sources {
                if config.service(&service).is_some_and(|known| known.discover.contains(&source)) {
                    book.recall((service, source), found, answered);
                }
            }
            (book, None)
        }
        Err(error) => {
            let aside = document::put_aside(&path);
            let then = aside.map_or_else(
                |error| format!("and stays there: {error}"),
                |aside| format!("and is {} now", aside.display()),
            );
            (
                book,
                Some(format!(
                    "what was discovered is not known any more: {error:#}; the file {then}"
                )),
            )
        }
    }
}

/// Writes what changes, beside whoever changes it: the newest is what counts.
pub struct Keeper {
    newest: watch::Sender<Option<Document>>,
    path: PathBuf,
}

impl Keeper {
    /// Must be called within a tokio runtime.
    #[must_use]
    pub fn start(state_dir: &Path) -> Self {
        let (newest, mut changes) = watch::channel(None);
        let path = path(state_dir);
        let to = path.clone();
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                loop {
                    let newest = changes.borrow_and_update().clone();
                    let Err(error) = write(&to, newest).await else { break };
                    warn!("what was discovered is not noted yet: {error:#}");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        });
        Self { newest, path }
    }

    /// Has this written.
    pub fn keep(&self, book: &Book) {
        self.newest.send_replace(Some(document_of(book)));
    }

    /// Writes it here and now, if anything changed in this daemon's life.
    pub fn finish(&self) {
        let newest = self.newest.borrow().clone();
        if let Some(newest) = newest
            && let Err(error) = document::write(&self.path, VERSION, &newest)
        {
            error!("what was discovered is not noted: {error:#}");
        }
    }
}

async fn write(path: &Path, document: Option<Document>) -> anyhow::Result<()> {
    let (path, Some(document)) = (path.to_owned(), document) else { return Ok(()) };
    tokio::task::spawn_blocking(move || document::write(&path, VERSION, &document)).await?
}

fn document_of(book: &Book) -> Document {
    let known = book.iter().filter_map(|((service, source), entry)| {
        Some(Known {
            service: service.clone(),
            source: source.clone(),
            answered: entry.answered?,
            found: entry.found.clone(),
        })
    });
    Document { sources: known.collect() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Offer;

    #[test]
    fn what_was_said_last_is_known_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let text = "[node]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\n\
                    address = \"192.0.2.10:80\"\ndiscover = \"dns:web.internal:80\"\n";
        let config = Config::parse(text, Path::new("evenkeel.toml")).unwrap().config;
        assert_eq!(recover(directory.path(), &config), (Book::default(), None));
        let (mut book, at) = (Book::default(), SystemTime::UNIX_EPOCH);
        let found = vec![
            Found { offer: Offer::Draining, ..Found::at("10.0.0.1:80".parse().unwrap()) },
            Found { name: Some("web-2".into()), ..Found::at("10.0.0.2:80".parse().unwrap()) },
        ];
        book.recall(("web".into(), "dns:web.internal:80".parse().unwrap()), found.clone(), at);
        let whole = book.clone();
        book.recall(("web".into(), "dns:gone.internal:80".parse().unwrap()), found, at);
        document::write(&path(directory.path()), VERSION, &document_of(&book)).unwrap();
        let (known, trouble) = recover(directory.path(), &config);
        assert_eq!((known, trouble), (whole, None), "but not of sources that nobody asks any more");
        fs::write(path(directory.path()), "{").unwrap();
        let (known, trouble) = recover(directory.path(), &config);
        assert_eq!(known, Book::default());
        assert!(trouble.unwrap().contains("unreadable"));
    }
}
