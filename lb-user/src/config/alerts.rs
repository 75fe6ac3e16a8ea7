//! `[alerts]`: when alerts rise, and whom they are delivered to. How they are judged is not known here.

use std::{fmt, path::PathBuf, time::Duration};

use serde::Serialize;

use super::{
    Decimal,
    model::{human, human_option},
};
use crate::health::{ExecProbe, TlsCheck};

/// When alerts rise, and where they go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alerts {
    /// What the addresses of the playbook's pages begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub playbook: Option<String>,
    /// How long a cause must last before its alert rises; `None`: as long as its kind has it.
    #[serde(serialize_with = "human_option", skip_serializing_if = "Option::is_none")]
    pub raise_after: Option<Duration>,
    /// How long a cause must be over before its alert clears; `None`: as long as its kind has it.
    #[serde(serialize_with = "human_option", skip_serializing_if = "Option::is_none")]
    pub clear_after: Option<Duration>,
    /// Over how long the peak of connections, falls and drift are remembered.
    #[serde(serialize_with = "human")]
    pub recent: Duration,
    /// Over how long a backend's connections are compared with its past: the time constant by which what came
    /// lately fades.
    #[serde(serialize_with = "human")]
    pub lately: Duration,
    /// How long a backend may be taken out before that is an alert.
    #[serde(serialize_with = "human")]
    pub reminder: Duration,
    /// Imbalance index at which it is an alert, above 1.
    pub imbalance: Decimal,
    /// Part of a backend's connections that fail at which it is an alert, 0 to 1.
    pub failures: Decimal,
    /// Times that handshakes take longer than before at which it is an alert, above 1.
    pub handshakes: Decimal,
    /// Falls of a backend within `recent` at which it is an alert, at least 2.
    pub flaps: u32,
    /// Part of a connection table that is full at which it is an alert, 0 to 1.
    pub table_fill: Decimal,
    /// How late probes and looks may begin.
    #[serde(serialize_with = "human")]
    pub late: Duration,
    /// Where alerts are posted as JSON.
    #[serde(rename = "webhook", skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<Webhook>,
    /// Alertmanagers.
    #[serde(rename = "alertmanager", skip_serializing_if = "Vec::is_empty")]
    pub alertmanagers: Vec<Alertmanager>,
    /// Programs that are run.
    #[serde(rename = "exec", skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<Program>,
}

/// A server that is spoken to over HTTP or HTTPS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Its address, `http://` or `https://`.
    pub url: String,
    /// Headers of every request, names and values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// A file with the token that it asks for; read for every attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
    /// What is asked of its certificate.
    #[serde(flatten)]
    pub tls: TlsCheck,
    /// How long an attempt may take.
    #[serde(serialize_with = "human")]
    pub timeout: Duration,
}

/// `[[alerts.webhook]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Webhook {
    /// The server.
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// Whether it is told of alerts that cleared.
    pub send_resolved: bool,
}

/// `[[alerts.alertmanager]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alertmanager {
    /// The server; its path is the prefix before `/api/v2/alerts`.
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// How often it is told what is raised: more often than its `resolve_timeout`.
    #[serde(serialize_with = "human")]
    pub repeat: Duration,
}

/// `[[alerts.exec]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    /// The program with its user.
    #[serde(flatten)]
    pub exec: ExecProbe,
    /// How long it may run.
    #[serde(serialize_with = "human")]
    pub timeout: Duration,
    /// Whether it is told of alerts that cleared.
    pub send_resolved: bool,
}

impl Default for Alerts {
    fn default() -> Self {
        // All of these are in a decimal's range.
        let decimal = |value| Decimal::new(value).unwrap_or_default();
        Self {
            playbook: None,
            raise_after: None,
            clear_after: None,
            recent: Duration::from_mins(10),
            lately: Duration::from_secs(10),
            reminder: Duration::from_hours(1),
            imbalance: decimal(1.25),
            failures: decimal(0.05),
            handshakes: decimal(4.0),
            flaps: 3,
            table_fill: decimal(0.8),
            late: Duration::from_secs(1),
            webhooks: Vec::new(),
            alertmanagers: Vec::new(),
            programs: Vec::new(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}
