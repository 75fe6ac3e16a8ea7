//! The top: the daemon, the verdict, and what is wrong.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{Theme, cells, line, put};
use crate::{
    overview::{self, Mood},
    top::app::{App, brief},
};

/// The daemon, and the verdict below.
pub fn draw(buffer: &mut Buffer, area: Rect, app: &App) {
    let Some(status) = &app.status else { return };
    let daemon = &status.daemon;
    let interfaces = daemon.interfaces.iter().map(|known| format!("{} {}", known.name, known.mode));
    let up = brief(daemon.uptime_seconds);
    let interfaces = interfaces.collect::<Vec<_>>().join(", ");
    let every = app.interval.as_secs_f64();
    let text = format!("evenkeel {}  up {up}  {interfaces}  every {every} s", daemon.version);
    put(buffer, line(area, 0), &text, Theme::strong());
    if daemon.connection_capacity > 0 {
        let text = format!(
            "  table {} of {}",
            cells::short_count(daemon.connection_entries / 2),
            cells::short_count(daemon.connection_capacity.into())
        );
        let width = u16::try_from(text.len()).unwrap_or_default();
        let at = Rect { x: area.right().saturating_sub(width), width, ..line(area, 0) };
        put(buffer, at, &text, Theme::faint());
    }
    let (mood, verdict) = match &app.silence {
        None => overview::verdict(status),
        Some(silence) => {
            let since = humantime::format_rfc3339_seconds(silence.since).to_string();
            let since = since.split_once('T').map_or("", |(_, time)| time);
            let lasts = brief(silence.lasts.as_secs());
            let text = format!("no answer since {since} ({lasts}), trying on: {}", silence.why);
            (Mood::Bad, text)
        }
    };
    put(buffer, line(area, 1), &verdict, app.theme.mood(mood));
}

/// How many lines all that is wrong would take.
pub fn wanted(app: &App) -> usize {
    wrong(app).len()
}

/// What is wrong, a line each; the last one says what has no room.
pub fn draw_wrong(buffer: &mut Buffer, area: Rect, app: &App) {
    let wrong = wrong(app);
    let room = usize::from(area.height);
    let shown = if wrong.len() > room { room.saturating_sub(1) } else { wrong.len() };
    for (number, (text, style)) in (0..).zip(&wrong[..shown]) {
        put(buffer, line(area, number), text, *style);
    }
    if shown < wrong.len() {
        let text =
            format!("  and {} more: `evenkeel alerts`, `evenkeel status`", wrong.len() - shown);
        put(buffer, line(area, area.height.saturating_sub(1)), &text, Theme::strong());
    }
}

fn wrong(app: &App) -> Vec<(String, Style)> {
    let Some(status) = &app.status else { return Vec::new() };
    let alerts = status.alerts.iter().map(|alert| {
        let since = brief(alert.since_seconds);
        let text = format!("  {:<8} {since:>4}  {}  {}", alert.severity, alert.summary, alert.page);
        (text, app.theme.mood(overview::of_severity(alert.severity)))
    });
    let notices = overview::notices(&status.daemon).into_iter();
    let notices = notices.map(|notice| (format!("  ! {notice}"), app.theme.mood(Mood::Uneasy)));
    alerts.chain(notices).collect()
}
