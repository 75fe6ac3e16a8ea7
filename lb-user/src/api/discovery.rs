//! What is told of the sources of discovered backends.

use serde::{Deserialize, Serialize};

/// A source of a service's backends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// It, as `discover` names it.
    pub source: String,
    /// Backends that are known from it.
    pub backends: u64,
    /// When it said so last, as RFC 3339 has it; absent: it has not said anything yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<String>,
    /// Why its newest answer is not taken, or is not whole; absent where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Since when that is so, as RFC 3339 has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Its servers that cannot be backends, with the reasons; empty where all can.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub left_out: String,
}

/// Where a backend comes from that the configuration names.
pub(super) fn declared() -> String {
    "declared".to_owned()
}
