//! The lines of a new service or backend, written the way their siblings are: indentation, the
//! place of the equals sign, line endings.

use std::{fmt::Write, ops::Range, time::Duration};

use toml::Value;

use super::{
    BackendSpec, ServiceSpec, health,
    layout::{BackendForm, Layout, ServicePlace, TableId},
};
use crate::config::{
    choices::{Overload, Tier},
    endpoint::shown,
};

/// How siblings are written.
pub(super) struct Style {
    /// A blank line stands between them.
    pub(super) spaced: bool,
    header_indent: String,
    key_indent: String,
    /// The column of the equals signs, from the key's start, where they share one; else 0.
    equals: usize,
    /// A space stands before the equals sign.
    before_equals: bool,
    /// What follows the equals sign.
    after_equals: String,
    /// Weights of 1 are written too.
    weights: bool,
    newline: &'static str,
}

/// A line of a table, `key = value`, in parts.
struct KeyLine<'t> {
    indent: &'t str,
    key: &'t str,
    equals: usize,
    after_equals: &'t str,
}

impl<'t> KeyLine<'t> {
    fn read(line: &'t str) -> Option<Self> {
        let content = line.trim_start();
        let (before, value) = content.split_once('=')?;
        let key = before.trim_end();
        let bare = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        bare.then(|| Self {
            indent: &line[..line.len() - content.len()],
            key,
            equals: before.len(),
            after_equals: &value[..value.len() - value.trim_start().len()],
        })
    }
}

impl Style {
    pub(super) fn of_services(layout: &Layout<'_>) -> Self {
        let last = layout.services.last().and_then(|service| service.tables.first());
        Self { spaced: true, ..Self::of_table(layout, last.copied()) }
    }

    pub(super) fn of_backends(layout: &Layout<'_>, service: &ServicePlace) -> Self {
        let last = service.backends.last();
        let sibling = last.and_then(BackendForm::table);
        let style = Self::of_table(layout, sibling.or(service.tables.first().copied()));
        // The first backend of a service may stand right below its header.
        let below = sibling.or_else(|| service.tables.get(1).copied());
        Self {
            spaced: below.is_some_and(|table| layout.is_spaced(table)),
            weights: last.is_some_and(|backend| backend.weight.is_some()),
            ..style
        }
    }

    fn of_table(layout: &Layout<'_>, table: Option<TableId>) -> Self {
        let mut style = Self {
            spaced: false,
            header_indent: String::new(),
            key_indent: String::new(),
            equals: 0,
            before_equals: true,
            after_equals: " ".to_owned(),
            weights: false,
            newline: layout.newline(),
        };
        let Some(table) = table else { return style };
        let header = layout.header(table);
        layout.indent_of(header).clone_into(&mut style.header_indent);
        style.key_indent.clone_from(&style.header_indent);
        let mut lines = layout.text[layout.line_end(header)..].lines().map(KeyLine::read);
        let (first, second) = (lines.next().flatten(), lines.next().flatten());
        if let Some(first) = &first {
            first.indent.clone_into(&mut style.key_indent);
            first.after_equals.clone_into(&mut style.after_equals);
            style.before_equals = first.equals > first.key.len();
            if second.is_some_and(|second| second.equals == first.equals) {
                style.equals = first.equals;
            }
        }
        style
    }

    pub(super) fn header(&self, out: &mut String, header: &str) {
        out.extend([&self.header_indent, header, self.newline]);
    }

    pub(super) fn key(&self, out: &mut String, key: &str, value: impl Into<Value>) {
        out.extend([&self.key_indent, key]);
        let pad = self.equals.saturating_sub(key.len()).max(usize::from(self.before_equals));
        out.extend(std::iter::repeat_n(' ', pad));
        out.extend(["=", &self.after_equals, &value.into().to_string(), self.newline]);
    }
}

pub(super) fn service(spec: &ServiceSpec, style: &Style) -> String {
    let mut out = String::new();
    style.header(&mut out, "[[service]]");
    style.key(&mut out, "name", spec.name.as_str());
    style.key(&mut out, "address", shown(spec.address));
    style.key(&mut out, "protocol", spec.protocol.to_string());
    style.key(&mut out, "scheduler", spec.scheduler.to_string());
    if let Some(size) = spec.table_size {
        style.key(&mut out, "table_size", i64::from(size));
    }
    style.key(&mut out, "forwarding", spec.forwarding.to_string());
    if !spec.snat {
        style.key(&mut out, "snat", false);
    }
    if let Some(port) = spec.gue_port {
        style.key(&mut out, "gue_port", i64::from(port));
    }
    if let Some(sticky) = spec.sticky {
        style.key(&mut out, "sticky", human(sticky));
    }
    if spec.overload != Overload::default() {
        style.key(&mut out, "overload", spec.overload.to_string());
    }
    health::write(&mut out, &spec.health, style);
    out
}

pub(super) fn backend(spec: &BackendSpec, style: &Style) -> String {
    let mut out = String::new();
    style.header(&mut out, "[[service.backend]]");
    style.key(&mut out, "name", spec.name.as_str());
    style.key(&mut out, "address", shown(spec.address));
    if style.weights || spec.weight != 1 {
        style.key(&mut out, "weight", i64::from(spec.weight));
    }
    if spec.tier != Tier::default() {
        style.key(&mut out, "tier", spec.tier.to_string());
    }
    if let Some(most) = spec.max_connections {
        style.key(&mut out, "max_connections", i64::from(most));
    }
    out
}

/// Where a weight goes that is not written yet, and what goes there: a line of its own after the
/// address, or the next entry of an inline table.
pub(super) fn weight_after(
    layout: &Layout<'_>,
    backend: &BackendForm,
    weight: u16,
) -> (usize, String) {
    let address = backend.address.as_ref().map_or(0, |span| span.end);
    let mut entry = String::new();
    let Some(table) = backend.table() else {
        // Writing to a string does not fail.
        let _ = write!(entry, ", weight = {weight}");
        return (address, entry);
    };
    let style = Style::of_table(layout, Some(table));
    let at = layout.line_end(address);
    if !layout.text[..at].ends_with('\n') {
        entry.push_str(style.newline);
    }
    style.key(&mut entry, "weight", i64::from(weight));
    (at, entry)
}

/// Gives a key of a service's own another value: the range to replace, and by what. A key that is not
/// written yet gets a line after the address.
pub(super) fn choice(
    layout: &Layout<'_>,
    service: &ServicePlace,
    key: &str,
    value: impl Into<Value>,
) -> (Range<usize>, String) {
    if let Some(span) = service.key(key) {
        return (span.clone(), value.into().to_string());
    }
    let after = service.key("scheduler").or(service.key("address"));
    let at = layout.line_end(after.map_or(0, |span| span.end));
    let mut line = String::new();
    let style = Style::of_table(layout, service.tables.first().copied());
    if !layout.text[..at].ends_with('\n') {
        line.push_str(style.newline);
    }
    style.key(&mut line, key, value);
    (at..at, line)
}

pub(super) fn human(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
