use std::time::Instant;

use super::*;
use crate::{
    overview::Mood,
    top::testing::{app, later, reading, total},
};

fn press(app: &mut App, keys: &str) -> Option<Intent> {
    keys.chars().map(|key| app.press(KeyCode::Char(key).into())).last().flatten()
}

fn names(app: &App) -> Vec<String> {
    let name = |row: Row| row.key.1.unwrap_or(row.key.0);
    app.rows().into_iter().map(name).collect()
}

#[test]
fn rates_are_what_changed_between_two_readings() {
    let mut app = app();
    let began = Instant::now();
    app.take_in(News::Reading(Box::new(reading(began))), SystemTime::now());
    assert_eq!(app.rows()[1].rate, None, "one reading is no rate");
    let mut next = reading(began + Duration::from_secs(2));
    total(&mut next, "web-01", 40, 6);
    app.take_in(News::Reading(Box::new(next)), SystemTime::now());
    let rate = app.rows()[1].rate.unwrap();
    assert_eq!((rate.connections, rate.errors), (20.0, 3.0));
    let service = app.rows()[0].rate.unwrap();
    assert!((service.connections - 20.0).abs() < 1e-9, "a service's is the sum of its backends'");
    // A new data path counts from 0: that is no rate of minus 20.
    let back = reading(began + Duration::from_secs(3));
    app.take_in(News::Reading(Box::new(back)), SystemTime::now());
    assert!(app.rows()[1].rate.unwrap().connections.abs() < 1e-9);
    assert_eq!(app.rates.past(&app.rows()[1].key).collect::<Vec<_>>(), [20.0, 0.0]);
}

#[test]
fn rows_are_sorted_within_their_service_and_the_other_way_round() {
    let mut app = later(&[("web-01", 10), ("web-02", 30), ("api-01", 20)]);
    let configured = ["web", "web-01", "web-02", "api", "api-01"];
    assert_eq!(names(&app), configured);
    press(&mut app, "C");
    assert_eq!(names(&app), ["web", "web-02", "web-01", "api", "api-01"]);
    press(&mut app, "C");
    assert_eq!(names(&app), ["api", "api-01", "web", "web-01", "web-02"]);
    press(&mut app, "N");
    assert_eq!(names(&app), ["api", "api-01", "web", "web-01", "web-02"]);
    press(&mut app, "R");
    assert_eq!(names(&app), ["web", "web-02", "web-01", "api", "api-01"]);
    press(&mut app, "0");
    assert_eq!(names(&app), configured);
    press(&mut app, "T");
    assert_eq!(
        names(&app),
        ["api", "api-01", "web", "web-02", "web-01"],
        "what is not served at all comes first, then who is down"
    );
    for (sort, ..) in Sort::ALL {
        assert_eq!(Sort::ALL.iter().filter(|(other, ..)| other.name() == sort.name()).count(), 1);
    }
}

#[test]
fn the_filter_keeps_services_whole_and_backends_with_their_service() {
    let mut app = later(&[]);
    press(&mut app, "/");
    press(&mut app, "api");
    assert_eq!((names(&app), &app.mode), (vec!["api".into(), "api-01".into()], &Mode::Filter));
    app.press(KeyCode::Esc.into());
    assert_eq!((names(&app).len(), &app.mode), (5, &Mode::Table));
    press(&mut app, "/");
    press(&mut app, "-02");
    app.press(KeyCode::Enter.into());
    assert_eq!(names(&app), ["web", "web-02"]);
    assert_eq!(press(&mut app, "q"), Some(Intent::Quit), "keys are commands again");
}

#[test]
fn the_selection_follows_its_row() {
    let mut app = later(&[("web-01", 10), ("web-02", 30)]);
    let selected = |app: &App| app.selected.clone().unwrap();
    assert_eq!(selected(&app), ("web".into(), None));
    app.press(KeyCode::Down.into());
    app.press(KeyCode::Down.into());
    assert_eq!(selected(&app).1.as_deref(), Some("web-02"));
    press(&mut app, "C");
    assert_eq!(selected(&app).1.as_deref(), Some("web-02"), "sorting moves no selection");
    app.press(KeyCode::Up.into());
    assert_eq!(selected(&app), ("web".into(), None), "it is the first backend now");
    app.press(KeyCode::End.into());
    assert_eq!(selected(&app).1.as_deref(), Some("api-01"));
    app.press(KeyCode::PageDown.into());
    assert_eq!(selected(&app).1.as_deref(), Some("api-01"));
    press(&mut app, "/web");
    assert_eq!(selected(&app), ("web".into(), None), "what is filtered away is not selected");
}

#[test]
fn a_drain_is_asked_for_its_time_its_reason_and_once_more() {
    let mut app = later(&[]);
    assert_eq!(press(&mut app, "d"), None);
    assert!(app.said.as_ref().unwrap().contains("select a backend"), "{:?}", app.said);
    app.press(KeyCode::Down.into());
    press(&mut app, "d");
    press(&mut app, "x");
    app.press(KeyCode::Enter.into());
    let Mode::Asked(dialog) = &app.mode else { panic!("{:?}", app.mode) };
    assert!(dialog.problem.as_ref().unwrap().contains("30mx"), "{dialog:?}");
    app.press(KeyCode::Backspace.into());
    app.press(KeyCode::Enter.into());
    app.press(KeyCode::Enter.into());
    let Mode::Asked(dialog) = &app.mode else { panic!("{:?}", app.mode) };
    assert!(dialog.problem.as_ref().unwrap().contains("why"), "a reason is needed: {dialog:?}");
    press(&mut app, "quiet, d and q are letters here");
    app.press(KeyCode::Enter.into());
    assert_eq!(
        press(&mut app, "y"),
        Some(Intent::Change(AdminRequest {
            service: Some("web".into()),
            backend: "web-01".into(),
            state: AdminState::Drain,
            span: Some("30m".parse().unwrap()),
            reason: Some("quiet, d and q are letters here".into()),
            force: false,
        }))
    );
    assert_eq!(app.mode, Mode::Table);
}

#[test]
fn nothing_but_a_yes_is_one() {
    for answer in [KeyCode::Enter, KeyCode::Esc, KeyCode::Char('n'), KeyCode::Char(' ')] {
        let mut app = later(&[]);
        app.press(KeyCode::Down.into());
        press(&mut app, "m");
        app.press(KeyCode::Enter.into());
        press(&mut app, "why");
        app.press(KeyCode::Enter.into());
        assert_eq!(app.press(answer.into()), None, "{answer:?}");
        assert_eq!((&app.mode, app.said.as_deref()), (&Mode::Table, Some("nothing was changed")));
    }
}

#[test]
fn who_is_out_is_resumed_and_who_is_not_needs_it_not() {
    let mut app = later(&[]);
    app.press(KeyCode::Down.into());
    assert_eq!(press(&mut app, "r"), None);
    assert!(app.said.as_ref().unwrap().contains("not taken out"), "{:?}", app.said);
    app.press(KeyCode::End.into());
    assert_eq!(press(&mut app, "r"), None, "it is asked first");
    let Some(Intent::Change(request)) = press(&mut app, "y") else { panic!("{:?}", app.mode) };
    assert_eq!((request.backend.as_str(), request.state), ("api-01", AdminState::Ready));
    assert_eq!((request.span, request.reason), (None, None));
}

#[test]
fn refusals_and_warnings_are_told_in_full_and_typing_is_not_interrupted() {
    let refused = || News::Changed(Err("uid 1000 may read, but change nothing".into()));
    let mut app = later(&[]);
    app.take_in(refused(), SystemTime::now());
    assert_eq!(app.mode, Mode::Told("refused: uid 1000 may read, but change nothing".into()));
    press(&mut app, "q");
    assert_eq!(app.mode, Mode::Table, "the key closed it and did nothing else");
    let changed =
        Changed { message: "done".into(), warnings: vec!["alone".into()], ..Changed::default() };
    app.take_in(News::Changed(Ok(changed.clone())), SystemTime::now());
    assert_eq!(app.mode, Mode::Told("done\nwarning: alone".into()));
    press(&mut app, "x/");
    app.take_in(refused(), SystemTime::now());
    assert_eq!(app.mode, Mode::Filter);
    assert!(app.said.as_ref().unwrap().contains("may read"), "{:?}", app.said);
}

#[test]
fn silence_is_since_the_last_answer_and_ends_with_the_next() {
    let mut app = app();
    let began = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let at = |seconds| began + Duration::from_secs(seconds);
    app.take_in(News::Reading(Box::new(reading(Instant::now()))), at(0));
    app.take_in(News::Silence("gone".into()), at(1));
    app.take_in(News::Silence("gone".into()), at(5));
    let silence = app.silence.clone().unwrap();
    assert_eq!((silence.since, silence.lasts), (at(0), Duration::from_secs(5)));
    assert_eq!(names(&app).len(), 5, "what was known is still shown");
    app.take_in(News::Reading(Box::new(reading(Instant::now()))), at(6));
    assert_eq!(app.silence, None);
}

#[test]
fn moods_tell_what_is_wanted_from_what_is_wrong() {
    let app = later(&[]);
    let moods: Vec<_> = app.rows().iter().map(|row| (row.mood, row.state.clone())).collect();
    let expected = [
        (Mood::Uneasy, "1 of 2"),
        (Mood::Well, "active"),
        (Mood::Bad, "down"),
        (Mood::Bad, "0 of 1"),
        (Mood::Aside, "drain 29m"),
    ];
    assert_eq!(moods, expected.map(|(mood, state)| (mood, state.to_owned())));
}
