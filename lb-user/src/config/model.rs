//! The meaningful configuration: what is left when the text has been understood. Plain values
//! without spans; the rest of the program works with these alone.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use serde::{Serialize, Serializer};

use super::{
    Announce, Discovery, DiscoverySource, Forwarding, Http, OnAllDown, OnDown, Origin, Overload,
    Prefix, PrefixLists, Protocol, Scheduler, Store, Tier, Verify, XdpMode, alerts::Alerts,
    endpoint,
};
use crate::health::{AgentCheck, ProbeKind, Timing};

/// A valid configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// `[node]`.
    pub node: Node,
    /// `[nat]`.
    pub nat: Nat,
    /// `[tunnel]`.
    pub tunnel: Tunnel,
    /// `[tables]`.
    pub tables: Tables,
    /// `[http]`.
    pub http: Http,
    /// `[verify]`.
    pub verify: Verify,
    /// `[alerts]`.
    pub alerts: Alerts,
    /// `[store]`; `None`: the file alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
    /// `[discovery]`.
    pub discovery: Discovery,
    /// Every `[[service]]`, in the order of the text.
    pub services: Vec<Service>,
}

/// The host itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Every interface that traffic enters by; at least one, no duplicates.
    pub interfaces: Vec<String>,
    /// How the program is attached.
    pub xdp_mode: XdpMode,
    /// Whom every service lets in.
    pub prefixes: PrefixLists,
}

/// Source addresses and ports of the connections towards the backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nat {
    /// At most 8 of each family; empty: the interface's own address towards the backend.
    pub source_addresses: Vec<IpAddr>,
    /// The ports that connections are given.
    pub source_ports: PortRange,
}

/// Where tunnels to the backends begin: of an outer source address, the bits after the prefix vary
/// with the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tunnel {
    /// Of outer IPv4 headers.
    pub source_v4: Prefix,
    /// Of outer IPv6 headers.
    pub source_v6: Prefix,
}

/// How many entries the kernel's tables hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tables {
    /// Connections, of each address family.
    pub connections: u32,
    /// Connections whose handshake is not complete, of each address family; a power of two.
    pub unconfirmed: u32,
    /// Clients that are remembered, for affinity and for limits, of each address family.
    pub clients: u32,
    /// Packets whose fragments are under way, of each address family.
    pub fragments: u32,
    /// Prefixes that are allowed or denied, over the node and all services.
    pub prefixes: u32,
    /// Services.
    pub services: u32,
    /// Backends, over all services.
    pub backends: u32,
}

/// A virtual address with its backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Unique among the services.
    pub name: String,
    /// The virtual address; unique with its protocol. Port 0 is every port that has no service of
    /// its own; see [`Endpoint`](super::Endpoint).
    #[serde(serialize_with = "endpoint::serialize")]
    pub address: SocketAddr,
    /// The transport protocol.
    pub protocol: Protocol,
    /// How a new connection picks its backend.
    pub scheduler: Scheduler,
    /// Slots of the table that a hashing scheduler looks up in: a prime.
    pub table_size: u32,
    /// How packets reach the backend.
    pub forwarding: Forwarding,
    /// Whether NAT puts an address of the host in the place of the client's.
    pub snat: bool,
    /// UDP port of the backends that GUE packets go to.
    pub gue_port: u16,
    /// For how long after its last new connection a client keeps its backend.
    #[serde(serialize_with = "human_option", skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Duration>,
    /// What becomes of a new connection when no backend has room.
    pub overload: Overload,
    /// What happens when backends fail and return.
    #[serde(flatten)]
    pub availability: Availability,
    /// When its address is announced, and how; `None`: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announce: Option<Announce>,
    /// For how long connections may be idle.
    pub timeouts: Timeouts,
    /// How many new connections there may be.
    pub limits: Limits,
    /// Whom it lets in.
    pub prefixes: PrefixLists,
    /// How the backends are probed.
    pub health: HealthCheck,
    /// Open connections that it is to carry at its peak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_connections: Option<u32>,
    /// Where more backends come from, in the order of the text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub discover: Vec<DiscoverySource>,
    /// The backends, in the order of the text, then those that are discovered; of the service's address family, except through
    /// tunnels.
    pub backends: Vec<Backend>,
}

/// A server of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// Unique within the service.
    pub name: String,
    /// Unique within the service. Port 0: the port that the client asked for.
    #[serde(serialize_with = "endpoint::serialize")]
    pub address: SocketAddr,
    /// Its share of new connections, from 1, relative to the other weights.
    pub weight: u16,
    /// When it takes part.
    pub tier: Tier,
    /// Open connections that it takes at the most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Open connections that it can carry; says what is too much, and limits nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
    /// Where it was discovered; `None`: the text names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// What happens when backends of a service fail and return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Availability {
    /// Backends that shall be active at the least, from 1: below it backups join, and people's changes
    /// are refused.
    pub min_active: u32,
    /// What becomes of new connections when none is active.
    pub on_all_down: OnAllDown,
    /// What becomes of a failed backend's open connections.
    pub on_down: OnDown,
    /// For how long the share of a backend that returns grows; `None`: it has all of it at once.
    #[serde(serialize_with = "human_option", skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Duration>,
    /// When what the kernel sees of its connections takes a backend out; `None`: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passive: Option<Passive>,
}

/// When refused and unanswered connections take a backend out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Passive {
    /// Connections that fail within a second, and at least half of those opened in it.
    pub failures: u32,
    /// For how long the first time; each time in a row doubles it.
    #[serde(serialize_with = "human")]
    pub eject_for: Duration,
    /// Backends that stay, whatever is seen, from 1; `None`: half of the service's, rounded up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
}

/// For how long connections of a service may be idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// TCP, before the handshake is complete.
    #[serde(serialize_with = "human")]
    pub syn: Duration,
    /// TCP, established (RFC 5382, REQ-5).
    #[serde(serialize_with = "human")]
    pub established: Duration,
    /// TCP, after the first FIN (RFC 5382, REQ-5).
    #[serde(serialize_with = "human")]
    pub closing: Duration,
    /// UDP.
    #[serde(serialize_with = "human")]
    pub udp: Duration,
}

/// How many new connections a service takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// From all clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Rate>,
    /// From each prefix of clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<Rate>,
    /// Bits of an IPv4 address that make such a prefix, 1 to 32.
    pub client_prefix_v4: u8,
    /// Bits of an IPv6 address that make such a prefix, 1 to 128.
    pub client_prefix_v6: u8,
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// In the long run; at least 1.
    pub per_second: u32,
    /// At once; at least 1.
    pub burst: u32,
}

/// How the backends of a service are probed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HealthCheck {
    /// Not at all: every backend counts as up.
    #[default]
    None,
    /// Again and again.
    Probe(Box<Probe>),
}

/// A probe of every backend of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// What an attempt does.
    #[serde(flatten)]
    pub kind: ProbeKind,
    /// When, and how many results change the verdict.
    #[serde(flatten)]
    pub timing: Timing,
    /// The port to probe instead of the backend's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The agents that are asked beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentCheck>,
}

/// A range of ports, written like `1024-32767`; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest port, at least 1.
    pub low: u16,
    /// The highest port, at least `low`.
    pub high: u16,
}

impl Config {
    /// The service called `name`.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }
}

impl Service {
    /// The backend called `name`.
    #[must_use]
    pub fn backend(&self, name: &str) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.name == name)
    }

    /// Whether a client's connections go the same way, so that clients are drawn and not connections.
    #[must_use]
    pub fn draws_clients(&self) -> bool {
        self.scheduler == Scheduler::SourceHash || self.sticky.is_some()
    }
}

impl Service {
    /// The slots of a hashing scheduler's table where nothing else is said.
    pub const TABLE_SIZE: u32 = 65_537;
    /// The largest of such tables: the largest prime below 2^20.
    pub const MOST_TABLE_SIZE: u32 = 1_048_573;
    /// The port registered for GUE.
    pub const GUE_PORT: u16 = 6_080;

    /// Where `backend` is probed. Port 0 where nothing says which one.
    #[must_use]
    pub fn probe_target(&self, backend: &Backend) -> SocketAddr {
        let ports = [self.health.port().unwrap_or(0), backend.address.port(), self.address.port()];
        let port = ports.into_iter().find(|port| *port != 0).unwrap_or(0);
        SocketAddr::new(backend.address.ip(), port)
    }
}

impl Limits {
    /// Bits of a client's address that share a limit, in the family of `service`.
    #[must_use]
    pub const fn client_prefix(&self, service: &SocketAddr) -> u8 {
        if service.is_ipv4() { self.client_prefix_v4 } else { self.client_prefix_v6 }
    }
}

impl HealthCheck {
    /// A probe of this kind with all else at its default.
    #[must_use]
    pub fn of(kind: ProbeKind) -> Self {
        Probe { kind, timing: Timing::default(), port: None, agent: None }.into()
    }

    /// The probe, where there is one.
    #[must_use]
    pub fn probe(&self) -> Option<&Probe> {
        match self {
            Self::None => None,
            Self::Probe(probe) => Some(probe),
        }
    }

    /// When probes are sent; `None` where none are.
    #[must_use]
    pub fn timing(&self) -> Option<Timing> {
        self.probe().map(|probe| probe.timing)
    }

    /// The port to probe where it is not the backend's own.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.probe().and_then(|probe| probe.port)
    }

    /// The name of the kind, as the configuration writes it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.probe().map_or("none", |probe| probe.kind.name())
    }

    /// Whether probes go to a port of the backend.
    #[must_use]
    pub fn needs_port(&self) -> bool {
        self.probe().is_some_and(|probe| !matches!(probe.kind, ProbeKind::Exec(_)))
    }
}

impl From<Probe> for HealthCheck {
    fn from(probe: Probe) -> Self {
        Self::Probe(Box::new(probe))
    }
}

impl Serialize for HealthCheck {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => BTreeMap::from([("kind", "none")]).serialize(serializer),
            Self::Probe(probe) => probe.serialize(serializer),
        }
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            connections: 262_144,
            unconfirmed: 131_072,
            clients: 65_536,
            fragments: 16_384,
            prefixes: 131_072,
            services: 4_096,
            backends: 16_384,
        }
    }
}

impl Default for Tunnel {
    /// Addresses that nobody answers on: of benchmarks (RFC 2544), and to be discarded (RFC 6666).
    fn default() -> Self {
        let (v4, v6) = (Ipv4Addr::new(198, 18, 0, 0), Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0));
        Self {
            source_v4: Prefix { address: v4.into(), length: 16 },
            source_v6: Prefix { address: v6.into(), length: 64 },
        }
    }
}

impl Default for Availability {
    fn default() -> Self {
        Self {
            min_active: 1,
            on_all_down: OnAllDown::default(),
            on_down: OnDown::default(),
            slow_start: None,
            passive: Some(Passive::default()),
        }
    }
}

impl Default for Passive {
    fn default() -> Self {
        Self { failures: 5, eject_for: Duration::from_secs(10), keep: None }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            syn: Duration::from_mins(1),
            established: Duration::from_mins(124),
            closing: Duration::from_mins(4),
            udp: Duration::from_secs(30),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { service: None, client: None, client_prefix_v4: 32, client_prefix_v6: 64 }
    }
}

impl Default for PortRange {
    /// Below the ports that Linux gives its own connections.
    fn default() -> Self {
        Self { low: 1024, high: 32767 }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.low, self.high)
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

pub(super) fn human<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

#[expect(clippy::ref_option, reason = "serde gives the field by reference")]
pub(super) fn human_option<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => human(duration, serializer),
        None => serializer.serialize_none(),
    }
}
