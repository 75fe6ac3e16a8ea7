//! A fleet: a router, edges that know the flows that they have seen, and backends. The state, and what each
//! event does to the flows.
//!
//! An edge goes on with a flow that it knows, whatever its ring says by now. One that it does not know it gives
//! to the backend that its hash names, if all edges hash alike; else, and where that is another backend than
//! before, the connection is broken. Health is seen by all edges at the same moment.

use lb_common::{
    connection::Flow as Key,
    net::{Addr4, Be16},
};

use crate::{
    router::{Ecmp, Router},
    scheme::{Chooser, Scheme},
};

/// An open connection.
#[derive(Clone, Debug)]
struct Flow {
    key: Key<Addr4>,
    /// The router's hash of it, which has nothing to do with the edges'.
    hash: u64,
    edge: usize,
    backend: u32,
    /// The edges that know it, a bit each.
    known: u32,
    /// When it ends, if nothing breaks it before.
    ends: u64,
}

/// The fleet.
#[derive(Clone, Debug)]
pub struct Fleet {
    scheme: Scheme,
    router: Router,
    cursors: Vec<u64>,
    active: Vec<u32>,
    chooser: Chooser,
    flows: Vec<Flow>,
    clients: fastrand::Rng,
}

/// What an event did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Connections that were open.
    pub open: usize,
    /// Connections to the backend that failed: no balancer can save them.
    pub with_backend: usize,
    /// Connections that broke though their backend works.
    pub broken: usize,
}

/// The service's address.
const SERVICE: [u8; 4] = [192, 0, 2, 10];
/// TCP.
const PROTOCOL: u8 = 6;

impl Fleet {
    /// A fleet without connections. Fleets of the same seed get the same clients, whatever they do with them.
    pub fn new(scheme: Scheme, ecmp: Ecmp, edges: usize, backends: u32, seed: u64) -> Self {
        let active: Vec<_> = (0..backends).collect();
        Self {
            scheme,
            router: Router::new(ecmp, edges),
            cursors: vec![0; edges],
            chooser: Chooser::new(scheme, &active),
            active,
            flows: Vec::new(),
            clients: fastrand::Rng::with_seed(seed),
        }
    }

    /// Opens a connection that ends at a time; tells which backend it got.
    pub fn open(&mut self, ends: u64) -> u32 {
        let client = Addr4::from_wire(self.clients.u32(..).to_be_bytes());
        let port = Be16::new(self.clients.u16(1024..));
        let service = (Addr4::from_wire(SERVICE), Be16::new(80));
        let key = Key::new((client, port), service, PROTOCOL);
        let hash = self.clients.u64(..);
        let edge = self.router.next_hop(hash);
        let backend = self.chooser.pick(&key, &mut self.cursors[edge]);
        self.flows.push(Flow { key, hash, edge, backend, known: 1 << edge, ends });
        backend
    }

    /// Ends what is over.
    pub fn end(&mut self, now: u64) {
        self.flows.retain(|flow| flow.ends > now);
    }

    /// Backends that get new connections.
    pub fn active(&self) -> &[u32] {
        &self.active
    }

    /// An edge dies, with all that it knows.
    pub fn lose_edge(&mut self, edge: usize) -> Loss {
        self.router.withdraw(edge);
        self.flows.iter_mut().for_each(|flow| flow.known &= !(1 << edge));
        self.reroute()
    }

    /// An edge comes back; it has been restarted and knows nothing.
    pub fn regain_edge(&mut self, edge: usize) -> Loss {
        self.router.announce(edge);
        self.reroute()
    }

    /// A backend dies, and every edge sees it.
    pub fn lose_backend(&mut self, backend: u32) -> Loss {
        let open = self.flows.len();
        self.flows.retain(|flow| flow.backend != backend);
        self.active.retain(|active| *active != backend);
        self.chooser = Chooser::new(self.scheme, &self.active);
        Loss { open, with_backend: open - self.flows.len(), broken: 0 }
    }

    /// A backend joins, or joins again.
    pub fn add_backend(&mut self, backend: u32) -> Loss {
        self.active.push(backend);
        self.active.sort_unstable();
        self.chooser = Chooser::new(self.scheme, &self.active);
        Loss { open: self.flows.len(), ..Loss::default() }
    }

    /// Has every edge forget every connection, as a fleet would that has no tables; tells what breaks when their
    /// next packets come.
    pub fn forget_all(&mut self) -> Loss {
        self.flows.iter_mut().for_each(|flow| flow.known = 0);
        self.reroute()
    }

    /// Sends the next packet of every connection the way it goes now.
    fn reroute(&mut self) -> Loss {
        let open = self.flows.len();
        let Self { scheme, router, cursors, chooser, flows, .. } = self;
        flows.retain_mut(|flow| {
            flow.edge = router.next_hop(flow.hash);
            if flow.known & 1 << flow.edge != 0 {
                return true;
            }
            flow.known |= 1 << flow.edge;
            scheme.is_alike_everywhere()
                && chooser.pick(&flow.key, &mut cursors[flow.edge]) == flow.backend
        });
        Loss { open, with_backend: 0, broken: open - flows.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(scheme: Scheme) -> Fleet {
        let mut fleet = Fleet::new(scheme, Ecmp::Plain, 4, 20, 1);
        for _ in 0..10_000 {
            fleet.open(u64::MAX);
        }
        fleet
    }

    #[test]
    fn with_the_same_backends_a_hash_loses_nothing_and_a_cursor_all_that_moves() {
        for scheme in [Scheme::Modulo, Scheme::Maglev] {
            assert_eq!(fleet(scheme).lose_edge(1), Loss { open: 10_000, ..Loss::default() });
        }
        let lost = fleet(Scheme::RoundRobin).lose_edge(1);
        assert!((7_000..8_000).contains(&lost.broken), "{lost:?}");
    }

    #[test]
    fn edges_that_know_their_flows_lose_those_of_the_backend_alone() {
        for scheme in Scheme::ALL {
            let mut fleet = fleet(scheme);
            let lost = fleet.lose_backend(3);
            assert!((300..700).contains(&lost.with_backend) && lost.broken == 0, "{lost:?}");
            assert_eq!(fleet.add_backend(3).broken, 0);
        }
    }

    #[test]
    fn flows_that_come_back_to_an_edge_that_knows_them_go_on() {
        let mut fleet = fleet(Scheme::RoundRobin);
        let moved = fleet.lose_edge(0).broken;
        let left = 10_000 - moved;
        // Of those that are left, the ones that move again are new to the edge that returns.
        let back = fleet.regain_edge(0);
        assert_eq!(back.open, left);
        assert!(back.broken < left, "{back:?}");
    }
}
