//! The files: what is kept over restarts and crashes, and what a disk in trouble does.

use std::{
    os::unix::fs::PermissionsExt as _,
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::events::{Filter, KEPT};

const SOON: Duration = Duration::from_secs(20);

fn event(id: u64) -> Event {
    Note::new(Kind::Health, format!("number {id}")).placed(id, "2026-01-31T12:00:00.000Z".into())
}

fn line(event: &Event) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).unwrap();
    line.push(b'\n');
    line
}

fn ids(loaded: &Loaded) -> Vec<u64> {
    loaded.events.iter().map(|event| event.id).collect()
}

fn all(events: &Events) -> Vec<Event> {
    events.page(Some(0), KEPT, &Filter::default()).events
}

fn await_that(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < SOON, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A daemon's events, written.
fn started(state: &Path) -> Events {
    let events = Events::open(state);
    events.keep().unwrap();
    events
}

#[test]
fn files_are_bounded_in_size_and_number() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::new(directory.path());
    store.longest = 1000;
    for id in 1..=200 {
        store.append(&line(&event(id))).unwrap();
    }
    let files = fs::read_dir(&store.directory).unwrap().map(|entry| entry.unwrap());
    let mut sizes: Vec<_> = files.map(|file| file.metadata().unwrap().len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes.len(), 2, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 1000) && sizes[1] > 800, "{sizes:?}");
    let loaded = store.load(1000);
    let found = ids(&loaded);
    assert_eq!(found, (found[0]..=200).collect::<Vec<_>>(), "in order, without a gap");
    assert!(found.len() > 10 && loaded.forgotten && loaded.troubles.is_empty());
    let few = store.load(3);
    assert_eq!((ids(&few), few.forgotten), (vec![198, 199, 200], true));
    let mode = fs::metadata(store.current()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_torn_line_is_passed_over_told_and_mended() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path());
    assert_eq!(store.load(10), Loaded::default(), "there is nothing yet");
    store.append(&[line(&event(1)), line(&event(2))].concat()).unwrap();
    let whole = fs::read(store.current()).unwrap();
    for torn in 1..line(&event(2)).len() {
        fs::write(store.current(), &whole[..whole.len() - torn]).unwrap();
        let loaded = store.load(10);
        assert_eq!(ids(&loaded), [1]);
        assert!(loaded.troubles[0].contains("torn"), "{loaded:?}");
        store.append(&line(&event(3))).unwrap();
        let mended = store.load(10);
        assert_eq!((ids(&mended), mended.troubles.len()), (vec![1, 3], 0));
    }
    // What somebody else wrote there is not ours to take away.
    fs::write(store.current(), [&b"not json\n{}\n"[..], &whole].concat()).unwrap();
    let loaded = store.load(10);
    assert_eq!(ids(&loaded), [1, 2]);
    assert!(loaded.troubles[0].starts_with("2 lines"), "{loaded:?}");
}

#[test]
fn events_are_kept_over_restarts_and_ids_rise() {
    let directory = tempfile::tempdir().unwrap();
    let mut last = 0;
    for start in 0..3 {
        let events = started(directory.path());
        assert_eq!(all(&events).len(), start * 2);
        for _ in 0..2 {
            let id = events.note(Note::new(Kind::Started, "started"));
            assert!(id > last);
            last = id;
        }
        events.close(SOON);
    }
    let kept = all(&Events::open(directory.path()));
    assert_eq!(kept.len(), 6);
    assert!(kept.is_sorted_by(|a, b| a.id < b.id));
    // The next one rises, even where the clock went back.
    let store = Store::new(directory.path());
    store.append(&line(&event(u64::MAX / 2))).unwrap();
    let events = Events::open(directory.path());
    assert_eq!(events.note(Note::new(Kind::Started, "started")), u64::MAX / 2 + 1);
}

#[test]
fn a_disk_that_takes_nothing_is_told_and_made_up_for() {
    let directory = tempfile::tempdir().unwrap();
    // As good as a full disk, also for root: no directory can be made there.
    let blocker = directory.path().join("events");
    fs::write(&blocker, "").unwrap();
    let events = started(directory.path());
    events.note(Note::new(Kind::Health, "one"));
    await_that("the trouble is told", || events.trouble().is_some());
    events.note(Note::new(Kind::Health, "two"));
    let trouble = events.trouble().unwrap();
    assert!(trouble.contains("in memory alone"), "{trouble}");
    let told = all(&events);
    // The writer may have found out before the first of them.
    for message in ["one", "two", &*trouble] {
        let count = told.iter().filter(|event| event.message == message).count();
        assert_eq!(count, 1, "of {message} in memory: {told:?}");
    }

    fs::remove_file(&blocker).unwrap();
    await_that("the trouble is over", || events.trouble().is_none());
    await_that("that is told", || all(&events).last().unwrap().message.contains("stored again"));
    events.close(SOON);
    assert_eq!(all(&Events::open(directory.path())), all(&events), "nothing is missing");
}

#[test]
fn what_memory_had_to_forget_before_it_was_written_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let events = Events::open(directory.path());
    for number in 0..KEPT + 9 {
        events.note(Note::new(Kind::Health, format!("number {number}")));
    }
    events.keep().unwrap();
    events.close(SOON);
    let kept = all(&Events::open(directory.path()));
    let told = kept.last().unwrap();
    assert!(
        told.message.starts_with("9 events") || told.message.starts_with("10 events"),
        "{told:?}"
    );
}
