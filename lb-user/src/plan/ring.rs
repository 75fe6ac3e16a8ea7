//! Compiles a service's active backends into its ring: a slot is what the scheduler picks.

use std::collections::HashMap;

use super::{
    BackendId,
    maglev::{self, Member},
};
use crate::config::Scheduler;

/// A compiled scheduler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// Backends by slot: in the order of their turns, or as the hash finds them.
    pub slots: Vec<BackendId>,
    /// Each of them once, by their addresses: the same order on every host.
    pub members: Vec<BackendId>,
    /// Whose the slots were before they changed, one for each; empty: nothing changed lately. Connections
    /// that another edge opened, and that no edge here knows yet, go there.
    pub former: Vec<BackendId>,
}

/// How long a ring has been in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Age {
    /// Hardly any connection was opened by it: not worth remembering.
    Young,
    /// Worth remembering when it changes.
    #[default]
    Grown,
    /// So long that what was before needs not be remembered any more.
    Old,
}

impl Ring {
    /// The ring in which these backends take these turns.
    #[must_use]
    pub fn of(slots: Vec<BackendId>) -> Self {
        let mut members = slots.clone();
        members.sort_unstable();
        members.dedup();
        Self { slots, members, former: Vec::new() }
    }

    /// The ring of a scheduler; `table_size` slots for one that hashes.
    #[must_use]
    pub fn compile(scheduler: Scheduler, members: &[Member], table_size: u32) -> Self {
        let slots = match scheduler {
            Scheduler::RoundRobin | Scheduler::LeastConnections | Scheduler::Random => {
                let weights: Vec<_> =
                    members.iter().map(|member| (member.id, member.weight)).collect();
                cycle(&weights)
            }
            Scheduler::Maglev | Scheduler::SourceHash => maglev::table(members, table_size),
        };
        let mut members = members.to_vec();
        members.sort_by_key(|member| member.address);
        let members = members.into_iter().map(|member| member.id).collect();
        Self { slots, members, former: Vec::new() }
    }

    /// Has it remember whose its slots were in the ring before it, whose age is `age`, as far as those are
    /// `usable`.
    #[must_use]
    pub fn after(self, before: &Self, age: Age, usable: impl Fn(BackendId) -> bool) -> Self {
        let length = self.slots.len();
        let owners = match age {
            // What that one remembered itself is older.
            Age::Young | Age::Grown if before.former.len() == length => &before.former,
            Age::Young => return self,
            Age::Grown | Age::Old => &before.slots,
        };
        // They stand behind as much room for the members as there are slots.
        let same = before.former.is_empty() && before.slots == self.slots;
        if same || owners.len() != length || self.members.len() > length {
            return self;
        }
        let owner = |(slot, owner): (&BackendId, &BackendId)| {
            if usable(*owner) { *owner } else { *slot }
        };
        let former: Vec<_> = self.slots.iter().zip(owners).map(owner).collect();
        let former = if former == self.slots { Vec::new() } else { former };
        Self { former, ..self }
    }

    /// The share of the slots that each member has, from 0 to 1: its fair share of new connections.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ring has at most 2^20 slots")]
    pub fn shares(&self) -> HashMap<BackendId, f64> {
        let mut slots = HashMap::with_capacity(self.members.len());
        for id in &self.slots {
            *slots.entry(*id).or_insert(0_usize) += 1;
        }
        let all = self.slots.len() as f64;
        slots.into_iter().map(|(id, slots)| (id, slots as f64 / all)).collect()
    }

    /// Whether it names no backend.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

/// The greatest common divisor; of zero and a number, the number.
pub(super) const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// One weight cycle of these backends. Its length is the sum of the weights over their greatest common
/// divisor: one weight cycle.
///
/// A backend's k-th slot of w wants to stand at (k + ½) / w of the cycle; slots are taken in the
/// order of those wishes, and backends in the given order where wishes are equal.
fn cycle(backends: &[(BackendId, u16)]) -> Vec<BackendId> {
    let divisor = backends.iter().fold(0, |divisor, (_, weight)| gcd(divisor, u64::from(*weight)));
    if divisor == 0 {
        return Vec::new();
    }
    let mut wishes = Vec::new();
    for (index, (id, weight)) in backends.iter().enumerate() {
        let weight = u64::from(*weight) / divisor;
        for turn in 0..weight {
            // Weights are below 2^16, so the fraction fits with 46 bits behind the point.
            wishes.push((((2 * turn + 1) << 46) / (2 * weight), index, *id));
        }
    }
    wishes.sort_unstable_by_key(|(wish, index, _)| (*wish, *index));
    wishes.into_iter().map(|(.., id)| id).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ring(weights: &[u16]) -> Vec<u32> {
        let backends: Vec<_> = (0..).map(BackendId).zip(weights.iter().copied()).collect();
        cycle(&backends).into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn small_rings() {
        assert_eq!(ring(&[]), [] as [u32; 0]);
        assert_eq!(ring(&[7]), [0]);
        assert_eq!(ring(&[1, 1]), [0, 1]);
        assert_eq!(ring(&[2, 2, 4]), [2, 0, 1, 2]);
        assert_eq!(ring(&[3, 1]), [0, 0, 1, 0]);
    }

    #[test]
    fn the_oldest_usable_owner_of_a_slot_is_remembered_until_it_is_settled() {
        let ids = |ids: &[u32]| ids.iter().copied().map(BackendId).collect::<Vec<_>>();
        let ring = |slots: &[u32]| Ring::of(ids(slots));
        let all = |_| true;
        let first = ring(&[0, 1, 0, 1]);
        assert_eq!(first.clone().after(&Ring::default(), Age::Grown, all).former, []);
        assert_eq!(first.clone().after(&first, Age::Grown, all).former, []);
        // As backends come one by one after a start.
        assert_eq!(ring(&[0, 2, 0, 1]).after(&first, Age::Young, all).former, []);
        let second = ring(&[0, 2, 0, 1]).after(&first, Age::Grown, all);
        assert_eq!(second.former, ids(&[0, 1, 0, 1]));
        let third = ring(&[2, 2, 0, 1]).after(&second, Age::Young, all);
        assert_eq!(third.former, ids(&[0, 1, 0, 1]));
        assert_eq!(third.clone().after(&third, Age::Grown, all).former, third.former);
        assert_eq!(third.clone().after(&third, Age::Old, all).former, []);
        // Who is out has no say any more.
        let left = ring(&[2, 2, 0, 0]).after(&third, Age::Grown, |id| id != BackendId(1));
        assert_eq!(left.former, ids(&[0, 2, 0, 0]));
        // Another size is another table.
        assert_eq!(ring(&[0, 1]).after(&third, Age::Grown, all).former, []);
    }

    proptest! {
        #[test]
        fn a_cycle_is_exact_and_spread(weights in prop::collection::vec(1_u16..200, 1..12)) {
            let ring = ring(&weights);
            let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, u64::from(*weight)));
            let total = ring.len() as u64;
            for (id, weight) in (0_u32..).zip(&weights) {
                let wanted = u64::from(*weight) / divisor;
                let mut seen = 0_u64;
                for (position, slot) in (1_u64..).zip(&ring) {
                    seen += u64::from(*slot == id);
                    // Nowhere in the cycle is a backend more than a slot per other backend
                    // away from its share.
                    let fair = position * wanted / total;
                    prop_assert!(seen.abs_diff(fair) <= weights.len() as u64);
                }
                prop_assert_eq!(seen, wanted);
            }
        }
    }
}
