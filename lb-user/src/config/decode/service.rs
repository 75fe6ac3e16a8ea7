//! `[[service]]` and `[[service.backend]]`.

use super::{
    RawBackend, RawService, Section, Shape, health,
    values::{self, Problem},
};
use crate::config::{
    diagnostic::Sink,
    model::{Forwarding, HealthCheck, Protocol, Scheduler, Tier},
};

const SERVICE: Shape = Shape {
    header: "[[service]]",
    keys: &["name", "address", "protocol", "scheduler", "forwarding", "health", "backend"],
    later: &["snat", "min_active", "on_all_down"],
};
const BACKEND: Shape = Shape {
    header: "[[service.backend]]",
    keys: &["name", "address", "weight", "tier"],
    later: &["max_connections"],
};

/// Every `[[service]]` of the document.
pub(super) fn decode_all(sink: &mut Sink<'_, '_>, root: &Section<'_, '_>) -> Vec<RawService> {
    let sections = root.tables(sink, "service", &SERVICE, |name| format!("of service {name:?}"));
    sections.iter().map(|section| decode_service(sink, section)).collect()
}

fn decode_service(sink: &mut Sink<'_, '_>, section: &Section<'_, '_>) -> RawService {
    section.require(sink, "name", "add name = \"…\"");
    section.require(sink, "address", "add address = \"192.0.2.10:80\"");
    let backends = section.tables(sink, "backend", &BACKEND, |name| format!("of backend {name:?}"));
    RawService {
        span: section.span.clone(),
        name: section.value(sink, "name", values::name),
        address: section.value(sink, "address", values::socket_address),
        protocol: section.value_or(sink, "protocol", values::choice, Protocol::default()),
        scheduler: section.value_or(sink, "scheduler", values::choice, Scheduler::default()),
        forwarding: section.value_or(sink, "forwarding", values::choice, Forwarding::default()),
        health: if section.has("health") {
            health::decode(sink, section)
        } else {
            Some(HealthCheck::None)
        },
        backends: backends.iter().map(|backend| decode_backend(sink, backend)).collect(),
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
    }
}

fn weight(value: &toml::de::DeValue<'_>) -> Result<u16, Problem> {
    if matches!(values::integer(value, 0, 0), Ok(0)) {
        return Err(Problem::new(
            "is 0",
            "a backend is taken out by draining it, which comes in a later version; \
             until then remove it with `evenkeel backend remove`",
        ));
    }
    Ok(u16::try_from(values::integer(value, 1, 65_535)?).unwrap_or(u16::MAX))
}
