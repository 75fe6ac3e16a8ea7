//! One change of a fleet that stands still otherwise: an edge fails, a backend fails, a backend is added.

use crate::{
    fleet::{Fleet, Loss},
    router::Ecmp,
    scheme::Scheme,
    series::{Panel, Series},
};

/// Connections that are open.
const OPEN: usize = 20_000;
/// Numbers of edges, of which one fails.
const EDGES: [usize; 7] = [2, 3, 4, 6, 8, 12, 16];
/// Backends behind them.
const BACKENDS: u32 = 20;
/// Numbers of backends, of which one fails, or to which one is added.
const SIZES: [u32; 8] = [2, 4, 8, 16, 32, 64, 128, 256];

/// What breaks when one edge fails: of its connections, and of those that the router moves beside. A backend was
/// added while they were open, so the hashes are no longer those by which they were placed.
pub fn edges(seed: u64) -> Vec<Panel> {
    let panel = |ecmp: Ecmp| Panel {
        title: ecmp.name().to_owned(),
        axes: ["edges before", "broken connections, % of all open"],
        steps: true,
        from: 0.0,
        to: 105.0,
        series: Scheme::ALL.map(|scheme| edge_fails(scheme, ecmp, seed)).into(),
    };
    Ecmp::ALL.map(panel).into()
}

fn edge_fails(scheme: Scheme, ecmp: Ecmp, seed: u64) -> Series {
    let point = |edges: usize| {
        let mut fleet = filled(scheme, ecmp, edges, BACKENDS, seed);
        fleet.add_backend(BACKENDS);
        let lost = fleet.lose_edge(edges / 2);
        (real(edges), percent(lost.broken, lost.open))
    };
    Series { points: EDGES.map(point).into(), ..Series::of(scheme) }
}

/// What would go to another backend where no edge knows it, when a backend fails and when one is added.
pub fn backends(seed: u64) -> Vec<Panel> {
    let panel = |title: &str, change: fn(&mut Fleet, u32) -> Loss, floor: fn(f64) -> f64| {
        let mut series: Vec<_> =
            Scheme::ALL.map(|scheme| backend_changes(scheme, change, seed)).into();
        let least = SIZES.map(|backends| (f64::from(backends), floor(f64::from(backends))));
        series.push(Series { name: "least possible", scheme: None, points: least.into() });
        Panel {
            title: title.to_owned(),
            axes: ["backends before", "connections that get another backend, %"],
            steps: true,
            from: 0.0,
            to: 105.0,
            series,
        }
    };
    vec![
        panel("one fails", |fleet, backends| fleet.lose_backend(backends / 2), |n| 100.0 / n),
        panel("one is added", Fleet::add_backend, |n| 100.0 / (n + 1.0)),
    ]
}

fn backend_changes(scheme: Scheme, change: fn(&mut Fleet, u32) -> Loss, seed: u64) -> Series {
    let point = |backends: u32| {
        let mut fleet = filled(scheme, Ecmp::Plain, 2, backends, seed);
        let lost = change(&mut fleet, backends);
        let moved = fleet.forget_all().broken + lost.with_backend;
        (f64::from(backends), percent(moved, lost.open))
    };
    Series { points: SIZES.map(point).into(), ..Series::of(scheme) }
}

fn filled(scheme: Scheme, ecmp: Ecmp, edges: usize, backends: u32, seed: u64) -> Fleet {
    let mut fleet = Fleet::new(scheme, ecmp, edges, backends, seed);
    for _ in 0..OPEN {
        fleet.open(u64::MAX);
    }
    fleet
}

fn percent(part: usize, whole: usize) -> f64 {
    100.0 * real(part) / real(whole)
}

#[expect(clippy::cast_precision_loss, reason = "counts of simulated connections")]
const fn real(count: usize) -> f64 {
    count as f64
}
