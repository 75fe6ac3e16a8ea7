use std::collections::BTreeMap;

use super::*;
use crate::{
    config::Protocol,
    plan::{BackendEntry, Ring, ServiceEntry, ServiceKey},
};

const SERVICE: ServiceId = ServiceId(1);

/// A service whose ring has these backends in these turns.
fn tables(slots: &[u32]) -> Tables {
    let address = "192.0.2.10:80".parse().unwrap();
    let service = ServiceEntry {
        name: "web".to_owned(),
        key: ServiceKey { address, protocol: Protocol::Tcp },
        policy: None,
        ring: Ring::of(slots.iter().map(|id| BackendId(*id)).collect()),
        live: true,
    };
    let backend = |id: u32| {
        let name = format!("web-{id}");
        let entry = BackendEntry::new("web".to_owned(), name, address, Protocol::Tcp);
        (BackendId(id), BackendEntry { service_id: SERVICE, live: true, ..entry })
    };
    Tables {
        services: BTreeMap::from([(SERVICE, service)]),
        backends: (1..=3).map(backend).collect(),
        ..Tables::default()
    }
}

struct Scene {
    windows: Windows,
    counters: HashMap<BackendId, BackendCounters>,
    tables: Tables,
    revision: u64,
    now: Instant,
}

impl Scene {
    fn new(slots: &[u32]) -> Self {
        Self {
            windows: Windows::default(),
            counters: (1..=3).map(|id| (BackendId(id), BackendCounters::default())).collect(),
            tables: tables(slots),
            revision: 1,
            now: Instant::now(),
        }
    }

    fn change(&mut self, slots: &[u32]) {
        self.tables = tables(slots);
        self.revision += 1;
        self.look();
    }

    fn look(&mut self) {
        let Self { windows, counters, tables, revision, now } = self;
        windows.observe(*now, counters, tables, |_| *revision);
    }

    /// Passes seconds in which connections come to the backends, as many to each in every second.
    fn pass(&mut self, seconds: u64, came: &[(u32, u64)]) {
        self.look();
        for _ in 0..seconds * 4 {
            self.now += Duration::from_millis(250);
            for (id, count) in came {
                let counters = self.counters.get_mut(&BackendId(*id)).unwrap();
                counters.opened += count / 4;
                counters.bytes_in += count * 10;
            }
            self.look();
        }
    }

    /// The windows of the service.
    fn windows(&self) -> Vec<Window> {
        let names = ["web-1", "web-2", "web-3"];
        let backends: Vec<_> = names.into_iter().zip((1..).map(|id| Some(BackendId(id)))).collect();
        of_service(&self.windows.totals(), &backends)
    }
}

#[track_caller]
fn near(found: Option<f64>, known: f64) {
    let found = found.expect("nothing is known");
    assert!((found - known).abs() < 1e-6, "{found} is not {known}");
}

#[test]
fn windows_are_as_long_as_they_are_called_and_no_longer() {
    let mut scene = Scene::new(&[1, 2]);
    scene.pass(3, &[(1, 40), (2, 40)]);
    for window in scene.windows() {
        assert_eq!((window.connections, window.covers), (240, 3.0), "{}", window.seconds);
    }
    for _ in 0..800 {
        scene.pass(1, &[(1, 40), (2, 40)]);
        for window in scene.windows() {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let (seconds, came) = (window.seconds as f64, window.connections as f64);
            assert!(window.covers <= seconds, "{window:?}");
            assert!((came - window.covers * 80.0).abs() < 1e-6, "{window:?}");
        }
    }
    for (window, least) in scene.windows().iter().zip([8.0, 50.0, 480.0]) {
        assert!(window.covers >= least, "{window:?}");
    }
    // Then nothing comes, and in the end nothing is left.
    scene.pass(10, &[]);
    assert_eq!(scene.windows()[0].connections, 0);
    assert_eq!(scene.windows()[0].index, None, "nothing is no balance");
    scene.pass(600, &[]);
    assert!(scene.windows().iter().all(|window| window.connections == 0));
}

#[test]
fn shares_are_held_to_the_weights() {
    // Three turns of four are the first one's.
    let mut scene = Scene::new(&[1, 1, 2, 1]);
    scene.pass(8, &[(1, 120), (2, 40)]);
    let window = &scene.windows()[0];
    near(window.index, 1.0);
    near(window.variation, 0.0);
    near(Some(window.backends[0].fair), 0.75);
    near(Some(window.backends[0].share), 0.75);

    let mut scene = Scene::new(&[1, 1, 2, 1]);
    scene.pass(8, &[(1, 80), (2, 80)]);
    let window = &scene.windows()[0];
    near(window.index, 2.0);
    near(Some(window.backends[1].share), 0.5);
    near(Some(window.backends[1].fair), 0.25);
    near(Some(window.backends[1].bytes_share), 0.5);
    assert_eq!(window.backends[2].connections, 0);
}

#[test]
fn who_joins_or_leaves_is_held_to_its_share_of_that_time() {
    let mut scene = Scene::new(&[1]);
    scene.pass(4, &[(1, 120)]);
    scene.change(&[1, 2, 3]);
    scene.pass(4, &[(1, 40), (2, 40), (3, 40)]);
    let window = &scene.windows()[0];
    assert_eq!(window.connections, 960);
    near(window.index, 1.0);
    near(Some(window.backends[0].fair), 2.0 / 3.0);
    scene.change(&[2]);
    // It goes on getting them though it has left: more than its share.
    scene.pass(2, &[(1, 120)]);
    assert!(scene.windows()[0].index.unwrap() > 1.2, "{:?}", scene.windows()[0]);
}

#[test]
fn what_was_counted_before_is_not_of_now() {
    let mut scene = Scene::new(&[1, 2]);
    scene.counters.get_mut(&BackendId(1)).unwrap().opened = 1_000_000;
    scene.pass(1, &[(1, 4), (2, 4)]);
    assert_eq!(scene.windows()[0].connections, 8);
    // Its id is another backend's now, whose counters begin at zero.
    scene.counters.insert(BackendId(1), BackendCounters::default());
    scene.pass(1, &[(1, 4), (2, 4)]);
    assert_eq!(scene.windows()[0].connections, 16);
}

#[test]
fn handshake_times_are_interpolated() {
    let mut amount = Amount::default();
    assert_eq!(amount.quantile(0.5), None);
    // 64 to 128 microseconds, and 1 to 2 milliseconds.
    (amount.handshakes[1], amount.handshakes[5]) = (90, 10);
    assert_eq!(amount.quantile(0.45), Some(96));
    assert_eq!(amount.quantile(0.9), Some(128));
    assert_eq!(amount.quantile(0.95), Some(1536));
    assert_eq!(amount.quantile(1.0), Some(2048));
}
