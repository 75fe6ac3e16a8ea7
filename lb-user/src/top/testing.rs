//! A daemon's answers, for the tests: service `web` with one backend up and one down, service `api` with its
//! only backend drained.

use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::{
    app::App,
    feed::{News, Reading},
    view::Theme,
};
use crate::{
    alerts::Severity,
    api::model::{Alert, Window},
    events::Event,
};

/// The state before anything is known, in colour and with every letter.
pub fn app() -> App {
    App::new(Theme { colour: true, unicode: true }, Duration::from_secs(1))
}

/// What the daemon tells, all counters at 0.
pub fn reading(at: Instant) -> Reading {
    let backend = |name: &str, state: &str, health: &str, share: f64| {
        json!({
            "name": name, "address": "10.0.0.11:8080", "weight": 1, "tier": "primary",
            "admin": "ready", "state": state, "health": health, "active": share > 0.0,
            "share": share, "open": 3, "reason": "",
        })
    };
    let service = |name: &str, backends| {
        json!({
            "name": name, "address": "192.0.2.10:80", "protocol": "tcp", "forwarding": "nat",
            "scheduler": "round-robin", "probe": "http every 2s", "min_active": 1,
            "backends": backends,
        })
    };
    let mut drained = backend("api-01", "drain", "up", 0.0);
    drained["admin"] = json!("drain");
    drained["exception"] = json!({
        "reason": "kernel upgrade", "by": { "uid": 0, "user": "root" },
        "since": "2026-11-27T06:00:00Z", "until": "2026-11-27T06:30:00Z",
        "seconds": 60, "seconds_left": 1740,
    });
    let web =
        json!([backend("web-01", "active", "up", 1.0), backend("web-02", "out", "down", 0.0)]);
    let status = json!({
        "daemon": {
            "version": "0.1.0", "uptime_seconds": 7200, "connection_capacity": 262_144,
            "interfaces": [{ "name": "eth0", "mode": "native" }],
        },
        "services": [service("web", web), service("api", json!([drained]))],
    });
    let counted = |name: &str| {
        json!({
            "name": name, "address": "10.0.0.11:8080", "connections": { "total": 0, "open": 3 },
            "packets": { "in": 0, "out": 0 }, "bytes": { "in": 0, "out": 0 }, "handshakes": [],
            "failures": { "refused": 0, "unanswered": 0, "redispatched": 0, "reset": 0, "evicted": 0 },
        })
    };
    let counters = |name: &str, backends| {
        json!({
            "name": name, "address": "192.0.2.10:80", "protocol": "tcp", "backends": backends,
        })
    };
    let counters = json!({
        "services": [
            counters("web", json!([counted("web-01"), counted("web-02")])),
            counters("api", json!([counted("api-01")])),
        ],
        "verdicts": {},
    });
    Reading {
        at,
        status: serde_json::from_value(status).unwrap(),
        counters: serde_json::from_value(counters).unwrap(),
        events: Vec::new(),
    }
}

/// Has a backend count so many connections, and so many that it refused.
pub fn total(reading: &mut Reading, backend: &str, connections: u64, refused: u64) {
    let services = reading.counters.services.iter_mut();
    let counted = services.flat_map(|service| &mut service.backends);
    let counted = counted.filter(|counted| counted.name == backend);
    for counted in counted {
        counted.connections.total = connections;
        counted.failures.refused = refused;
    }
}

/// The state after two readings, a second apart, with so many new connections between.
pub fn later(connections: &[(&str, u64)]) -> App {
    let (mut app, began) = (app(), Instant::now());
    app.take_in(News::Reading(Box::new(reading(began))), SystemTime::UNIX_EPOCH);
    let mut next = reading(began + Duration::from_secs(1));
    for (backend, number) in connections {
        total(&mut next, backend, *number, 0);
    }
    app.take_in(News::Reading(Box::new(next)), SystemTime::UNIX_EPOCH);
    app
}

/// A window of the service `web` with these shares, of which a half each would be fair.
pub fn window(seconds: u64, shares: [f64; 2]) -> Window {
    let part = |(name, share): (&str, f64)| {
        json!({
            "name": name, "fair": 0.5, "share": share, "connections": 50,
            "bytes": 0, "bytes_share": 0.0, "packets": 0, "errors": 0, "errors_share": 0.0,
            "refused": 0, "unanswered": 0, "reset": 0,
            "handshake_p50_us": 850, "handshake_p99_us": 1_200,
        })
    };
    let parts = ["web-01", "web-02"].into_iter().zip(shares).map(part);
    let window = json!({
        "seconds": seconds, "covers": 10.0, "connections": 100, "index": shares[0] / 0.5,
        "variation": 0.5, "backends": parts.collect::<Vec<_>>(),
    });
    serde_json::from_value(window).unwrap()
}

/// An alert about the backend that is down.
pub fn alert(severity: Severity, summary: &str) -> Alert {
    let alert = json!({
        "id": "backend-down/web/web-02", "kind": "backend-down", "severity": severity,
        "service": "web", "backend": "web-02", "since": "2026-11-27T06:00:00Z",
        "since_seconds": 90, "summary": summary, "evidence": {},
        "page": "docs/playbook/backend-down.html",
    });
    serde_json::from_value(alert).unwrap()
}

/// An event of a second.
pub fn event(second: u64) -> Event {
    let event = json!({
        "id": second, "at": format!("2026-11-27T06:00:{second:02}.000Z"), "kind": "health",
        "message": format!("event {second}"),
    });
    serde_json::from_value(event).unwrap()
}
