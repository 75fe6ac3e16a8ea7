//! The handle: ids, pages, filters and followers.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::api::Peer;

fn note(number: usize) -> Note {
    let backend = format!("web-{:02}", number % 3);
    Note::new(Kind::Health, format!("number {number}")).backend("web", &backend)
}

fn noted(count: usize) -> Events {
    let events = Events::in_memory();
    for number in 0..count {
        events.note(note(number));
    }
    events
}

fn messages(page: &Page) -> Vec<&str> {
    page.events.iter().map(|event| event.message.as_str()).collect()
}

/// The next of a follower that has one.
async fn next(follower: &mut Follower) -> Followed {
    timeout(Duration::from_secs(10), follower.next()).await.unwrap().unwrap()
}

#[test]
fn pages_are_in_order_and_go_on_where_the_last_one_ended() {
    let events = noted(10);
    let all = Filter::default();
    let last = events.page(None, 3, &all);
    assert_eq!(messages(&last), ["number 7", "number 8", "number 9"]);
    assert_eq!(last.next, last.events[2].id);
    let (mut after, mut seen) = (last.first - 1, Vec::new());
    loop {
        let page = events.page(Some(after), 4, &all);
        if page.events.is_empty() {
            break;
        }
        after = page.next;
        seen.extend(page.events);
    }
    assert_eq!(seen.len(), 10);
    assert!(seen.is_sorted_by(|a, b| a.id < b.id));
    assert_eq!(events.page(Some(u64::MAX), 4, &all).next, u64::MAX, "it does not go back");
    // What the filter passes over is not looked at again.
    let web = Filter { backend: Some("web-01".to_owned()), ..Filter::default() };
    let page = events.page(Some(0), 100, &web);
    assert_eq!(messages(&page), ["number 1", "number 4", "number 7"]);
    assert_eq!(page.next, last.next);
    for none in [
        Filter { kind: Some(Kind::Drift), ..Filter::default() },
        Filter { service: Some("other".to_owned()), ..Filter::default() },
        Filter { since: Some("9999".to_owned()), ..Filter::default() },
    ] {
        assert_eq!(events.page(Some(0), 100, &none).events, []);
    }
}

#[test]
fn memory_has_the_last_ones() {
    let events = noted(KEPT + 5);
    let page = events.page(Some(0), KEPT, &Filter::default());
    assert_eq!((page.events.len(), page.events[0].message.as_str()), (KEPT, "number 5"));
    assert_eq!(page.first, page.events[0].id);
}

#[test]
fn an_event_says_who_and_why() {
    let events = Events::in_memory();
    let note = Note::new(Kind::Admin, "backend web/web-01 drains").backend("web", "web-01");
    events.tell(note.by(&Peer::named("deploy")).because("a new kernel").warning());
    let [event] = &events.page(None, 1, &Filter::default()).events[..] else { panic!() };
    let json = serde_json::to_value(event).unwrap();
    assert_eq!(json["who"]["user"], "deploy");
    assert_eq!(json["why"], "a new kernel");
    assert_eq!((json["level"].as_str(), json["kind"].as_str()), (Some("warning"), Some("admin")));
    assert!(humantime::parse_rfc3339(json["at"].as_str().unwrap()).is_ok());
    assert_eq!(serde_json::from_value::<Event>(json).unwrap(), *event);
}

#[tokio::test]
async fn a_follower_gets_each_event_once_and_waits_for_more() {
    let events = noted(3);
    let all = events.page(None, 3, &Filter::default()).events;
    let mut follower = events.follow(Some(all[0].id), Filter::default());
    for event in &all[1..] {
        assert_eq!(next(&mut follower).await, Followed::Event(Arc::new(event.clone())));
    }
    let waiting = tokio::spawn(async move {
        let found = next(&mut follower).await;
        (found, follower)
    });
    tokio::task::yield_now().await;
    events.note(note(3));
    let (found, mut follower) = waiting.await.unwrap();
    let Followed::Event(event) = found else { panic!("{found:?}") };
    assert_eq!(event.message, "number 3");
    events.note(note(4));
    events.end();
    assert!(matches!(next(&mut follower).await, Followed::Event(_)), "what there was is told");
    assert_eq!(timeout(Duration::from_secs(10), follower.next()).await.unwrap(), None);
    // Who comes now is told what there is, and sent home.
    let mut late = events.follow(Some(all[2].id), Filter::default());
    assert!(matches!(next(&mut late).await, Followed::Event(_)));
    assert!(matches!(next(&mut late).await, Followed::Event(_)));
    assert_eq!(late.next().await, None);
}

#[tokio::test]
async fn a_slow_follower_is_told_how_many_it_missed() {
    let events = Events::in_memory();
    let mut slow = events.follow(None, Filter::default());
    for number in 0..KEPT + 7 {
        events.note(note(number));
    }
    assert_eq!(next(&mut slow).await, Followed::Missed(Some(7)));
    for number in 7..KEPT + 7 {
        let Followed::Event(event) = next(&mut slow).await else { panic!() };
        assert_eq!(event.message, format!("number {number}"));
    }
    // Whoever comes back too late does not know how many there were.
    let mut late = events.follow(Some(1), Filter::default());
    assert_eq!(next(&mut late).await, Followed::Missed(None));
    let Followed::Event(event) = next(&mut late).await else { panic!() };
    assert_eq!(event.message, "number 7");
    // And whoever was never there missed nothing.
    let mut fresh = events.follow(Some(0), Filter::default());
    assert!(matches!(next(&mut fresh).await, Followed::Event(_)));
}
