//! Where the tables of a text begin and end, and which comments belong to them. It finds places
//! and cuts or inserts whole lines; what is written there is not its business.
//!
//! A comment directly above a header belongs to that table; a comment directly below a table's
//! last line, with a blank line after it, belongs to the table above. Every other comment stands
//! for itself and outlives the tables around it.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The places of a valid text.
pub(super) struct Layout<'t> {
    pub(super) text: &'t str,
    /// It is TOML, and so what is found here is all there is.
    pub(super) is_whole: bool,
    /// The services are written as one array of inline tables.
    pub(super) inline_services: bool,
    /// In the order of the text.
    pub(super) services: Vec<ServicePlace>,
    /// Every table that has a header, in the order of the text.
    tables: Vec<Table>,
    /// After the values that stand above every header.
    root_end: usize,
}

/// An index into [`Layout::tables`].
pub(super) type TableId = usize;

pub(super) struct ServicePlace {
    pub(super) name: String,
    /// Its own table and those inside it, in the order of the text.
    pub(super) tables: Vec<TableId>,
    pub(super) backends: Vec<BackendForm>,
    /// The backends are written as one array of inline tables.
    pub(super) inline_backends: bool,
    /// Where the values of its own keys stand.
    keys: Vec<(String, Range<usize>)>,
}

/// A backend, in a table of its own or inline.
pub(super) struct BackendForm {
    pub(super) name: String,
    pub(super) weight: Option<Range<usize>>,
    pub(super) address: Option<Range<usize>>,
    table: Option<TableId>,
}

/// Byte offsets of a table's own lines, without those of the tables inside it.
struct Table {
    header: usize,
    /// After its last value, or its header where it has none.
    end: usize,
}

impl<'t> Layout<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let (root, faults) = DeTable::parse_recoverable(text);
        let is_whole = faults.is_empty();
        let root = root.into_inner();
        let mut spans = Spans::default();
        for value in root.values() {
            spans.collect(text, value);
        }
        spans.headers.sort_by_key(|span| span.start);
        spans.headers.dedup();
        let mut tables: Vec<Table> = spans
            .headers
            .iter()
            .map(|header| Table { header: header.start, end: header.end })
            .collect();
        let mut root_end = 0;
        for leaf in &spans.leaves {
            let next = tables.partition_point(|table| table.header <= leaf.start);
            match next.checked_sub(1).and_then(|id| tables.get_mut(id)) {
                Some(table) => table.end = table.end.max(leaf.end),
                None => root_end = root_end.max(leaf.end),
            }
        }
        let (inline_services, services) = (false, Vec::new());
        let mut layout = Self { text, is_whole, inline_services, services, tables, root_end };
        if root_end > 0 {
            layout.root_end = layout.line_end(root_end);
        }
        if let Some(service) = root.get("service") {
            layout.inline_services = !layout.is_array_of_tables(service);
            let entries = service.get_ref().as_array().map(|entries| entries.iter());
            layout.services =
                entries.into_iter().flatten().map(|entry| layout.service_place(entry)).collect();
        }
        layout
    }

    /// The lines of `table` with its comments.
    pub(super) fn chunk(&self, id: TableId) -> Range<usize> {
        let table = &self.tables[id];
        let before = match id.checked_sub(1) {
            Some(previous) => self.line_end(self.tables[previous].end),
            None => self.root_end,
        };
        let mut start = self.line_start(table.header);
        while let Some(above) = self.line_before(start).filter(|above| above.start >= before)
            && is_comment(&self.text[above.clone()])
        {
            start = above.start;
        }
        // Comments that fill all the room between two tables belong to the lower one.
        let limit =
            self.tables.get(id + 1).map_or(self.text.len(), |next| self.line_start(next.header));
        let last_line = self.line_end(table.end);
        let mut end = last_line;
        while end < limit && is_comment(&self.text[end..self.line_end(end)]) {
            end = self.line_end(end);
        }
        if end == limit && limit < self.text.len() {
            end = last_line;
        }
        start..end
    }

    /// Where the lines of `service` end: after the last of its tables.
    pub(super) fn end_of(&self, service: &ServicePlace) -> usize {
        service.tables.last().map_or(self.text.len(), |&last| self.chunk(last).end)
    }

    /// Whether a blank line stands above `table` and its comments.
    pub(super) fn is_spaced(&self, id: TableId) -> bool {
        let above = self.line_before(self.chunk(id).start);
        above.is_some_and(|line| self.text[line].trim().is_empty())
    }

    /// The header of `table`, as an offset.
    pub(super) fn header(&self, id: TableId) -> usize {
        self.tables[id].header
    }

    /// What separates the lines.
    pub(super) fn newline(&self) -> &'static str {
        match self.text.find('\n') {
            Some(at) if self.text[..at].ends_with('\r') => "\r\n",
            _ => "\n",
        }
    }

    /// The white space that the line around `offset` begins with.
    pub(super) fn indent_of(&self, offset: usize) -> &'t str {
        let line = &self.text[self.line_start(offset)..offset];
        &line[..line.len() - line.trim_start().len()]
    }

    /// After the line around `offset`, its line break included.
    pub(super) fn line_end(&self, offset: usize) -> usize {
        self.text[offset..].find('\n').map_or(self.text.len(), |at| offset + at + 1)
    }

    /// The whole lines of what stands at `span`.
    pub(super) fn lines_of(&self, span: &Range<usize>) -> Range<usize> {
        self.line_start(span.start)..self.line_end(span.end)
    }

    /// The text without `ids`; tables that follow each other go together with all between them.
    pub(super) fn without_tables(&self, ids: &[TableId]) -> String {
        let runs = ids.chunk_by(|a, b| a + 1 == *b);
        let mut edited = self.text.to_owned();
        for run in runs.collect::<Vec<_>>().into_iter().rev() {
            let (Some(&first), Some(&last)) = (run.first(), run.last()) else { continue };
            let (mut start, mut end) = (self.chunk(first).start, self.chunk(last).end);
            // One of the two gaps goes too, or they would become one of twice the size.
            let is_blank = |line: &Range<usize>| self.text[line.clone()].trim().is_empty();
            if end == self.text.len() || is_blank(&(end..self.line_end(end))) {
                while let Some(above) = self.line_before(start).filter(is_blank) {
                    start = above.start;
                }
            }
            while start == 0 && end < self.text.len() && is_blank(&(end..self.line_end(end))) {
                end = self.line_end(end);
            }
            edited.replace_range(start..end, "");
        }
        edited
    }

    /// The text with the lines of `block` at `at`, the start of a line or the end of the text;
    /// `spaced`: with a blank line around them.
    pub(super) fn insert_block(&self, at: usize, block: &str, spaced: bool) -> String {
        let newline = self.newline();
        let (before, after) = self.text.split_at(at);
        let mut edited = before.to_owned();
        if !edited.is_empty() && !edited.ends_with('\n') {
            edited.push_str(newline);
        }
        let gap =
            |text: &str| text.is_empty() || text.starts_with('\n') || text.starts_with("\r\n");
        let open = edited.lines().next_back().is_none_or(|line| line.trim().is_empty());
        if spaced && !open {
            edited.push_str(newline);
        }
        edited.push_str(block);
        if spaced && !gap(after) {
            edited.push_str(newline);
        }
        edited.push_str(after);
        edited
    }

    fn service_place(&self, entry: &Spanned<DeValue<'_>>) -> ServicePlace {
        let mut spans = Spans::default();
        spans.collect(self.text, entry);
        let mut tables: Vec<TableId> =
            spans.headers.iter().filter_map(|header| self.table_at(header.start)).collect();
        tables.sort_unstable();
        tables.dedup();
        let backends = entry.get_ref().get("backend");
        let forms = backends.and_then(|backends| backends.get_ref().as_array());
        ServicePlace {
            name: name_of(entry),
            tables,
            backends: forms.into_iter().flatten().map(|form| self.backend_form(form)).collect(),
            keys: entry
                .get_ref()
                .as_table()
                .into_iter()
                .flat_map(|keys| keys.iter())
                .map(|(key, value)| (key.get_ref().to_string(), value.span()))
                .collect(),
            inline_backends: backends.is_some_and(|backends| !self.is_array_of_tables(backends)),
        }
    }

    fn backend_form(&self, entry: &Spanned<DeValue<'_>>) -> BackendForm {
        let span_of = |key: &str| entry.get_ref().get(key).map(Spanned::span);
        BackendForm {
            name: name_of(entry),
            weight: span_of("weight"),
            address: span_of("address"),
            table: self.table_at(entry.span().start),
        }
    }

    fn is_array_of_tables(&self, value: &Spanned<DeValue<'_>>) -> bool {
        value.get_ref().as_array().is_some_and(|entries| !entries.is_empty())
            && self.table_at(value.span().start).is_some()
    }

    fn table_at(&self, header: usize) -> Option<TableId> {
        self.tables.binary_search_by_key(&header, |table| table.header).ok()
    }

    fn line_start(&self, offset: usize) -> usize {
        self.text[..offset].rfind('\n').map_or(0, |at| at + 1)
    }

    /// The line that ends where the one at `start` begins.
    fn line_before(&self, start: usize) -> Option<Range<usize>> {
        let above = start.checked_sub(1)?;
        Some(self.line_start(above)..start)
    }
}

impl ServicePlace {
    /// Where the value of its own key `name` stands.
    pub(super) fn key(&self, name: &str) -> Option<&Range<usize>> {
        self.keys.iter().find(|(key, _)| key == name).map(|(_, span)| span)
    }
}

impl BackendForm {
    /// The table of its own; `None` for an inline one.
    pub(super) fn table(&self) -> Option<TableId> {
        self.table
    }
}

#[derive(Default)]
struct Spans {
    headers: Vec<Range<usize>>,
    leaves: Vec<Range<usize>>,
}

impl Spans {
    fn collect(&mut self, text: &str, value: &Spanned<DeValue<'_>>) {
        let span = value.span();
        match value.get_ref() {
            DeValue::Table(entries) => {
                // A table of dotted keys has no brackets, and its values lie in another's lines.
                let inline = text[span.clone()].starts_with('{');
                if text[span.clone()].starts_with('[') {
                    self.headers.push(span);
                } else {
                    self.leaves.push(span);
                }
                if !inline {
                    entries.values().for_each(|value| self.collect(text, value));
                }
            }
            // An array of tables has the span of its first header.
            DeValue::Array(entries)
                if entries.first().is_some_and(|first| first.span().start == span.start) =>
            {
                entries.iter().for_each(|value| self.collect(text, value));
            }
            _ => self.leaves.push(span),
        }
    }
}

fn name_of(entry: &Spanned<DeValue<'_>>) -> String {
    let name = entry.get_ref().get("name").and_then(|name| name.get_ref().as_str());
    name.unwrap_or_default().to_owned()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}
