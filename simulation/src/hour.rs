//! An hour of a fleet in which edges and backends fail and come back: the same clients and the same failures for
//! every scheme.

use std::collections::{HashMap, VecDeque};

use crate::{
    fleet::{Fleet, Loss},
    router::Ecmp,
    scheme::Scheme,
    series::{Panel, Series},
};

/// Seconds that are simulated.
const SECONDS: u64 = 3600;
/// New connections a second.
const RATE: usize = 100;
/// The longest that one lasts, in seconds; all times up to it are as likely.
const LONGEST: u64 = 240;
/// Edges, and backends.
const EDGES: usize = 4;
const BACKENDS: u32 = 20;
/// How often an edge and a backend fail, in seconds on average, and for how long they are away.
const EDGE_FAILS: u64 = 600;
const BACKEND_FAILS: u64 = 240;
const AWAY: u64 = 90;
/// When two backends are added for good.
const GROWS: [u64; 2] = [1200, 2400];
/// The windows of the imbalance index, in seconds: two of those that `evenkeel status` has.
const WINDOWS: [usize; 2] = [60, 600];
/// Seconds between two points.
const STEP: u64 = 20;

/// What came of it.
pub struct Hour {
    /// Connections that broke though their backend worked, added up; a panel for each kind of router.
    pub broken: Vec<Panel>,
    /// The imbalance index of new connections, a panel for each window.
    pub imbalance: Vec<Panel>,
}

/// What happens, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    EdgeFails(usize),
    EdgeReturns(usize),
    BackendFails(u32),
    BackendJoins(u32),
}

/// Simulates the hour for every scheme behind both kinds of routers.
pub fn simulate(seed: u64) -> Hour {
    let events = events(seed);
    let runs = Ecmp::ALL.map(|ecmp| Scheme::ALL.map(|scheme| run(scheme, ecmp, &events, seed)));
    let broken: Vec<Vec<_>> =
        runs.iter().map(|run| run.iter().map(|run| run.broken.clone()).collect()).collect();
    let broken = Ecmp::ALL.into_iter().zip(broken).map(|(ecmp, series)| Panel {
        title: ecmp.name().to_owned(),
        axes: ["minutes", "broken connections so far, thousands"],
        steps: false,
        from: 0.0,
        to: above(&runs, |run| &run.broken, 10.0),
        series,
    });
    // Which router it is makes no difference to new connections.
    let [behind_plain, _] = &runs;
    let imbalance = ["last minute", "last ten minutes"].into_iter().enumerate();
    let imbalance = imbalance.map(|(window, name)| Panel {
        title: format!("new connections of the {name}"),
        axes: ["minutes", "imbalance index: largest share over fair share"],
        steps: false,
        from: 1.0,
        to: above(&runs, |run| &run.imbalance[0], 0.1),
        series: behind_plain.iter().map(|run| run.imbalance[window].clone()).collect(),
    });
    Hour { broken: broken.collect(), imbalance: imbalance.collect() }
}

/// The next round number above all points.
fn above(runs: &[[Run; 3]], of: impl Fn(&Run) -> &Series, round: f64) -> f64 {
    let points = runs.iter().flatten().flat_map(|run| &of(run).points);
    (points.map(|(_, y)| *y).fold(0.0, f64::max) / round).ceil() * round
}

/// The failures of the hour, each with its second.
fn events(seed: u64) -> Vec<(u64, Event)> {
    let mut random = fastrand::Rng::with_seed(seed ^ 0x6661_696c);
    let mut events = Vec::new();
    let mut away = HashMap::new();
    for second in 60..SECONDS - AWAY {
        if random.u64(..EDGE_FAILS) == 0 {
            let edge = random.usize(..EDGES);
            // One at a time, and not one that is away.
            if away.get(&None).is_none_or(|until| *until < second) {
                away.insert(None, second + AWAY);
                events.push((second, Event::EdgeFails(edge)));
                events.push((second + AWAY, Event::EdgeReturns(edge)));
            }
        }
        if random.u64(..BACKEND_FAILS) == 0 {
            let backend = random.u32(..BACKENDS);
            if away.get(&Some(backend)).is_none_or(|until| *until < second) {
                away.insert(Some(backend), second + AWAY);
                events.push((second, Event::BackendFails(backend)));
                events.push((second + AWAY, Event::BackendJoins(backend)));
            }
        }
    }
    events
        .extend(GROWS.into_iter().zip(BACKENDS..).map(|(at, new)| (at, Event::BackendJoins(new))));
    events.sort_unstable();
    events
}

/// What came of a scheme, over the minutes.
#[derive(Clone, Debug)]
struct Run {
    broken: Series,
    imbalance: [Series; 2],
}

fn run(scheme: Scheme, ecmp: Ecmp, events: &[(u64, Event)], seed: u64) -> Run {
    let mut fleet = Fleet::new(scheme, ecmp, EDGES, BACKENDS, seed);
    let mut lengths = fastrand::Rng::with_seed(seed ^ 0x6c65_6e67);
    let mut windows = WINDOWS.map(Window::new);
    let mut events = events.iter().peekable();
    let mut broken = 0;
    let mut run =
        Run { broken: Series::of(scheme), imbalance: [(); 2].map(|()| Series::of(scheme)) };
    for second in 0..=SECONDS {
        while let Some((_, event)) = events.next_if(|(at, _)| *at == second) {
            fleet.end(second);
            broken += happen(&mut fleet, *event).broken;
        }
        let ends = |lengths: &mut fastrand::Rng| second + 1 + lengths.u64(..LONGEST);
        let opened: Vec<_> = (0..RATE).map(|_| fleet.open(ends(&mut lengths))).collect();
        for window in &mut windows {
            window.note(&opened, fleet.active());
        }
        if second % STEP == 0 {
            fleet.end(second);
            let minutes = f64::from(u32::try_from(second).unwrap_or(u32::MAX)) / 60.0;
            run.broken.points.push((minutes, real(broken) / 1000.0));
            for (series, window) in run.imbalance.iter_mut().zip(&windows) {
                if window.is_full() {
                    series.points.push((minutes, window.index()));
                }
            }
        }
    }
    run
}

fn happen(fleet: &mut Fleet, event: Event) -> Loss {
    match event {
        Event::EdgeFails(edge) => fleet.lose_edge(edge),
        Event::EdgeReturns(edge) => fleet.regain_edge(edge),
        Event::BackendFails(backend) => fleet.lose_backend(backend),
        Event::BackendJoins(backend) => fleet.add_backend(backend),
    }
}

/// The new connections of the last seconds, by backend, beside what their fair share was at the time: the index is
/// what `evenkeel status` tells.
struct Window {
    length: usize,
    seconds: VecDeque<Vec<(u32, Share)>>,
    sums: HashMap<u32, Share>,
}

/// What came to a backend, and what its fair share of it was.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    came: f64,
    fair: f64,
}

impl Window {
    fn new(length: usize) -> Self {
        Self { length, seconds: VecDeque::new(), sums: HashMap::new() }
    }

    fn note(&mut self, opened: &[u32], active: &[u32]) {
        let fair = real(opened.len()) / real(active.len());
        let shares = active.iter().map(|backend| {
            let came = opened.iter().filter(|other| *other == backend).count();
            (*backend, Share { came: real(came), fair })
        });
        let shares: Vec<_> = shares.collect();
        for (backend, share) in &shares {
            let sum = self.sums.entry(*backend).or_default();
            sum.came += share.came;
            sum.fair += share.fair;
        }
        self.seconds.push_back(shares);
        if self.seconds.len() > self.length {
            for (backend, share) in self.seconds.pop_front().unwrap_or_default() {
                let sum = self.sums.entry(backend).or_default();
                sum.came -= share.came;
                sum.fair -= share.fair;
            }
        }
    }

    fn is_full(&self) -> bool {
        self.seconds.len() == self.length
    }

    fn index(&self) -> f64 {
        // One that was away all the time has next to nothing left over from the subtractions.
        let due = self.sums.values().filter(|share| share.fair > 0.001);
        due.map(|share| share.came / share.fair).fold(0.0, f64::max)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of simulated connections")]
const fn real(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maglev_loses_a_fraction_and_round_robin_is_even() {
        let hour = simulate(1);
        let last = |panel: &Panel, scheme: usize| panel.series[scheme].points.last().unwrap().1;
        for panel in &hour.broken {
            let [round_robin, modulo, maglev] = [0, 1, 2].map(|scheme| last(panel, scheme));
            assert!(maglev * 3.0 < modulo && modulo < round_robin, "{panel}");
        }
        // Nearly all the time: whoever has just joined is due few connections, of which one more is much.
        let usual = |scheme: usize| {
            let points = hour.imbalance[0].series[scheme].points.iter();
            let mut indexes: Vec<_> = points.map(|(_, index)| *index).collect();
            indexes.sort_by(f64::total_cmp);
            indexes[indexes.len() / 2]
        };
        assert!(usual(0) < 1.02, "round-robin: {}", usual(0));
        assert!(usual(2) > 1.04 && usual(2) < 1.2, "maglev: {}", usual(2));
    }

    #[test]
    fn the_index_holds_a_share_to_the_backends_of_its_time() {
        let mut window = Window::new(60);
        window.note(&[0, 1], &[0, 1]);
        window.note(&[0, 0], &[0]);
        assert!((window.index() - 1.0).abs() < 1e-9);
        window.note(&[0, 0, 0, 1], &[0, 1]);
        assert!((window.index() - 6.0 / 5.0).abs() < 1e-9, "{}", window.index());
    }
}
