//! A case: the world it plays in, and its steps. What is written to `tests/corpus/`.
//!
//! Small numbers stand for clients, services and backends, so that a case stays legible and every
//! step still means something when others are taken away.

use serde::{Deserialize, Serialize};

/// Services of the world: see [`crate::world::SERVICES`].
pub const SERVICES: u8 = 8;
/// Backends that a service can have.
pub const BACKENDS: u8 = 4;

/// A sequence of steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    #[serde(default)]
    pub about: String,
    /// Places for unconfirmed connections, as a power of two.
    pub places: u8,
    /// What happens.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// A service is added or changed.
    Service(Service),
    /// A service is removed; its connections stay.
    Remove(u8),
    /// A backend is added or changed; its service's ring follows.
    Backend(Backend),
    /// The node's prefixes change.
    Access(Vec<Rule>),
    /// Milliseconds pass.
    Pass(u32),
    /// A frame comes.
    Packet(Packet),
}

/// How a service schedules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheduler {
    #[default]
    RoundRobin,
    LeastConnections,
    Maglev,
    SourceHash,
    Random,
}

/// How a service forwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    #[default]
    Nat,
    /// NAT that keeps the client's address.
    Keep,
    Dsr,
    Ipip,
    Gue,
}

/// A service, whose address, port and protocol its number tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the number has that name in a case's every step")]
pub struct Service {
    pub service: u8,
    #[serde(skip_serializing_if = "is_default")]
    pub scheduler: Scheduler,
    #[serde(skip_serializing_if = "is_default")]
    pub mode: Mode,
    #[serde(skip_serializing_if = "is_default")]
    pub reject: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub reject_no_backend: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub sticky: bool,
    /// Tokens of the service's bucket; none: no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub limit: Option<u8>,
    /// Tokens of each client prefix's bucket.
    #[serde(skip_serializing_if = "is_default")]
    pub client_limit: Option<u8>,
    #[serde(skip_serializing_if = "is_default")]
    pub access: Vec<Rule>,
}

/// A prefix, by its number in [`crate::world::PREFIXES`], and whether it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule(pub u8, pub bool);

/// A backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "as for a service")]
#[expect(clippy::struct_excessive_bools, reason = "what may be odd about it, one by one")]
pub struct Backend {
    pub service: u8,
    pub backend: u8,
    /// Turns in the ring; zero: it gets no connections.
    pub weight: u8,
    #[serde(skip_serializing_if = "is_default")]
    pub max_connections: u8,
    /// Bytes that the way there takes; zero: not known.
    #[serde(skip_serializing_if = "is_default")]
    pub mtu: u16,
    /// Its port is the one that the client asked for.
    #[serde(skip_serializing_if = "is_default")]
    pub any_port: bool,
    /// The way there is not known.
    #[serde(skip_serializing_if = "is_default")]
    pub lost: bool,
    /// It is reached by the interface that the clients are behind.
    #[serde(skip_serializing_if = "is_default")]
    pub one_nic: bool,
    /// A tunnel's far end is of the other family.
    #[serde(skip_serializing_if = "is_default")]
    pub other_family: bool,
    /// NAT's source addresses, less one.
    #[serde(skip_serializing_if = "is_default")]
    pub more_sources: u8,
    /// NAT's source ports for each; zero: plenty.
    #[serde(skip_serializing_if = "is_default")]
    pub ports: u8,
}

/// Who sends a frame, and to whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A client, to a service.
    #[default]
    ToService,
    /// A backend, to the client's connection; where there is none, to a source address of NAT.
    Reply,
    /// A client, to a source address of NAT.
    ToSource,
    /// A client, to somebody else.
    Stranger,
    /// A router, about a packet to the backend of the client's connection: an ICMP error.
    AboutForth,
    /// A router, about a packet to the client: an ICMP error.
    AboutBack,
    /// A client, to a service: an echo request.
    Echo,
}

/// What TCP acknowledges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acknowledges {
    /// What was sent.
    #[default]
    Right,
    /// What was sent, and so much more.
    More(u32),
    /// What was not sent yet.
    Wrong,
}

/// A frame's part in a fragmented packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    #[default]
    Whole,
    First,
    Later,
    /// A fragment header that nothing follows (RFC 6946); IPv4 has none.
    Atomic,
}

/// A frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Packet {
    pub what: What,
    pub service: u8,
    pub client: u8,
    pub port: u8,
    /// The destination's port: zero is the service's own.
    #[serde(skip_serializing_if = "is_default")]
    pub to_port: u8,
    /// TCP's flags.
    #[serde(skip_serializing_if = "is_default")]
    pub flags: u8,
    #[serde(skip_serializing_if = "is_default")]
    pub acknowledges: Acknowledges,
    #[serde(skip_serializing_if = "is_default")]
    pub sequence: u16,
    /// An ICMP message's type and code: see [`crate::world::MESSAGES`].
    #[serde(skip_serializing_if = "is_default")]
    pub message: u8,
    /// Bytes that an error quotes; zero: all.
    #[serde(skip_serializing_if = "is_default")]
    pub quoted: u8,
    /// The interface it comes by, and the neighbour that sent it.
    #[serde(skip_serializing_if = "is_default")]
    pub way: u8,
    #[serde(skip_serializing_if = "is_default")]
    pub tags: u8,
    /// Words of IPv4's options, or extension headers.
    #[serde(skip_serializing_if = "is_default")]
    pub options: u8,
    #[serde(skip_serializing_if = "is_default")]
    pub part: Part,
    #[serde(skip_serializing_if = "is_default")]
    pub id: u8,
    /// What is taken from a TTL of 64.
    #[serde(skip_serializing_if = "is_default")]
    pub aged: u8,
    #[serde(skip_serializing_if = "is_default")]
    pub tos: u8,
    /// IPv4's "don't fragment".
    #[serde(skip_serializing_if = "is_default")]
    pub whole: bool,
    /// Bytes of payload.
    #[serde(skip_serializing_if = "is_default")]
    pub payload: u16,
    /// Bytes behind the packet.
    #[serde(skip_serializing_if = "is_default")]
    pub trailer: u8,
    /// Words of TCP's options; of UDP, bytes that IP has and the datagram not.
    #[serde(skip_serializing_if = "is_default")]
    pub more: u8,
    /// No UDP checksum.
    #[serde(skip_serializing_if = "is_default")]
    pub unsummed: bool,
    /// What is added to the transport checksum, and to the IPv4 header's.
    #[serde(skip_serializing_if = "is_default")]
    pub wrong: (u16, u16),
    /// Bytes that are other than they should be: where, and what they are changed by.
    #[serde(skip_serializing_if = "is_default")]
    pub changed: Vec<(u16, u8)>,
    /// Bytes that are left of it; none: all.
    #[serde(skip_serializing_if = "is_default")]
    pub cut: Option<u16>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
