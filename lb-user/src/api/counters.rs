//! The JSON of counters. Fields are only ever added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Protocol;

/// `GET /v1/counters`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Every configured service, in the order of the configuration.
    pub services: Vec<ServiceCounters>,
    /// How long the controller took for each event, since the daemon started.
    #[serde(default)]
    pub controller: LoopTimes,
    /// Packets by verdict, since the data path was made.
    pub verdicts: BTreeMap<String, u64>,
    /// Backends that are no longer configured and still have connections.
    #[serde(default)]
    pub removed: Vec<RemovedCounters>,
}

/// How long the controller took for events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopTimes {
    /// Microseconds of all events, added up.
    pub microseconds: u64,
    /// Events by the time they took.
    pub buckets: Vec<LoopBucket>,
}

/// How many events took less than a time, and not less than that of the bucket before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopBucket {
    /// The time, in microseconds; `None`: any longer time.
    pub below_microseconds: Option<u64>,
    /// How many.
    pub count: u64,
}

/// A service's counters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceCounters {
    /// Its name.
    pub name: String,
    /// Its virtual address and port.
    pub address: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its backends, in the order of the configuration.
    pub backends: Vec<BackendCounters>,
}

/// A backend's counters, since it was added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendCounters {
    /// Its name.
    pub name: String,
    /// Its address and port.
    pub address: String,
    /// Connections.
    pub connections: Connections,
    /// Packets.
    pub packets: InOut,
    /// Bytes of IP packets.
    pub bytes: InOut,
    /// Connections that went wrong.
    pub failures: Failures,
    /// Microseconds of all handshakes below, added up.
    #[serde(default)]
    pub handshake_microseconds: u64,
    /// Times from a client's SYN to the backend's SYN-ACK; where only the client's packets pass (DSR,
    /// tunnels), there are none.
    pub handshakes: Vec<HandshakeBucket>,
}

/// Connections of a backend that went wrong, by what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// The backend refused: its first answer was a RST.
    pub refused: u64,
    /// The backend had not answered when the client asked again.
    pub unanswered: u64,
    /// Another backend was given the attempt.
    pub redispatched: u64,
    /// The backend reset an established connection.
    pub reset: u64,
    /// The handshake was not complete when newer attempts needed the room.
    pub evicted: u64,
}

/// How many handshakes took less than a time, and not less than that of the bucket before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandshakeBucket {
    /// The time, in microseconds; `None`: any longer time.
    pub below_microseconds: Option<u64>,
    /// How many.
    pub count: u64,
}

/// Counters of a backend that is no longer configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RemovedCounters {
    /// The service's name.
    pub service: String,
    /// The backend's counters.
    #[serde(flatten)]
    pub backend: BackendCounters,
}

/// Connections of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Given to it.
    pub total: u64,
    /// Open now.
    pub open: u64,
}

/// A count each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InOut {
    /// Towards the backend.
    #[serde(rename = "in")]
    pub inward: u64,
    /// Towards the client.
    #[serde(rename = "out")]
    pub outward: u64,
}
