//! What lies over the rest: a question, the help, an answer that takes more than a line.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::Text,
    widgets::{Clear, Paragraph, Widget as _, Wrap},
};

use super::Theme;
use crate::{
    admin::AdminState,
    overview,
    top::app::{App, Dialog, Field, Sort, brief},
};

/// How wide a box is at the most.
const WIDE: u16 = 76;

/// Text in lines that break between words.
pub fn lines(buffer: &mut Buffer, area: Rect, text: &str, style: Style) {
    Paragraph::new(Text::raw(text)).wrap(Wrap { trim: false }).style(style).render(area, buffer);
}

/// A box in the middle with a title and text, as high as that needs.
fn boxed(buffer: &mut Buffer, area: Rect, app: &App, title: &str, text: &str) {
    let width = WIDE.min(area.width - 2);
    let inner = usize::from(width) - 4;
    // Wrapping by words takes at most one line more for each full one.
    let wanted: usize = text
        .lines()
        .map(|line| {
            let letters = line.chars().count();
            letters.div_ceil(inner).max(1) + letters / (inner * 4)
        })
        .sum();
    let height = u16::try_from(wanted + 2).unwrap_or(u16::MAX).min(area.height);
    let at = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    Clear.render(at, buffer);
    let [side, across] = if app.theme.unicode { ["│", "─"] } else { ["|", "-"] };
    for y in [at.top(), at.bottom() - 1] {
        buffer.set_string(at.x, y, across.repeat(width.into()), Style::new());
    }
    for y in at.top() + 1..at.bottom() - 1 {
        buffer.set_string(at.x, y, side, Style::new());
        buffer.set_string(at.right() - 1, y, side, Style::new());
    }
    buffer.set_string(at.x + 2, at.y, format!(" {title} "), Theme::strong());
    let inside = Rect { x: at.x + 2, y: at.y + 1, width: width - 4, height: height - 2 };
    lines(buffer, inside, text, Style::new());
}

/// What is asked before a backend is taken out or brought back.
pub fn draw_dialog(buffer: &mut Buffer, area: Rect, app: &App, dialog: &Dialog) {
    let Dialog { service, backend, span, reason, field, .. } = dialog;
    let name = format!("{service}/{backend}");
    let consequence = consequence(app, dialog);
    let cursor = |here: Field| if *field == here { "_" } else { "" };
    let (title, mut text) = match dialog.state {
        AdminState::Ready => (format!("resume {name}"), consequence),
        state => {
            let verb = if state == AdminState::Drain { "drain" } else { "maintain" };
            let fields = format!(
                "{consequence}\n\nFor how long: {span}{}\n         Why: {reason}{}",
                cursor(Field::Span),
                cursor(Field::Reason)
            );
            (format!("{verb} {name}"), fields)
        }
    };
    text.push_str(match field {
        Field::Span => "\n\nLike 30m, 2h, 1d or forever. Enter goes on, Esc cancels.",
        Field::Reason => "\n\nEnter goes on, Up goes back, Esc cancels.",
        Field::Sure => "\n\nDo it? y does, any other key cancels.",
    });
    if let Some(problem) = &dialog.problem {
        text.push_str("\n! ");
        text.push_str(problem);
    }
    boxed(buffer, area, app, &title, &text);
}

/// What follows from it.
fn consequence(app: &App, dialog: &Dialog) -> String {
    let services = app.status.as_ref().map(|status| &status.services);
    let service = services.and_then(|all| all.iter().find(|known| known.name == dialog.service));
    let Some(service) = service else { return "It is not configured any more.".to_owned() };
    let backend = service.backends.iter().find(|known| known.name == dialog.backend);
    let Some(backend) = backend else { return "It is not configured any more.".to_owned() };
    if dialog.state == AdminState::Ready {
        let Some(out) = &backend.exception else { return "It is not taken out.".to_owned() };
        let left = out.seconds_left.map_or_else(
            || "until somebody resumes it".to_owned(),
            |left| format!("for another {}", brief(left)),
        );
        return format!("It is out ({}) {left}, by {}: {}", backend.admin, out.by, out.reason);
    }
    let what = match dialog.state {
        AdminState::Maintenance => "are cut at once, and it is not probed",
        _ => "finish, and it gets no new ones",
    };
    let left = overview::active(service) - usize::from(backend.active);
    let plural = if backend.open == 1 { "connection" } else { "connections" };
    format!(
        "Its {} open {plural} {what}. {left} of {} backends of {} stay active; there shall be {}.",
        backend.open,
        service.backends.len(),
        service.name,
        service.min_active
    )
}

/// Every key.
pub fn draw_help(buffer: &mut Buffer, area: Rect, app: &App) {
    let sorts = Sort::ALL.iter().map(|(_, key, name)| format!("{key} {name}"));
    let arrows = app.theme.glyph("↑ ↓", "Up Down");
    let mark = app.theme.glyph("┃", "|");
    let text = format!(
        "{arrows} PgUp PgDn Home End  select;  Enter  details;  /  filter\n\
         d drain   m maintain   r resume   each asks before it does anything\n\
         sort: {}\n\
         s next order   R the other way round   w window of shares: 10, 60, 600 s\n\
         q Ctrl-C quit   Ctrl-L paint anew   Ctrl-Z suspend   Esc back\n\
         SHARE of the window's new connections; {mark} where the fair share ends;\n\
         of a service xN: largest share over fair share, 1 is exact. ERR/S: refused,\n\
         unanswered, reset. P50, P99: SYN to SYN-ACK. ! before a state: not up.",
        sorts.collect::<Vec<_>>().join(", ")
    );
    boxed(buffer, area, app, "keys", &text);
}

/// An answer.
pub fn draw_told(buffer: &mut Buffer, area: Rect, app: &App, text: &str) {
    boxed(buffer, area, app, "evenkeel says", &format!("{text}\n\nAny key closes this."));
}
