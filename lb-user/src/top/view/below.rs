//! The bottom: the details of what is selected, the last events, and the keys.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{Theme, cells, line, put};
use crate::{
    api::model::{BackendStatus, ServiceStatus},
    overview,
    top::app::{App, Mode, Row, brief},
};

/// Lines of details that there are at the most.
pub const DETAILS: usize = 10;

/// What is selected, in full.
pub fn draw_details(buffer: &mut Buffer, area: Rect, app: &App, rows: &[Row]) {
    let row = rows.iter().find(|row| Some(&row.key) == app.selected.as_ref());
    let (Some(row), Some(status)) = (row, &app.status) else { return };
    let service = status.services.iter().find(|service| service.name == row.key.0);
    let Some(service) = service else { return };
    let backend = row.key.1.as_ref();
    let backend =
        backend.and_then(|name| service.backends.iter().find(|known| known.name == *name));
    let mut lines = match backend {
        Some(backend) => of_backend(app, service, backend),
        None => of_service(service),
    };
    lines.extend(status.alerts.iter().filter_map(|alert| {
        let about = alert.service.as_deref() == Some(&service.name)
            && backend.is_none_or(|backend| alert.backend.as_deref() == Some(&backend.name));
        about.then(|| format!("{}: {} {}", alert.severity, alert.summary, alert.page))
    }));
    put(buffer, line(area, 0), &rule(app, area, &lines[0]), Theme::strong());
    for (number, text) in (1..area.height).zip(&lines[1..]) {
        put(buffer, line(area, number), &format!("  {text}"), Style::new());
    }
}

/// A line across with a title in it.
fn rule(app: &App, area: Rect, title: &str) -> String {
    let dash = app.theme.glyph("─", "-");
    let rest = usize::from(area.width).saturating_sub(title.len() + 4);
    format!("{dash}{dash} {title} {}", dash.repeat(rest))
}

fn of_service(service: &ServiceStatus) -> Vec<String> {
    let mut lines = vec![
        format!("{}  {}/{}", service.name, service.address, service.protocol),
        format!(
            "{} of {} active, at least {}; {}, {}, probe {}",
            overview::active(service),
            service.backends.len(),
            service.min_active,
            service.scheduler,
            service.forwarding,
            service.probe
        ),
    ];
    for window in &service.windows {
        let number =
            |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |n| format!("{n:.3}"));
        lines.push(format!(
            "last {} s: {} connections, largest share over fair {}, variation {}",
            window.seconds,
            window.connections,
            number(window.index),
            number(window.variation)
        ));
    }
    lines
}

fn of_backend(app: &App, service: &ServiceStatus, backend: &BackendStatus) -> Vec<String> {
    let mut lines =
        vec![format!("{}/{}  {}", service.name, backend.name, backend.address), health(backend)];
    if let Some(exception) = &backend.exception {
        let until = match (&exception.until, exception.seconds_left) {
            (Some(until), Some(left)) => format!("{} left, until {until}", overview::span(left)),
            _ => "until somebody resumes it".to_owned(),
        };
        lines.push(format!("{} for {}, {until}", backend.admin, overview::span(exception.seconds)));
        lines.push(format!("by {}: {}", exception.by, exception.reason));
    } else if !backend.reason.is_empty() {
        lines.push(backend.reason.clone());
    }
    let mut shares = Vec::new();
    for window in &service.windows {
        let part = window.backends.iter().find(|part| part.name == backend.name);
        let share = part.filter(|_| window.connections > 0).map(|part| part.share);
        shares.push(format!("{} in {} s", cells::percent(share), window.seconds));
    }
    shares.push(format!("{} of the ring now", cells::percent(Some(backend.share))));
    lines.push(format!("share {}", shares.join(", ")));
    let most = backend.max_connections.map_or_else(|| "any number".to_owned(), |n| n.to_string());
    lines.push(format!("{} connections open, of {most}", backend.open));
    let key = (service.name.clone(), Some(backend.name.clone()));
    if let Some(rate) = app.rates.of(&key) {
        lines.push(format!(
            "a second: {} connections, {} bytes in, {} out, {} packets, {} errors",
            cells::short(rate.connections),
            cells::short(rate.bytes_in),
            cells::short(rate.bytes_out),
            cells::short(rate.packets),
            cells::short(rate.errors)
        ));
    }
    if let Some(counters) = app.rates.counters(&service.name, &backend.name) {
        let failures = counters.failures;
        lines.push(format!(
            "in all: {} connections, {} refused, {} unanswered, {} given to another, {} reset, {} evicted",
            counters.connections.total,
            failures.refused,
            failures.unanswered,
            failures.redispatched,
            failures.reset,
            failures.evicted
        ));
    }
    lines
}

fn health(backend: &BackendStatus) -> String {
    let since = backend
        .health_seconds
        .map_or_else(String::new, |seconds| format!(" for {}", brief(seconds)));
    let probe = backend.probe_milliseconds;
    let probe = probe.map_or_else(String::new, |ms| format!(", last probe {ms:.1} ms"));
    let agent = backend.agent.as_ref().map_or_else(String::new, |agent| format!(", agent {agent}"));
    let tier = format!("{:?}", backend.tier).to_lowercase();
    format!(
        "{}, {}{since}{probe}{agent}; {tier}, weight {}; {}",
        backend.state, backend.health, backend.weight, backend.origin
    )
}

/// The last events, the latest at the bottom.
pub fn draw_events(buffer: &mut Buffer, area: Rect, app: &App) {
    if area.height < 2 {
        return;
    }
    put(buffer, line(area, 0), &rule(app, area, "events"), Theme::faint());
    let room = usize::from(area.height) - 1;
    let first = app.events.len().saturating_sub(room);
    for (number, event) in (1..).zip(app.events.iter().skip(first)) {
        let time = event.at.split_once('T').map_or("", |(_, time)| time.get(..8).unwrap_or(time));
        let text = format!("{time}  {:<14} {}", event.kind, event.message);
        put(buffer, line(area, number), &text, Style::new());
    }
}

/// What keys do now; or what became of the last change.
pub fn draw_keys(buffer: &mut Buffer, area: Rect, app: &App) {
    let text = match (&app.mode, &app.said) {
        (Mode::Filter, _) => format!("filter: {}_   Enter keeps it, Esc clears it", app.filter),
        (_, Some(said)) => said.clone(),
        (_, None) => {
            let reversed = if app.reversed { " reversed" } else { "" };
            let filter = match app.filter.as_str() {
                "" => String::new(),
                filter => format!("={filter}"),
            };
            format!(
                "?:help q:quit d:drain r:resume Enter:details /:filter{filter} s:sort={}{reversed} w:{}s",
                app.sort.name(),
                app.window
            )
        }
    };
    let style = if app.said.is_some() { Theme::strong() } else { Style::new() };
    put(buffer, area, &text, style);
}
