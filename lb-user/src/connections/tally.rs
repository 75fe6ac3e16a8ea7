//! How many connections there are of each kind.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{
    dataplane::{Connection, Stage},
    plan::BackendId,
};

/// Clients that are told apart. Of more, those that are met first: a flood of addresses must not take the
/// daemon's memory, some 16 MB here.
const MOST_CLIENTS: usize = 1 << 18;

/// What connections are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Backend of a service.
    Backend,
    /// The client's address.
    Client,
    /// Opening, established, closing, closed.
    State,
}

/// Whose connections a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// A backend's.
    Backend(BackendId),
    /// A client's.
    Client(IpAddr),
    /// Those in a state.
    State(Stage),
}

/// A count under way.
pub struct Tally {
    by: By,
    most: usize,
    counts: HashMap<Group, u64>,
    total: u64,
    others: u64,
}

impl Tally {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(by: By) -> Self {
        Self { by, most: MOST_CLIENTS, counts: HashMap::new(), total: 0, others: 0 }
    }

    /// Counts a connection.
    pub fn add(&mut self, connection: &Connection) {
        self.total += 1;
        let group = match self.by {
            By::Backend => Group::Backend(connection.backend),
            By::State => Group::State(connection.stage),
            By::Client => Group::Client(connection.client.ip().to_canonical()),
        };
        if self.by == By::Client
            && self.counts.len() >= self.most
            && !self.counts.contains_key(&group)
        {
            self.others += 1;
            return;
        }
        *self.counts.entry(group).or_default() += 1;
    }

    /// Connections in all.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Connections of clients that came when as many as can be told apart had been met.
    #[must_use]
    pub const fn others(&self) -> u64 {
        self.others
    }

    /// The `limit` largest groups, the largest first; those alike in their own order.
    #[must_use]
    pub fn largest(&self, limit: usize) -> Vec<(Group, u64)> {
        let place = |group: &Group| match group {
            Group::Backend(id) => (u64::from(id.0), IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            Group::State(stage) => (*stage as u64, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            Group::Client(address) => (0, *address),
        };
        let mut groups: Vec<_> =
            self.counts.iter().map(|(group, count)| (*group, *count)).collect();
        groups.sort_unstable_by(|(a, many), (b, more)| {
            more.cmp(many).then_with(|| place(a).cmp(&place(b)))
        });
        groups.truncate(limit);
        groups
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn from(last: u8, port: u16) -> Connection {
        Connection::example(SocketAddr::new([198, 51, 100, last].into(), port))
    }

    #[test]
    fn the_largest_come_first() {
        let mut tally = Tally::new(By::Client);
        for (last, count) in [(9, 1), (7, 3), (8, 1)] {
            (0..count).for_each(|port| tally.add(&from(last, port)));
        }
        let client = |last: u8| Group::Client([198, 51, 100, last].into());
        let all = [(client(7), 3), (client(8), 1), (client(9), 1)];
        assert_eq!(tally.largest(10), all);
        assert_eq!(tally.largest(1), all[..1]);
        assert_eq!((tally.total(), tally.others()), (5, 0));
    }

    #[test]
    fn a_flood_of_clients_is_bounded() {
        let mut tally = Tally { most: 2, ..Tally::new(By::Client) };
        for last in [1, 2, 3, 1, 4, 2] {
            tally.add(&from(last, 1));
        }
        assert_eq!(tally.largest(10).iter().map(|(_, count)| count).sum::<u64>(), 4);
        assert_eq!((tally.total(), tally.others()), (6, 2));
    }

    #[test]
    fn states_and_backends_are_counted() {
        let mut states = Tally::new(By::State);
        let mut backends = Tally::new(By::Backend);
        for (stage, backend) in [(Stage::Closing, 1), (Stage::Opening, 2), (Stage::Opening, 2)] {
            let connection = Connection { stage, backend: BackendId(backend), ..from(1, 1) };
            states.add(&connection);
            backends.add(&connection);
        }
        let expected = [(Group::State(Stage::Opening), 2), (Group::State(Stage::Closing), 1)];
        assert_eq!(states.largest(4), expected);
        let expected = [(Group::Backend(BackendId(2)), 2), (Group::Backend(BackendId(1)), 1)];
        assert_eq!(backends.largest(4), expected);
    }
}
