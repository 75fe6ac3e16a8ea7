//! The table of services and backends: as many columns as the width has room for, the most important first.

use std::collections::HashMap;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
};

use super::{Theme, cells, line, put};
use crate::{
    overview::Mood,
    top::app::{App, Rate, Row, Sort},
};

/// What a column shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Name,
    State,
    Share,
    Bar,
    Connections,
    Errors,
    Open,
    Spark,
    Slow,
    Health,
    Median,
    In,
    Out,
    Packets,
}

/// In the order of the screen: the column, its head, its width, and its rank among those that want in.
const COLUMNS: [(Column, &str, u16, u8); 14] = [
    (Column::Name, "SERVICE/BACKEND", 15, 0),
    (Column::State, "STATE", 12, 0),
    (Column::Health, "HEALTH", 7, 5),
    (Column::Share, ">SHARE", 6, 0),
    (Column::Bar, "OF FAIR", 8, 0),
    (Column::Connections, ">CONN/S", 6, 0),
    (Column::Spark, "", 8, 2),
    (Column::Errors, ">ERR/S", 5, 0),
    (Column::Open, ">OPEN", 6, 1),
    (Column::Median, ">P50", 6, 4),
    (Column::Slow, ">P99", 6, 3),
    (Column::In, ">B/S IN", 7, 6),
    (Column::Out, ">B/S OUT", 8, 7),
    (Column::Packets, ">PKT/S", 6, 8),
];

/// How wide those that grow may become.
const WIDEST: [(Column, u16); 3] = [(Column::Name, 32), (Column::Bar, 24), (Column::Spark, 40)];

/// The columns that fit, with their heads and widths.
fn columns(width: u16, longest: u16) -> Vec<(Column, &'static str, u16)> {
    // A column and the blank after it.
    let needs = |column: u16| column + 1;
    let mut left = width + 1;
    let mut ranks: Vec<_> = (0..COLUMNS.len()).collect();
    ranks.sort_by_key(|index| COLUMNS[*index].3);
    let mut fits = [false; COLUMNS.len()];
    for index in ranks {
        let Some(rest) = left.checked_sub(needs(COLUMNS[index].2)) else { break };
        (left, fits[index]) = (rest, true);
    }
    let chosen = COLUMNS.iter().zip(fits).filter(|(_, fits)| *fits);
    let mut chosen: Vec<_> =
        chosen.map(|((column, head, width, _), _)| (*column, *head, *width)).collect();
    // Names are read, the others only looked at.
    for (grows, most) in WIDEST {
        let most = if grows == Column::Name { most.min(longest) } else { most };
        let share = if grows == Column::Bar { left / 2 } else { left };
        if let Some((.., width)) = chosen.iter_mut().find(|(column, ..)| *column == grows) {
            let more = share.min(most.saturating_sub(*width));
            (*width, left) = (*width + more, left - more);
        }
    }
    chosen
}

/// The heads, and below them the part of the rows that has the selected one.
pub fn draw(buffer: &mut Buffer, area: Rect, app: &App, rows: &[Row]) {
    let longest = rows.iter().map(|row| name(row).len()).max().unwrap_or_default();
    let columns = columns(area.width, u16::try_from(longest).unwrap_or(u16::MAX));
    let mut x = area.x;
    for (column, head, width) in &columns {
        let at = Rect { x, width: *width, ..line(area, 0) };
        let sorted = sorts(app.sort) == Some(*column);
        let style = Theme::strong().add_modifier(if sorted {
            Modifier::REVERSED
        } else {
            Modifier::UNDERLINED
        });
        let text = match column {
            Column::Spark => "LAST CONN/S",
            _ => head.trim_start_matches('>'),
        };
        write(buffer, at, text, head.starts_with('>'), style);
        x += width + 1;
    }
    let body = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    if rows.is_empty() {
        let text = match app.filter.as_str() {
            "" => {
                "  no service yet; add one with `evenkeel service add NAME ADDRESS:PORT`".to_owned()
            }
            filter => {
                format!("  nothing has {filter:?} in its name or address; Esc clears the filter")
            }
        };
        put(buffer, line(body, 0), &text, Style::new());
        return;
    }
    let scales = scales(app, rows);
    let room = usize::from(body.height);
    let selected = rows.iter().position(|row| Some(&row.key) == app.selected.as_ref());
    let first = selected.unwrap_or_default().saturating_sub(room / 2);
    let first = first.min(rows.len().saturating_sub(room));
    for (number, row) in (0..).zip(rows.iter().skip(first).take(room)) {
        let at = line(body, number);
        draw_row(buffer, at, app, row, &columns, &scales);
        if Some(&row.key) == app.selected.as_ref() {
            buffer.set_style(at, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
}

/// The column that shows what rows are sorted by.
fn sorts(sort: Sort) -> Option<Column> {
    Some(match sort {
        Sort::Configured => return None,
        Sort::Name => Column::Name,
        Sort::Trouble => Column::State,
        Sort::Share => Column::Share,
        Sort::Connections => Column::Connections,
        Sort::Open => Column::Open,
        Sort::Bytes => Column::Out,
        Sort::Errors => Column::Errors,
        Sort::Handshake => Column::Slow,
    })
}

/// What fills a bar and a sparkline: the most that any backend of the same service has.
struct Scale {
    share: f64,
    rate: f64,
}

fn scales<'a>(app: &App, rows: &'a [Row]) -> HashMap<&'a str, Scale> {
    let mut scales = HashMap::new();
    for row in rows.iter().filter(|row| row.key.1.is_some()) {
        let scale = scales.entry(row.key.0.as_str()).or_insert(Scale { share: 0.0, rate: 0.0 });
        let share = row.share.unwrap_or_default().max(row.fair.unwrap_or_default());
        scale.share = scale.share.max(share);
        scale.rate = app.rates.past(&row.key).fold(scale.rate, f64::max);
    }
    scales
}

fn name(row: &Row) -> String {
    match &row.key {
        (service, None) => service.clone(),
        (_, Some(backend)) => format!("  {backend}"),
    }
}

fn draw_row(
    buffer: &mut Buffer,
    line: Rect,
    app: &App,
    row: &Row,
    columns: &[(Column, &str, u16)],
    scales: &HashMap<&str, Scale>,
) {
    let plain = if row.key.1.is_none() { Theme::strong() } else { Style::new() };
    let mood = app.theme.mood(row.mood);
    let rate = row.rate;
    let passed =
        |of: fn(Rate) -> f64| rate.map_or_else(|| "-".to_owned(), |rate| cells::short(of(rate)));
    let mut x = line.x;
    for (column, head, width) in columns {
        let at = Rect { x, width: *width, ..line };
        x += width + 1;
        let (text, style) = match column {
            Column::Name => (name(row), plain),
            Column::State => (row.state.clone(), mood),
            Column::Health if row.health == "down" => {
                (row.health.clone(), app.theme.mood(Mood::Bad))
            }
            Column::Health => (row.health.clone(), plain),
            Column::Share => match row.index {
                Some(index) => (format!("x{index:.2}"), plain),
                None if row.key.1.is_none() => continue,
                None => (cells::percent(row.share), plain),
            },
            Column::Bar => {
                if let (Some(fair), Some(scale)) = (row.fair, scales.get(row.key.0.as_str())) {
                    cells::bar(buffer, at, row.share, fair, scale.share, app.theme);
                }
                continue;
            }
            Column::Spark => {
                let past = || app.rates.past(&row.key);
                let most = match (&row.key.1, scales.get(row.key.0.as_str())) {
                    (Some(_), Some(scale)) => scale.rate,
                    _ => past().fold(0.0, f64::max),
                };
                cells::sparkline(buffer, at, past(), most, app.theme);
                continue;
            }
            Column::Errors if rate.is_some_and(|rate| rate.errors > 0.0) => {
                (passed(|rate| rate.errors), app.theme.mood(Mood::Bad))
            }
            Column::Errors => (passed(|rate| rate.errors), plain),
            Column::Connections => (passed(|rate| rate.connections), plain),
            Column::Open => (cells::short_count(row.open), plain),
            Column::Median => (cells::short_time(row.p50), plain),
            Column::Slow => (cells::short_time(row.p99), plain),
            Column::In => (passed(|rate| rate.bytes_in), plain),
            Column::Out => (passed(|rate| rate.bytes_out), plain),
            Column::Packets => (passed(|rate| rate.packets), plain),
        };
        write(buffer, at, &text, head.starts_with('>'), style);
    }
}

/// Numbers stand at the right of their column.
fn write(buffer: &mut Buffer, at: Rect, text: &str, right: bool, style: Style) {
    let text =
        if right { format!("{text:>width$}", width = at.width.into()) } else { text.to_owned() };
    put(buffer, at, &text, style);
}
