//! What the backends of a service would carry at its peak: pure arithmetic on shares and limits.

use serde::Serialize;

/// What a backend cannot carry more than.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Open connections.
    pub connections: u64,
    /// What says so.
    pub by: LimitedBy,
}

/// What limits a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitedBy {
    /// `capacity`.
    Capacity,
    /// NAT's source addresses and ports towards it.
    SourcePorts,
}

/// A backend that takes part.
#[derive(Clone, Copy, Debug)]
pub struct Carrier {
    /// Its share of new connections, 0 to 1.
    pub share: f64,
    /// By how much that may be off.
    pub noise: f64,
    /// Connections after which others are given more.
    pub max_connections: Option<u64>,
    /// What it cannot carry more than.
    pub limit: Option<Limit>,
}

/// What each backend carries of a number of connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// Open connections of each.
    pub loads: Vec<f64>,
    /// Those that nobody takes: all have their `max_connections`.
    pub refused: f64,
}

/// Connections that are none.
const ROUNDING: f64 = 1e-3;

#[expect(clippy::cast_precision_loss, reason = "counts of connections are far below 2^52")]
const fn real(count: u64) -> f64 {
    count as f64
}

/// Shares out `connections`. What a backend has no room for goes to those that have, by their shares.
pub fn spread(connections: f64, carriers: &[Carrier]) -> Spread {
    let room = |carrier: &Carrier| carrier.max_connections.map_or(f64::INFINITY, real);
    let mut loads = vec![0.0; carriers.len()];
    let mut left = connections;
    // Each round fills a backend, or is the last.
    for _ in 0..=carriers.len() {
        let open = |load: f64, carrier: &Carrier| load < room(carrier) && carrier.share > 0.0;
        let shares: f64 = carriers
            .iter()
            .zip(&loads)
            .filter(|(carrier, load)| open(**load, carrier))
            .map(|(carrier, _)| carrier.share)
            .sum();
        if left <= 0.0 || shares <= 0.0 {
            break;
        }
        let mut over = 0.0;
        for (carrier, load) in carriers.iter().zip(&mut loads) {
            if !open(*load, carrier) {
                continue;
            }
            *load += left * carrier.share / shares;
            let most = room(carrier);
            if *load > most {
                over += *load - most;
                *load = most;
            }
        }
        left = over;
    }
    Spread { loads, refused: left.max(0.0) }
}

impl Carrier {
    /// Whether `load`, its part of `connections`, is more than it can carry.
    pub fn is_overloaded(&self, load: f64, connections: f64) -> bool {
        self.limit.is_some_and(|limit| {
            load - connections * self.noise > real(limit.connections) + ROUNDING
        })
    }
}

/// Whether `connections` are carried: none refused, nobody overloaded.
pub fn is_carried(connections: f64, carriers: &[Carrier]) -> bool {
    let spread = spread(connections, carriers);
    let fits = |(carrier, load): (&Carrier, &f64)| !carrier.is_overloaded(*load, connections);
    spread.refused < ROUNDING && carriers.iter().zip(&spread.loads).all(fits)
}

/// The most connections that the backends carry; `None` where nothing limits them.
pub fn most(carriers: &[Carrier]) -> Option<u64> {
    const ALL: u64 = 1 << 36;
    if is_carried(real(ALL), carriers) {
        return None;
    }
    let (mut fits, mut fails) = (0, ALL);
    while fails - fits > 1 {
        let middle = u64::midpoint(fits, fails);
        if is_carried(real(middle), carriers) { fits = middle } else { fails = middle }
    }
    Some(fits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn carrier(share: f64, max_connections: Option<u64>, capacity: Option<u64>) -> Carrier {
        let by = LimitedBy::Capacity;
        let limit = capacity.map(|connections| Limit { connections, by });
        Carrier { share, noise: 0.0, max_connections, limit }
    }

    #[test]
    fn what_has_no_room_goes_to_the_others() {
        let three = [
            carrier(0.5, Some(100), None),
            carrier(0.25, None, None),
            carrier(0.25, Some(150), None),
        ];
        let spread = spread(500.0, &three);
        assert_eq!(spread, Spread { loads: vec![100.0, 250.0, 150.0], refused: 0.0 });
    }

    #[test]
    fn what_nobody_has_room_for_is_refused() {
        let two = [carrier(0.5, Some(100), None), carrier(0.5, Some(40), None)];
        assert_eq!(spread(150.0, &two), Spread { loads: vec![100.0, 40.0], refused: 10.0 });
        assert_eq!(most(&two), Some(140));
        assert_eq!(spread(10.0, &[]), Spread { loads: vec![], refused: 10.0 });
        assert_eq!(most(&[]), Some(0));
    }

    #[test]
    fn the_weakest_says_how_much_is_carried() {
        let two = [carrier(0.5, None, Some(1_000)), carrier(0.5, None, Some(600))];
        assert_eq!(most(&two), Some(1_200));
        assert_eq!(most(&[carrier(1.0, None, None)]), None);
        // Room elsewhere helps the weak one.
        let guarded = [carrier(0.5, None, Some(1_000)), carrier(0.5, Some(600), Some(600))];
        assert_eq!(most(&guarded), Some(1_600));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_maximum_is_passed(
            parts in prop::collection::vec((1_u32..100, prop::option::of(1_u64..1_000)), 1..20),
            connections in 0_u32..20_000,
        ) {
            let sum: u32 = parts.iter().map(|(weight, _)| weight).sum();
            let share = |weight: u32| f64::from(weight) / f64::from(sum);
            let carriers: Vec<_> =
                parts.iter().map(|(weight, most)| carrier(share(*weight), *most, None)).collect();
            let spread = spread(f64::from(connections), &carriers);
            let carried: f64 = spread.loads.iter().sum();
            prop_assert!((carried + spread.refused - f64::from(connections)).abs() < 1e-6);
            for (carrier, load) in carriers.iter().zip(&spread.loads) {
                prop_assert!(carrier.max_connections.is_none_or(|most| *load <= real(most) + 1e-9));
                prop_assert!(*load >= carrier.share * f64::from(connections) - 1e-6
                    || carrier.max_connections.is_some_and(|most| *load >= real(most) - 1e-6));
            }
            prop_assert!(spread.refused < 1e-6 || carriers.iter().all(|c| c.max_connections.is_some()));
        }
    }
}
