//! The model's words as the tables hold them, and back.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use evenkeel_tests::model::{
    Flow, State,
    world::{self, Forwarding},
};
use lb_common::{
    connection::{Connection, Flow as Wire, state},
    net::{Addr4, Addr6, Address, Be16},
    service::{self, Limit},
};

/// One connection, as the tables hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What its packets become: source, destination.
    pub rewrite: (SocketAddr, SocketAddr),
    pub client: world::Hop,
    pub backend: u32,
    pub service: u32,
    pub reverse: bool,
    pub forwarding: Forwarding,
    pub attempts: u8,
    pub state: State,
    pub place: usize,
    pub answer: u32,
}

pub fn own<A: Address>(ip: IpAddr) -> A {
    A::from_ip(ip).unwrap()
}

pub fn wide(ip: IpAddr) -> Addr6 {
    if ip.is_ipv4() { own::<Addr4>(ip).widen() } else { own(ip) }
}

pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub fn key<A: Address>(service: &world::Service) -> service::ServiceKey<A> {
    service::ServiceKey::new(own(service.address), Be16::new(service.port), service.protocol)
}

pub fn limit(limit: Option<world::Limit>) -> Limit {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap();
    limit.map_or(Limit::default(), |limit| Limit {
        interval: nanoseconds(limit.interval),
        tolerance: nanoseconds(limit.interval * (limit.burst - 1)),
    })
}

pub fn wire<A: Address>(flow: &Flow) -> Wire<A> {
    let end = |at: SocketAddr| (own::<A>(at.ip()), Be16::new(at.port()));
    Wire::new(end(flow.source), end(flow.destination), flow.protocol)
}

pub fn flow<A: Address>(flow: &Wire<A>) -> Flow {
    Flow {
        source: SocketAddr::new(flow.source.ip(), flow.ports.source().get()),
        destination: SocketAddr::new(flow.destination.ip(), flow.ports.destination().get()),
        protocol: flow.protocol(),
    }
}

pub fn read<A: Address>(entry: &Connection<A>) -> Entry {
    let has = |bit: u32| entry.state & bit != 0;
    let attempts = entry.state >> state::ATTEMPTS_SHIFT & state::ATTEMPTS_MASK;
    let rewrite = &entry.rewrite;
    Entry {
        rewrite: (
            SocketAddr::new(rewrite.source.ip(), rewrite.ports.source().get()),
            SocketAddr::new(rewrite.destination.ip(), rewrite.ports.destination().get()),
        ),
        client: world::Hop {
            interface: entry.client.interface,
            source: entry.client.source,
            destination: entry.client.destination,
        },
        backend: entry.backend,
        service: entry.service,
        reverse: entry.is_reverse(),
        forwarding: match entry.forwarding() {
            service::forwarding::NAT => Forwarding::Nat,
            service::forwarding::DSR => Forwarding::Dsr,
            service::forwarding::IPIP => Forwarding::Ipip,
            _ => Forwarding::Gue,
        },
        attempts: attempts.try_into().unwrap(),
        state: State {
            answered: has(state::ANSWERED),
            established: has(state::ESTABLISHED),
            client_fin: has(state::CLIENT_FIN),
            backend_fin: has(state::BACKEND_FIN),
            backend_first: has(state::BACKEND_FIRST),
            closed: has(state::CLOSED),
            refused: has(state::REFUSED),
        },
        place: entry.place.try_into().unwrap(),
        answer: u32::from_be(entry.answer),
    }
}
