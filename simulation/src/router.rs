//! The router before the edges: equal-cost multipath by a hash of its own, in the two ways that routers have.

/// How a router finds a flow's next hop when they change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecmp {
    /// The hash modulo the number of next hops: nearly all flows move.
    Plain,
    /// A table of buckets of which only those of the one that left, or for the one that came, move.
    Resilient,
}

impl Ecmp {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Resilient];

    /// What a panel calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain ECMP",
            Self::Resilient => "resilient ECMP",
        }
    }
}

/// Buckets of a resilient table, as many as hardware has them for a few next hops.
const BUCKETS: usize = 1024;

/// The router's table.
#[derive(Clone, Debug)]
pub struct Router {
    ecmp: Ecmp,
    edges: Vec<usize>,
    buckets: Vec<usize>,
}

impl Router {
    /// One that knows the edges `0..edges`.
    pub fn new(ecmp: Ecmp, edges: usize) -> Self {
        let buckets = (0..BUCKETS).map(|bucket| bucket % edges).collect();
        Self { ecmp, edges: (0..edges).collect(), buckets }
    }

    /// The edge that a flow goes to, by the router's hash of it.
    pub fn next_hop(&self, hash: u64) -> usize {
        let hash = usize::try_from(hash >> 32).unwrap_or_default();
        match self.ecmp {
            Ecmp::Plain => self.edges[hash % self.edges.len()],
            Ecmp::Resilient => self.buckets[hash % BUCKETS],
        }
    }

    /// An edge's address is withdrawn. The last one stays.
    pub fn withdraw(&mut self, edge: usize) {
        self.edges.retain(|known| *known != edge);
        let left = self.edges.len();
        let orphans = self.buckets.iter_mut().filter(|owner| **owner == edge);
        for (turn, owner) in orphans.enumerate() {
            *owner = self.edges[turn % left];
        }
    }

    /// An edge announces the address again.
    pub fn announce(&mut self, edge: usize) {
        self.edges.push(edge);
        self.edges.sort_unstable();
        // It takes from those that have more than their share, one bucket each in turn.
        let fair = BUCKETS / self.edges.len();
        let mut counts = vec![0; self.edges.iter().max().map_or(0, |most| most + 1)];
        self.buckets.iter().for_each(|owner| counts[*owner] += 1);
        for owner in &mut self.buckets {
            if counts[edge] == fair {
                break;
            }
            if counts[*owner] > fair {
                counts[*owner] -= 1;
                counts[edge] += 1;
                *owner = edge;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resilient_table_moves_no_more_than_it_must() {
        let full = Router::new(Ecmp::Resilient, 4);
        let mut router = full.clone();
        router.withdraw(2);
        let moved = |a: &Router, b: &Router| {
            a.buckets.iter().zip(&b.buckets).filter(|(a, b)| a != b).count()
        };
        assert_eq!(moved(&full, &router), BUCKETS / 4);
        assert!(!router.buckets.contains(&2));
        let without = router.clone();
        router.announce(2);
        assert_eq!(moved(&without, &router), BUCKETS / 4);
        let share = |edge| router.buckets.iter().filter(|owner| **owner == edge).count();
        assert_eq!([0, 1, 2, 3].map(share), [BUCKETS / 4; 4]);
    }

    #[test]
    fn a_plain_hash_moves_most_flows() {
        let mut router = Router::new(Ecmp::Plain, 4);
        let hashes: Vec<u64> = (0..10_000).map(|n| n << 32).collect();
        let before: Vec<_> = hashes.iter().map(|hash| router.next_hop(*hash)).collect();
        router.withdraw(3);
        let after = hashes.iter().map(|hash| router.next_hop(*hash));
        let moved = before.iter().zip(after).filter(|(before, after)| *before != after).count();
        assert!((7_000..8_000).contains(&moved), "{moved}");
    }
}
