use proptest::prelude::*;

use super::*;

const RAISE: u64 = 5;
const CLEAR: u64 = 20;

fn config() -> Alerts {
    Alerts {
        raise_after: Some(Duration::from_secs(RAISE)),
        clear_after: Some(Duration::from_secs(CLEAR)),
        ..Alerts::default()
    }
}

fn finding(kind: Kind, service: &str, certain: bool) -> Finding {
    Finding {
        kind,
        service: Some(service.to_owned()),
        backend: None,
        certain,
        summary: format!("{service} is {kind}"),
        evidence: BTreeMap::new(),
    }
}

/// A book with a clock that ticks once a second.
struct Play {
    book: Book,
    config: Alerts,
    start: Instant,
    second: u64,
    rose: Vec<u64>,
    cleared: Vec<u64>,
}

impl Play {
    fn new() -> Self {
        let (book, config) = (Book::default(), config());
        Self { book, config, start: Instant::now(), second: 0, rose: vec![], cleared: vec![] }
    }

    /// A second with these findings; tells what changed.
    fn tick(&mut self, findings: Vec<Finding>) -> Vec<Change> {
        let passed = Duration::from_secs(self.second);
        let (now, wall) = (self.start + passed, SystemTime::UNIX_EPOCH + passed);
        let changes = self.book.note(findings, &self.config, now, wall);
        for change in &changes {
            match change {
                Change::Raised(_) => self.rose.push(self.second),
                Change::Cleared(_) => self.cleared.push(self.second),
            }
        }
        self.second += 1;
        changes
    }

    /// A value beside the thresholds: above 1 it is certain, above 0.7 there at all.
    fn value(&mut self, value: f64) {
        let found = (value > 0.7).then(|| finding(Kind::Imbalance, "web", value > 1.0));
        self.tick(found.into_iter().collect());
    }

    fn raised(&self) -> Vec<String> {
        let now = self.start + Duration::from_secs(self.second);
        self.book.raised(&self.config, now).map(|alert| alert.id).collect()
    }
}

#[test]
fn it_rises_when_it_lasts_and_clears_when_it_has_long_been_over() {
    let mut play = Play::new();
    for second in 0..100 {
        play.value(if (10..50).contains(&second) { 2.0 } else { 0.0 });
    }
    assert_eq!((play.rose, play.cleared), (vec![15], vec![70]));
    let cleared: Vec<_> = play.book.cleared().collect();
    assert_eq!(cleared[0].id, "imbalance/web");
    assert_eq!(cleared[0].since, "1970-01-01T00:00:10Z");
    assert_eq!(cleared[0].cleared.as_deref(), Some("1970-01-01T00:01:10Z"));
    assert_eq!(cleared[0].since_seconds, 60);
}

#[test]
fn what_does_not_last_is_no_alert() {
    let mut play = Play::new();
    for second in 0..100 {
        // Below the upper threshold it begins anew.
        play.value(if second % 5 == 4 { 0.8 } else { 2.0 });
    }
    assert_eq!((play.rose.len(), play.cleared.len()), (0, 0));
}

#[test]
fn after_a_restart_it_goes_on_with_its_since() {
    let mut before = Play::new();
    (0..100).for_each(|_| before.value(2.0));
    let now = before.start + Duration::from_secs(before.second);
    let kept: Vec<_> = before.book.raised(&before.config, now).collect();
    let mut play = Play { second: 200, ..Play::new() };
    let resume = |play: &mut Play| {
        let passed = Duration::from_secs(play.second);
        let unknown = Alert { kind: "weather".into(), ..kept[0].clone() };
        let kept = [kept.clone(), vec![unknown]].concat();
        play.book.resume(kept, play.start + passed, SystemTime::UNIX_EPOCH + passed);
    };
    resume(&mut play);
    // Nobody knows at first; then it is seen again, and then it is gone.
    play.tick(vec![]);
    play.tick(vec![Finding { summary: String::new(), ..finding(Kind::Imbalance, "web", false) }]);
    let now = play.start + Duration::from_secs(play.second);
    let alert = play.book.raised(&play.config, now).next().unwrap();
    assert_eq!((alert.since.as_str(), alert.since_seconds), ("1970-01-01T00:00:00Z", 202));
    assert_eq!(alert.summary, "web is imbalance");
    (202..300).for_each(|_| play.value(2.0));
    (300..400).for_each(|_| play.value(0.0));
    assert_eq!((play.rose, play.cleared), (vec![], vec![320]));

    // Its cause was gone already.
    let mut play = Play { second: 200, ..Play::new() };
    play.config.clear_after = Some(Duration::ZERO);
    resume(&mut play);
    (200..300).for_each(|_| play.value(0.0));
    assert_eq!((play.rose, play.cleared), (vec![], vec![205]));
}

#[test]
fn what_cleared_is_told_for_an_hour() {
    let mut play = Play::new();
    for second in 0..4_000 {
        play.value(if second < 10 { 2.0 } else { 0.0 });
        let told = play.book.cleared().count();
        assert_eq!(told, usize::from((30..3_630).contains(&second)), "{second}");
    }
}

#[test]
fn the_most_severe_comes_first() {
    let mut play = Play::new();
    let all = || {
        let kinds = [Kind::ConfigNotApplied, Kind::Imbalance, Kind::AllDown, Kind::BackendDown];
        let findings = kinds.into_iter().flat_map(|kind| ["b", "a"].map(|name| (kind, name)));
        findings.map(|(kind, name)| finding(kind, name, true)).collect::<Vec<_>>()
    };
    for _ in 0..=RAISE {
        play.tick(all());
    }
    let expected = [
        "all-down/a",
        "all-down/b",
        "backend-down/a",
        "backend-down/b",
        "imbalance/a",
        "imbalance/b",
        "config-not-applied/a",
        "config-not-applied/b",
    ];
    assert_eq!(play.raised(), expected);
    play.tick(all().into_iter().rev().collect());
    assert_eq!(play.raised(), expected, "in whatever order they are found");
}

proptest! {
    #[test]
    fn a_value_that_oscillates_around_a_threshold_rises_once(
        values in prop::collection::vec(0.71_f64..1.5, 50..400),
    ) {
        let mut play = Play::new();
        (0..=RAISE).for_each(|_| play.value(2.0));
        for value in &values {
            play.value(*value);
        }
        prop_assert_eq!((play.rose.len(), play.cleared.len()), (1, 0));
    }

    #[test]
    fn so_does_one_that_goes_for_less_than_it_takes_to_clear(
        gaps in prop::collection::vec((1_u64..CLEAR, 1_u64..30), 1..30),
    ) {
        let mut play = Play::new();
        (0..=RAISE).for_each(|_| play.value(2.0));
        for (gap, there) in gaps {
            (0..gap).for_each(|_| play.value(0.0));
            (0..there).for_each(|_| play.value(2.0));
        }
        prop_assert_eq!((play.rose.len(), play.cleared.len()), (1, 0));
    }

    #[test]
    fn it_always_clears_when_its_cause_is_gone(
        values in prop::collection::vec(0.0_f64..3.0, 0..200),
    ) {
        let mut play = Play::new();
        for value in &values {
            play.value(*value);
        }
        (0..=CLEAR).for_each(|_| play.value(0.0));
        prop_assert_eq!(play.raised().len(), 0);
        prop_assert_eq!(play.rose.len(), play.cleared.len());
        prop_assert!(play.book.kept.is_empty());
        // Rising and clearing take their time, whatever the value did.
        for (rose, cleared) in play.rose.iter().zip(&play.cleared) {
            prop_assert!(cleared - rose >= CLEAR);
        }
    }

    #[test]
    fn the_order_does_not_depend_on_that_of_the_findings(
        services in prop::collection::vec("[a-d]", 1..12), seed: u64,
    ) {
        let kinds = [Kind::Drift, Kind::AllDown, Kind::Flapping];
        let findings: Vec<_> = services
            .iter()
            .enumerate()
            .map(|(index, service)| finding(kinds[index % 3], service, true))
            .collect();
        let mut shuffled = findings.clone();
        fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
        let (mut one, mut other) = (Play::new(), Play::new());
        for _ in 0..=RAISE {
            one.tick(findings.clone());
            other.tick(shuffled.clone());
        }
        prop_assert_eq!(one.raised(), other.raised());
    }
}
