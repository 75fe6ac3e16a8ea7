//! What a table of the text may hold, key by key, with what the reference says of each. It is one
//! table, so that a key cannot be read without being described: see [`super::super::reference`].

use std::time::Duration;

use crate::config::choices::Named;

/// What a table may hold.
pub(in crate::config) struct Shape {
    /// How the text opens it.
    pub(in crate::config) header: &'static str,
    /// The keys that it may have.
    pub(in crate::config) keys: &'static [Key],
    /// Keys of the design that this version does not have yet.
    pub(in crate::config) later: &'static [&'static str],
}

/// A key of a table.
pub(in crate::config) struct Key {
    pub(in crate::config) name: &'static str,
    /// What may be written.
    pub(in crate::config) form: Form,
    /// What holds where it is not written.
    pub(in crate::config) absent: Absent,
    /// What it is for, in Markdown, without a full stop.
    pub(in crate::config) meaning: &'static str,
}

/// What may be written as a value.
#[derive(Clone, Copy)]
pub(in crate::config) enum Form {
    /// `[header]`.
    Table(&'static Shape),
    /// `[[header]]`, any number of times.
    Tables(&'static Shape),
    /// One of these names, in quotes.
    Choice(fn() -> Vec<&'static str>),
    /// `true` or `false`.
    Boolean,
    /// A whole number, with the least and the most.
    Integer(u32, u32),
    /// A number with or without a point, with the least and the most.
    Decimal(f64, f64),
    /// A duration in quotes, with the shortest and the longest.
    Duration(Duration, Duration),
    /// What these words say, in Markdown.
    Words(&'static str),
}

/// What holds where a key is not written.
#[derive(Clone, Copy)]
pub(in crate::config) enum Absent {
    /// It has to be written.
    Refused,
    /// The same as if this were written, in TOML.
    Is(&'static str),
    /// What no value says, in Markdown.
    Means(&'static str),
}

/// A key with all that the reference says of it.
pub(super) const fn key(
    name: &'static str,
    form: Form,
    absent: Absent,
    meaning: &'static str,
) -> Key {
    Key { name, form, absent, meaning }
}

/// The names of the choice `T`.
pub(super) fn names<T: Named>() -> Vec<&'static str> {
    T::NAMES.iter().map(|(name, _)| *name).collect()
}

impl Shape {
    /// The names of the keys.
    pub(in crate::config) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }
}
