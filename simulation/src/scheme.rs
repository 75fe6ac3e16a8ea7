//! How an edge chooses a backend for a flow that it does not know: by the rings that the balancer compiles, or, to
//! compare, by the plain hash that it does not have.

use std::net::{Ipv4Addr, SocketAddr};

use evenkeel::{
    config::{Scheduler, Service},
    plan::{BackendId, Member, Ring},
};
use lb_common::{connection::Flow, hash, net::Addr4, ring};

/// The schedulers that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// The balancer's `round-robin`: a ring, and a cursor of each edge.
    RoundRobin,
    /// The flow's hash modulo the number of backends: what is simplest, and what the balancer has not.
    Modulo,
    /// The balancer's `maglev`.
    Maglev,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::RoundRobin, Self::Modulo, Self::Maglev];

    /// What the legend calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Modulo => "hash modulo",
            Self::Maglev => "maglev",
        }
    }

    /// Whether all edges choose alike, so that one that does not know a flow can go on with it.
    pub const fn is_alike_everywhere(self) -> bool {
        !matches!(self, Self::RoundRobin)
    }
}

/// The backend of this number.
pub fn member(number: u32) -> Member {
    let address = Ipv4Addr::from(0x0a00_000b + number);
    Member { id: BackendId(number), weight: 1, address: SocketAddr::new(address.into(), 8080) }
}

/// A scheme with its backends: the same on every edge.
#[derive(Clone, Debug)]
pub struct Chooser {
    scheme: Scheme,
    ring: Ring,
}

impl Chooser {
    /// The scheme over these backends.
    pub fn new(scheme: Scheme, backends: &[u32]) -> Self {
        let members: Vec<_> = backends.iter().map(|number| member(*number)).collect();
        let ring = match scheme {
            Scheme::RoundRobin => Ring::compile(Scheduler::RoundRobin, &members, 0),
            // Each backend has one slot.
            Scheme::Modulo => Ring::of(members.iter().map(|member| member.id).collect()),
            Scheme::Maglev => Ring::compile(Scheduler::Maglev, &members, Service::TABLE_SIZE),
        };
        Self { scheme, ring }
    }

    /// The backend of a flow, by an edge whose cursor this is. As the program does it (`schedule::pick`).
    pub fn pick(&self, flow: &Flow<Addr4>, cursor: &mut u64) -> u32 {
        let turn = if self.scheme.is_alike_everywhere() {
            u64::from(hash::flow(flow))
        } else {
            *cursor += 1;
            *cursor - 1
        };
        let length = u32::try_from(self.ring.slots.len()).unwrap_or(u32::MAX);
        let slot = ring::slot(turn, length) - ring::LENGTH_SLOT - 1;
        self.ring.slots[slot as usize].0
    }
}
