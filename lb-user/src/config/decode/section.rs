//! One table of the text and its keys: which are known, which are missing, and where each value
//! stands. It knows no key by name.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    shape::Shape,
    values::{Problem, expected, nearest},
};
use crate::config::diagnostic::Sink;

/// Wrong entries of one list that are told one by one.
pub(in crate::config) const MOST_SAID: usize = 20;

/// A table that is being read.
pub(super) struct Section<'a, 'i> {
    entries: &'a DeTable<'i>,
    /// The header.
    pub(super) span: Range<usize>,
    header: &'static str,
    /// What follows a key's name in a message: `in [node]`, `of backend "web-01"`.
    subject: String,
}

impl<'a, 'i> Section<'a, 'i> {
    /// Opens `value` as a table and reports every key that `shape` does not know.
    pub(super) fn open(
        sink: &mut Sink<'_, '_>,
        value: &'a Spanned<DeValue<'i>>,
        shape: &Shape,
        subject: Option<String>,
    ) -> Option<Self> {
        let span = value.span();
        let Some(entries) = value.get_ref().as_table() else {
            let found = value.get_ref().type_str();
            let message = format!("{} must be a table, not {}", shape.header, article(found));
            sink.error(&span, message, format!("write it as {}", shape.header));
            return None;
        };
        for key in entries.keys() {
            let name = key.get_ref().as_ref();
            if shape.later.contains(&name) {
                let message =
                    format!("{name} in {} is not available yet in this version", shape.header);
                sink.error(&key.span(), message, "remove it");
            } else if !shape.names().any(|known| known == name) {
                let message = format!("unknown key {name:?} in {}", shape.header);
                let remedy = nearest(name, shape.names()).map_or_else(
                    || {
                        format!(
                            "the known keys are {}",
                            shape.names().collect::<Vec<_>>().join(", ")
                        )
                    },
                    |known| format!("did you mean {known:?}?"),
                );
                sink.error(&key.span(), message, remedy);
            }
        }
        let subject = subject.unwrap_or_else(|| format!("in {}", shape.header));
        Some(Self { entries, span, header: shape.header, subject })
    }

    /// What follows a key's name in a message.
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Reports a missing `key`; says whether it is there.
    pub(super) fn require(&self, sink: &mut Sink<'_, '_>, key: &str, remedy: &str) -> bool {
        let there = self.has(key);
        if !there {
            let of = if self.subject.starts_with("in ") {
                self.header.to_owned()
            } else {
                format!("{} ({})", self.header, self.subject.trim_start_matches("of "))
            };
            sink.error(&self.span, format!("{of} has no {key}"), remedy);
        }
        there
    }

    /// Where the value of `key` stands, or else the header.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.entries.get(key).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// The value of `key`, if it is there and `convert` takes it.
    pub(super) fn value<T>(
        &self,
        sink: &mut Sink<'_, '_>,
        key: &str,
        convert: impl FnOnce(&DeValue<'i>) -> Result<T, Problem>,
    ) -> Option<Spanned<T>> {
        let value = self.entries.get(key)?;
        match convert(value.get_ref()) {
            Ok(converted) => Some(Spanned::new(value.span(), converted)),
            Err(problem) => {
                let message = format!("{key} {} {}", self.subject, problem.says);
                sink.error(&value.span(), message, problem.remedy);
                None
            }
        }
    }

    /// The value of `key`, if it is there and `convert` takes it; what is wrong with it is told by whoever
    /// decodes it.
    pub(super) fn reads<T>(
        &self,
        key: &str,
        convert: impl FnOnce(&DeValue<'i>) -> Result<T, Problem>,
    ) -> Option<T> {
        convert(self.entries.get(key)?.get_ref()).ok()
    }

    /// Like [`Self::value`], with a default for a value that is missing or wrong.
    pub(super) fn value_or<T>(
        &self,
        sink: &mut Sink<'_, '_>,
        key: &str,
        convert: impl FnOnce(&DeValue<'i>) -> Result<T, Problem>,
        default: T,
    ) -> T {
        self.value(sink, key, convert).map_or(default, Spanned::into_inner)
    }

    /// The entries of the list `key` that `convert` takes.
    pub(super) fn list<T>(
        &self,
        sink: &mut Sink<'_, '_>,
        key: &str,
        convert: impl Fn(&DeValue<'i>) -> Result<T, Problem>,
    ) -> Option<Vec<Spanned<T>>> {
        let value = self.entries.get(key)?;
        let Some(entries) = value.get_ref().as_array() else {
            let problem = expected(value.get_ref(), "a list", "put it in brackets: [\"…\"]");
            sink.error(
                &value.span(),
                format!("{key} {} {}", self.subject, problem.says),
                problem.remedy,
            );
            return None;
        };
        let mut taken = Vec::with_capacity(entries.len());
        let mut wrong = 0;
        for entry in entries {
            match convert(entry.get_ref()) {
                Ok(converted) => taken.push(Spanned::new(entry.span(), converted)),
                Err(problem) => {
                    wrong += 1;
                    if wrong > MOST_SAID {
                        continue;
                    }
                    let message = format!("an entry of {key} {} {}", self.subject, problem.says);
                    sink.error(&entry.span(), message, problem.remedy);
                }
            }
        }
        if wrong > MOST_SAID {
            let message =
                format!("{} more entries of {key} {} are wrong", wrong - MOST_SAID, self.subject);
            sink.error(&value.span(), message, "correct the others first");
        }
        Some(taken)
    }

    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        let list = self.entries.get(key).and_then(|value| value.get_ref().as_array());
        list.is_some_and(|list| list.is_empty())
    }

    /// The table `key`, if it is there and is one.
    pub(super) fn table(
        &self,
        sink: &mut Sink<'_, '_>,
        key: &str,
        shape: &Shape,
        subject: Option<String>,
    ) -> Option<Section<'a, 'i>> {
        Section::open(sink, self.entries.get(key)?, shape, subject)
    }

    /// The tables of the list `key`. `subject` makes what follows a key's name in messages out of
    /// the table's own name, where it has one.
    pub(super) fn tables(
        &self,
        sink: &mut Sink<'_, '_>,
        key: &str,
        shape: &Shape,
        subject: impl Fn(&str) -> String,
    ) -> Vec<Section<'a, 'i>> {
        let Some(value) = self.entries.get(key) else { return Vec::new() };
        let Some(entries) = value.get_ref().as_array() else {
            let message = format!("{key} {} must be a list of tables", self.subject);
            let remedy = format!("write each as {}, in double brackets", shape.header);
            sink.error(&value.span(), message, remedy);
            return Vec::new();
        };
        let open = |entry: &'a Spanned<DeValue<'i>>| {
            let name = entry.get_ref().get("name").and_then(|name| name.get_ref().as_str());
            Section::open(sink, entry, shape, name.map(&subject))
        };
        entries.iter().filter_map(open).collect()
    }
}

fn article(noun: &str) -> String {
    let an = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {noun}", if an { "an" } else { "a" })
}
