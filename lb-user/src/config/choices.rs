//! The enums of the configuration and the names that the file, the API and the command line give
//! them. What a choice does is not known here.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    announce::{AnnounceWay, OnStop},
    store::StoreKind,
};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheduler {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// The less loaded of two that are drawn by weight.
    LeastConnections,
    /// By a hash of the flow, in a table that every host makes alike.
    Maglev,
    /// By a hash of the client's address, in such a table.
    SourceHash,
    /// Drawn by weight.
    Random,
}

/// How packets reach a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarding {
    /// Network address translation.
    #[default]
    Nat,
    /// Unchanged, to the backend's Ethernet address; it holds the service's address itself.
    Dsr,
    /// Unchanged inside an IP packet (RFC 2003, RFC 2473).
    Ipip,
    /// Unchanged inside a UDP packet (Generic UDP Encapsulation, variant 1).
    Gue,
}

/// What becomes of a new connection when no backend of its service has room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overload {
    /// The client is told: RST, or ICMP unreachable.
    #[default]
    Reject,
    /// Dropped without a word.
    Drop,
}

/// When a backend takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Always.
    #[default]
    Primary,
    /// While fewer than `min_active` of the primaries are active.
    Backup,
}

/// What becomes of new connections when no backend of their service is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnAllDown {
    /// They are turned away.
    #[default]
    Reject,
    /// They go on to the backends that nobody took out, as if all were up: probes may be wrong.
    Keep,
}

/// What becomes of the open connections of a backend that fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDown {
    /// They stay: the backend may answer them still.
    #[default]
    Keep,
    /// They are cut, so that clients connect anew, elsewhere.
    Reset,
}

/// A text that is no value of the type it was to be parsed to; says what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAValue(pub(super) String);

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
named!(Scheduler: "round-robin" = RoundRobin, "least-connections" = LeastConnections,
    "maglev" = Maglev, "source-hash" = SourceHash, "random" = Random; later);
named!(Forwarding: "nat" = Nat, "dsr" = Dsr, "ipip" = Ipip, "gue" = Gue; later);
named!(Overload: "reject" = Reject, "drop" = Drop; later);
named!(Tier: "primary" = Primary, "backup" = Backup; later);
named!(OnAllDown: "reject" = Reject, "keep" = Keep; later);
named!(AnnounceWay: "address" = Address, "exabgp" = Exabgp, "hook" = Hook; later);
named!(OnStop: "withdraw" = Withdraw, "keep" = Keep; later);
named!(StoreKind: "file" = File, "etcd" = Etcd; later);
named!(OnDown: "keep" = Keep, "reset" = Reset; later);

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

impl Scheduler {
    /// Whether it looks backends up in a table of `table_size` slots by a hash.
    #[must_use]
    pub const fn hashes(self) -> bool {
        matches!(self, Self::Maglev | Self::SourceHash)
    }
}

impl Forwarding {
    /// Whether the packet goes on with its addresses and ports as the client sent them.
    #[must_use]
    pub const fn keeps_packet(self) -> bool {
        !matches!(self, Self::Nat)
    }

    /// Whether the packet travels inside another one, whose family may differ.
    #[must_use]
    pub const fn is_tunnel(self) -> bool {
        matches!(self, Self::Ipip | Self::Gue)
    }
}
