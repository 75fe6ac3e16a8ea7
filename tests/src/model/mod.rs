//! The data path in plain Rust: DESIGN.md, section 4, in executable form.
//!
//! It is what the kernel's program is held against, packet by packet, so it shares no code with it,
//! and is not made like it: a frame is read whole and by offsets, checksums are summed in full,
//! tables are ordered maps, a connection is one value. It knows nothing of BPF, of maps and of their
//! layout. Time is a number that stands still until [`Model::pass`].

mod guard;
pub mod hash;
mod icmp;
mod path;
mod reply;
mod rewrite;
mod schedule;
mod sum;
mod table;
mod wire;
pub mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

pub use self::table::{Connection, State};
use self::{
    table::Table,
    world::{Backend, Node, Ring, Service},
};

const ICMP4: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;

/// Who sends what to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Sender.
    pub source: SocketAddr,
    /// Receiver.
    pub destination: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
}

impl Flow {
    /// The flow of what goes against it.
    #[must_use]
    pub const fn turned(&self) -> Self {
        Self { source: self.destination, destination: self.source, protocol: self.protocol }
    }
}

/// What the kernel is told to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes to the host's own stack.
    Pass,
    /// It is gone.
    Drop,
    /// It leaves by the interface it came in by.
    Back,
    /// It leaves by another one.
    Away,
}

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The reason, by name.
    pub verdict: &'static str,
    /// The action.
    pub action: Action,
    /// The frame as it is then.
    pub frame: Vec<u8>,
    /// Where in it a checksum is that may be anything: it is derived from one that was wrong.
    pub unknown: Option<usize>,
}

/// What a model cannot know of the program under test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// The backend that it took for the frame's connection: where the choice is random, it is held
    /// against what is allowed.
    pub chosen: Option<u32>,
    /// It looks the frame's addresses up though they are not ours: a filter may err on this side.
    pub is_looked_up: bool,
}

/// What a backend has and had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Open connections.
    pub open: u64,
    /// Those of them that are established.
    pub established: u64,
    /// Packets and bytes towards it.
    pub received: (u64, u64),
    /// Packets and bytes towards the clients.
    pub sent: (u64, u64),
    /// Connections that it was given.
    pub opened: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Established connections that it reset.
    pub reset: u64,
    /// Attempts that it refused.
    pub refused: u64,
    /// Attempts that it did not answer in time.
    pub unanswered: u64,
    /// Attempts that were given to another one.
    pub redispatched: u64,
    /// Unconfirmed connections that made room.
    pub evicted: u64,
}

/// Why a packet is not sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Verdict(&'static str),
    /// It is larger than what this many bytes let through.
    TooBig(u32),
    /// No backend has room for the connection.
    Overload,
    /// No backend is active.
    NoBackend,
}

impl From<&'static str> for Stop {
    fn from(verdict: &'static str) -> Self {
        Self::Verdict(verdict)
    }
}

/// The balancer.
pub struct Model {
    node: Node,
    services: BTreeMap<u32, Service>,
    rings: BTreeMap<u32, Ring>,
    backends: BTreeMap<u32, Backend>,
    /// Addresses that a packet for us can have as its destination.
    ours: BTreeSet<IpAddr>,
    /// Addresses that a packet for us can have as its source: backends that see their clients'.
    our_sources: BTreeSet<IpAddr>,
    /// IPv4's connections, and IPv6's.
    tables: [Table; 2],
    fragments: BTreeMap<Fragmented, Told>,
    affinities: BTreeMap<(u32, IpAddr), (u32, Duration)>,
    cursors: BTreeMap<u32, u64>,
    next_sources: BTreeMap<u32, u64>,
    client_due: BTreeMap<(u32, IpAddr), Duration>,
    service_due: BTreeMap<u32, Duration>,
    loads: BTreeMap<u32, Load>,
    verdicts: BTreeMap<&'static str, u64>,
    now: Duration,
}

/// What fragments of one packet have in common: over IPv4 its protocol, too (RFC 791, 3.2); over IPv6
/// not, since the fragments may name different ones (RFC 8200, 4.5).
type Fragmented = (IpAddr, IpAddr, u32, Option<u8>);

/// What a first fragment tells: protocol, ports, and when.
type Told = (u8, (u16, u16), Duration);

impl Model {
    /// A balancer without services.
    #[must_use]
    pub fn new(node: Node) -> Self {
        let places = usize::try_from(node.places).unwrap_or_default();
        let table = Table::new(node.entries, places);
        Self {
            node,
            services: BTreeMap::new(),
            rings: BTreeMap::new(),
            backends: BTreeMap::new(),
            ours: BTreeSet::new(),
            our_sources: BTreeSet::new(),
            tables: [table.clone(), table],
            fragments: BTreeMap::new(),
            affinities: BTreeMap::new(),
            cursors: BTreeMap::new(),
            next_sources: BTreeMap::new(),
            client_due: BTreeMap::new(),
            service_due: BTreeMap::new(),
            loads: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            now: Duration::ZERO,
        }
    }

    /// Adds a service or changes it. Its connections stay.
    pub fn set_service(&mut self, id: u32, service: Service) {
        self.services.insert(id, service);
    }

    /// Removes a service; its connections stay.
    pub fn remove_service(&mut self, id: u32) {
        self.services.remove(&id);
    }

    /// Swaps a service's ring.
    pub fn set_ring(&mut self, id: u32, ring: Ring) {
        self.rings.insert(id, ring);
    }

    /// Adds a backend or changes it.
    pub fn set_backend(&mut self, id: u32, backend: Backend) {
        self.backends.insert(id, backend);
    }

    /// Sets which destinations, and which sources, a packet for us can have.
    pub fn set_addresses(&mut self, ours: BTreeSet<IpAddr>, our_sources: BTreeSet<IpAddr>) {
        (self.ours, self.our_sources) = (ours, our_sources);
    }

    /// Sets who may open connections at all.
    pub fn set_access(&mut self, access: world::Access) {
        self.node.access = access;
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// All connections, by the client's flow.
    pub fn connections(&self) -> impl Iterator<Item = (&Flow, &Connection)> {
        self.tables.iter().flat_map(Table::iter)
    }

    /// The connection of a client's flow.
    #[must_use]
    pub fn connection(&self, client: &Flow) -> Option<&Connection> {
        self.table(client).get(client)
    }

    /// What a backend has and had.
    #[must_use]
    pub fn load(&self, backend: u32) -> Load {
        self.loads.get(&backend).copied().unwrap_or_default()
    }

    /// How many source ports were taken in turn towards a backend.
    #[must_use]
    pub fn ports_taken(&self, backend: u32) -> u64 {
        self.next_sources.get(&backend).copied().unwrap_or_default()
    }

    /// How often each verdict was given, where it was.
    #[must_use]
    pub const fn verdicts(&self) -> &BTreeMap<&'static str, u64> {
        &self.verdicts
    }

    fn table(&self, flow: &Flow) -> &Table {
        &self.tables[usize::from(flow.source.is_ipv6())]
    }

    fn table_mut(&mut self, flow: &Flow) -> &mut Table {
        &mut self.tables[usize::from(flow.source.is_ipv6())]
    }

    fn load_mut(&mut self, backend: u32) -> &mut Load {
        self.loads.entry(backend).or_default()
    }

    /// Whether an address is a service's.
    fn is_service_address(&self, address: IpAddr) -> bool {
        self.services.values().any(|service| service.address == address)
    }

    /// The service at an address and port: the exact one before that of every port.
    fn service_at(&self, at: SocketAddr, protocol: u8) -> Option<u32> {
        let of_port = |port: u16| {
            self.services
                .iter()
                .find(|(_, service)| {
                    service.address == at.ip()
                        && service.port == port
                        && service.protocol == protocol
                })
                .map(|(id, _)| *id)
        };
        of_port(at.port()).or_else(|| of_port(0))
    }
}
