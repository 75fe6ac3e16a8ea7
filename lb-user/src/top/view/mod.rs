//! The state as a frame. Pure: what is drawn depends on the state and the frame's size alone.
//!
//! From above: the daemon, the verdict, alerts and notices, the table, the details of what is selected, the
//! last events, and a line of keys. What has no room is left out from the bottom.

mod below;
mod cells;
mod heading;
mod overlay;
mod table;
#[cfg(test)]
mod tests;

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
};

use super::app::{App, Mode};
use crate::overview::Mood;

/// The smallest terminal that has room for it, in columns and rows.
const SMALLEST: (u16, u16) = (60, 15);

/// What the terminal can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// It shows colours, and the user wants them.
    pub colour: bool,
    /// It shows other letters than ASCII.
    pub unicode: bool,
}

impl Theme {
    fn tinted(self, colour: Color, modifier: Modifier) -> Style {
        let style = Style::new().add_modifier(modifier);
        if self.colour { style.fg(colour) } else { style }
    }

    fn mood(self, mood: Mood) -> Style {
        match mood {
            Mood::Well => self.tinted(Color::Green, Modifier::empty()),
            Mood::Aside => self.tinted(Color::Cyan, Modifier::empty()),
            Mood::Uneasy => self.tinted(Color::Yellow, Modifier::BOLD),
            Mood::Bad => self.tinted(Color::Red, Modifier::BOLD),
        }
    }

    /// A title, or something else that stands out.
    fn strong() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What is there for completeness.
    fn faint() -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// One or the other, by what the terminal shows.
    fn glyph(self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { unicode } else { ascii }
    }
}

/// Whether the locale that the environment asks for is of UTF-8 (locale(7): the first of these that is set).
pub fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable);
    let locale = set.into_iter().find(|value| !value.is_empty()).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Draws the state.
pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    let (width, height) = SMALLEST;
    if area.width < width || area.height < height {
        let text = format!(
            "{}x{} is too small: evenkeel top needs {width}x{height}. q quits.",
            area.width, area.height
        );
        overlay::lines(buffer, area, &text, Style::new());
        return;
    }
    draw_whole(buffer, area, app);
    if !app.theme.unicode {
        only_ascii(buffer);
    }
}

fn draw_whole(buffer: &mut Buffer, area: Rect, app: &App) {
    let rows = app.rows();
    let tall = usize::from(area.height);
    let alerts = heading::wanted(app).min(tall / 5);
    // A table that has few rows leaves its room to what is below it.
    let details = if app.details { below::DETAILS.min(tall / 2 - 1) } else { 0 };
    let left = tall - 2 - alerts - 1 - details;
    let events = match app.events.len() {
        0 => 0,
        number => (number + 1).min(left.saturating_sub(rows.len() + 1).max(tall / 6)),
    };
    let fixed = |lines: usize| Constraint::Length(u16::try_from(lines).unwrap_or(u16::MAX));
    let parts =
        [fixed(2), fixed(alerts), Constraint::Min(4), fixed(details), fixed(events), fixed(1)];
    let [top, alerts, table, details, events, keys] = Layout::vertical(parts).areas(area);
    heading::draw(buffer, top, app);
    heading::draw_wrong(buffer, alerts, app);
    table::draw(buffer, table, app, &rows);
    if app.details {
        below::draw_details(buffer, details, app, &rows);
    }
    below::draw_events(buffer, events, app);
    below::draw_keys(buffer, keys, app);
    match &app.mode {
        Mode::Table | Mode::Filter => {}
        Mode::Asked(dialog) => overlay::draw_dialog(buffer, area, app, dialog),
        Mode::Help => overlay::draw_help(buffer, area, app),
        Mode::Told(text) => overlay::draw_told(buffer, area, app, text),
    }
}

/// Writes text into a line, cut at its end.
fn put(buffer: &mut Buffer, line: Rect, text: &str, style: Style) -> u16 {
    if line.is_empty() {
        return line.x;
    }
    buffer.set_stringn(line.x, line.y, text, line.width.into(), style).0
}

/// One line of an area; empty where there is none.
fn line(area: Rect, number: u16) -> Rect {
    Rect { y: area.y + number, height: 1, ..area }.intersection(area)
}

/// What people wrote may have letters that the terminal has not.
fn only_ascii(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        if !cell.symbol().is_ascii() {
            cell.set_symbol("?");
        }
    }
}
