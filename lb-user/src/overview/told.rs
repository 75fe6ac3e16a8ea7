//! What the API tells beside status and counters: alerts and events. A daemon of an older version
//! tells none, and the rest is shown all the same.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::api::model::Status;

/// Something that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Alert {
    /// What it is: a kind, with the service and backend that it is about.
    pub id: String,
    /// Its kind, like `backend-down`.
    pub kind: String,
    /// `critical`, `warning` or `info`.
    pub severity: String,
    /// The service that it is about.
    #[serde(default)]
    pub service: Option<String>,
    /// The backend that it is about.
    #[serde(default)]
    pub backend: Option<String>,
    /// Seconds since it began.
    #[serde(default)]
    pub since_seconds: u64,
    /// A sentence for people.
    pub summary: String,
    /// The page of the playbook that says what to do.
    #[serde(default)]
    pub page: String,
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Event {
    /// Its number; they rise.
    pub id: u64,
    /// When, as RFC 3339 has it.
    pub at: String,
    /// Its kind, like `health`.
    pub kind: String,
    /// A sentence for people.
    pub message: String,
}

/// `GET /v1/status` with all of that.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// What every version tells.
    pub status: Status,
    /// What is wrong, most severe first.
    pub alerts: Vec<Alert>,
}

impl Told {
    /// Reads the document.
    ///
    /// # Errors
    ///
    /// Where it is not a status at all.
    pub fn of(document: Value) -> Result<Self, serde_json::Error> {
        let alerts = document.get("alerts").cloned().map(list).unwrap_or_default();
        Ok(Self { status: serde_json::from_value(document)?, alerts })
    }
}

/// The elements that can be read.
fn list<T: DeserializeOwned>(value: Value) -> Vec<T> {
    let Value::Array(values) = value else { return Vec::new() };
    values.into_iter().filter_map(|value| serde_json::from_value(value).ok()).collect()
}
