//! Keeping the program's counts of connections true to the connection table.
//!
//! The program counts each backend's open and established connections as they come and go. Should a
//! count ever be wrong, it would stay wrong: least-connections would avoid a backend for good, or
//! `max_connections` close it. So each walk over the table is compared with the counts. A walk takes
//! time, and packets go on meanwhile: what it finds is off by no more than what was opened and closed
//! during the walk, so a difference beyond that is an error, under any traffic. Nothing here decides
//! when to walk.

use std::{
    collections::{HashMap, HashSet},
    os::fd::AsFd as _,
};

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Map, MapData, PerCpuArray};
use bytemuck::Zeroable as _;
use lb_common::{backend::BackendState, counters::BackendCounters, names};

use super::{Maps, Raw};
use crate::{bpf, plan::BackendId};

/// Backends read by one system call.
const BATCH: usize = 4096;

/// What has to be added to a backend's counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Correction {
    /// The backend.
    pub backend: BackendId,
    /// To its open connections.
    pub open: i64,
    /// To its established ones.
    pub established: i64,
}

/// Open connections, and those of them that are established; or by how many either is wrong.
type Pair = (i64, i64);

/// What the last walk made doubtful.
#[derive(Debug, Default)]
pub struct Drift {
    suspects: HashMap<BackendId, Pair>,
}

/// The counts at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Of all backends that have any.
    counts: HashMap<BackendId, Pair>,
    /// Connections of suspects opened and closed so far.
    passed: HashMap<BackendId, Pair>,
}

/// The program's counts, to be read.
pub(super) struct Ledger {
    states: MapData,
    counters: PerCpuArray<MapData, Raw<BackendCounters>>,
}

impl Ledger {
    pub(super) fn new(maps: &Maps) -> Result<Self> {
        let share = |name: &str| match maps.get(name) {
            Some(Map::Array(map) | Map::PerCpuArray(map)) => {
                let fd = map.fd().as_fd().try_clone_to_owned()?;
                MapData::from_fd(fd).with_context(|| format!("share map {name}"))
            }
            _ => Err(anyhow!("the program has no array {name}")),
        };
        let counters = Map::PerCpuArray(share(names::BACKEND_COUNTERS)?);
        Ok(Self { states: share(names::BACKEND_STATES)?, counters: counters.try_into()? })
    }

    pub(super) fn read(&self, drift: &Drift) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        bpf::read_all::<u32, BackendState>(self.states.fd().as_fd(), BATCH, |ids, states| {
            for (id, state) in ids.iter().zip(states) {
                if (state.open, state.established) != (0, 0) {
                    let counts = (state.open.cast_signed(), state.established.cast_signed());
                    snapshot.counts.insert(BackendId(*id), counts);
                }
            }
        })
        .context("read the counts of connections")?;
        for id in drift.suspects.keys() {
            let mut sum = BackendCounters::zeroed();
            for cpu in self.counters.get(&id.0, 0)?.iter() {
                sum.add(&cpu.0);
            }
            let passed = (sum.opened.cast_signed(), sum.closed.cast_signed());
            snapshot.passed.insert(*id, passed);
        }
        Ok(snapshot)
    }
}

impl Drift {
    /// Compares the counts before and after a walk with what the walk found. A backend that was
    /// doubtful already is corrected by what both walks agree on, and by no more than is proved.
    pub(super) fn judge(
        &mut self,
        before: &Snapshot,
        found: &HashMap<BackendId, (u64, u64)>,
        after: &Snapshot,
    ) -> Vec<Correction> {
        let mut corrections = Vec::new();
        let mut suspects = HashMap::new();
        let ids: HashSet<_> = before.counts.keys().chain(found.keys()).copied().collect();
        for id in ids {
            let counted = before.counts.get(&id).copied().unwrap_or_default();
            let (open, established) = found.get(&id).copied().unwrap_or_default();
            let difference =
                (counted.0 - open.cast_signed(), counted.1 - established.cast_signed());
            if difference == (0, 0) {
                continue;
            }
            let proved = self.suspects.get(&id).and_then(|first| {
                let (opened, closed) = passed(before, after, id)?;
                let later = after.counts.get(&id).copied().unwrap_or_default();
                // Each confirmation counts up, and each end of a confirmed one down.
                let confirmed = (later.1 - counted.1 + closed).max(0);
                Some((
                    agreed(first.0, difference.0, closed, opened),
                    agreed(first.1, difference.1, closed, confirmed),
                ))
            });
            match proved {
                Some((0, 0)) | None => {
                    suspects.insert(id, difference);
                }
                Some((open, established)) => {
                    let (open, established) = (-open, -established);
                    corrections.push(Correction { backend: id, open, established });
                }
            }
        }
        self.suspects = suspects;
        corrections
    }
}

/// Connections of a backend opened and closed from one moment to another; `None` where that cannot be
/// told, because the backend is another one by now.
fn passed(before: &Snapshot, after: &Snapshot, id: BackendId) -> Option<Pair> {
    let (before, after) = (before.passed.get(&id)?, after.passed.get(&id)?);
    let passed = (after.0 - before.0, after.1 - before.1);
    (passed.0 >= 0 && passed.1 >= 0).then_some(passed)
}

/// By how many a count is wrong at the least, where two walks found it wrong by `first` and `second`,
/// and during the second up to `left` connections may have gone unseen after they were counted, and
/// up to `came` been seen before.
fn agreed(first: i64, second: i64, left: i64, came: i64) -> i64 {
    let (least, most) = (second - left, second + came);
    if first > 0 && least > 0 {
        first.min(least)
    } else if first < 0 && most < 0 {
        first.max(most)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: BackendId = BackendId(7);

    fn snapshot(counts: Pair, passed: Pair) -> Snapshot {
        Snapshot { counts: [(ID, counts)].into(), passed: [(ID, passed)].into() }
    }

    /// Two walks: counts, what is found, then counts before, what is found, counts after, and what
    /// passed meanwhile.
    fn two(first: [Pair; 2], second: [Pair; 3], during: Pair) -> Vec<Correction> {
        let found = |pair: Pair| [(ID, (pair.0.cast_unsigned(), pair.1.cast_unsigned()))].into();
        let mut drift = Drift::default();
        let once = snapshot(first[0], (0, 0));
        assert_eq!(drift.judge(&once, &found(first[1]), &once), []);
        let before = snapshot(second[0], (100, 90));
        let after = snapshot(second[2], (100 + during.0, 90 + during.1));
        drift.judge(&before, &found(second[1]), &after)
    }

    #[test]
    fn what_two_quiet_walks_find_is_corrected() {
        let wrong = two([(9, 3), (5, 4)], [(9, 3), (5, 4), (9, 3)], (0, 0));
        assert_eq!(wrong, [Correction { backend: ID, open: -4, established: 1 }]);
        assert_eq!(two([(5, 4), (5, 4)], [(5, 4), (5, 4), (5, 4)], (0, 0)), []);
    }

    #[test]
    fn a_count_below_zero_is_corrected() {
        let wrong = two([(-2, -1), (0, 0)], [(-2, -1), (0, 0), (-2, -1)], (0, 0));
        assert_eq!(wrong, [Correction { backend: ID, open: 2, established: 1 }]);
    }

    #[test]
    fn what_passed_during_the_walk_proves_nothing() {
        // Three connections came after the count, and the walk saw them.
        assert_eq!(two([(5, 0), (8, 0)], [(5, 0), (8, 0), (8, 0)], (3, 0)), []);
        // Three went after the count, before the walk came to them.
        assert_eq!(two([(8, 0), (5, 0)], [(8, 0), (5, 0), (5, 0)], (0, 3)), []);
        // Two were confirmed.
        assert_eq!(two([(5, 1), (5, 3)], [(5, 1), (5, 3), (5, 3)], (0, 0)), []);
        // And where more differ than passed, the rest is wrong.
        let wrong = two([(20, 0), (5, 0)], [(20, 0), (5, 0), (17, 0)], (0, 3));
        assert_eq!(wrong, [Correction { backend: ID, open: -12, established: 0 }]);
    }

    #[test]
    fn walks_that_disagree_prove_nothing() {
        assert_eq!(two([(9, 0), (5, 0)], [(5, 0), (9, 0), (5, 0)], (0, 0)), []);
        let less = two([(6, 0), (5, 0)], [(9, 0), (5, 0), (9, 0)], (0, 0));
        assert_eq!(less, [Correction { backend: ID, open: -1, established: 0 }]);
    }

    #[test]
    fn a_backend_that_began_anew_is_not_judged() {
        assert_eq!(two([(9, 0), (5, 0)], [(9, 0), (5, 0), (9, 0)], (-100, -90)), []);
    }
}
