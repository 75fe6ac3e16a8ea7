//! `allow`, `deny`, `allow_file` and `deny_file`: lists of prefixes, in the text and in files of their
//! own. What two lists must not have in common is for the rules to say.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    ops::Range,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    Section,
    section::MOST_SAID,
    values::{self, Problem},
};
use crate::config::{
    diagnostic::{Position, Sink},
    prefix::{Prefix, PrefixLists},
};

/// Bytes of a file of prefixes: far more than any table holds.
const LONGEST_FILE: u64 = 64 << 20;

/// The lists of the node or of a service.
pub(in crate::config) struct RawPrefixes {
    /// Sorted, without duplicates.
    pub(in crate::config) allow: Vec<Entry>,
    /// Sorted, without duplicates.
    pub(in crate::config) deny: Vec<Entry>,
    /// What follows a key's name in a message.
    pub(in crate::config) subject: String,
    /// The first of the keys, for what is said about all of them.
    pub(in crate::config) span: Range<usize>,
    /// How many prefixes there are, also where there is no room to keep them.
    pub(in crate::config) count: usize,
    /// The key that asks for an allow list.
    pub(in crate::config) allow_key: Option<Range<usize>>,
    /// Whether every prefix was read and kept.
    pub(in crate::config) whole: bool,
}

/// A prefix and where it stands.
#[derive(Clone)]
pub(in crate::config) struct Entry {
    pub(in crate::config) prefix: Prefix,
    pub(in crate::config) place: Place,
}

/// Where a prefix stands.
#[derive(Clone)]
pub(in crate::config) enum Place {
    /// In the configuration.
    Text(Range<usize>),
    /// On this line of a file.
    File(Rc<Path>, u32),
}

/// Reads files of prefixes, each once.
pub(in crate::config) struct PrefixFiles<'p> {
    /// The folder that relative paths start from; `None`: files are not read.
    folder: Option<&'p Path>,
    known: BTreeMap<PathBuf, Option<Rc<[Entry]>>>,
    digests: BTreeMap<PathBuf, u64>,
    /// Prefixes that may still be kept.
    room: usize,
}

impl<'p> PrefixFiles<'p> {
    pub(in crate::config) fn new(folder: Option<&'p Path>) -> Self {
        Self { folder, known: BTreeMap::new(), digests: BTreeMap::new(), room: 0 }
    }

    /// The folder that relative paths start from; `None` where files are not looked at.
    pub(super) const fn folder(&self) -> Option<&'p Path> {
        self.folder
    }

    /// Lets `room` prefixes be kept.
    pub(super) fn set_room(&mut self, room: u32) {
        self.room = usize::try_from(room).unwrap_or(usize::MAX);
    }

    /// A digest of the contents of every file that was read.
    pub(in crate::config) fn into_digests(self) -> BTreeMap<PathBuf, u64> {
        self.digests
    }

    /// The lists of `section`.
    pub(super) fn decode(
        &mut self,
        sink: &mut Sink<'_, '_>,
        section: &Section<'_, '_>,
    ) -> RawPrefixes {
        let keys = ["allow", "allow_file", "deny", "deny_file"];
        let mut there = keys.into_iter().filter(|key| section.has(key));
        let mut lists = RawPrefixes {
            allow: Vec::new(),
            deny: Vec::new(),
            subject: section.subject().to_owned(),
            span: there.clone().next().map_or(section.span.clone(), |key| section.span_of(key)),
            count: 0,
            allow_key: there.find(|key| key.starts_with("allow")).map(|key| section.span_of(key)),
            whole: true,
        };
        for (list, file) in [("allow", "allow_file"), ("deny", "deny_file")] {
            let merged = self.merge(sink, section, list, file, &mut lists);
            if list == "allow" { lists.allow = merged } else { lists.deny = merged }
        }
        lists
    }

    fn merge(
        &mut self,
        sink: &mut Sink<'_, '_>,
        section: &Section<'_, '_>,
        key: &'static str,
        file_key: &'static str,
        lists: &mut RawPrefixes,
    ) -> Vec<Entry> {
        let before = sink.errors();
        let inline = section.list(sink, key, values::prefix).unwrap_or_default();
        let file = self.file(sink, section, file_key);
        lists.whole &= sink.errors() == before && (file.is_some() || !section.has(file_key));
        let file = file.unwrap_or_default();
        let count = inline.len() + file.len();
        if self.room == 0 && count > 0 {
            lists.count += count;
            lists.whole = false;
            return Vec::new();
        }
        let inline = inline
            .into_iter()
            .map(|prefix| Entry { place: Place::Text(prefix.span()), prefix: prefix.into_inner() });
        let mut merged: Vec<Entry> = inline.chain(file.iter().cloned()).collect();
        // Stable, so that of two the first stays.
        merged.sort_by_key(|entry| entry.prefix);
        merged.dedup_by_key(|entry| entry.prefix);
        lists.count += merged.len();
        self.room = self.room.saturating_sub(merged.len());
        merged
    }

    /// The prefixes of the file that `key` names; `None` where there is none or it is not valid.
    fn file(
        &mut self,
        sink: &mut Sink<'_, '_>,
        section: &Section<'_, '_>,
        key: &'static str,
    ) -> Option<Rc<[Entry]>> {
        let path = section.value(sink, key, file_name)?;
        let path = self.folder?.join(path.into_inner());
        if let Some(known) = self.known.get(&path) {
            return known.clone();
        }
        let span = section.span_of(key);
        let found = match read(&path) {
            Ok(text) => {
                let mut hasher = DefaultHasher::new();
                text.hash(&mut hasher);
                self.digests.insert(path.clone(), hasher.finish());
                let what = format!("{key} {}", section.subject());
                entries(sink, &path, &String::from_utf8_lossy(&text), &what)
            }
            Err(error) => {
                let message = format!(
                    "{key} {} is {}, which cannot be read: {error}",
                    section.subject(),
                    path.display()
                );
                let remedy = "create it with one prefix a line, or correct the path, which is \
                              relative to the configuration's folder";
                sink.error(&span, message, remedy);
                None
            }
        };
        self.known.insert(path, found.clone());
        found
    }
}

impl RawPrefixes {
    pub(super) fn into_lists(self) -> PrefixLists {
        let plain = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.prefix).collect();
        PrefixLists { allow: plain(self.allow), deny: plain(self.deny) }
    }
}

fn file_name(value: &toml::de::DeValue<'_>) -> Result<PathBuf, Problem> {
    match values::string(value)? {
        "" => Err(Problem::new("is empty", "name a file with one prefix a line, or remove it")),
        path => Ok(path.into()),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let found = fs::metadata(path)?;
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if found.len() > LONGEST_FILE {
        return Err(io::Error::other("it has more than 64 MiB"));
    }
    fs::read(path)
}

/// The prefixes of a file's text: one a line, `#` begins a comment.
fn entries(sink: &mut Sink<'_, '_>, path: &Path, text: &str, what: &str) -> Option<Rc<[Entry]>> {
    let file: Rc<Path> = path.into();
    let mut entries = Vec::new();
    let mut wrong = 0;
    for (number, line) in (1..).zip(text.lines()) {
        let content = line.split('#').next().unwrap_or_default();
        let word = content.trim();
        if word.is_empty() {
            continue;
        }
        match word.parse::<Prefix>() {
            Ok(prefix) => {
                let line = u32::try_from(number).unwrap_or(u32::MAX);
                entries.push(Entry { prefix, place: Place::File(Rc::clone(&file), line) });
            }
            Err(error) => {
                wrong += 1;
                if wrong <= MOST_SAID {
                    let (says, remedy) = error.told(word);
                    let indent = content.chars().take_while(|c| c.is_whitespace()).count();
                    let position = Position { line: number, column: indent + 1 };
                    sink.error_in(path, position, format!("a line of {what} {says}"), remedy);
                }
            }
        }
    }
    if wrong > MOST_SAID {
        let position = Position { line: text.lines().count(), column: 1 };
        let message = format!("{} more lines of {what} are wrong", wrong - MOST_SAID);
        sink.error_in(path, position, message, "correct those above first");
    }
    (wrong == 0).then(|| entries.into())
}
