//! The store that edges share as metrics; there are none where there is no store.

use super::{
    Observed,
    catalogue::{Sink, Value},
};

/// Whether a member answers.
pub(super) fn connected(observed: &Observed, sink: Sink<'_>) {
    if let Some(store) = &observed.status.store {
        sink(&[], Value::Gauge(f64::from(u8::from(store.connected))));
    }
}

/// The revision at work here, and the newest one.
pub(super) fn revisions(observed: &Observed, sink: Sink<'_>) {
    let Some(store) = &observed.status.store else { return };
    for (of, revision) in [("here", store.revision), ("store", store.newest)] {
        #[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
        sink(&[("of", of)], Value::Gauge(revision as f64));
    }
}
