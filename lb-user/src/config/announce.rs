//! `[announce]` and `[service.announce]`: when a service's address is announced, and how. Who carries it out is
//! not known here.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::model::human;
use crate::health::ExecProbe;

/// How an address is announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnnounceWay {
    /// It is put on an interface, where a routing daemon finds it.
    #[default]
    Address,
    /// ExaBGP is told, by the process that it runs for that.
    Exabgp,
    /// A program is run.
    Hook,
}

/// What becomes of an announcement when the daemon is told to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnStop {
    /// It is withdrawn: nobody watches the backends any more.
    #[default]
    Withdraw,
    /// It stays, as the data path does.
    Keep,
}

/// When a service's address is announced, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Announce {
    /// How.
    pub way: AnnounceWay,
    /// The interface that the address is put on; means nothing to other ways.
    pub interface: String,
    /// The program that is run; of [`AnnounceWay::Hook`] alone.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    /// Active backends that there must be; `None`: the service's own `min_active`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_active: Option<u32>,
    /// How long all must have been well before it is announced.
    #[serde(serialize_with = "human")]
    pub announce_after: Duration,
    /// How long something must have been wrong before it is withdrawn.
    #[serde(serialize_with = "human")]
    pub withdraw_after: Duration,
    /// What becomes of it when the daemon stops.
    pub on_stop: OnStop,
}

/// A program that announces and withdraws.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// The program with its user.
    #[serde(flatten)]
    pub exec: ExecProbe,
    /// How long it may run.
    #[serde(serialize_with = "human")]
    pub timeout: Duration,
}

impl Announce {
    /// The interface that addresses are put on unless another one is named.
    pub const INTERFACE: &str = "lo";
    /// How long a hook may run unless something else is said.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// Whether an address would be announced in the same way.
    #[must_use]
    pub fn is_alike(&self, other: &Self) -> bool {
        let of = |announce: &Self| Self { min_active: None, ..announce.clone() };
        of(self) == of(other)
    }
}

impl Default for Announce {
    fn default() -> Self {
        Self {
            way: AnnounceWay::default(),
            interface: Self::INTERFACE.to_owned(),
            hook: None,
            min_active: None,
            announce_after: Duration::from_secs(10),
            withdraw_after: Duration::ZERO,
            on_stop: OnStop::default(),
        }
    }
}

impl fmt::Display for Announce {
    /// As in "by …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.way, &self.hook) {
            (AnnounceWay::Address, _) => write!(f, "its address on {}", self.interface),
            (AnnounceWay::Exabgp, _) => f.write_str("ExaBGP"),
            (AnnounceWay::Hook, hook) => {
                let command = hook.as_ref().and_then(|hook| hook.exec.command.first());
                f.write_str(command.map_or("a hook", String::as_str))
            }
        }
    }
}
