//! `[service.timeouts]` and `[service.limits]`: for how long connections live, and how many new ones
//! there may be.

use std::time::Duration;

use super::{Section, Shape, values};
use crate::config::{
    diagnostic::Sink,
    model::{Limits, Rate, Timeouts},
};

const TIMEOUTS: Shape = Shape {
    header: "[service.timeouts]",
    keys: &["syn", "established", "closing", "udp"],
    later: &[],
};
const LIMITS: Shape = Shape {
    header: "[service.limits]",
    keys: &[
        "new_connections",
        "burst",
        "client_new_connections",
        "client_burst",
        "client_prefix_v4",
        "client_prefix_v6",
    ],
    later: &[],
};
const SHORTEST: Duration = Duration::from_secs(1);
/// New connections in a second: a bucket counts whole nanoseconds between them.
const MOST_PER_SECOND: u32 = 100_000_000;

/// The timeouts of `service`.
pub(super) fn timeouts(sink: &mut Sink<'_, '_>, service: &Section<'_, '_>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    let subject = format!("of the timeouts {}", service.subject());
    let Some(section) = service.table(sink, "timeouts", &TIMEOUTS, Some(subject)) else {
        return timeouts;
    };
    let mut read = |key, most, place: &mut Duration| {
        *place = section.value_or(sink, key, |v| values::duration(v, SHORTEST, most), *place);
    };
    read("syn", Duration::from_hours(1), &mut timeouts.syn);
    read("established", Duration::from_hours(30 * 24), &mut timeouts.established);
    read("closing", Duration::from_hours(24), &mut timeouts.closing);
    read("udp", Duration::from_hours(24), &mut timeouts.udp);
    timeouts
}

/// The limits of `service`.
pub(super) fn limits(sink: &mut Sink<'_, '_>, service: &Section<'_, '_>) -> Limits {
    let mut limits = Limits::default();
    let subject = format!("of the limits {}", service.subject());
    let Some(section) = service.table(sink, "limits", &LIMITS, Some(subject)) else {
        return limits;
    };
    limits.service = rate(sink, &section, "new_connections", "burst");
    limits.client = rate(sink, &section, "client_new_connections", "client_burst");
    let mut bits = |key, most: u8, place: &mut u8| {
        let read = section.value(sink, key, |v| values::integer(v, 1, most.into()));
        let read = read.and_then(|bits| u8::try_from(bits.into_inner()).ok());
        *place = read.unwrap_or(*place);
        needs(sink, &section, key, "client_new_connections");
    };
    bits("client_prefix_v4", 32, &mut limits.client_prefix_v4);
    bits("client_prefix_v6", 128, &mut limits.client_prefix_v6);
    limits
}

fn rate(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    key: &'static str,
    burst: &'static str,
) -> Option<Rate> {
    let mut number = |key| section.value(sink, key, |v| values::integer(v, 1, MOST_PER_SECOND));
    let (per_second, at_once) = (number(key), number(burst));
    needs(sink, section, burst, key);
    let per_second = per_second?.into_inner();
    Some(Rate { per_second, burst: at_once.map_or(per_second, toml::Spanned::into_inner) })
}

/// Reports `key` where `limit`, without which it means nothing, is not set.
fn needs(sink: &mut Sink<'_, '_>, section: &Section<'_, '_>, key: &str, limit: &str) {
    if section.has(key) && !section.has(limit) {
        let message = format!("{key} {} means nothing without {limit}", section.subject());
        let remedy = format!("set {limit}, or remove {key}");
        sink.error(&section.span_of(key), message, remedy);
    }
}
