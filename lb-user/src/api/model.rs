//! The API's JSON: what `-o json` prints, too. Fields are only ever added.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{
    Peer,
    configuration::{Confirmation, Edited},
};
pub use super::{
    alerts::{Alert, Alerts, Delivery, Evidence},
    counters::{
        BackendCounters, Connections, Counters, Failures, HandshakeBucket, InOut, LoopBucket,
        LoopTimes, RemovedCounters, ServiceCounters,
    },
    discovery::SourceStatus,
    fleet::{Edge, Fleet, Missing, Spread, StoreStatus},
    health::NewHealth,
    node::{Announced, Announcement, Fitness, NodeRequest, NodeStatus},
};
use crate::{
    admin::{AdminState, Exception, NodeDrain, Span},
    config::{Endpoint, Forwarding, Overload, Protocol, Scheduler, Tier, edit::BackendSpec},
    health::Health,
};

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon.
    pub daemon: Daemon,
    /// Every configured service, in the order of the configuration.
    pub services: Vec<ServiceStatus>,
    /// Backends that are no longer configured and still have connections.
    #[serde(default)]
    pub removed: Vec<Removed>,
    /// What is wrong, the most severe first.
    #[serde(default)]
    pub alerts: Vec<Alert>,
    /// This node as one of several edges.
    #[serde(default)]
    pub node: NodeStatus,
    /// Every address that is to be announced.
    #[serde(default)]
    pub announcements: Vec<Announcement>,
    /// The store that edges share; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreStatus>,
}

/// The daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
    /// Its version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// When it started, in seconds since 1970.
    #[serde(default)]
    pub started_seconds: f64,
    /// The interfaces that it balances.
    pub interfaces: Vec<Interface>,
    /// The layout version of the kernel's tables: another version of evenkeel takes them over if it has the
    /// same.
    #[serde(default)]
    pub layout: u32,
    /// The configuration file.
    #[serde(default)]
    pub config: String,
    /// Entries in the connection tables, of which a connection has two.
    #[serde(default)]
    pub connection_entries: u64,
    /// Connections that each family's table has room for.
    #[serde(default)]
    pub connection_capacity: u32,
    /// How often the kernel's tables differed from what was written to them, and were mended.
    #[serde(default)]
    pub table_repairs: u64,
    /// When they did last; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_repair: Option<Repair>,
    /// Where metrics and the dashboard are; absent: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// The configuration file is not what is at work; absent where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_edited: Option<Edited>,
    /// The change that waits for its confirmation; absent where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Confirmation>,
    /// What keeps the daemon from working as it should, each with the way out; empty: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
}

/// A difference between the kernel's tables and what was written to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// When it was mended, as RFC 3339 has it.
    pub at: String,
    /// What differed.
    pub what: String,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// How the program is attached: `native`, `generic`, or `none` where it is not (any more); `unknown`
    /// where the kernel could not be asked.
    pub mode: String,
    /// What is wrong with it, and what follows: it is missing, or called otherwise now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Its virtual address and port.
    pub address: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its forwarding mode.
    pub forwarding: Forwarding,
    /// Its scheduler.
    pub scheduler: Scheduler,
    /// How its backends are probed: the kind, and the interval where there is one.
    #[serde(default)]
    pub probe: String,
    /// Active backends that it shall have.
    #[serde(default)]
    pub min_active: u32,
    /// What came over the last 10 seconds, minute and ten minutes.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// Where more backends come from than the configuration names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceStatus>,
    /// Its backends, in the order of the configuration; then those that are discovered.
    pub backends: Vec<BackendStatus>,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Its name.
    pub name: String,
    /// Its address and port.
    pub address: String,
    /// Where it comes from: `declared` in the configuration, or one of the service's sources.
    #[serde(default = "super::discovery::declared")]
    pub origin: String,
    /// Its weight.
    pub weight: u16,
    /// Its tier.
    pub tier: Tier,
    /// What people decided.
    #[serde(default)]
    pub admin: AdminState,
    /// How, where they took it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception: Option<ExceptionStatus>,
    /// What it does: `active`, `warming N%` (its share grows), `fail-open` (it is not up, and nobody
    /// is), `standby` (a backup that waits), `drain`, `maintenance`, `ejected` (its connections failed) or
    /// `out`.
    #[serde(default)]
    pub state: String,
    /// What probes see. A backend that is not probed counts as up.
    pub health: Health,
    /// Whether it gets new connections.
    pub active: bool,
    /// Its part of new connections now, from 0 to 1.
    pub share: f64,
    /// Connections open now.
    #[serde(default)]
    pub open: u64,
    /// Open connections that it takes at the most; absent where there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Why it is not active, or what stands in the way to it; empty where all is well.
    #[serde(default)]
    pub reason: String,
    /// What its agent says, like `50%` or `drain (deploy)`, and why it is silent; absent where none
    /// is asked or was heard yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Seconds since its health changed; absent where it is not probed.
    #[serde(default)]
    pub health_seconds: Option<u64>,
    /// Seconds since its health, or what people decided of it, changed; since the daemon started, where
    /// nothing did.
    #[serde(default)]
    pub since_change_seconds: u64,
    /// Milliseconds that its last passed probe took.
    #[serde(default)]
    pub probe_milliseconds: Option<f64>,
}

/// What came to a service over a while, and how far its backends' shares stray from their fair ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Seconds that the window is long: 10, 60 or 600.
    pub seconds: u64,
    /// Seconds of it that were seen: fewer after the daemon's start, and as they are seen in pieces.
    pub covers: f64,
    /// New connections.
    pub connections: u64,
    /// The largest share over its fair share; 1: all have their fair share. Absent where no connection
    /// came.
    pub index: Option<f64>,
    /// The coefficient of variation of the shares over their fair ones; absent likewise.
    pub variation: Option<f64>,
    /// The backends, in the order of the configuration.
    pub backends: Vec<WindowBackend>,
}

/// A backend's part of what came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowBackend {
    /// Its name.
    pub name: String,
    /// New connections that it was given.
    pub connections: u64,
    /// The share of them that was its fair one, by the weights of who was active when each came; from 0 to 1.
    pub fair: f64,
    /// The share that it was given.
    pub share: f64,
    /// Bytes of IP packets, both ways.
    pub bytes: u64,
    /// Its share of them.
    pub bytes_share: f64,
    /// Packets, both ways.
    pub packets: u64,
    /// Connections that went wrong: refused, unanswered, or reset.
    pub errors: u64,
    /// Its share of them.
    pub errors_share: f64,
    /// Attempts that it refused.
    pub refused: u64,
    /// Attempts that it did not answer in time.
    pub unanswered: u64,
    /// Established connections that it reset.
    pub reset: u64,
    /// Microseconds from SYN to SYN-ACK that half of the handshakes took at the most, interpolated in a
    /// histogram; absent where there was none.
    pub handshake_p50_us: Option<u64>,
    /// The same of 99 in 100.
    pub handshake_p99_us: Option<u64>,
}

/// Why, by whom and for how long a backend is taken out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionStatus {
    /// Why.
    pub reason: String,
    /// Who asked.
    pub by: Peer,
    /// Since when, as RFC 3339 has it.
    pub since: String,
    /// Until when; absent: until somebody resumes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Seconds since then.
    pub seconds: u64,
    /// Seconds that it lasts yet; absent: until somebody resumes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
}

impl ExceptionStatus {
    /// What there is to tell of an exception.
    #[must_use]
    pub fn of(exception: &Exception, now: SystemTime) -> Self {
        let Exception { since, until, reason, by, .. } = exception;
        Self::told(*since, *until, reason, by, now)
    }

    /// What there is to tell of the node's drain.
    #[must_use]
    pub fn of_node(drain: &NodeDrain, now: SystemTime) -> Self {
        Self::told(drain.since, drain.until, &drain.reason, &drain.by, now)
    }

    fn told(
        since: SystemTime,
        until: Option<SystemTime>,
        reason: &str,
        by: &Peer,
        now: SystemTime,
    ) -> Self {
        let shown = |time| humantime::format_rfc3339_seconds(time).to_string();
        Self {
            reason: reason.to_owned(),
            by: by.clone(),
            since: shown(since),
            until: until.map(shown),
            seconds: now.duration_since(since).unwrap_or_default().as_secs(),
            seconds_left: until
                .map(|until| until.duration_since(now).unwrap_or_default().as_secs()),
        }
    }
}

/// A backend that is no longer configured and still has connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    /// The service's name.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its address and port.
    pub address: String,
    /// Connections open now.
    pub open: u64,
}

/// `POST /v1/services`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewService {
    /// Its name.
    pub name: String,
    /// Its virtual address and port, `*` for every port.
    pub address: Endpoint,
    /// Its protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// Its scheduler.
    #[serde(default)]
    pub scheduler: Scheduler,
    /// Slots of the scheduler's table, where it hashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_size: Option<u32>,
    /// Its forwarding mode.
    #[serde(default)]
    pub forwarding: Forwarding,
    /// Whether NAT replaces the client's address; true where it is absent.
    #[serde(default = "yes")]
    pub snat: bool,
    /// The backends' port for GUE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gue_port: Option<u16>,
    /// For how long a client keeps its backend, like `10m`.
    #[serde(default, with = "human", skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Duration>,
    /// What becomes of a new connection when no backend has room.
    #[serde(default)]
    pub overload: Overload,
    /// How its backends are probed.
    #[serde(default)]
    pub health: NewHealth,
}

/// `POST /v1/services/{service}/backends`.
pub type NewBackend = BackendSpec;

/// `PATCH /v1/services/{service}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePatch {
    /// The new scheduler.
    pub scheduler: Scheduler,
    /// Slots of its table, where it hashes; absent: as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_size: Option<u32>,
}

/// `PATCH /v1/services/{service}/backends/{backend}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// The new weight.
    pub weight: u16,
}

/// `PUT /v1/admin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminRequest {
    /// The service's name; absent: every service that has a backend of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The backend's name.
    pub backend: String,
    /// What shall become of it.
    pub state: AdminState,
    /// For how long it is out, like `30m`, or `forever`; absent for `ready`.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// Why; absent for `ready`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether a service may be left with fewer than `min_active` backends.
    #[serde(default)]
    pub force: bool,
}

/// The answer to a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// What was done, for people.
    pub message: String,
    /// What is legal but dangerous about the configuration now.
    pub warnings: Vec<String>,
    /// Connections that were cut.
    #[serde(default)]
    pub cut: u64,
    /// Which edges have it; absent where it is this host's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Spread>,
}

fn yes() -> bool {
    true
}

/// Durations as people write them.
mod human {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::ref_option, reason = "serde gives the field by reference")]
    pub fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.collect_str(&humantime::format_duration(*duration)),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        humantime::parse_duration(&text)
            .map(Some)
            .map_err(|error| D::Error::custom(format!("{text:?} is not a duration: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_service_reads_as_the_configuration_does() {
        let text = r#"{"name":"web","address":"192.0.2.10:*"}"#;
        let plain: NewService = serde_json::from_str(text).unwrap();
        assert_eq!((plain.address.0.port(), plain.snat, plain.sticky), (0, true, None));
        let text = r#"{"name":"web","address":"[2001:db8::1]:80","scheduler":"maglev",
            "table_size":251,"forwarding":"gue","gue_port":6081,"sticky":"1h","overload":"drop"}"#;
        let full: NewService = serde_json::from_str(text).unwrap();
        assert_eq!(full.sticky, Some(Duration::from_hours(1)));
        let again = serde_json::to_string(&full).unwrap();
        assert_eq!(serde_json::from_str::<NewService>(&again).unwrap(), full);
        assert!(serde_json::from_str::<NewService>(&text.replace("1h", "soon")).is_err());
        assert!(serde_json::from_str::<NewService>(&text.replace("1]:80", "1]:0")).is_err());
    }
}
