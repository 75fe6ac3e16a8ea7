//! Rates: what came to a backend between two readings of its counters, a second. Pure.

use serde::Serialize;

use crate::api::model::BackendCounters;

/// What came in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    /// New connections.
    pub connections: f64,
    /// Bytes of IP packets towards the backend.
    #[serde(rename = "in_bytes")]
    pub bytes_in: f64,
    /// Bytes of IP packets towards the clients.
    #[serde(rename = "out_bytes")]
    pub bytes_out: f64,
    /// Packets, both ways.
    pub packets: f64,
    /// Connections that were refused, not answered or reset.
    pub errors: f64,
}

impl Rate {
    /// Between two readings that are `seconds` apart. Counters that went back are those of a new data path,
    /// and give none.
    #[must_use]
    pub fn between(old: &BackendCounters, new: &BackendCounters, seconds: f64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a rate is shown in a few digits")]
        let per_second = |of: fn(&BackendCounters) -> u64| {
            of(new).saturating_sub(of(old)) as f64 / seconds.max(1e-3)
        };
        Self {
            connections: per_second(|backend| backend.connections.total),
            bytes_in: per_second(|backend| backend.bytes.inward),
            bytes_out: per_second(|backend| backend.bytes.outward),
            packets: per_second(|backend| backend.packets.inward + backend.packets.outward),
            errors: per_second(|backend| {
                let failures = backend.failures;
                failures.refused + failures.unanswered + failures.reset
            }),
        }
    }
}

impl std::ops::AddAssign for Rate {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.packets += other.packets;
        self.errors += other.errors;
    }
}
