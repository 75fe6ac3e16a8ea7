//! `[service.timeouts]` and `[service.limits]`: for how long connections live, and how many new ones
//! there may be.

use std::time::Duration;

use super::{Form, Is, Means, Section, Shape, key, values};
use crate::config::{
    diagnostic::Sink,
    model::{Limits, Rate, Timeouts},
};

pub(super) const TIMEOUTS: Shape = Shape {
    header: "[service.timeouts]",
    keys: &[
        key(
            "syn",
            Form::Duration(SHORTEST, LONGEST_SYN),
            Is("\"1m\""),
            "TCP, before the handshake is complete",
        ),
        key(
            "established",
            Form::Duration(SHORTEST, LONGEST_ESTABLISHED),
            Is("\"124m\""),
            "TCP, established (RFC 5382, REQ-5)",
        ),
        key(
            "closing",
            Form::Duration(SHORTEST, LONGEST_REST),
            Is("\"4m\""),
            "TCP, after the first FIN",
        ),
        key("udp", Form::Duration(SHORTEST, LONGEST_REST), Is("\"30s\""), "a UDP flow"),
    ],
    later: &[],
};
pub(super) const LIMITS: Shape = Shape {
    header: "[service.limits]",
    keys: &[
        key(
            "new_connections",
            Form::Integer(1, MOST_PER_SECOND),
            Means("any number"),
            "new connections a second, from all clients",
        ),
        key(
            "burst",
            Form::Integer(1, MOST_PER_SECOND),
            Means("as many as `new_connections`"),
            "of those, at once",
        ),
        key(
            "client_new_connections",
            Form::Integer(1, MOST_PER_SECOND),
            Means("any number"),
            "new connections a second, from each prefix of clients",
        ),
        key(
            "client_burst",
            Form::Integer(1, MOST_PER_SECOND),
            Means("as many as `client_new_connections`"),
            "of those, at once",
        ),
        key(
            "client_prefix_v4",
            Form::Integer(1, 32),
            Is("32"),
            "bits of an IPv4 address that make such a prefix",
        ),
        key(
            "client_prefix_v6",
            Form::Integer(1, 128),
            Is("64"),
            "bits of an IPv6 address that make such a prefix",
        ),
    ],
    later: &[],
};
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST_SYN: Duration = Duration::from_hours(1);
const LONGEST_ESTABLISHED: Duration = Duration::from_hours(30 * 24);
/// Of a connection that is closing, and of a UDP flow.
const LONGEST_REST: Duration = Duration::from_hours(24);
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
    read("syn", LONGEST_SYN, &mut timeouts.syn);
    read("established", LONGEST_ESTABLISHED, &mut timeouts.established);
    read("closing", LONGEST_REST, &mut timeouts.closing);
    read("udp", LONGEST_REST, &mut timeouts.udp);
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
