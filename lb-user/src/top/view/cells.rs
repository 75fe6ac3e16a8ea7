//! Numbers in few letters, bars of a share against the fair one, and sparklines.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
    symbols::bar,
    widgets::{Sparkline, Widget as _},
};

use super::Theme;

/// Eighths of a letter's height where the terminal has ASCII alone.
const ASCII_LEVELS: bar::Set<'_> = bar::Set {
    full: "#",
    seven_eighths: "*",
    three_quarters: "*",
    five_eighths: "+",
    half: "=",
    three_eighths: "-",
    one_quarter: "-",
    one_eighth: ".",
    empty: " ",
};

/// A number in six letters at the most, such as `0`, `4.2`, `381`, `12.6k`.
pub fn short(number: f64) -> String {
    const UNITS: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    let (mut value, mut unit) = (number, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let unit = UNITS[unit];
    match value {
        value if value < 0.05 => "0".to_owned(),
        value if value < 99.95 => format!("{value:.1}{unit}"),
        value => format!("{value:.0}{unit}"),
    }
}

/// A count in as few.
pub fn short_count(number: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    match number {
        0..10_000 => number.to_string(),
        number => short(number as f64),
    }
}

/// A time in as few.
pub fn short_time(microseconds: Option<u64>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    match microseconds {
        None => "-".to_owned(),
        Some(time @ 0..1_000) => format!("{time}us"),
        Some(time @ 1_000..1_000_000) => format!("{}ms", short(time as f64 / 1e3)),
        Some(time) => format!("{}s", short(time as f64 / 1e6)),
    }
}

/// A part of a whole.
pub fn percent(part: Option<f64>) -> String {
    part.map_or_else(|| "-".to_owned(), |part| format!("{:.1}%", part * 100.0))
}

/// A bar as long as the share, with a mark where the fair share ends; `whole` is what fills the width.
pub fn bar(buffer: &mut Buffer, at: Rect, share: Option<f64>, fair: f64, whole: f64, theme: Theme) {
    if at.is_empty() || whole <= 0.0 {
        return;
    }
    let cells = f64::from(at.width);
    let length = share.unwrap_or_default() / whole * cells;
    let full = theme.glyph("█", "#");
    // Far from fair is as bad as it looks.
    let strays = share.is_some_and(|share| share > fair * 1.25 + 0.005);
    let colour = if strays { Color::Yellow } else { Color::Blue };
    let style = theme.tinted(colour, Modifier::empty());
    for cell in 0..at.width {
        let rest = length - f64::from(cell);
        if rest >= 0.75 {
            buffer[(at.x + cell, at.y)].set_symbol(full).set_style(style);
        } else if rest >= 0.25 {
            buffer[(at.x + cell, at.y)].set_symbol(theme.glyph("▌", "=")).set_style(style);
        }
    }
    if fair > 0.0 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a column of the bar"
        )]
        let mark = (fair / whole * cells).round().min(cells - 1.0) as u16;
        let mark = (at.x + mark, at.y);
        buffer[mark]
            .set_symbol(theme.glyph("┃", "|"))
            .set_style(Style::reset())
            .set_style(Theme::strong());
    }
}

/// The latest of `past` that have room, the last one at the right; `most` is the full height.
pub fn sparkline(
    buffer: &mut Buffer,
    at: Rect,
    past: impl DoubleEndedIterator<Item = f64>,
    most: f64,
    theme: Theme,
) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a height")]
    let height = |rate: f64| (rate * 100.0).round() as u64;
    let mut heights: Vec<u64> = past.rev().take(at.width.into()).map(height).collect();
    heights.resize(at.width.into(), 0);
    heights.reverse();
    Sparkline::default()
        .data(heights)
        .max(height(most).max(1))
        .bar_set(if theme.unicode { bar::NINE_LEVELS } else { ASCII_LEVELS })
        .style(theme.tinted(Color::Cyan, Modifier::empty()))
        .render(at, buffer);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = |number| short(number);
        assert_eq!(
            [0.0, 0.04, 4.23, 99.94, 99.96, 381.2, 999.6, 12_600.0, 9.99e17].map(shown),
            ["0", "0", "4.2", "99.9", "100", "381", "1.0k", "12.6k", "999P"]
        );
        assert_eq!([9_999, 10_000].map(short_count), ["9999", "10.0k"]);
        let times = [None, Some(850), Some(1_250), Some(2_000_000)];
        assert_eq!(times.map(short_time), ["-", "850us", "1.2ms", "2.0s"]);
    }
}
