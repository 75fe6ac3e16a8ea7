//! From how many clients a service's new connections come, as far as chance is concerned: by a sample of a
//! bounded size, whatever the table's is. Pure.

use std::{collections::HashMap, net::IpAddr};

/// Connections of a sample at the most.
const SIZE: usize = 1024;

/// Clients of a service's connections, each connection with the same chance to be among them.
#[derive(Clone, Debug, Default)]
pub(super) struct Clients {
    met: u64,
    sample: Vec<IpAddr>,
}

impl Clients {
    /// Meets a connection of `client`.
    pub(super) fn meet(&mut self, client: IpAddr) {
        self.met += 1;
        if self.sample.len() < SIZE {
            self.sample.push(client);
            return;
        }
        // Vitter's algorithm R.
        let place = usize::try_from(fastrand::u64(..self.met)).unwrap_or(SIZE);
        if let Some(kept) = self.sample.get_mut(place) {
            *kept = client;
        }
    }

    /// How many clients with equally many connections would meet as often as these do: two connections are of
    /// the same client with a chance of one in so many (Simpson, Nature 163, 1949). That is how many draws the
    /// connections are worth where a client's go the same way: a client that has half of them makes it less
    /// than four, however many others there are. Taken as though one more pair had met, so rather too few;
    /// at least 1.
    #[expect(clippy::cast_precision_loss, reason = "a sample's pairs are far below 2^52")]
    pub(super) fn number(&self) -> f64 {
        let mut counts: HashMap<IpAddr, u64> = HashMap::new();
        for client in &self.sample {
            *counts.entry(*client).or_default() += 1;
        }
        let pairs = |count: u64| count * count.saturating_sub(1);
        let met: u64 = counts.into_values().map(pairs).sum();
        (pairs(self.sample.len() as u64) as f64 / (met + 2) as f64).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn number(clients: impl IntoIterator<Item = u32>) -> f64 {
        let mut met = Clients::default();
        clients.into_iter().for_each(|client| met.meet(Ipv4Addr::from(client).into()));
        met.number()
    }

    #[test]
    fn clients_are_counted_by_how_often_they_meet() {
        for (clients, low, high) in [(1, 1.0, 1.01), (3, 2.9, 3.1), (100, 80.0, 120.0)] {
            let found = number((0..60_000).map(|connection| connection % clients));
            assert!((low..high).contains(&found), "{found} of {clients}");
        }
        // Many: the sample tells ten thousand from ten.
        let found = number((0..60_000).map(|connection| connection % 10_000));
        assert!((3_000.0..40_000.0).contains(&found), "{found}");
        // One that has half of the connections counts for nearly all.
        let found =
            number((0..60_000).map(|connection| if connection % 2 == 0 { 0 } else { connection }));
        assert!((3.0..5.0).contains(&found), "{found}");
        assert!(
            (number([]) - 1.0).abs() < f64::EPSILON && (number([1]) - 1.0).abs() < f64::EPSILON
        );
    }

    #[test]
    fn the_sample_stays_small() {
        let mut met = Clients::default();
        (0..100_000_u32).for_each(|client| met.meet(Ipv4Addr::from(client).into()));
        assert_eq!(met.sample.len(), SIZE);
        // And is not the first ones alone.
        let late =
            met.sample.iter().filter(|client| **client > IpAddr::from(Ipv4Addr::from(50_000)));
        assert!((400..624).contains(&late.count()));
    }
}
