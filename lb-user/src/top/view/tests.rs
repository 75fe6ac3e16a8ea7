use std::time::{Duration, SystemTime};

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::KeyCode,
    layout::Size,
    style::{Color, Modifier},
};

use super::*;
use crate::{
    alerts::Severity,
    api::model::Changed,
    top::{
        feed::News,
        terminal::Paint,
        testing::{alert, event, later, window},
    },
};

fn drawn(app: &App, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    terminal.backend().buffer().clone()
}

fn shown(app: &App, width: u16, height: u16) -> Vec<String> {
    let buffer = drawn(app, width, height);
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

fn line_of(lines: &[String], what: &str) -> String {
    let found = lines.iter().find(|line| line.contains(what));
    found.unwrap_or_else(|| panic!("no {what:?} in\n{}", lines.join("\n"))).clone()
}

fn full() -> App {
    let mut app = later(&[("web-01", 75), ("web-02", 25)]);
    let status = app.status.as_mut().unwrap();
    status.services[0].windows = vec![window(10, [0.75, 0.25])];
    status.alerts =
        vec![alert(Severity::Critical, "web/web-02 is down"), alert(Severity::Info, "second")];
    app.events.extend((0..30).map(event));
    app
}

#[test]
fn everything_has_its_place_on_80_by_24() {
    let lines = shown(&full(), 80, 24);
    assert!(lines[0].starts_with("evenkeel 0.1.0  up 2h  eth0 native"), "{}", lines[0]);
    assert!(lines[0].ends_with("table 0 of 262k"), "{}", lines[0]);
    assert!(lines[1].starts_with("1 critical alert, 1 info alert"), "{}", lines[1]);
    assert!(lines[2].contains("critical   2m  web/web-02 is down"), "alerts on top: {}", lines[2]);
    let [head, web, first, second, api, out] = &lines[4..10] else { panic!() };
    assert_eq!(
        head,
        "SERVICE/BACKEND STATE         SHARE OF FAIR  CONN/S LAST CON ERR/S   OPEN    P99"
    );
    assert_eq!(
        web,
        "web             1 of 2        x1.50             100        █     0      6  1.2ms"
    );
    assert_eq!(
        first,
        "  web-01        active        75.0% █████┃██   75.0        █     0      3  1.2ms"
    );
    assert_eq!(
        second,
        "  web-02        down          25.0% ██▌  ┃     25.0        ▂     0      3  1.2ms"
    );
    assert!(api.starts_with("api             0 of 1"), "{api}");
    assert!(out.starts_with("  api-01        drain 29m         -"), "{out}");
    let events = lines.iter().filter(|line| line.contains("event ")).collect::<Vec<_>>();
    assert!(events.last().unwrap().starts_with("06:00:29  health         event 29"), "{events:?}");
    assert!(lines[23].starts_with("?:help q:quit"), "{}", lines[23]);
}

#[test]
fn wide_terminals_show_more_and_narrow_ones_what_matters() {
    let wide = shown(&full(), 140, 40);
    let head = line_of(&wide, "SERVICE/BACKEND");
    for column in ["HEALTH", "LAST CONN/S", "P50", "B/S IN", "B/S OUT", "PKT/S"] {
        assert!(head.contains(column), "{column}: {head}");
    }
    let narrow = shown(&full(), 60, 15);
    let head = line_of(&narrow, "SERVICE/BACKEND");
    assert!(head.contains("OF FAIR") && head.contains("ERR/S") && !head.contains("P99"), "{head}");
    assert!(line_of(&narrow, "web-02").len() <= 60);
    for (width, height) in [(59, 15), (60, 14), (1, 1)] {
        let small = shown(&full(), width, height).join(" ");
        assert!(width < 20 || small.contains("too small: evenkeel top needs 60x15"), "{small}");
    }
}

#[test]
fn every_size_and_mode_can_be_drawn() {
    for mode in ["", "?", "/", "d", "d\n", "r"] {
        let mut app = full();
        app.press(KeyCode::End.into());
        app.press(KeyCode::Enter.into());
        for key in mode.chars() {
            app.press(if key == '\n' { KeyCode::Enter.into() } else { KeyCode::Char(key).into() });
        }
        for width in [1, 59, 60, 61, 79, 80, 101, 200] {
            for height in [1, 14, 15, 16, 19, 24, 50] {
                drawn(&app, width, height);
            }
        }
    }
}

#[test]
fn what_is_selected_is_told_in_full() {
    let mut app = full();
    app.press(KeyCode::End.into());
    app.press(KeyCode::Enter.into());
    let lines = shown(&app, 100, 30);
    line_of(&lines, "── api/api-01  10.0.0.11:8080");
    line_of(&lines, "drain for 1m, 29m left, until 2026-11-27T06:30:00Z");
    line_of(&lines, "by root (uid 0): kernel upgrade");
    app.press(KeyCode::Home.into());
    let lines = shown(&app, 100, 30);
    line_of(&lines, "1 of 2 active, at least 1; round-robin, nat, probe http every 2s");
    line_of(&lines, "last 10 s: 100 connections, largest share over fair 1.500, variation 0.500");
}

#[test]
fn a_question_tells_what_follows() {
    let mut app = full();
    app.press(KeyCode::Down.into());
    app.press(KeyCode::Char('d').into());
    let lines = shown(&app, 80, 24);
    line_of(&lines, " drain web/web-01 ");
    line_of(&lines, "Its 3 open connections finish");
    line_of(&lines, "For how long: 30m_");
    app.press(KeyCode::Esc.into());
    let lines = shown(&app, 80, 24);
    assert_eq!(lines[23], "nothing was changed");
    let long = format!("{}end.", "words ".repeat(60));
    app.take_in(News::Changed(Err(long)), SystemTime::now());
    line_of(&shown(&app, 60, 15), "end.");
    app.press(KeyCode::Esc.into());
    let done = Changed { message: "web/web-01 drains".into(), ..Changed::default() };
    app.take_in(News::Changed(Ok(done)), SystemTime::now());
    assert_eq!(shown(&app, 80, 24)[23], "web/web-01 drains");
}

#[test]
fn silence_is_told_in_the_place_of_the_verdict() {
    let mut app = full();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(75);
    app.take_in(News::Silence("nobody listens".into()), now);
    let lines = shown(&app, 80, 24);
    assert_eq!(lines[1], "no answer since 00:00:00Z (1m), trying on: nobody listens");
    line_of(&lines, "web-01");
}

#[test]
fn without_colours_and_letters_all_is_still_there() {
    let mut app = full();
    app.status.as_mut().unwrap().alerts[0].summary = "web/web-02 ist hinüber".into();
    app.theme = Theme { colour: false, unicode: false };
    app.press(KeyCode::Char('?').into());
    for mode in 0..2 {
        let buffer = drawn(&app, 100, 30);
        for cell in &buffer.content {
            assert!(cell.symbol().is_ascii(), "{mode}: {:?}", cell.symbol());
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset));
        }
        app.press(KeyCode::Esc.into());
    }
    let lines = shown(&app, 80, 24);
    line_of(&lines, "web/web-02 ist hin?ber");
    assert_eq!(
        line_of(&lines, "  web-01"),
        "  web-01        active        75.0% #####|##   75.0        #     0      3  1.2ms"
    );
    let buffer = drawn(&app, 80, 24);
    assert!(buffer[(0, 1)].modifier.contains(Modifier::BOLD), "what is bad stands out");
}

#[test]
fn many_alerts_leave_room_for_the_table_and_are_counted() {
    let mut app = full();
    app.status.as_mut().unwrap().alerts =
        (0..20).map(|number| alert(Severity::Warning, &format!("number {number}"))).collect();
    let lines = shown(&app, 80, 24);
    line_of(&lines, "number 2");
    line_of(&lines, "and 17 more");
    line_of(&lines, "web-02");
}

#[test]
fn a_usual_second_costs_few_bytes() {
    let paint = Paint::new(|| Ok(Size { width: 120, height: 40 }));
    let mut terminal = Terminal::new(paint).unwrap();
    let mut app = full();
    terminal.draw(|frame| draw(frame, &app)).unwrap();
    let first = terminal.backend_mut().take().len();
    terminal.draw(|frame| draw(frame, &app)).unwrap();
    assert_eq!(terminal.backend_mut().take().len(), 0, "nothing changed");
    let other = later(&[("web-01", 76), ("web-02", 24)]);
    app.rates = other.rates;
    terminal.draw(|frame| draw(frame, &app)).unwrap();
    let next = terminal.backend_mut().take().len();
    assert!(first > 1_000, "{first} bytes for a whole screen");
    assert!(0 < next && next < 200, "{next} bytes for two numbers that changed");
}

#[test]
fn the_first_variable_of_the_locale_that_is_set_decides() {
    let locale = |set: &'static [(&'static str, &'static str)]| {
        is_utf8(|name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    };
    assert!(locale(&[("LANG", "de_DE.UTF-8")]));
    assert!(locale(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")]));
    assert!(!locale(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]));
    assert!(!locale(&[]));
}
