//! Prometheus Alertmanager: its API (v2) takes alerts again and again for as long as they last, and ends
//! those that it hears of no more.
//!
//! <https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use tokio::time::Instant;

use super::{Failure, http, webhook::host};
use crate::{api::model::Alert, config::alerts::Alertmanager};

/// Alerts of one request at the most.
const BATCH: usize = 500;
/// An alert that is not repeated ends after this many times `repeat`, as Prometheus' own do.
const LIVES: u32 = 4;

/// What an Alertmanager was told of.
#[derive(Debug, Default)]
pub(super) struct Manager {
    raised: BTreeMap<String, Arc<Alert>>,
    told: Option<Instant>,
}

/// An alert as its API has it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Posted<'a> {
    labels: BTreeMap<&'static str, &'a str>,
    annotations: BTreeMap<String, String>,
    starts_at: &'a str,
    ends_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "str::is_empty")]
    generator_url: &'a str,
}

impl Manager {
    /// One that was told of these before a restart; it is told again at once, and then every so often.
    pub(super) fn knowing(alerts: &[Alert]) -> Self {
        let raised = alerts.iter().map(|alert| (alert.id.clone(), Arc::new(alert.clone())));
        Self { raised: raised.collect(), told: None }
    }

    /// When what is raised is told again; `None` where nothing is.
    pub(super) fn due(&self, repeat: Duration) -> Option<Instant> {
        (!self.raised.is_empty()).then(|| self.told.map_or_else(Instant::now, |at| at + repeat))
    }

    /// Tells of changes, and where there are none of all that is raised.
    pub(super) async fn deliver(
        &mut self,
        config: &Alertmanager,
        changes: &[Arc<Alert>],
    ) -> Result<(), Failure> {
        for alert in changes {
            if alert.cleared.is_some() {
                self.raised.remove(&alert.id);
            } else {
                self.raised.insert(alert.id.clone(), Arc::clone(alert));
            }
        }
        let base = config.endpoint.url.trim_end_matches('/');
        let url = format!("{base}/api/v2/alerts");
        let host = host();
        let until = SystemTime::now() + config.repeat * LIVES;
        let until = humantime::format_rfc3339_seconds(until).to_string();
        if !changes.is_empty() {
            let posted: Vec<_> = changes.iter().map(|alert| posted(alert, &host, &until)).collect();
            return http::post(&config.endpoint, &url, &posted).await;
        }
        let all: Vec<_> = self.raised.values().map(|alert| posted(alert, &host, &until)).collect();
        for batch in all.chunks(BATCH) {
            http::post(&config.endpoint, &url, &batch).await?;
        }
        self.told = Some(Instant::now());
        Ok(())
    }
}

fn posted<'a>(alert: &'a Alert, host: &'a str, until: &str) -> Posted<'a> {
    let named = [
        ("alertname", Some(alert.kind.as_str())),
        ("instance", Some(host)),
        ("service", alert.service.as_deref()),
        ("backend", alert.backend.as_deref()),
    ];
    let mut labels: BTreeMap<_, _> =
        named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    labels.insert("job", "evenkeel");
    labels.insert(
        "severity",
        match alert.severity {
            crate::alerts::Severity::Critical => "critical",
            crate::alerts::Severity::Warning => "warning",
            crate::alerts::Severity::Info => "info",
        },
    );
    let evidence = alert.evidence.iter().map(|(name, value)| (name.clone(), value.to_string()));
    let mut annotations: BTreeMap<_, _> = evidence.collect();
    annotations.insert("summary".to_owned(), alert.summary.clone());
    annotations.insert("runbook_url".to_owned(), alert.page.clone());
    let is_address = alert.page.contains("://");
    Posted {
        labels,
        annotations,
        starts_at: &alert.since,
        ends_at: alert.cleared.clone().unwrap_or_else(|| until.to_owned()),
        // It takes addresses alone.
        generator_url: if is_address { &alert.page } else { "" },
    }
}
