//! The webhook: alerts as `evenkeel alerts -o json` shows them, posted as one document.

use std::sync::Arc;

use serde::Serialize;

use super::{Failure, http};
use crate::{api::model::Alert, config::alerts::Webhook};

/// What is posted. Fields are only ever added.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    /// The host that tells.
    host: String,
    alerts: Vec<Told<'a>>,
}

/// An alert with where it stands.
#[derive(Serialize)]
pub(super) struct Told<'a> {
    /// `raised` or `cleared`.
    status: &'static str,
    #[serde(flatten)]
    alert: &'a Alert,
}

impl<'a> From<&'a Alert> for Told<'a> {
    fn from(alert: &'a Alert) -> Self {
        Self { status: status(alert), alert }
    }
}

/// Where an alert stands.
pub(super) fn status(alert: &Alert) -> &'static str {
    if alert.cleared.is_some() { "cleared" } else { "raised" }
}

/// The host's name.
pub(super) fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

pub(super) async fn deliver(config: &Webhook, alerts: &[Arc<Alert>]) -> Result<(), Failure> {
    let wanted = alerts.iter().filter(|alert| config.send_resolved || alert.cleared.is_none());
    let alerts: Vec<Told<'_>> = wanted.map(|alert| Told::from(&**alert)).collect();
    if alerts.is_empty() {
        return Ok(());
    }
    let document = Document { version: 1, host: host(), alerts };
    http::post(&config.endpoint, &config.endpoint.url, &document).await
}
