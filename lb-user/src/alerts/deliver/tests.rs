use std::collections::BTreeSet;

pub(crate) use super::queue::tests::alert;
use super::*;
use crate::config::alerts::Endpoint;

fn desk(room: usize) -> Desk {
    Desk::new(Queue::new(room), Delivery::default())
}

#[test]
fn pauses_grow_up_to_the_longest_and_are_not_all_the_same() {
    for failures in 1..100 {
        let pause = pause(failures);
        assert!(pause <= LONGEST_PAUSE && pause >= PAUSE / 2, "{failures}: {pause:?}");
        assert!(failures < 10 || pause >= LONGEST_PAUSE / 2, "{failures}: {pause:?}");
    }
    let some: BTreeSet<_> = (0..20).map(|_| pause(5)).collect();
    assert!(some.len() > 1);
}

#[tokio::test]
async fn what_fails_waits_again_and_what_is_refused_is_dropped() {
    let desk = desk(10);
    desk.put(alert("a", "1"));
    let taken = desk.take(5, None).await;
    let later = Failure::Later("no answer".to_owned());
    assert!(desk.note(taken, Err(later)).is_some());
    desk.put(alert("a", "2"));
    let taken = desk.take(5, None).await;
    assert_eq!((taken.len(), taken[0].summary.as_str()), (1, "2"));
    let never = Failure::Never("it answers 400".to_owned());
    assert!(desk.note(taken, Err(never)).is_some());
    let state = desk.lock().state.clone();
    assert_eq!((state.failed, state.failed_in_a_row, state.dropped), (2, 2, 1));
    assert_eq!(state.problem.as_deref(), Some("it answers 400"));
    desk.put(alert("b", "1"));
    let taken = desk.take(5, None).await;
    assert_eq!(desk.note(taken, Ok(())), None);
    let state = desk.lock().state.clone();
    assert_eq!((state.delivered, state.failed, state.failed_in_a_row), (1, 2, 0));
    assert_eq!(state.problem, None);
    // Nothing waits: it is not waited for longer than asked.
    assert!(desk.take(5, Some(Instant::now())).await.is_empty());
}

/// A configuration with webhooks at these ports, where nobody listens.
fn config(ports: &[u16]) -> Alerts {
    let webhook = |port: u16| Webhook {
        endpoint: Endpoint {
            url: format!("http://127.0.0.1:{port}/"),
            headers: Vec::new(),
            bearer_token_file: None,
            tls: crate::health::TlsCheck::default(),
            timeout: Duration::from_millis(100),
        },
        send_resolved: true,
    };
    Alerts { webhooks: ports.iter().copied().map(webhook).collect(), ..Alerts::default() }
}

fn waiting(deliveries: &Deliveries) -> Vec<Vec<String>> {
    let waiting = deliveries.waiting().into_values();
    waiting.map(|alerts| alerts.into_iter().map(|alert| alert.id).collect()).collect()
}

#[tokio::test]
async fn unchanged_targets_go_on_and_new_ones_are_told_what_is_raised() {
    let mut deliveries = Deliveries::default();
    deliveries.set(&config(&[1, 2]), &[]);
    let first = Arc::as_ptr(&deliveries.running[1].desk);
    let raised = Alert::clone(&alert("a", "1"));
    deliveries.set(&config(&[2, 3]), &[raised]);
    assert_eq!(Arc::as_ptr(&deliveries.running[0].desk), first);
    assert_eq!(waiting(&deliveries), [vec![], vec!["a".to_owned()]]);
    let revision = deliveries.revision();
    deliveries.set(&config(&[2, 3]), &[]);
    assert_eq!(deliveries.revision(), revision);
}

#[tokio::test]
async fn after_a_restart_a_target_is_told_what_it_was_not_before() {
    let alerts = ["a", "b"].map(|id| Alert::clone(&alert(id, "1")));
    let mut deliveries = Deliveries::default();
    let name = |port| format!("webhook http://127.0.0.1:{port}/");
    deliveries.resume(BTreeMap::from([(name(1), vec![]), (name(2), vec![alerts[1].clone()])]));
    deliveries.set(&config(&[1, 2, 3]), &alerts);
    let both = ["a".to_owned(), "b".to_owned()];
    assert_eq!(waiting(&deliveries), [vec![], both[1..].to_vec(), both.to_vec()]);
    // That was the restart; whoever comes now is new.
    deliveries.set(&config(&[]), &[]);
    deliveries.set(&config(&[1]), &alerts);
    assert_eq!(waiting(&deliveries), [both.to_vec()]);
}

#[tokio::test]
async fn what_is_under_way_waits_still() {
    let mut deliveries = Deliveries::default();
    deliveries.set(&config(&[1]), &[]);
    deliveries.running[0].task.abort();
    let desk = Arc::clone(&deliveries.running[0].desk);
    desk.put(alert("a", "1"));
    let before = deliveries.revision();
    let taken = desk.take(1, None).await;
    desk.put(alert("b", "1"));
    assert_eq!(waiting(&deliveries), [["a", "b"]]);
    desk.note(taken, Ok(()));
    assert_eq!(waiting(&deliveries), [["b"]]);
    assert!(deliveries.revision() > before);
}
