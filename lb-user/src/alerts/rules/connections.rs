//! A backend's connections against its own past: more of them fail, handshakes take longer, it falls again
//! and again.

use super::{
    super::{
        Kind,
        facts::{BackendFacts, ServiceFacts},
        past::{Past, Tally},
    },
    CERTAIN, Finding, LOWER,
};
use crate::{config::alerts::Alerts, statistics::at_least};

/// More of the connections fail than this many times what is usual.
const TIMES: f64 = 3.0;
/// Fewer failures are none to speak of.
const FEW: f64 = 5.0;
/// Parts of the handshakes whose time is looked at, and how many it takes to tell it.
const QUANTILES: [(f64, &str, f64); 2] = [(0.5, "median", 20.0), (0.99, "p99", 500.0)];
/// Handshakes that take less, in microseconds, are fast, whatever they were.
const FAST: f64 = 2_000.0;

pub(super) fn judge(
    found: &mut Vec<Finding>,
    service: &ServiceFacts<'_>,
    backend: &BackendFacts<'_>,
    past: &mut Past,
    config: &Alerts,
) {
    let failing = failures(service, backend, past, config.failures.get());
    past.fails_oddly = failing.is_some();
    let slow = handshakes(service, backend, past, config.handshakes.get());
    past.is_slow = slow.is_some();
    found.extend(failing);
    found.extend(slow);
    found.extend(flapping(service, backend, past, config));
}

fn failures(
    service: &ServiceFacts<'_>,
    backend: &BackendFacts<'_>,
    past: &Past,
    threshold: f64,
) -> Option<Finding> {
    let Past { recent, before, .. } = past;
    let (failed, attempts) = (recent.failed(), recent.attempts.max(recent.failed()));
    let (ratio, usual) = (recent.ratio(), before.ratio());
    let bound = threshold.max(usual * TIMES);
    // Also where everything failed before: as many as that cannot be three times more.
    let bound = bound.min(f64::midpoint(1.0, threshold));
    if failed < FEW * LOWER || ratio < bound * LOWER {
        return None;
    }
    let expected = attempts * usual.max(threshold / 5.0);
    let certain = failed >= FEW && ratio >= bound && at_least(failed, expected) < CERTAIN;
    let (service, name) = (service.name, backend.name);
    let percent = |part: f64| format!("{:.1} %", part * 100.0);
    let summary = format!(
        "{} of the last connections to {service}/{name} fail (before: {})",
        percent(ratio),
        percent(usual)
    );
    let finding = Finding::of_backend(Kind::ConnectionFailures, service, name, certain, summary);
    Some(
        finding
            .number("ratio", ratio)
            .number("before", usual)
            .number("threshold", bound)
            .number("attempts", attempts.round())
            .number("refused", recent.refused.round())
            .number("unanswered", recent.unanswered.round())
            .number("reset", recent.reset.round()),
    )
}

fn handshakes(
    service: &ServiceFacts<'_>,
    backend: &BackendFacts<'_>,
    past: &Past,
    times: f64,
) -> Option<Finding> {
    let Past { recent, before, .. } = past;
    let told = |tally: &Tally, part: f64, enough: f64| {
        tally.quantile(part).filter(|_| tally.handshakes() >= enough)
    };
    QUANTILES.iter().find_map(|(part, which, enough)| {
        // Of the few that come after, fewer will do to say that it is not over.
        let now = told(recent, *part, enough * LOWER)?;
        let usual = told(before, *part, *enough)?;
        let bound = (usual * times).max(FAST);
        if now < bound * LOWER {
            return None;
        }
        let certain = now >= bound && recent.handshakes() >= *enough;
        let (service, name) = (service.name, backend.name);
        let milliseconds = |time: f64| time / 1000.0;
        let summary = format!(
            "{service}/{name} answers SYNs in {:.1} ms ({which}; before: {:.1} ms)",
            milliseconds(now),
            milliseconds(usual)
        );
        let finding = Finding::of_backend(Kind::SlowHandshakes, service, name, certain, summary);
        Some(
            finding
                .text("measure", *which)
                .number("milliseconds", milliseconds(now))
                .number("before_milliseconds", milliseconds(usual))
                .number("threshold_milliseconds", milliseconds(bound))
                .number("handshakes", recent.handshakes().round()),
        )
    })
}

fn flapping(
    service: &ServiceFacts<'_>,
    backend: &BackendFacts<'_>,
    past: &Past,
    config: &Alerts,
) -> Option<Finding> {
    let falls = past.falls.len();
    if falls < 2 && !backend.held {
        return None;
    }
    let certain = backend.held || falls >= config.flaps as usize;
    let recent = humantime::format_duration(config.recent);
    let (service, name) = (service.name, backend.name);
    let held = if backend.held { ", and is held down" } else { "" };
    let summary = format!("backend {service}/{name} fell {falls} times within {recent}{held}");
    let finding = Finding::of_backend(Kind::Flapping, service, name, certain, summary);
    let held = if backend.held { "yes" } else { "no" };
    Some(finding.count("falls", falls as u64).text("within", recent.to_string()).text("held", held))
}
