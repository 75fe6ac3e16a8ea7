//! Who takes part: backends that are down or taken out, services that hang on one backend or on none.

use std::time::Duration;

use super::{
    super::{
        Kind,
        facts::{BackendFacts, ServiceFacts},
    },
    Finding,
};
use crate::{admin::AdminState, config::alerts::Alerts};

pub(super) fn judge(found: &mut Vec<Finding>, service: &ServiceFacts<'_>, config: &Alerts) {
    for backend in &service.backends {
        found.extend(down(service, backend));
        found.extend(out_of_service(service, backend, config.reminder));
    }
    let count = |fits: fn(&BackendFacts<'_>) -> bool| {
        service.backends.iter().filter(|backend| fits(backend)).count()
    };
    let usable = count(|backend| backend.is_usable() && !backend.awaited);
    if usable > 1 {
        return;
    }
    // Whoever is not judged yet may be up in a moment, or down.
    if count(|backend| backend.awaited && backend.admitted) > 0 {
        let alone = service.backends.len() > 1;
        found.extend(alone.then(|| Finding::unknown(Kind::LoneSurvivor, service.name, None)));
        if usable == 0 {
            found.push(Finding::unknown(Kind::AllDown, service.name, None));
        }
        return;
    }
    let numbers = |finding: Finding| {
        finding
            .count("usable", usable as u64)
            .count("backends", service.backends.len() as u64)
            .count("down", count(|backend| backend.admitted && !backend.is_usable()) as u64)
            .count("taken_out", count(|backend| !backend.admitted) as u64)
            .count("min_active", service.min_active.into())
    };
    let (name, all) = (service.name, service.backends.len());
    let survivor = service.backends.iter().find(|backend| backend.is_usable());
    match survivor {
        None if all > 0 => {
            let anyway = count(|backend| backend.active);
            let then = if anyway == 0 {
                "new connections are turned away".to_owned()
            } else {
                format!("new connections go to {anyway} all the same, as on_all_down says")
            };
            let summary = format!("service {name} has no healthy backend of {all}: {then}");
            found.push(numbers(Finding::of_service(Kind::AllDown, name, true, summary)));
        }
        Some(backend) if all > 1 => {
            let summary =
                format!("{} alone carries service {name}, which has {all} backends", backend.name);
            let finding = Finding::of_service(Kind::LoneSurvivor, name, true, summary);
            let finding = numbers(finding).text("survivor", backend.name);
            found.push(finding.count("open", backend.open));
        }
        _ => {}
    }
}

fn down(service: &ServiceFacts<'_>, backend: &BackendFacts<'_>) -> Option<Finding> {
    // Whoever was taken out by people has an alert of its own, when it is time.
    if !backend.admitted {
        return None;
    }
    if backend.awaited {
        return Some(Finding::unknown(Kind::BackendDown, service.name, Some(backend.name)));
    }
    if backend.is_usable() {
        return None;
    }
    let why = if backend.reason.is_empty() { "it is not healthy" } else { &backend.reason };
    let (service, name) = (service.name, backend.name);
    let summary = format!("backend {service}/{name} is down: {why}");
    let finding = Finding::of_backend(Kind::BackendDown, service, name, true, summary);
    Some(finding.count("open", backend.open).text("reason", why))
}

fn out_of_service(
    service: &ServiceFacts<'_>,
    backend: &BackendFacts<'_>,
    reminder: Duration,
) -> Option<Finding> {
    let exception = backend.exception?;
    let forever = exception.until.is_none();
    if !forever && backend.out_for < reminder {
        return None;
    }
    let state = if exception.state == AdminState::Maintenance { "maintenance" } else { "drain" };
    let until = exception.until.map_or_else(
        || "until somebody resumes it".to_owned(),
        |until| format!("until {}", humantime::format_rfc3339_seconds(until)),
    );
    let (service, name) = (service.name, backend.name);
    let summary = format!(
        "backend {service}/{name} is out ({state}) {until}, by {}: {}",
        exception.by, exception.reason
    );
    let finding = Finding::of_backend(Kind::OutOfService, service, name, true, summary);
    Some(
        finding
            .text("state", state)
            .text("until", if forever { "forever".to_owned() } else { until })
            .text("by", exception.by.to_string())
            .text("reason", &exception.reason)
            .count("seconds", backend.out_for.as_secs()),
    )
}
