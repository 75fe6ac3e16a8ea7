use std::collections::BTreeSet;

use super::{queue::tests::alert, *};
use crate::config::alerts::Endpoint;

fn desk(room: usize) -> Desk {
    let state = Delivery::default();
    Desk { held: Mutex::new(Held { queue: Queue::new(room), state }), wake: Notify::new() }
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

#[tokio::test]
async fn unchanged_targets_go_on_and_new_ones_are_told_what_is_raised() {
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
    let config = |ports: &[u16]| Alerts {
        webhooks: ports.iter().copied().map(webhook).collect(),
        ..Alerts::default()
    };
    let mut deliveries = Deliveries::default();
    deliveries.set(&config(&[1, 2]), &[]);
    let first = Arc::as_ptr(&deliveries.0[1].desk);
    let raised = Alert::clone(&alert("a", "1"));
    deliveries.set(&config(&[2, 3]), &[raised]);
    assert_eq!(Arc::as_ptr(&deliveries.0[0].desk), first);
    let waiting: Vec<_> = deliveries.state().iter().map(|state| state.waiting).collect();
    assert_eq!(waiting, [0, 1]);
}
