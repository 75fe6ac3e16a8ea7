//! Printing: tables that line up, numbers that read well, colours on a terminal alone.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
};

use anyhow::{Context as _, Result};
use comfy_table::{Cell, CellAlignment, Color, Table, presets::NOTHING};
use serde::Serialize;

use crate::overview::Mood;
pub use crate::overview::span;

/// Whether the user lets us colour at all (<https://no-color.org>).
pub fn may_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether what goes to standard output is coloured.
pub fn coloured() -> bool {
    io::stdout().is_terminal() && may_colour()
}

/// Prints a value as JSON, alone.
pub fn json(value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&text)
}

/// Prints a value as JSON on one line, alone there.
pub fn json_line(value: &impl Serialize) -> Result<()> {
    print(&(serde_json::to_string(value)? + "\n"))
}

/// Prints text as it is.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to standard output")
}

/// Starts a table with these heads; those that begin with `>` are over columns of numbers.
pub fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    if !coloured() {
        table.force_no_tty();
    }
    table.set_header(heads.iter().map(|head| Cell::new(head.trim_start_matches('>'))));
    for (column, head) in table.column_iter_mut().zip(heads) {
        column.set_padding((0, 2));
        if head.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A table's text, without the blanks that end its lines.
pub fn rendered(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A cell that is good or bad news.
pub fn tinted(text: impl Display, good: bool) -> Cell {
    let cell = Cell::new(format_args!("{text}"));
    if coloured() { cell.fg(if good { Color::Green } else { Color::Red }) } else { cell }
}

/// Text in the colour of what it tells, where colours are shown.
pub fn painted(text: &str, mood: Mood) -> String {
    if !coloured() {
        return text.to_owned();
    }
    let colour = match mood {
        Mood::Well => 32,
        Mood::Aside => 36,
        Mood::Uneasy => 33,
        Mood::Bad => 31,
    };
    format!("\x1b[{colour}m{text}\x1b[m")
}

/// A count with its thousands apart.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things.
pub fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Bytes in the unit that suits them.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let mut value = number as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A part of a whole, in percent.
pub fn percent(part: f64) -> String {
    format!("{:.1}%", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "backend"), "1 backend");
        assert_eq!(counted(0, "backend"), "0 backends");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(104_857_600), "100.0 MiB");
        assert_eq!(span(0), "0s");
        assert_eq!(span(59), "59s");
        assert_eq!(span(3_600), "1h");
        assert_eq!(span(90_061), "1d 1h");
        assert_eq!(percent(1.0 / 3.0), "33.3%");
    }

    #[test]
    fn tables_line_up() {
        let mut table = table(&["NAME", ">OPEN"]);
        table.add_row(["web-01", "7"]);
        table.add_row(["b", "12345"]);
        assert_eq!(rendered(&table), "NAME     OPEN\nweb-01      7\nb       12345\n");
    }
}
