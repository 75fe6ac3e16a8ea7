//! Announced addresses as metrics.

use super::{
    Observed,
    catalogue::{Sink, Value},
};

/// For each service that is to be announced, whether its address is.
pub(super) fn announced(observed: &Observed, sink: Sink<'_>) {
    for announcement in &observed.status.announcements {
        for service in &announcement.services {
            let labels = [("service", &**service), ("address", &*announcement.address)];
            sink(&labels, Value::Gauge(f64::from(u8::from(announcement.announced))));
        }
    }
}
