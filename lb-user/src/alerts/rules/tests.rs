use std::time::{Duration, Instant, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::{
    admin::{AdminState, Exception},
    alerts::facts::{BackendFacts, Counts, Drawn, ServiceFacts, TableFacts, WindowFacts},
    api::{
        Peer,
        model::{Delivery, Interface},
    },
};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn up(index: usize) -> BackendFacts<'static> {
    BackendFacts {
        id: Some(BackendId(u32::try_from(index).unwrap())),
        name: NAMES[index],
        weight: 1,
        admitted: true,
        healthy: true,
        active: true,
        ..BackendFacts::default()
    }
}

fn down(index: usize) -> BackendFacts<'static> {
    BackendFacts { healthy: false, active: false, reason: "refused".into(), ..up(index) }
}

fn web(backends: Vec<BackendFacts<'static>>) -> Facts<'static> {
    let web = ServiceFacts { name: "web", min_active: 1, backends, ..ServiceFacts::default() };
    Facts { services: vec![web], ..Facts::default() }
}

fn ids(found: &[Finding]) -> Vec<String> {
    let mut ids: Vec<_> = found
        .iter()
        .map(|finding| {
            let sign = if finding.certain { "" } else { "?" };
            format!("{}{sign} {}", finding.kind, finding.backend.as_deref().unwrap_or_default())
        })
        .map(|id| id.trim().to_owned())
        .collect();
    ids.sort();
    ids
}

/// What is found at once.
#[track_caller]
fn found(facts: &Facts<'_>, expected: &[&str]) -> Vec<Finding> {
    let found = Rules::default().judge(facts, &Alerts::default(), Instant::now());
    assert_eq!(ids(&found), expected);
    found
}

#[test]
fn who_takes_part() {
    found(&web(vec![up(0), up(1)]), &[]);
    found(&web(vec![up(0)]), &[]);
    found(&web(vec![]), &[]);
    found(&web(vec![up(0), up(1), down(2)]), &["backend-down c"]);
    found(&web(vec![up(0), down(1)]), &["backend-down b", "lone-survivor"]);
    found(&web(vec![down(0), down(1)]), &["all-down", "backend-down a", "backend-down b"]);
    // A spare is one more that can take over; whoever is not judged yet may be.
    found(
        &web(vec![up(0), down(1), BackendFacts { is_backup: true, active: false, ..up(2) }]),
        &["backend-down b"],
    );
    let awaited = |backend| BackendFacts { awaited: true, ..backend };
    let found_all =
        found(&web(vec![up(0), awaited(down(1))]), &["backend-down? b", "lone-survivor?"]);
    assert!(found_all.iter().all(|finding| finding.summary.is_empty()), "{found_all:?}");
    // Nor does one that is taken for up because it was say anything, before it is probed.
    found(
        &web(vec![awaited(up(0)), down(1)]),
        &["all-down?", "backend-down b", "backend-down? a", "lone-survivor?"],
    );
    // Who was taken out is not down, but missing.
    let taken_out = BackendFacts { admitted: false, ..down(1) };
    found(&web(vec![up(0), taken_out.clone()]), &["lone-survivor"]);
    let found_all = found(&web(vec![taken_out]), &["all-down"]);
    assert_eq!(found_all[0].evidence["taken_out"], Evidence::Count(1));
    found(&web(vec![up(0), up(1), BackendFacts { lost: true, ..up(2) }]), &["backend-down c"]);
}

#[test]
fn who_was_taken_out_long_ago_or_forever() {
    let since = SystemTime::UNIX_EPOCH;
    let exception = |until| Exception {
        service: "web".into(),
        backend: "c".into(),
        state: AdminState::Drain,
        since,
        until,
        reason: "kernel upgrade".into(),
        by: Peer::of(0),
        discovered: false,
    };
    let timed = exception(Some(since + Duration::from_hours(8)));
    let forever = exception(None);
    let out = |exception, minutes| BackendFacts {
        exception: Some(exception),
        out_for: Duration::from_mins(minutes),
        admitted: false,
        ..up(2)
    };
    let judge = |backend: BackendFacts<'_>, expected: &[&str]| {
        let web = ServiceFacts {
            name: "web",
            backends: vec![up(0), up(1), backend],
            ..ServiceFacts::default()
        };
        found(&Facts { services: vec![web], ..Facts::default() }, expected)
    };
    judge(out(&timed, 59), &[]);
    judge(out(&timed, 60), &["out-of-service c"]);
    let found = judge(out(&forever, 0), &["out-of-service c"]);
    assert_eq!(found[0].evidence["until"], Evidence::Text("forever".into()));
}

fn carrying(index: usize, open: u64, capacity: u32) -> BackendFacts<'static> {
    BackendFacts { open, capacity: Some(capacity), ..up(index) }
}

#[test]
fn who_could_not_carry_the_load_if_one_more_failed() {
    let three = |open, capacity| web((0..3).map(|index| carrying(index, open, capacity)).collect());
    found(&three(0, 100), &[]);
    found(&three(60, 100), &[]);
    found(&three(64, 100), &["no-headroom?"]);
    let judged = found(&three(67, 100), &["no-headroom"]);
    assert_eq!(judged[0].evidence["could_carry"], Evidence::Count(200));
    assert_eq!(judged[0].evidence["left"], Evidence::Count(2));
    // Nobody said what they can carry.
    found(&web((0..3).map(|index| BackendFacts { open: 1_000, ..up(index) }).collect()), &[]);
    // One is left, and has too much now.
    let alone = web(vec![carrying(0, 120, 100), down(1)]);
    found(&alone, &["backend-down b", "lone-survivor", "no-headroom"]);
    // A full one's connections go to those that have room.
    let full = |index| BackendFacts { open: 50, max_connections: Some(100), ..up(index) };
    found(&web(vec![full(0), full(1), full(2)]), &[]);
    found(&web(vec![full(0), full(1)]), &["no-headroom?"]);
    // The heavy one is what the others could not replace.
    let heavy = BackendFacts { weight: 8, ..carrying(0, 80, 1_000) };
    found(&web(vec![heavy, carrying(1, 10, 40), carrying(2, 10, 40)]), &["no-headroom"]);
    // A spare joins.
    let spare = BackendFacts { is_backup: true, active: false, ..carrying(2, 0, 100) };
    found(&web(vec![carrying(0, 45, 100), spare]), &[]);
}

#[test]
fn the_peak_counts_for_a_while() {
    let (mut rules, start) = (Rules::default(), Instant::now());
    let config = Alerts { recent: Duration::from_mins(10), ..Alerts::default() };
    let mut at = |second: u64, open| {
        let facts = web(vec![carrying(0, open, 100), carrying(1, open, 100)]);
        ids(&rules.judge(&facts, &config, start + Duration::from_secs(second)))
    };
    assert!(at(0, 10).is_empty());
    assert_eq!(at(1, 90), ["no-headroom"]);
    for second in 2..=599 {
        assert_eq!(at(second, 10), ["no-headroom"], "{second}");
    }
    assert!(at(640, 10).is_empty());
}

#[test]
fn imbalance_is_held_to_chance() {
    let window = |seconds, connections, index| {
        let (variation, most, fair) = (0.3, "a", 0.5);
        Some(WindowFacts { seconds, connections, index, variation, most, fair })
    };
    let judge = |windows, expected: &[&str]| {
        let web = ServiceFacts { windows, ..web(vec![up(0), up(1)]).services.remove(0) };
        found(&Facts { services: vec![web], ..Facts::default() }, expected)
    };
    judge([window(10, 10, 2.0), None, None], &[]);
    judge([window(10, 10, 1.0), window(60, 10_000, 1.1), None], &[]);
    judge([None, window(60, 100_000, 1.2), None], &["imbalance?"]);
    let found = judge([window(10, 10, 2.0), None, window(600, 10_000, 1.6)], &["imbalance"]);
    assert_eq!(found[0].evidence["window_seconds"], Evidence::Count(600));
}

#[test]
fn imbalance_of_clients_is_held_to_their_number() {
    let judge = |connections, clients: Option<f64>, expected: &[&str]| {
        let (seconds, index, variation, most, fair) = (60, 2.0, 1.0, "a", 0.5);
        let window = WindowFacts { seconds, connections, index, variation, most, fair };
        let mut facts = web(vec![up(0), up(1)]);
        facts.services[0].windows = [None, Some(window), None];
        facts.services[0].drawn = Drawn::Clients(clients);
        found(&facts, expected)
    };
    // One client, or a few, that all happen to go to one backend; and nobody knows yet how many.
    for clients in [None, Some(1.0), Some(5.0), Some(20.0)] {
        judge(100_000, clients, &[]);
    }
    let found = judge(100_000, Some(1_000.0), &["imbalance"]);
    assert_eq!(found[0].evidence["clients"], Evidence::Number(1_000.0));
    assert!(found[0].summary.contains("a client's go the same way"), "{}", found[0].summary);
    // There are never more draws than connections.
    judge(10, Some(1_000.0), &[]);
}

/// A backend whose connections are played a second at a time.
struct Play {
    rules: Rules,
    config: Alerts,
    now: Instant,
    counts: Counts,
}

impl Play {
    fn new() -> Self {
        let (rules, config) = (Rules::default(), Alerts::default());
        let mut play = Self { rules, config, now: Instant::now(), counts: Counts::default() };
        play.second(0, 0, 0);
        play
    }

    /// A second with so many connections, of which some fail, and a bucket of handshakes.
    fn second(&mut self, opened: u64, failed: u64, bucket: usize) -> Vec<String> {
        self.counts.opened += opened;
        self.counts.refused += failed;
        self.counts.handshakes[bucket] += opened - failed.min(opened);
        let backend = BackendFacts { counts: self.counts, ..up(0) };
        let facts = web(vec![backend, up(1)]);
        self.now += Duration::from_secs(1);
        ids(&self.rules.judge(&facts, &self.config, self.now))
    }
}

#[test]
fn failures_are_compared_with_what_was() {
    let mut play = Play::new();
    for _ in 0..120 {
        assert!(play.second(100, 2, 2).is_empty(), "2 % is usual");
    }
    assert!(play.second(100, 8, 2).is_empty(), "one second is not much");
    let rose = (0..20).position(|_| play.second(100, 30, 2) == ["connection-failures a"]);
    assert!(rose.is_some_and(|second| second < 10), "{rose:?}");
    for _ in 0..600 {
        assert_eq!(
            play.second(100, 30, 2),
            ["connection-failures a"],
            "it does not get used to it"
        );
    }
    let cleared = (0..60).position(|_| play.second(100, 2, 2).is_empty());
    assert!(cleared.is_some(), "it is over");
}

#[test]
fn a_few_failures_are_none() {
    let mut play = Play::new();
    for _ in 0..100 {
        assert!(play.second(1, 0, 2).is_empty());
    }
    assert!(play.second(1, 1, 2).is_empty());
    assert!(play.second(1, 1, 2).is_empty());
    // Nobody was there before, and all fail.
    let mut play = Play::new();
    assert_eq!(play.second(10, 10, 2), ["connection-failures a"]);
    // Then nothing comes, and it ends.
    let cleared = (0..120).position(|_| play.second(0, 0, 2).is_empty());
    assert!(cleared.is_some_and(|second| second > 1), "{cleared:?}");
}

#[test]
fn handshakes_are_compared_with_what_was() {
    let mut play = Play::new();
    for _ in 0..60 {
        assert!(play.second(20, 0, 1).is_empty());
    }
    // Ten times as long, and still fast.
    for _ in 0..30 {
        assert!(play.second(20, 0, 4).is_empty());
    }
    let mut play = Play::new();
    for _ in 0..60 {
        play.second(20, 0, 5);
    }
    let rose = (0..30).position(|_| play.second(20, 0, 9) == ["slow-handshakes a"]);
    assert!(rose.is_some(), "it rose");
    for _ in 0..600 {
        assert_eq!(play.second(20, 0, 9), ["slow-handshakes a"]);
    }
    let cleared = (0..60).position(|_| play.second(20, 0, 5).is_empty());
    assert!(cleared.is_some());
}

#[test]
fn falls_and_holds_are_flapping() {
    let (mut rules, config) = (Rules::default(), Alerts::default());
    let mut now = Instant::now();
    let mut last = Vec::new();
    for turn in 0..6 {
        let backend = if turn % 2 == 0 { up(2) } else { down(2) };
        now += Duration::from_secs(10);
        last = ids(&rules.judge(&web(vec![up(0), up(1), backend]), &config, now));
    }
    assert_eq!(last, ["backend-down c", "flapping c"]);
    now += config.recent + Duration::from_secs(5);
    assert!(rules.judge(&web(vec![up(0), up(1), up(2)]), &config, now).is_empty());
    let held = BackendFacts { held: true, ..down(2) };
    found(&web(vec![up(0), up(1), held]), &["backend-down c", "flapping c"]);
}

#[test]
fn the_host() {
    let problem = Some("is missing".to_owned());
    let eth9 = Interface { name: "eth9".into(), mode: "none".into(), problem };
    found(&Facts { interfaces: vec![eth9], ..Facts::default() }, &["interface-lost"]);
    let edited = Some(("/etc/evenkeel/evenkeel.toml", "was edited"));
    found(&Facts { edited, ..Facts::default() }, &["config-not-applied"]);
    let late = Duration::from_secs(2);
    found(&Facts { look_late: late, ..Facts::default() }, &["probes-late"]);
    found(&Facts { probe_late: late / 4, ..Facts::default() }, &[]);
    let table = |entries| Facts {
        table: TableFacts { entries, room: 100, refused: 0 },
        ..Facts::default()
    };
    found(&table(69), &[]);
    found(&table(75), &["table-pressure?"]);
    found(&table(80), &["table-pressure"]);
    let delivery = Delivery {
        target: "webhook http://127.0.0.1:1/".into(),
        failed_in_a_row: 3,
        problem: Some("refused".into()),
        ..Delivery::default()
    };
    let failing = Facts { deliveries: vec![delivery], ..Facts::default() };
    found(&failing, &["delivery-failed"]);
}

#[test]
fn what_is_over_at_once_is_told_for_a_while() {
    let (mut rules, config, start) = (Rules::default(), Alerts::default(), Instant::now());
    let mut at = |second: u64, repairs, refused, late| {
        let facts = Facts {
            repairs,
            repaired: "service web",
            table: TableFacts { entries: 0, room: 100, refused },
            look_late: Duration::from_secs(late),
            ..Facts::default()
        };
        ids(&rules.judge(&facts, &config, start + Duration::from_secs(second)))
    };
    assert!(at(0, 7, 7, 0).is_empty(), "what was before is not news");
    assert_eq!(at(1, 8, 9, 3), ["drift", "probes-late", "table-pressure"]);
    assert_eq!(at(50, 8, 9, 0), ["drift", "probes-late", "table-pressure"]);
    assert_eq!(at(65, 8, 9, 0), ["drift"]);
    assert_eq!(at(600, 8, 9, 0), ["drift"]);
    assert!(at(605, 8, 9, 0).is_empty());
}

proptest! {
    #[test]
    fn whatever_failed_is_forgotten(
        seconds in prop::collection::vec((0_u64..500, 0_u64..500, 0_usize..16), 0..60),
    ) {
        let mut play = Play::new();
        for (opened, failed, bucket) in seconds {
            play.second(opened, failed.min(opened), bucket);
        }
        let cleared = (0..200).any(|_| play.second(0, 0, 0).is_empty());
        prop_assert!(cleared);
    }
}
