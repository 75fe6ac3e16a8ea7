//! The first so many connections in some order, whatever their number: a heap holds the best so far, and
//! the worst of them makes room for a better one.

use std::{cmp::Ordering, collections::BinaryHeap, net::SocketAddr};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::Directory;
use crate::dataplane::Connection;

/// What connections are sorted by; those that are alike, by their client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Sort {
    /// The client's address and port.
    Client,
    /// The service's name and the backend's.
    Backend,
    /// From opening to closed.
    State,
    /// Time since the client's last packet, the longest first.
    Idle,
}

impl Sort {
    /// What a connection is sorted by, least first.
    fn key(self, connection: &Connection, directory: &Directory) -> Key {
        let number = match self {
            Self::Client => 0,
            Self::Backend => {
                directory.backend(connection.backend).map_or(u64::MAX, |named| named.rank.into())
            }
            Self::State => connection.stage as u64,
            Self::Idle => u64::MAX - connection.idle.as_secs(),
        };
        (number, connection.client, connection.destination)
    }
}

type Key = (u64, SocketAddr, SocketAddr);

/// The first connections in an order.
pub struct Top<'a> {
    sort: Sort,
    reverse: bool,
    limit: usize,
    directory: &'a Directory,
    /// The last of them on top.
    heap: BinaryHeap<Held>,
}

struct Held {
    key: Key,
    reverse: bool,
    connection: Connection,
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.key.cmp(&other.key);
        if self.reverse { order.reverse() } else { order }
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Held {}

impl<'a> Top<'a> {
    /// The first `limit`, none yet.
    #[must_use]
    pub const fn new(sort: Sort, reverse: bool, limit: usize, directory: &'a Directory) -> Self {
        Self { sort, reverse, limit, directory, heap: BinaryHeap::new() }
    }

    /// Takes a connection in, if it is one of the first so far.
    pub fn offer(&mut self, connection: &Connection) {
        let (key, reverse) = (self.sort.key(connection, self.directory), self.reverse);
        let held = Held { key, reverse, connection: *connection };
        if self.heap.len() < self.limit {
            self.heap.push(held);
        } else if let Some(mut last) = self.heap.peek_mut()
            && held < *last
        {
            *last = held;
        }
    }

    /// The first ones, in order.
    #[must_use]
    pub fn sorted(self) -> Vec<Connection> {
        self.heap.into_sorted_vec().into_iter().map(|held| held.connection).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dataplane::Stage;

    fn connections() -> Vec<Connection> {
        // 37 is coprime to 101: a permutation.
        let example = |n: u16| {
            let shuffled = n * 37 % 101;
            let client = SocketAddr::new([198, 51, 100, 7].into(), 4000 + shuffled);
            Connection {
                stage: Stage::ALL[usize::from(shuffled % 4)],
                idle: Duration::from_secs(u64::from(1000 - shuffled)),
                ..Connection::example(client)
            }
        };
        (0..101).map(example).collect()
    }

    fn ports(sort: Sort, reverse: bool, limit: usize) -> Vec<u16> {
        let directory = Directory::default();
        let mut top = Top::new(sort, reverse, limit, &directory);
        for connection in &connections() {
            top.offer(connection);
        }
        assert!(top.heap.len() <= limit);
        top.sorted().iter().map(|connection| connection.client.port() - 4000).collect()
    }

    #[test]
    fn the_first_ones_are_kept_in_order() {
        assert_eq!(ports(Sort::Client, false, 4), [0, 1, 2, 3]);
        assert_eq!(ports(Sort::Client, true, 4), [100, 99, 98, 97]);
        assert_eq!(ports(Sort::Idle, false, 3), [0, 1, 2], "the longest idle first");
        assert_eq!(ports(Sort::Idle, true, 3), [100, 99, 98]);
        assert_eq!(ports(Sort::State, false, 3), [0, 4, 8], "alike ones by their client");
        assert_eq!(ports(Sort::Client, false, 1000), (0..101).collect::<Vec<_>>());
        assert_eq!(ports(Sort::Client, false, 0), [0_u16; 0]);
    }

    #[test]
    fn the_heap_agrees_with_sorting() {
        let directory = Directory::default();
        for (sort, reverse) in [Sort::Client, Sort::State, Sort::Idle]
            .into_iter()
            .flat_map(|sort| [(sort, false), (sort, true)])
        {
            let mut all = connections();
            all.sort_by_key(|connection| sort.key(connection, &directory));
            if reverse {
                all.reverse();
            }
            for limit in [1, 7, 101] {
                let expected: Vec<_> =
                    all[..limit].iter().map(|connection| connection.client.port() - 4000).collect();
                assert_eq!(ports(sort, reverse, limit), expected, "{sort:?} {reverse} {limit}");
            }
        }
    }
}
