//! Every metric: its name, what it means, and which numbers of the status and the counters it is.
//!
//! The reference in the documentation is made from this table. Counters are since the data path was made, or
//! the backend was added; they survive restarts of the daemon.

use super::{Observed, alerts, announcements, store};
use crate::{
    admin::AdminState,
    api::model::{BackendCounters, BackendStatus, Window},
    health::Health,
};

/// A metric.
#[derive(Clone, Copy)]
pub struct Metric {
    /// Its name, without its unit and without what the kind adds.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The unit that its name ends in.
    pub unit: Option<&'static str>,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, in a sentence.
    pub help: &'static str,
    pub(super) samples: fn(&Observed, Sink<'_>),
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sum that only grows; its samples end in `_total`.
    Counter,
    /// A value of now.
    Gauge,
    /// Counts by size.
    Histogram,
    /// Facts in labels; its sample ends in `_info`.
    Info,
}

impl Metric {
    /// The name of its family: with the unit.
    #[must_use]
    pub fn family(&self) -> String {
        self.unit.map_or_else(|| self.name.to_owned(), |unit| format!("{}_{unit}", self.name))
    }

    /// The name as it is asked for: that of its samples.
    #[must_use]
    pub fn exported(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.family() + suffix
    }
}

/// A label's name and value.
pub(super) type Label<'a> = (&'static str, &'a str);

/// Takes samples.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&[Label<'_>], Value<'_>);

/// A sample.
pub(super) enum Value<'a> {
    Counter(u64),
    Gauge(f64),
    /// Counts of each bucket alone, with the bucket's end.
    Histogram {
        sum: f64,
        buckets: &'a [(f64, u64)],
    },
    Info,
}

const NONE: &[&str] = &[];
const BACKEND: &[&str] = &["service", "backend"];
const WAY: &[&str] = &["service", "backend", "direction"];
const SERVICE: &[&str] = &["service"];
const WINDOW: &[&str] = &["service", "window"];

const fn metric(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&Observed, Sink<'_>),
) -> Metric {
    Metric { name, kind, unit: None, labels, help, samples }
}

impl Metric {
    const fn of(self, unit: &'static str) -> Self {
        Self { unit: Some(unit), ..self }
    }
}

/// Every metric, in the order of the exposition.
pub const METRICS: &[Metric] = &[
    metric(
        "evenkeel_backend_connections",
        Kind::Counter,
        BACKEND,
        "Connections given to the backend",
        |observed, sink| count(observed, sink, |backend| backend.connections.total),
    ),
    metric(
        "evenkeel_backend_open_connections",
        Kind::Gauge,
        BACKEND,
        "Connections of the backend that are open",
        |observed, sink| {
            each_counted(observed, |labels, backend| {
                sink(labels, gauge(backend.connections.open));
            });
        },
    ),
    metric(
        "evenkeel_backend_max_connections",
        Kind::Gauge,
        BACKEND,
        "Established connections that the backend takes, where that is limited",
        |observed, sink| gauges(observed, sink, |backend| backend.max_connections.map(f64::from)),
    ),
    metric(
        "evenkeel_backend",
        Kind::Counter,
        WAY,
        "Bytes of IP packets that passed; in: towards the backend",
        |observed, sink| {
            ways(observed, sink, |backend| (backend.bytes.inward, backend.bytes.outward));
        },
    )
    .of("bytes"),
    metric(
        "evenkeel_backend_packets",
        Kind::Counter,
        WAY,
        "Packets that passed; in: towards the backend",
        |observed, sink| {
            ways(observed, sink, |backend| (backend.packets.inward, backend.packets.outward));
        },
    ),
    metric(
        "evenkeel_backend_refused",
        Kind::Counter,
        BACKEND,
        "Connection attempts that the backend answered with a RST",
        |observed, sink| count(observed, sink, |backend| backend.failures.refused),
    ),
    metric(
        "evenkeel_backend_unanswered",
        Kind::Counter,
        BACKEND,
        "Connection attempts that the backend had not answered when the client tried again",
        |observed, sink| count(observed, sink, |backend| backend.failures.unanswered),
    ),
    metric(
        "evenkeel_backend_redispatched",
        Kind::Counter,
        BACKEND,
        "Refused and unanswered attempts that another backend was given",
        |observed, sink| count(observed, sink, |backend| backend.failures.redispatched),
    ),
    metric(
        "evenkeel_backend_reset",
        Kind::Counter,
        BACKEND,
        "Established connections that the backend reset",
        |observed, sink| count(observed, sink, |backend| backend.failures.reset),
    ),
    metric(
        "evenkeel_backend_evicted",
        Kind::Counter,
        BACKEND,
        "Connections that made room for newer attempts before their handshake was complete",
        |observed, sink| count(observed, sink, |backend| backend.failures.evicted),
    ),
    metric(
        "evenkeel_backend_handshake",
        Kind::Histogram,
        BACKEND,
        "Time from a client's SYN to the backend's SYN-ACK, taken in the kernel; nat only",
        |observed, sink| {
            each_counted(observed, |labels, backend| handshakes(labels, backend, sink));
        },
    )
    .of("seconds"),
    metric(
        "evenkeel_backend_up",
        Kind::Gauge,
        BACKEND,
        "Whether the backend's probes pass; 1 where it is not probed",
        |observed, sink| {
            gauges(observed, sink, |backend| Some(flag(backend.health == Health::Up)));
        },
    ),
    metric(
        "evenkeel_backend_active",
        Kind::Gauge,
        BACKEND,
        "Whether the backend gets new connections",
        |observed, sink| gauges(observed, sink, |backend| Some(flag(backend.active))),
    ),
    metric(
        "evenkeel_backend_admin_state",
        Kind::Gauge,
        &["service", "backend", "state"],
        "What people decided of the backend: 1 for its state, 0 for the others",
        admin_states,
    ),
    metric(
        "evenkeel_backend_seconds_since_change",
        Kind::Gauge,
        BACKEND,
        "Seconds since the backend's health or what people decided of it changed, or the daemon started",
        |observed, sink| {
            gauges(observed, sink, |backend| Some(float(backend.since_change_seconds)));
        },
    ),
    metric(
        "evenkeel_backend_weight",
        Kind::Gauge,
        BACKEND,
        "The backend's configured weight",
        |observed, sink| gauges(observed, sink, |backend| Some(f64::from(backend.weight))),
    ),
    metric(
        "evenkeel_backend_ring_share",
        Kind::Gauge,
        BACKEND,
        "The backend's fair share of new connections now, from 0 to 1",
        |observed, sink| gauges(observed, sink, |backend| Some(backend.share)),
    ),
    metric(
        "evenkeel_backend_probe",
        Kind::Gauge,
        BACKEND,
        "How long the backend's last passed probe took",
        |observed, sink| {
            gauges(observed, sink, |backend| backend.probe_milliseconds.map(|ms| ms / 1000.0));
        },
    )
    .of("seconds"),
    metric(
        "evenkeel_service_active_backends",
        Kind::Gauge,
        SERVICE,
        "Backends of the service that get new connections",
        |observed, sink| {
            for service in &observed.status.services {
                let active = service.backends.iter().filter(|backend| backend.active).count();
                sink(&[("service", &service.name)], gauge(active as u64));
            }
        },
    ),
    metric(
        "evenkeel_service_min_active",
        Kind::Gauge,
        SERVICE,
        "Active backends that the service shall have",
        |observed, sink| {
            for service in &observed.status.services {
                sink(&[("service", &service.name)], gauge(service.min_active.into()));
            }
        },
    ),
    metric(
        "evenkeel_service_imbalance_index",
        Kind::Gauge,
        WINDOW,
        "The largest of the backends' shares over its fair share; 1: all have their fair share",
        |observed, sink| windows(observed, sink, |window| window.index),
    ),
    metric(
        "evenkeel_service_imbalance_variation",
        Kind::Gauge,
        WINDOW,
        "The coefficient of variation of the backends' shares over their fair ones",
        |observed, sink| windows(observed, sink, |window| window.variation),
    ),
    metric(
        "evenkeel_service_window_connections",
        Kind::Gauge,
        WINDOW,
        "New connections in the window, that the imbalance rests on",
        |observed, sink| windows(observed, sink, |window| Some(float(window.connections))),
    ),
    metric(
        "evenkeel_packets",
        Kind::Counter,
        &["verdict"],
        "Packets by what became of them",
        |observed, sink| {
            for (verdict, count) in &observed.counters.verdicts {
                sink(&[("verdict", verdict)], Value::Counter(*count));
            }
        },
    ),
    metric(
        "evenkeel_connection_table_entries",
        Kind::Gauge,
        NONE,
        "Entries in the connection tables, of which a connection has two",
        |observed, sink| sink(&[], gauge(observed.status.daemon.connection_entries)),
    ),
    metric(
        "evenkeel_connection_table_capacity",
        Kind::Gauge,
        NONE,
        "Entries that the connection tables of each address family have room for",
        |observed, sink| {
            sink(&[], gauge(2 * u64::from(observed.status.daemon.connection_capacity)));
        },
    ),
    metric(
        "evenkeel_controller_loop",
        Kind::Histogram,
        NONE,
        "Time that the controller took for an event",
        |observed, sink| {
            let times = &observed.counters.controller;
            let end = |bucket: &crate::api::model::LoopBucket| {
                (bucket.below_microseconds.map_or(f64::INFINITY, seconds), bucket.count)
            };
            let buckets: Vec<_> = times.buckets.iter().map(end).collect();
            sink(&[], Value::Histogram { sum: seconds(times.microseconds), buckets: &buckets });
        },
    )
    .of("seconds"),
    metric(
        "evenkeel_table_repairs",
        Kind::Counter,
        NONE,
        "How often the kernel's tables differed from what was written, and were mended",
        |observed, sink| sink(&[], Value::Counter(observed.status.daemon.table_repairs)),
    ),
    metric(
        "evenkeel_config_edited",
        Kind::Gauge,
        NONE,
        "Whether the configuration file is not what is at work",
        |observed, sink| {
            sink(&[], Value::Gauge(flag(observed.status.daemon.config_edited.is_some())));
        },
    ),
    metric(
        "evenkeel_announced",
        Kind::Gauge,
        &["service", "address"],
        "Whether the service's address is announced to routers by this node",
        announcements::announced,
    ),
    metric(
        "evenkeel_node_drained",
        Kind::Gauge,
        NONE,
        "Whether people drained this node",
        |observed, sink| sink(&[], Value::Gauge(flag(observed.status.node.drain.is_some()))),
    ),
    metric(
        "evenkeel_store_connected",
        Kind::Gauge,
        NONE,
        "Whether a member of the store that edges share answers",
        store::connected,
    ),
    metric(
        "evenkeel_store_revision",
        Kind::Gauge,
        &["of"],
        "Revision of the store: the one at work here, and the newest that was seen",
        store::revisions,
    ),
    metric(
        "evenkeel_alert",
        Kind::Gauge,
        &["kind", "severity", "service", "backend"],
        "1 for each alert that is raised",
        alerts::raised,
    ),
    metric(
        "evenkeel_alert_deliveries",
        Kind::Counter,
        &["target", "result"],
        "Alerts delivered and dropped, and attempts that failed, since the target was configured",
        alerts::deliveries,
    ),
    metric("evenkeel_build", Kind::Info, &["version"], "The daemon's version", |observed, sink| {
        sink(&[("version", &observed.status.daemon.version)], Value::Info);
    }),
    metric(
        "evenkeel_start_time",
        Kind::Gauge,
        NONE,
        "When the daemon started, in seconds since 1970",
        |observed, sink| sink(&[], Value::Gauge(observed.status.daemon.started_seconds)),
    )
    .of("seconds"),
];

fn each_counted(observed: &Observed, mut each: impl FnMut(&[Label<'_>], &BackendCounters)) {
    for service in &observed.counters.services {
        for backend in &service.backends {
            each(&[("service", &service.name), ("backend", &backend.name)], backend);
        }
    }
    for removed in &observed.counters.removed {
        // One of the same name may have been added meanwhile; its counts are another server's.
        let name = format!("{} (removed)", removed.backend.name);
        each(&[("service", &removed.service), ("backend", &name)], &removed.backend);
    }
}

fn count(observed: &Observed, sink: Sink<'_>, of: fn(&BackendCounters) -> u64) {
    each_counted(observed, |labels, backend| sink(labels, Value::Counter(of(backend))));
}

/// Towards the backend, and towards the client.
fn ways(observed: &Observed, sink: Sink<'_>, of: fn(&BackendCounters) -> (u64, u64)) {
    each_counted(observed, |labels, backend| {
        let (inward, outward) = of(backend);
        for (direction, count) in [("in", inward), ("out", outward)] {
            sink(&[labels[0], labels[1], ("direction", direction)], Value::Counter(count));
        }
    });
}

fn handshakes(labels: &[Label<'_>], backend: &BackendCounters, sink: Sink<'_>) {
    let end = |bucket: &crate::api::model::HandshakeBucket| {
        (bucket.below_microseconds.map_or(f64::INFINITY, seconds), bucket.count)
    };
    let buckets: Vec<_> = backend.handshakes.iter().map(end).collect();
    let sum = seconds(backend.handshake_microseconds);
    sink(labels, Value::Histogram { sum, buckets: &buckets });
}

fn gauges(observed: &Observed, sink: Sink<'_>, of: fn(&BackendStatus) -> Option<f64>) {
    for service in &observed.status.services {
        for backend in &service.backends {
            if let Some(value) = of(backend) {
                let labels = [("service", &*service.name), ("backend", &*backend.name)];
                sink(&labels, Value::Gauge(value));
            }
        }
    }
}

fn admin_states(observed: &Observed, sink: Sink<'_>) {
    for service in &observed.status.services {
        for backend in &service.backends {
            for (name, state) in [
                ("ready", AdminState::Ready),
                ("drain", AdminState::Drain),
                ("maintenance", AdminState::Maintenance),
            ] {
                let labels =
                    [("service", &*service.name), ("backend", &*backend.name), ("state", name)];
                sink(&labels, Value::Gauge(flag(backend.admin == state)));
            }
        }
    }
}

fn windows(observed: &Observed, sink: Sink<'_>, of: fn(&Window) -> Option<f64>) {
    for service in &observed.status.services {
        for window in &service.windows {
            if let Some(value) = of(window) {
                let span = match window.seconds {
                    10 => "10s",
                    60 => "1m",
                    _ => "10m",
                };
                sink(&[("service", &service.name), ("window", span)], Value::Gauge(value));
            }
        }
    }
}

fn flag(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn float(value: u64) -> f64 {
    value as f64
}

fn seconds(microseconds: u64) -> f64 {
    float(microseconds) / 1e6
}

fn gauge(value: u64) -> Value<'static> {
    Value::Gauge(float(value))
}
