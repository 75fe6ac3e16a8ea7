//! `[[service]]` and `[[service.backend]]`.

use std::time::Duration;

use super::{
    PrefixFiles, RawBackend, RawService, Section, Shape, availability, health, traffic,
    values::{self, Problem},
};
use crate::config::{
    choices::{Forwarding, Named, Overload, Protocol, Scheduler, Tier},
    diagnostic::Sink,
    model::{HealthCheck, Service},
};

const SERVICE: Shape = Shape {
    header: "[[service]]",
    keys: &[
        "name",
        "address",
        "protocol",
        "scheduler",
        "table_size",
        "forwarding",
        "snat",
        "gue_port",
        "sticky",
        "overload",
        "min_active",
        "on_all_down",
        "on_down",
        "slow_start",
        "passive",
        "allow",
        "allow_file",
        "deny",
        "deny_file",
        "timeouts",
        "limits",
        "health",
        "expected_connections",
        "backend",
    ],
    later: &[],
};
const BACKEND: Shape = Shape {
    header: "[[service.backend]]",
    keys: &["name", "address", "weight", "tier", "max_connections", "capacity"],
    later: &[],
};
const SHORTEST_STICKY: Duration = Duration::from_secs(1);
const LONGEST_STICKY: Duration = Duration::from_hours(30 * 24);
/// As many as the connection table can be made for.
const MOST_CONNECTIONS: u32 = 1 << 26;

/// Every `[[service]]` of the document.
pub(super) fn decode_all(
    sink: &mut Sink<'_, '_>,
    root: &Section<'_, '_>,
    files: &mut PrefixFiles<'_>,
) -> Vec<RawService> {
    let sections = root.tables(sink, "service", &SERVICE, |name| format!("of service {name:?}"));
    sections.iter().map(|section| decode_service(sink, section, files)).collect()
}

fn decode_service(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    files: &mut PrefixFiles<'_>,
) -> RawService {
    section.require(sink, "name", "add name = \"…\"");
    section.require(sink, "address", "add address = \"192.0.2.10:80\"");
    let backends = section.tables(sink, "backend", &BACKEND, |name| format!("of backend {name:?}"));
    let scheduler = chosen(sink, section, "scheduler");
    let forwarding = chosen(sink, section, "forwarding");
    refuse_idle_keys(sink, section, scheduler, forwarding);
    let sticky = section
        .value(sink, "sticky", |v| values::duration(v, SHORTEST_STICKY, LONGEST_STICKY))
        .map(toml::Spanned::into_inner);
    RawService {
        span: section.span.clone(),
        name: section.value(sink, "name", values::name),
        address: section.value(sink, "address", values::socket_address),
        protocol: section.value_or(sink, "protocol", values::choice, Protocol::default()),
        scheduler,
        table_size: section.value_or(sink, "table_size", values::table_size, Service::TABLE_SIZE),
        table_size_span: section.span_of("table_size"),
        forwarding,
        snat: section.value_or(sink, "snat", values::boolean, true),
        gue_port: section.value_or(sink, "gue_port", values::port, Service::GUE_PORT),
        sticky,
        overload: section.value_or(sink, "overload", values::choice, Overload::default()),
        availability: availability::decode(sink, section, forwarding),
        min_active_span: section.span_of("min_active"),
        timeouts: traffic::timeouts(sink, section),
        limits: traffic::limits(sink, section),
        prefixes: files.decode(sink, section),
        health: if section.has("health") {
            health::decode(sink, section, files.folder())
        } else {
            Some(HealthCheck::None)
        },
        expected_connections: section
            .value(sink, "expected_connections", |v| values::integer(v, 1, MOST_CONNECTIONS))
            .map(toml::Spanned::into_inner),
        backends: backends.iter().map(|backend| decode_backend(sink, backend)).collect(),
    }
}

/// The choice that `key` makes, its default where it is missing, `None` where it is wrong.
fn chosen<T>(sink: &mut Sink<'_, '_>, section: &Section<'_, '_>, key: &str) -> Option<T>
where
    T: Named + Default,
{
    if section.has(key) {
        section.value(sink, key, values::choice).map(toml::Spanned::into_inner)
    } else {
        Some(T::default())
    }
}

/// Reports keys that mean nothing beside this scheduler or this forwarding mode.
fn refuse_idle_keys(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    scheduler: Option<Scheduler>,
    forwarding: Option<Forwarding>,
) {
    let mut refuse = |key: &str, beside: String, instead: &str| {
        if section.has(key) {
            let message = format!("{key} {} means nothing to {beside}", section.subject());
            sink.error(&section.span_of(key), message, format!("remove it, or set {instead}"));
        }
    };
    if let Some(scheduler) = scheduler.filter(|scheduler| !scheduler.hashes()) {
        let instead = "scheduler = \"maglev\" or \"source-hash\"";
        refuse("table_size", format!("the scheduler {scheduler}"), instead);
    }
    if let Some(forwarding) = forwarding {
        let beside = format!("the forwarding mode {forwarding}");
        if forwarding != Forwarding::Nat {
            refuse("snat", beside.clone(), "forwarding = \"nat\"");
        }
        if forwarding != Forwarding::Gue {
            refuse("gue_port", beside, "forwarding = \"gue\"");
        }
    }
}

fn decode_backend(sink: &mut Sink<'_, '_>, section: &Section<'_, '_>) -> RawBackend {
    section.require(sink, "name", "add name = \"…\"");
    section.require(sink, "address", "add address = \"10.0.0.11:8080\"");
    let weight = if section.has("weight") {
        section.value(sink, "weight", weight).map(toml::Spanned::into_inner)
    } else {
        Some(1)
    };
    RawBackend {
        span: section.span.clone(),
        name: section.value(sink, "name", values::name),
        address: section.value(sink, "address", values::socket_address),
        weight,
        tier: section.value_or(sink, "tier", values::choice, Tier::default()),
        max_connections: section
            .value(sink, "max_connections", max_connections)
            .map(toml::Spanned::into_inner),
        capacity: section.value(sink, "capacity", |v| values::integer(v, 1, MOST_CONNECTIONS)),
    }
}

fn weight(value: &toml::de::DeValue<'_>) -> Result<u16, Problem> {
    if matches!(values::integer(value, 0, 0), Ok(0)) {
        return Err(Problem::new(
            "is 0",
            "take a backend out for a while with `evenkeel backend drain`, or for good with \
             `evenkeel backend remove`",
        ));
    }
    Ok(u16::try_from(values::integer(value, 1, 65_535)?).unwrap_or(u16::MAX))
}

fn max_connections(value: &toml::de::DeValue<'_>) -> Result<u32, Problem> {
    if matches!(values::integer(value, 0, 0), Ok(0)) {
        let remedy = "remove it for no limit; take a backend out with `evenkeel backend drain`";
        return Err(Problem::new("is 0", remedy));
    }
    values::integer(value, 1, MOST_CONNECTIONS)
}
