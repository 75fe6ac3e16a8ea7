//! The alerts as the API tells them, on their own and in the status.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::alerts::Severity;

/// `GET /v1/alerts`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alerts {
    /// Those that are raised, the most severe first.
    pub alerts: Vec<Alert>,
    /// Those that cleared within the last hour, the last one first; at most 100.
    #[serde(default)]
    pub cleared: Vec<Alert>,
    /// Where alerts are delivered to, and how that went.
    #[serde(default)]
    pub deliveries: Vec<Delivery>,
}

/// Something that is wrong, or was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// `KIND`, `KIND/SERVICE` or `KIND/SERVICE/BACKEND`.
    pub id: String,
    /// What is wrong, as `docs/reference/alerts.md` lists them: `backend-down`, …
    pub kind: String,
    /// How bad it is.
    pub severity: Severity,
    /// The service's name; absent where it is about the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The backend's name; absent where it is about all of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// When the cause was first seen, as RFC 3339 has it.
    pub since: String,
    /// Seconds since then; of one that cleared, how long it lasted.
    pub since_seconds: u64,
    /// When it cleared, as RFC 3339 has it; absent: it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared: Option<String>,
    /// What is wrong, in a sentence for people.
    pub summary: String,
    /// The numbers that it rests on, by name.
    pub evidence: BTreeMap<String, Evidence>,
    /// The playbook's page: an address where `[alerts] playbook` is set, or else a path below `docs/`.
    pub page: String,
}

/// A value that an alert rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Evidence {
    /// A count.
    Count(u64),
    /// A measure.
    Number(f64),
    /// What is no number.
    Text(String),
}

/// A target that alerts are delivered to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// `webhook`, `alertmanager` or `exec`, and its address or program.
    pub target: String,
    /// Alerts that were delivered, raised or cleared.
    pub delivered: u64,
    /// Attempts that failed; each is made again.
    pub failed: u64,
    /// Those of them since the last one that did not fail.
    #[serde(default)]
    pub failed_in_a_row: u64,
    /// Alerts that were dropped, because too many waited or because the target refused them.
    pub dropped: u64,
    /// Alerts that wait.
    pub waiting: u64,
    /// Why the last attempt failed; absent where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Delivery {
    /// Whether the target has failed more than by a hiccup.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.failed_in_a_row >= 3
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Number(number) => write!(f, "{}", (number * 1000.0).round() / 1000.0),
            Self::Text(text) => text.fmt(f),
        }
    }
}
