//! `/metrics`: everything that is counted, for Prometheus.
//!
//! [`catalogue`] says what there is and where each number comes from; `expose` writes it down in the
//! format that is asked for.

mod alerts;
mod announcements;
pub mod catalogue;
mod expose;
mod store;

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};

pub use self::catalogue::{Kind, METRICS, Metric};
use self::expose::Format;
use super::Source;
use crate::api::{
    Problem,
    model::{Alerts, Counters, Status},
};

/// What the numbers are taken from.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The state of everything.
    pub status: Arc<Status>,
    /// The counters.
    pub counters: Arc<Counters>,
    /// The alerts.
    pub alerts: Arc<Alerts>,
}

/// Answers a scrape.
pub(super) async fn serve(
    State(source): State<Source>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let format = Format::accepted(&headers);
    let observed = Observed {
        status: source.status().await?,
        counters: source.counters().await?,
        alerts: Arc::new(source.alerts().await?),
    };
    // With 65,536 backends this is tens of megabytes: not on a thread that others wait for.
    let text = tokio::task::spawn_blocking(move || expose::text(observed, format));
    let text = text.await.map_err(|error| Problem::internal(&error.into()))?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], text).into_response())
}
