//! Alerts as metrics: which are raised, and how their deliveries go.

use super::{
    Observed,
    catalogue::{Sink, Value},
};

/// Every alert that is raised, as 1; one that cleared is gone.
pub(super) fn raised(observed: &Observed, sink: Sink<'_>) {
    for alert in &observed.alerts.alerts {
        let severity = alert.severity.to_string();
        let labels = [
            ("kind", &*alert.kind),
            ("severity", &*severity),
            ("service", alert.service.as_deref().unwrap_or_default()),
            ("backend", alert.backend.as_deref().unwrap_or_default()),
        ];
        sink(&labels, Value::Gauge(1.0));
    }
}

/// What became of the deliveries to each target.
pub(super) fn deliveries(observed: &Observed, sink: Sink<'_>) {
    for delivery in &observed.alerts.deliveries {
        for (result, count) in [
            ("delivered", delivery.delivered),
            ("failed", delivery.failed),
            ("dropped", delivery.dropped),
        ] {
            let labels = [("target", &*delivery.target), ("result", result)];
            sink(&labels, Value::Counter(count));
        }
    }
}
