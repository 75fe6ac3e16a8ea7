//! `[service.health]`.

use std::time::Duration;

use hyper::Method;
use toml::de::DeValue;

use super::{
    Section, Shape,
    values::{self, Problem},
};
use crate::{
    config::{choices::Named, diagnostic::Sink, model::HealthCheck},
    health::{HttpProbe, Timing},
};

const HEALTH: Shape = Shape {
    header: "[service.health]",
    keys: &[
        "kind",
        "method",
        "path",
        "host",
        "expect_status",
        "expect_body",
        "interval",
        "timeout",
        "rise",
        "fall",
        "port",
    ],
    later: &[],
};
const HTTP_ONLY: [&str; 5] = ["method", "path", "host", "expect_status", "expect_body"];
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const LONGEST_INTERVAL: Duration = Duration::from_hours(24);
const MOST_RESULTS: u32 = 1_000;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    None,
    Tcp,
    Http,
}

impl Named for Kind {
    const NAMES: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("tcp", Self::Tcp), ("http", Self::Http)];
    const LATER: &'static [&'static str] = &["https", "udp", "grpc", "exec"];
}

/// The probe of `service`; `None` when it could not be decoded.
pub(super) fn decode(sink: &mut Sink<'_, '_>, service: &Section<'_, '_>) -> Option<HealthCheck> {
    let subject = format!("of the probe {}", service.subject());
    let section = service.table(sink, "health", &HEALTH, Some(subject))?;
    section.require(sink, "kind", "add kind = \"tcp\", \"http\" or \"none\"");
    let kind = section.value(sink, "kind", values::choice::<Kind>);
    let timing = decode_timing(sink, &section);
    let exchange = decode_exchange(sink, &section);
    let port = section.value(sink, "port", values::port).map(toml::Spanned::into_inner);
    let kind = kind?.into_inner();
    if kind == Kind::Tcp {
        for key in HTTP_ONLY.into_iter().filter(|key| section.has(key)) {
            let message = format!("{key} {} means nothing to a tcp probe", section.subject());
            sink.error(&section.span_of(key), message, "remove it, or set kind = \"http\"");
        }
    }
    Some(match kind {
        Kind::None => HealthCheck::None,
        Kind::Tcp => HealthCheck::Tcp { timing, port },
        Kind::Http => HealthCheck::Http { exchange, timing, port },
    })
}

fn decode_timing(sink: &mut Sink<'_, '_>, section: &Section<'_, '_>) -> Timing {
    let default = Timing::default();
    let interval = section.value_or(
        sink,
        "interval",
        |v| values::duration(v, SHORTEST_INTERVAL, LONGEST_INTERVAL),
        default.interval,
    );
    let timeout = section.value(sink, "timeout", |v| {
        values::duration(v, Duration::from_millis(1), LONGEST_INTERVAL)
    });
    if let Some(timeout) = &timeout
        && *timeout.get_ref() > interval
    {
        let [long, short] = [*timeout.get_ref(), interval].map(humantime::format_duration);
        let message =
            format!("timeout {} is {long}, longer than its interval of {short}", section.subject());
        sink.error(&timeout.span(), message, "make it no longer than the interval");
    }
    let results = |v: &DeValue<'_>| values::integer(v, 1, MOST_RESULTS);
    Timing {
        interval,
        // An interval shorter than the default timeout shortens that too: only a timeout that
        // someone wrote can be too long.
        timeout: timeout.map_or_else(|| default.timeout.min(interval), toml::Spanned::into_inner),
        rise: section.value_or(sink, "rise", results, default.rise),
        fall: section.value_or(sink, "fall", results, default.fall),
    }
}

fn decode_exchange(sink: &mut Sink<'_, '_>, section: &Section<'_, '_>) -> HttpProbe {
    let default = HttpProbe::default();
    let method = section.value_or(sink, "method", method, default.method);
    let mut optional = |key, convert: fn(&DeValue<'_>) -> Result<String, Problem>| {
        section.value(sink, key, convert).map(toml::Spanned::into_inner)
    };
    let path = optional("path", path).unwrap_or(default.path);
    let host = optional("host", host);
    let expect_body = optional("expect_body", body);
    if method == Method::HEAD && expect_body.is_some() {
        let message = format!("expect_body {} can never match", section.subject());
        let remedy = "the answer to HEAD has no body: set method = \"GET\", or remove expect_body";
        sink.error(&section.span_of("expect_body"), message, remedy);
    }
    let expect_status =
        section.value_or(sink, "expect_status", values::statuses, default.expect_status);
    HttpProbe { method, path, host, expect_status, expect_body }
}

fn method(value: &DeValue<'_>) -> Result<Method, Problem> {
    let text = values::string(value)?;
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if text.bytes().all(|b| b.is_ascii_uppercase()) => Ok(method),
        _ => Err(Problem::new(
            format!("is {text:?}"),
            "use an HTTP method such as \"GET\" or \"HEAD\"",
        )),
    }
}

fn path(value: &DeValue<'_>) -> Result<String, Problem> {
    let path = values::string(value)?;
    if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(path.to_owned())
    } else {
        Err(Problem::new(
            format!("is {path:?}"),
            "start it with / and percent-encode spaces and characters that are not ASCII",
        ))
    }
}

fn host(value: &DeValue<'_>) -> Result<String, Problem> {
    let host = values::string(value)?;
    if !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/') {
        Ok(host.to_owned())
    } else {
        Err(Problem::new(format!("is {host:?}"), "write a host name such as \"www.example.org\""))
    }
}

fn body(value: &DeValue<'_>) -> Result<String, Problem> {
    let body = values::string(value)?;
    if body.is_empty() {
        return Err(Problem::new("is empty, which every answer contains", "remove it"));
    }
    Ok(body.to_owned())
}
