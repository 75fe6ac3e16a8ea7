//! What the model is told of the world: services, backends, rings, limits and prefixes, in the words
//! of DESIGN.md, section 1. It knows nothing of how tables hold them.

use std::{net::IpAddr, time::Duration};

/// The longest time that a backend has to answer a SYN before the client's retransmission goes to
/// another one (DESIGN.md 4, "Redispatch"; RFC 6298 lets clients wait a second).
pub const ANSWER_TIME: Duration = Duration::from_millis(500);
/// Backends that one attempt to connect is given to.
pub const ATTEMPTS: u8 = 4;
/// How long a first fragment is remembered.
pub const FRAGMENT_TIME: Duration = Duration::from_secs(30);

/// How a new connection picks a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// The ring's slots in turn.
    RoundRobin,
    /// The less loaded of two random slots.
    LeastConnections,
    /// The slot that the flow's hash names.
    Maglev,
    /// The slot that the hash of the client's address names.
    SourceHash,
    /// A random slot.
    Random,
}

/// How packets reach a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// Addresses and ports are translated; both directions pass here.
    Nat,
    /// As it is, to the backend's Ethernet address.
    Dsr,
    /// IP in IP (RFC 2003, RFC 2473).
    Ipip,
    /// UDP variant 1 of Generic UDP Encapsulation.
    Gue,
}

/// A limit of new connections: one each `interval`, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// From one token to the next.
    pub interval: Duration,
    /// Tokens of a full bucket.
    pub burst: u32,
}

/// A prefix of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Its address; the bits after `bits` are not looked at.
    pub address: IpAddr,
    /// Bits that count.
    pub bits: u8,
}

/// Who may open connections: of the prefixes that match, the longest one says so. Where any is
/// allowed, who matches none is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Allowed.
    pub allow: Vec<Prefix>,
    /// Denied.
    pub deny: Vec<Prefix>,
}

/// When a client that gets no connection is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tells {
    /// Where no backend has room.
    pub overload: bool,
    /// Where no backend is active.
    pub no_backend: bool,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The virtual address.
    pub address: IpAddr,
    /// The port; zero: every port.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// How it schedules.
    pub scheduler: Scheduler,
    /// How it forwards.
    pub forwarding: Forwarding,
    /// NAT keeps the client's address and port.
    pub keep_source: bool,
    /// When a client that gets no connection is told.
    pub tells: Tells,
    /// How long a client keeps its backend.
    pub sticky: Option<Duration>,
    /// Limit of its new connections.
    pub limit: Option<Limit>,
    /// Limit of each client prefix's new connections.
    pub client_limit: Option<Limit>,
    /// Bits of a client's address that share that limit: IPv4, IPv6.
    pub client_prefix: (u8, u8),
    /// Who may open connections to it.
    pub access: Access,
    /// The host owns the address.
    pub on_host: bool,
}

/// A service's scheduler, compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// Backends' ids, in turn.
    pub slots: Vec<u32>,
    /// Each backend of the slots once.
    pub members: Vec<u32>,
}

/// The way to a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Interface to leave by.
    pub interface: u32,
    /// Its Ethernet address.
    pub source: [u8; 6],
    /// The neighbour's.
    pub destination: [u8; 6],
}

/// A tunnel's outer addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The near end.
    pub source: IpAddr,
    /// Which of the source's last 32 bits vary with the flow.
    pub varying: u32,
    /// Destination port of GUE.
    pub port: u16,
}

/// A backend of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its service's id.
    pub service: u32,
    /// Its address; a tunnel's far end.
    pub address: IpAddr,
    /// Its port; zero: the one that the client asked for.
    pub port: u16,
    /// The way there, where it is known.
    pub hop: Option<Hop>,
    /// Bytes of the largest packet on the way; zero: not known.
    pub mtu: u32,
    /// It may get new connections.
    pub active: bool,
    /// Established connections at the most; zero: any number.
    pub max_connections: u32,
    /// NAT's source addresses.
    pub sources: Vec<IpAddr>,
    /// NAT's lowest source port.
    pub first_port: u16,
    /// How many of them there are.
    pub ports: u16,
    /// The way through a tunnel.
    pub tunnel: Option<Tunnel>,
}

/// The node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Places of unconfirmed connections of each family.
    pub places: u32,
    /// Entries of each family's connection table.
    pub entries: usize,
    /// Who may open connections at all.
    pub access: Access,
    /// Interfaces and the largest packet that each takes.
    pub interfaces: Vec<(u32, u32)>,
}

impl Access {
    /// Whether a client may open a connection.
    #[must_use]
    pub fn allows(&self, client: IpAddr) -> bool {
        let longest = |prefixes: &[Prefix]| {
            let matching = prefixes.iter().filter(|prefix| prefix.contains(client));
            matching.map(|prefix| prefix.bits).max()
        };
        match (longest(&self.allow), longest(&self.deny)) {
            (None, None) => self.allow.is_empty(),
            (allowed, denied) => allowed > denied,
        }
    }

    /// Whether it says anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}

impl Prefix {
    /// Whether an address begins with it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && leading(address, self.bits) == leading(self.address, self.bits)
    }
}

/// An address with all but its first `bits` bits zero.
#[must_use]
pub fn leading(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}
