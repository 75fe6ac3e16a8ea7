//! Monitors over real listeners on the loopback.

use std::net::SocketAddr;

use tokio::time::timeout;

use super::*;
use crate::health::{
    HttpProbe, ProbeKind, StatusSet, Timing,
    testing::{Script, Server, answer, refused},
};

const PATIENCE: Duration = Duration::from_secs(5);

fn timing(interval: u64, rise: u32, fall: u32) -> Timing {
    Timing {
        interval: Duration::from_millis(interval),
        timeout: Duration::from_millis(200),
        rise,
        fall,
        flap_damping: None,
    }
}

fn tcp(target: SocketAddr, timing: Timing) -> ProbeSpec {
    ProbeSpec { target, kind: ProbeKind::Tcp, timing }
}

fn http(target: SocketAddr, timing: Timing) -> ProbeSpec {
    let probe = HttpProbe {
        method: hyper::Method::GET,
        path: "/".to_owned(),
        host: None,
        expect_status: StatusSet::default(),
        expect_body: None,
    };
    ProbeSpec { target, kind: ProbeKind::Http(probe), timing }
}

fn monitor() -> (Monitor<&'static str>, mpsc::Receiver<Change<&'static str>>) {
    let (sender, receiver) = mpsc::channel(16);
    (Monitor::new(sender), receiver)
}

async fn next(changes: &mut mpsc::Receiver<Change<&'static str>>) -> Change<&'static str> {
    timeout(PATIENCE, changes.recv()).await.expect("a change in time").expect("an open channel")
}

async fn none_within(changes: &mut mpsc::Receiver<Change<&'static str>>, milliseconds: u64) {
    let got = timeout(Duration::from_millis(milliseconds), changes.recv()).await;
    assert!(got.is_err(), "unexpected change: {got:?}");
}

#[tokio::test]
async fn a_backend_falls_and_recovers() {
    let server = Server::start(answer("200 OK", "")).await;
    let address = server.address;
    let (mut monitor, mut changes) = monitor();
    monitor.set([("web-01", http(address, timing(20, 2, 3)), Health::Unknown)]);

    let up = next(&mut changes).await;
    assert_eq!((up.key, up.from, up.to), ("web-01", Health::Unknown, Health::Up));
    assert_eq!(up.reason, "2 probes in a row passed");
    let state = monitor.reader().get(&"web-01").unwrap();
    assert!(state.latency.is_some() && state.last_error.is_none() && state.health == Health::Up);

    server.stop().await;
    let down = next(&mut changes).await;
    assert_eq!((down.from, down.to), (Health::Up, Health::Down));
    assert!(down.reason.starts_with("3 probes in a row failed, the last: "), "{}", down.reason);
    let state = monitor.reader().all()["web-01"].clone();
    assert!(state.last_error.is_some() && state.consecutive_failures >= 3);
    assert_eq!((state.health, state.since), (Health::Down, down.at));

    let _again = Server::start_at(&address.to_string(), answer("200 OK", "")).await;
    let back = next(&mut changes).await;
    assert_eq!((back.from, back.to), (Health::Down, Health::Up));
}

#[tokio::test]
async fn unknown_is_settled_soon_whatever_the_interval() {
    let server = Server::start(Script::Silence).await;
    let target = refused().await;
    let (mut monitor, mut changes) = monitor();
    let slow = timing(3_600_000, 2, 2);
    monitor.set([
        ("up", tcp(server.address, slow), Health::Unknown),
        ("down", tcp(target, slow), Health::Unknown),
    ]);
    let started = Instant::now();
    let mut seen = HashMap::new();
    for _ in 0..2 {
        let change = next(&mut changes).await;
        seen.insert(change.key, change.to);
    }
    assert_eq!(seen, HashMap::from([("up", Health::Up), ("down", Health::Down)]));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn only_what_changed_is_restarted() {
    let server = Server::start(answer("200 OK", "")).await;
    let target = refused().await;
    let (mut monitor, mut changes) = monitor();
    let reader = monitor.reader();
    let same = ("same", tcp(server.address, timing(20, 1, 1)), Health::Unknown);
    let first = ("moved", tcp(server.address, timing(20, 1, 1)), Health::Unknown);
    monitor.set([same.clone(), first]);
    next(&mut changes).await;
    next(&mut changes).await;
    let since = reader.get(&"same").unwrap().since;

    // Another kind and timing: the health stays, and no change is reported.
    let retimed = ("moved", http(server.address, timing(30, 1, 2)), Health::Unknown);
    monitor.set([same.clone(), retimed]);
    assert_eq!(reader.get(&"moved").unwrap().health, Health::Up);
    none_within(&mut changes, 200).await;
    assert_eq!(reader.get(&"same").unwrap().since, since);

    // Another target: it starts again from the initial health.
    monitor.set([same.clone(), ("moved", tcp(target, timing(20, 1, 1)), Health::Unknown)]);
    assert_eq!(reader.get(&"moved").unwrap().health, Health::Unknown);
    let moved = next(&mut changes).await;
    assert_eq!((moved.key, moved.from, moved.to), ("moved", Health::Unknown, Health::Down));

    monitor.set([same]);
    assert_eq!(reader.all().len(), 1);
    drop(server);
    let last = next(&mut changes).await;
    assert_eq!((last.key, last.to), ("same", Health::Down));
    none_within(&mut changes, 100).await;
}

#[tokio::test]
async fn a_change_survives_a_restart_before_it_was_sent() {
    let target = refused().await;
    let (sender, mut changes) = mpsc::channel(1);
    sender
        .try_send(Change {
            key: "filler",
            from: Health::Unknown,
            to: Health::Unknown,
            reason: String::new(),
            at: SystemTime::now(),
        })
        .unwrap();
    let mut monitor = Monitor::new(sender);
    let reader = monitor.reader();
    monitor.set([("web-01", tcp(target, timing(20, 1, 1)), Health::Up)]);
    while reader.get(&"web-01").unwrap().health != Health::Down {
        sleep(Duration::from_millis(5)).await;
    }
    // The verdict is made, but the channel is full: the task waits, and is replaced while it does.
    monitor.set([("web-01", tcp(target, timing(30, 1, 1)), Health::Up)]);
    assert_eq!(next(&mut changes).await.key, "filler");
    let change = next(&mut changes).await;
    assert_eq!((change.key, change.from, change.to), ("web-01", Health::Up, Health::Down));
    none_within(&mut changes, 150).await;
}

#[tokio::test]
async fn silence_is_a_failure_and_not_the_end_of_the_probe() {
    let server = Server::start(Script::Silence).await;
    let (mut monitor, mut changes) = monitor();
    let mut spec = http(server.address, timing(20, 1, 2));
    spec.timing.timeout = Duration::from_millis(50);
    monitor.set([("web-01", spec, Health::Up)]);
    let down = next(&mut changes).await;
    assert_eq!(down.to, Health::Down);
    assert!(down.reason.contains("timed out after 50ms"), "{}", down.reason);
    let before = server.requests().await.len();
    sleep(Duration::from_millis(400)).await;
    assert!(server.requests().await.len() > before, "the probe goes on");
}

#[tokio::test]
async fn dropping_the_monitor_stops_its_probes() {
    let server = Server::start(answer("200 OK", "")).await;
    let (mut monitor, mut changes) = monitor();
    monitor.set([("web-01", http(server.address, timing(10, 1, 1)), Health::Unknown)]);
    next(&mut changes).await;
    drop(monitor);
    sleep(Duration::from_millis(50)).await;
    let after = server.requests().await.len();
    sleep(Duration::from_millis(150)).await;
    assert_eq!(server.requests().await.len(), after);
}

#[tokio::test]
async fn a_backend_that_flaps_is_held_down_and_returns() {
    let address = refused().await;
    let (mut monitor, mut changes) = monitor();
    let reader = monitor.reader();
    let longest = Duration::from_secs(10);
    let timing = Timing { flap_damping: Some(longest), ..timing(10, 1, 1) };
    monitor.set([("web-01", tcp(address, timing), Health::Up)]);
    let mut falls = 0;
    let held = loop {
        let down = next(&mut changes).await;
        falls += 1;
        assert_eq!(down.to, Health::Down);
        if down.reason.contains("held down") {
            break down;
        }
        let server = Server::start_at(&address.to_string(), Script::Silence).await;
        assert_eq!(next(&mut changes).await.to, Health::Up);
        server.stop().await;
    };
    // Whoever falls once or twice is not held.
    assert!(falls > 2, "{falls}");
    assert!(held.reason.contains(&format!("held down: flapped {falls} times in ")), "{held:?}");

    let server = Server::start_at(&address.to_string(), Script::Silence).await;
    let state = loop {
        let state = reader.get(&"web-01").unwrap();
        if state.consecutive_passes > 2 {
            break state;
        }
        sleep(Duration::from_millis(5)).await;
    };
    assert!(state.held.is_some() && state.health == Health::Down, "{state:?}");
    let back = timeout(longest + PATIENCE, changes.recv()).await.expect("a return").unwrap();
    assert_eq!((back.from, back.to), (Health::Down, Health::Up));
    assert_eq!(reader.get(&"web-01").unwrap().held, None);
    drop(server);
}
