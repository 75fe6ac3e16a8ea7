//! What the API tells beside status and counters: windows, alerts and events. A daemon of an older version
//! tells none, and the rest is shown all the same.

use std::collections::HashMap;

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

/// A service's new connections of the last seconds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Window {
    /// How many seconds it shall cover: 10, 60 or 600.
    pub seconds: u64,
    /// How many connections it rests on.
    pub connections: u64,
    /// The largest share over its fair share; absent where nothing can be said.
    #[serde(default)]
    pub index: Option<f64>,
    /// The coefficient of variation of shares over fair shares.
    #[serde(default)]
    pub variation: Option<f64>,
    /// Each backend's part.
    #[serde(default)]
    pub backends: Vec<WindowBackend>,
}

/// A backend's part of a window.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct WindowBackend {
    /// Its name.
    pub name: String,
    /// Its fair share, from 0 to 1.
    pub fair: f64,
    /// Its share of the connections, from 0 to 1.
    pub share: f64,
    /// Half of its handshakes took no longer, in microseconds.
    #[serde(default)]
    pub handshake_p50_us: Option<u64>,
    /// All but one in a hundred took no longer, in microseconds.
    #[serde(default)]
    pub handshake_p99_us: Option<u64>,
}

/// `GET /v1/status` with all of that.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// What every version tells.
    pub status: Status,
    /// Windows by the name of their service.
    pub windows: HashMap<String, Vec<Window>>,
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
        let part = |value: Option<&Value>| value.cloned().unwrap_or_default();
        let windows = document["services"].as_array().into_iter().flatten();
        let windows = windows.filter_map(|service| {
            let name = service["name"].as_str()?.to_owned();
            Some((name, list(part(service.get("windows")))))
        });
        let windows = windows.collect();
        let alerts = list(part(document.get("alerts")));
        Ok(Self { status: serde_json::from_value(document)?, windows, alerts })
    }

    /// A service's windows, the shortest first.
    #[must_use]
    pub fn windows(&self, service: &str) -> &[Window] {
        self.windows.get(service).map_or(&[], |windows| windows)
    }

    /// A service's window of so many seconds.
    #[must_use]
    pub fn window(&self, service: &str, seconds: u64) -> Option<&Window> {
        self.windows(service).iter().find(|window| window.seconds == seconds)
    }
}

/// The elements that can be read.
fn list<T: DeserializeOwned>(value: Value) -> Vec<T> {
    let Value::Array(values) = value else { return Vec::new() };
    values.into_iter().filter_map(|value| serde_json::from_value(value).ok()).collect()
}
