//! The meaningful configuration: what is left when the text has been understood. Plain values
//! without spans; the rest of the program works with these alone.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize, Serializer};

use crate::health::{HttpProbe, Timing};

/// A valid configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// `[node]`.
    pub node: Node,
    /// `[nat]`.
    pub nat: Nat,
    /// `[tables]`.
    pub tables: Tables,
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
}

/// Source addresses and ports of the connections towards the backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nat {
    /// At most 8 of each family; empty: the interface's own address towards the backend.
    pub source_addresses: Vec<IpAddr>,
    /// The ports that connections are given.
    pub source_ports: PortRange,
}

/// How many entries the kernel's tables hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tables {
    /// Connections, of each address family.
    pub connections: u32,
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
    /// The virtual address; unique with its protocol.
    pub address: SocketAddr,
    /// The transport protocol.
    pub protocol: Protocol,
    /// How a new connection picks its backend.
    pub scheduler: Scheduler,
    /// How packets reach the backend.
    pub forwarding: Forwarding,
    /// How the backends are probed.
    pub health: HealthCheck,
    /// The backends, in the order of the text; of the same address family as the service.
    pub backends: Vec<Backend>,
}

/// A server of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// Unique within the service.
    pub name: String,
    /// Unique within the service.
    pub address: SocketAddr,
    /// Its share of new connections, from 1, relative to the other weights.
    pub weight: u16,
    /// When it takes part.
    pub tier: Tier,
}

/// How the program is attached to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XdpMode {
    /// Native where the driver can, else generic.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the kernel's generic hook.
    Generic,
}

/// The transport protocol of a service.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// How a new connection picks its backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheduler {
    /// In turn, by weight.
    #[default]
    RoundRobin,
}

/// How packets reach a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarding {
    /// Full network address translation.
    #[default]
    Nat,
}

/// When a backend takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Always.
    #[default]
    Primary,
}

/// How the backends of a service are probed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum HealthCheck {
    /// Not at all: every backend counts as up.
    #[default]
    None,
    /// By opening a TCP connection.
    Tcp {
        /// When, and how many results change the verdict.
        #[serde(flatten)]
        timing: Timing,
        /// The port to probe instead of the backend's own.
        #[serde(skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    },
    /// By an HTTP/1.1 request.
    Http {
        /// The request, and the answer that counts as success.
        #[serde(flatten)]
        exchange: HttpProbe,
        /// When, and how many results change the verdict.
        #[serde(flatten)]
        timing: Timing,
        /// The port to probe instead of the backend's own.
        #[serde(skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    },
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
}

impl HealthCheck {
    /// When probes are sent; `None` where none are.
    #[must_use]
    pub fn timing(&self) -> Option<Timing> {
        match self {
            Self::None => None,
            Self::Tcp { timing, .. } | Self::Http { timing, .. } => Some(*timing),
        }
    }

    /// The port to probe where it is not the backend's own.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::None => None,
            Self::Tcp { port, .. } | Self::Http { port, .. } => *port,
        }
    }

    /// The name of the kind, as the configuration writes it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tcp { .. } => "tcp",
            Self::Http { .. } => "http",
        }
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self { connections: 262_144, services: 4_096, backends: 16_384 }
    }
}

impl Default for PortRange {
    /// Below the ports that Linux gives its own connections.
    fn default() -> Self {
        Self { low: 1024, high: 32767 }
    }
}

/// A text that is no value of the type it was to be parsed to; says what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAValue(String);

/// The values of an enum and the names that the configuration and the API give them.
pub(super) trait Named: Copy + PartialEq + 'static {
    const NAMES: &'static [(&'static str, Self)];
    /// Names that DESIGN.md knows and this version does not.
    const LATER: &'static [&'static str] = &[];
}

macro_rules! named {
    ($type:ty: $($name:literal = $variant:ident),+; later $($later:literal),*) => {
        impl Named for $type {
            const NAMES: &'static [(&'static str, Self)] = &[$(($name, Self::$variant)),+];
            const LATER: &'static [&'static str] = &[$($later),*];
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$variant => $name),+ })
            }
        }
        impl FromStr for $type {
            type Err = NotAValue;
            fn from_str(text: &str) -> Result<Self, NotAValue> {
                let known = [$($name),+].join(", ");
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(NotAValue(format!("{text:?} is not one of: {known}"))),
                }
            }
        }
    };
}

named!(XdpMode: "auto" = Auto, "native" = Native, "generic" = Generic; later);
named!(Protocol: "tcp" = Tcp, "udp" = Udp; later);
named!(Scheduler: "round-robin" = RoundRobin;
    later "least-connections", "maglev", "source-hash", "random");
named!(Forwarding: "nat" = Nat; later "dsr", "ipip", "gue");
named!(Tier: "primary" = Primary; later "backup");

impl Protocol {
    /// The IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => lb_common::net::TCP,
            Self::Udp => lb_common::net::UDP,
        }
    }

    /// The protocol of an IP protocol number, where services can have it.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            lb_common::net::TCP => Some(Self::Tcp),
            lb_common::net::UDP => Some(Self::Udp),
            _ => None,
        }
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
