//! What is under the prefix: the keys, their values, and whether these may be taken. Pure.
//!
//! Three keys are written in one transaction, always all three, so that they have the same revision. Where they
//! have not, somebody else wrote or deleted one: nobody has verified that, and no edge takes it.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::{
    admin::{Exception, Key},
    api::Peer,
    config::edit::{services_of, why_not_services},
};

/// The format of the documents.
const VERSION: u32 = 1;

/// The keys under a prefix.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

/// The modification revisions of the three keys; 0: it is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bases {
    /// Of the services.
    pub services: i64,
    /// Of the exceptions.
    pub exceptions: i64,
    /// Of the record of the last change.
    pub change: i64,
}

/// Who changed what, written with every change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The format.
    version: u32,
    /// Tells this change from every other one.
    pub id: String,
    /// The edge that wrote it.
    pub edge: String,
    /// Who asked there.
    pub by: Peer,
    /// What changes, for people.
    pub what: String,
    /// When, by the clock of that edge.
    pub at: SystemTime,
    /// Backends whose open connections every edge cuts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<Key>,
    /// Until when it has to be confirmed; `None`: it needs not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<Unconfirmed>,
}

/// A change that is taken back unless somebody confirms it, on whichever edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unconfirmed {
    /// When it is taken back.
    pub until: SystemTime,
    /// The services before it, as TOML.
    pub previous: String,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    exceptions: Vec<Exception>,
}

/// What is under the prefix at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Which etcd it is.
    pub cluster: u64,
    /// The revisions of the keys.
    pub bases: Bases,
    /// The services, as TOML.
    pub services: String,
    /// Who is taken out.
    pub exceptions: Vec<Exception>,
    /// The last change; `None`: there was none yet.
    pub change: Option<Record>,
    /// Why it is not to be taken; `None`: it may be.
    pub problem: Option<String>,
}

/// A value with its modification revision.
pub(super) type Found<'a> = Option<(i64, &'a [u8])>;

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// What all of them begin with.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}/", self.prefix)
    }

    /// The services.
    #[must_use]
    pub fn services(&self) -> String {
        format!("{}/services", self.prefix)
    }

    /// Who is taken out.
    #[must_use]
    pub fn exceptions(&self) -> String {
        format!("{}/exceptions", self.prefix)
    }

    /// The last change.
    #[must_use]
    pub fn change(&self) -> String {
        format!("{}/change", self.prefix)
    }

    /// What an edge tells of itself.
    #[must_use]
    pub fn edge(&self, name: &str) -> String {
        format!("{}/edges/{name}", self.prefix)
    }

    /// That an edge is there.
    #[must_use]
    pub fn alive(&self, name: &str) -> String {
        format!("{}/alive/{name}", self.prefix)
    }

    /// The edge whose report `key` is.
    pub(super) fn edge_of<'k>(&self, key: &'k str) -> Option<&'k str> {
        key.strip_prefix(&self.prefix)?.strip_prefix("/edges/")
    }

    /// The edge that `key` says is there.
    pub(super) fn alive_of<'k>(&self, key: &'k str) -> Option<&'k str> {
        key.strip_prefix(&self.prefix)?.strip_prefix("/alive/")
    }
}

impl Record {
    /// A change that is made now.
    #[must_use]
    pub fn new(edge: &str, by: Peer, what: String, at: SystemTime, cut: Vec<Key>) -> Self {
        let id = format!("{edge}-{:016x}", fastrand::u64(..));
        Self { version: VERSION, id, edge: edge.to_owned(), by, what, at, cut, unconfirmed: None }
    }
}

/// The exceptions as they are written.
pub(super) fn exceptions_text(exceptions: &[Exception]) -> String {
    let document = Document { version: VERSION, exceptions: exceptions.to_vec() };
    // Names, times and texts: JSON can say them all.
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

/// A record as it is written.
pub(super) fn record_text(record: &Record) -> String {
    serde_json::to_string_pretty(record).unwrap_or_default() + "\n"
}

impl Snapshot {
    /// Whether nothing was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bases == Bases::default()
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> i64 {
        let Bases { services, exceptions, change } = self.bases;
        services.max(exceptions).max(change)
    }

    /// Understands what was found.
    pub(super) fn read(
        cluster: u64,
        keys: &Keys,
        services: Found<'_>,
        exceptions: Found<'_>,
        change: Found<'_>,
    ) -> Self {
        let revision = |found: Found<'_>| found.map_or(0, |(revision, _)| revision);
        let bases = Bases {
            services: revision(services),
            exceptions: revision(exceptions),
            change: revision(change),
        };
        let mut snapshot = Self { cluster, bases, ..Self::default() };
        if snapshot.is_empty() {
            return snapshot;
        }
        let mut problem = foreign(keys, &bases);
        let mut note = |found: Result<(), String>| {
            if let Err(found) = found {
                problem.get_or_insert(found);
            }
        };
        note(text(&keys.services(), services).and_then(|text| {
            let at = keys.services();
            text.clone_into(&mut snapshot.services);
            if let Some(why) = why_not_services(text) {
                return Err(format!("the value of {at} is invalid: {why}"));
            }
            // What was put by hand may have other blank lines.
            snapshot.services = services_of(text).map_err(|error| format!("{at}: {error}"))?;
            Ok(())
        }));
        note(json::<Document>(&keys.exceptions(), exceptions).map(|document| {
            snapshot.exceptions = document.map(|found| found.exceptions).unwrap_or_default();
        }));
        note(json(&keys.change(), change).map(|record| snapshot.change = record));
        snapshot.problem = problem;
        snapshot
    }
}

/// Why the keys are not of one transaction of ours.
fn foreign(keys: &Keys, bases: &Bases) -> Option<String> {
    let all = [
        (keys.services(), bases.services),
        (keys.exceptions(), bases.exceptions),
        (keys.change(), bases.change),
    ];
    if let Some((key, _)) = all.iter().find(|(_, revision)| *revision == 0) {
        return Some(format!("{key} is gone: somebody deleted it"));
    }
    let newest = all.iter().map(|(_, revision)| *revision).max().unwrap_or_default();
    let oldest = all.iter().map(|(_, revision)| *revision).min().unwrap_or_default();
    let (key, _) = all.iter().find(|(_, revision)| *revision == newest && newest != oldest)?;
    Some(format!("{key} was written by hand (revision {newest}), and nobody has verified it"))
}

fn text<'a>(key: &str, found: Found<'a>) -> Result<&'a str, String> {
    let (_, value) = found.unwrap_or((0, b""));
    std::str::from_utf8(value).map_err(|_| format!("the value of {key} is not UTF-8 text"))
}

/// What a document says; `None`: it is not there.
fn json<T: for<'de> Deserialize<'de>>(key: &str, found: Found<'_>) -> Result<Option<T>, String> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    if found.is_none() {
        return Ok(None);
    }
    let text = text(key, found)?;
    let wrong = |error| format!("the value of {key} is invalid: {error}");
    let Versioned { version } = serde_json::from_str(text).map_err(wrong)?;
    if version != VERSION {
        return Err(format!(
            "the value of {key} is of version {version}, and this edge knows version {VERSION}: \
             upgrade it"
        ));
    }
    serde_json::from_str(text).map(Some).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::AdminState;

    const SERVICES: &[u8] = b"[[service]]\nname = \"web\"\naddress = \"192.0.2.10:80\"\n";

    fn keys() -> Keys {
        Keys::new("/lb")
    }

    fn record() -> Record {
        let (at, by) = (SystemTime::UNIX_EPOCH, Peer::of(0));
        Record::new("edge-1", by, "service web added".into(), at, Vec::new())
    }

    fn read(services: Found<'_>, exceptions: Found<'_>, change: Found<'_>) -> Snapshot {
        Snapshot::read(7, &keys(), services, exceptions, change)
    }

    #[test]
    fn what_is_written_is_read() {
        let exception = Exception {
            service: "web".into(),
            backend: "a".into(),
            state: AdminState::Drain,
            since: SystemTime::UNIX_EPOCH,
            until: None,
            reason: "a new disk".into(),
            by: Peer::of(0),
            discovered: false,
        };
        let (list, record) = (vec![exception], record());
        let (exceptions, change) = (exceptions_text(&list), record_text(&record));
        let found = |value| Some((9, value));
        let snapshot =
            read(found(SERVICES), found(exceptions.as_bytes()), found(change.as_bytes()));
        assert_eq!(snapshot.problem, None);
        assert_eq!((snapshot.revision(), snapshot.cluster), (9, 7));
        assert_eq!(snapshot.services.as_bytes(), SERVICES);
        assert_eq!((snapshot.exceptions, snapshot.change), (list, Some(record)));
        assert!(read(None, None, None).is_empty());
    }

    #[test]
    fn what_is_not_of_one_transaction_is_not_taken() {
        let (none, change) = (exceptions_text(&[]), record_text(&record()));
        let (none, change) = (none.as_bytes(), change.as_bytes());
        let problem = |services, exceptions, change| {
            read(services, exceptions, change).problem.unwrap_or_default()
        };
        let at = |revision, value| Some((revision, value));
        for (found, says) in [
            (
                problem(at(10, SERVICES), at(9, none), at(9, change)),
                "/lb/services was written by hand",
            ),
            (problem(at(9, SERVICES), at(10, none), at(9, change)), "/lb/exceptions was written"),
            (problem(None, at(9, none), at(9, change)), "/lb/services is gone"),
            (problem(at(9, SERVICES), None, at(9, change)), "/lb/exceptions is gone"),
            (problem(at(9, SERVICES), at(9, none), None), "/lb/change is gone"),
            (problem(at(9, b"[node]"), at(9, none), at(9, change)), "each edge's own"),
            (problem(at(9, b"[[service"), at(9, none), at(9, change)), "no TOML"),
            (problem(at(9, b"\xff"), at(9, none), at(9, change)), "not UTF-8"),
            (problem(at(9, SERVICES), at(9, b"{"), at(9, change)), "/lb/exceptions is invalid"),
            (problem(at(9, SERVICES), at(9, none), at(9, b"{\"version\": 2}")), "upgrade it"),
        ] {
            assert!(found.contains(says), "{found}");
        }
    }

    #[test]
    fn keys_are_told_apart() {
        let keys = keys();
        assert_eq!(keys.edge_of(&keys.edge("edge-1")), Some("edge-1"));
        assert_eq!(keys.alive_of(&keys.alive("edge-1")), Some("edge-1"));
        assert_eq!(keys.edge_of(&keys.services()), None);
        assert_eq!(keys.edge_of("/lbx/edges/edge-1"), None);
        assert!([keys.services(), keys.edge("a")].iter().all(|key| key.starts_with(&keys.all())));
    }
}
