//! `[service.health]`: which kind of probe, and when. What a kind asks is in the files beside this one.

mod agent;
mod exchange;
mod exec;
mod tls;

use std::{path::Path, time::Duration};

use toml::de::DeValue;

pub(super) use self::{exec::decode as program, tls::ca_file};
use super::{
    Form, Is, Means, Refused, Section, Shape, key, names,
    values::{self, Problem},
};
use crate::{
    config::{
        choices::Named,
        diagnostic::Sink,
        model::{HealthCheck, Probe},
    },
    health::{ProbeKind, Timing},
};

pub(super) const HEALTH: Shape = Shape {
    header: "[service.health]",
    keys: &[
        key(
            "kind",
            Form::Choice(names::<Kind>),
            Refused,
            "what is asked, and what passes; `none` is not probed",
        ),
        key("method", Form::Words("HTTP method"), Is("\"GET\""), "of the request"),
        key("path", Form::Words("path"), Is("\"/\""), "of the request"),
        key(
            "host",
            Form::Words("host name"),
            Means("the backend's address"),
            "the Host header; over TLS also whom the certificate must be for",
        ),
        key(
            "expect_status",
            Form::Words("statuses, such as `\"200,204,300-399\"`"),
            Is("\"200-399\""),
            "which statuses pass",
        ),
        key(
            "expect_body",
            Form::Words("text"),
            Means("any body"),
            "what the first 64 KiB of the body contain",
        ),
        key("verify", Form::Boolean, Is("true"), "over TLS: `false` accepts any certificate"),
        key(
            "ca_file",
            Form::Words("file of certificates in PEM"),
            Means("the system's authorities"),
            "whom to trust instead; a relative path starts at the configuration's folder",
        ),
        key(
            "server_name",
            Form::Words("DNS name or address"),
            Means("`host`, or the backend's address"),
            "whom the certificate must be for",
        ),
        key(
            "send",
            Form::Words("text, up to 1400 bytes"),
            Means("`send_hex`; one of both has to be written"),
            "the datagram",
        ),
        key("send_hex", Form::Words("hexadecimal digits"), Means("`send`"), "the same as bytes"),
        key("expect", Form::Words("text"), Means("any answer"), "what the answer contains"),
        key(
            "expect_hex",
            Form::Words("hexadecimal digits"),
            Means("`expect`"),
            "the same as bytes",
        ),
        key(
            "service",
            Form::Words("name of a gRPC service"),
            Means("the server as a whole"),
            "whose health is asked",
        ),
        key("tls", Form::Boolean, Is("false"), "whether it is asked over TLS"),
        key(
            "command",
            Form::Words("list: the program's absolute path, and its arguments"),
            Refused,
            "the program; exit code 0 passes",
        ),
        key("user", Form::Words("user of this host, not root"), Is("\"nobody\""), "who runs it"),
        key(
            "interval",
            Form::Duration(SHORTEST_INTERVAL, LONGEST_INTERVAL),
            Is("\"2s\""),
            "from the start of one probe to that of the next",
        ),
        key(
            "timeout",
            Form::Duration(SHORTEST_TIMEOUT, LONGEST_INTERVAL),
            Is("\"1s\""),
            "for the whole of an answer; no longer than the interval",
        ),
        key(
            "rise",
            Form::Integer(1, MOST_RESULTS),
            Is("2"),
            "passes in a row that bring a backend up",
        ),
        key("fall", Form::Integer(1, MOST_RESULTS), Is("3"), "failures in a row that take it down"),
        key(
            "flap_damping",
            Form::Words("duration, 1s to 1h, or `false`"),
            Is("\"1m\""),
            "for how long a backend that flaps is held down at the most; `false`: never",
        ),
        key("port", Form::Integer(1, 65_535), Means("the backend's"), "another port to probe"),
        key(
            "agent",
            Form::Table(&agent::AGENT),
            Means("no agents"),
            "small servers on the backends that say how they are",
        ),
    ],
    later: &[],
};
/// Keys that belong to some kinds only.
const OF_KINDS: [(&[&str], &[Kind]); 6] = [
    (&["method", "path", "expect_status", "expect_body"], &[Kind::Http, Kind::Https]),
    (&["host"], &[Kind::Http, Kind::Https, Kind::Grpc]),
    (&["verify", "ca_file", "server_name"], &[Kind::Https, Kind::Grpc]),
    (&["send", "send_hex", "expect", "expect_hex"], &[Kind::Udp]),
    (&["service", "tls"], &[Kind::Grpc]),
    (&["command", "user"], &[Kind::Exec]),
];
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);
const LONGEST_INTERVAL: Duration = Duration::from_hours(24);
const MOST_RESULTS: u32 = 1_000;

const SHORTEST_HOLD: Duration = Duration::from_secs(1);
const LONGEST_HOLD: Duration = Duration::from_hours(1);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    None,
    Tcp,
    Http,
    Https,
    Udp,
    Grpc,
    Exec,
}

impl Named for Kind {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("none", Self::None),
        ("tcp", Self::Tcp),
        ("http", Self::Http),
        ("https", Self::Https),
        ("udp", Self::Udp),
        ("grpc", Self::Grpc),
        ("exec", Self::Exec),
    ];
}

impl Kind {
    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// The probe of `service`; `None` when it could not be decoded. Files that it names are looked for
/// from `folder`; where there is none, they are not looked at.
pub(super) fn decode(
    sink: &mut Sink<'_, '_>,
    service: &Section<'_, '_>,
    folder: Option<&Path>,
) -> Option<HealthCheck> {
    let subject = format!("of the probe {}", service.subject());
    let section = service.table(sink, "health", &HEALTH, Some(subject))?;
    section.require(sink, "kind", "add kind = \"tcp\", \"http\" or \"none\"");
    let kind = section.value(sink, "kind", values::choice::<Kind>);
    let timing = decode_timing(sink, &section);
    let port = section.value(sink, "port", values::port).map(toml::Spanned::into_inner);
    let agent = agent::decode(sink, &section);
    let kind = kind.map(toml::Spanned::into_inner);
    if let Some(kind) = kind {
        refuse_idle_keys(sink, &section, kind);
    }
    // Every value is looked at, whatever the kind: all errors are told at once.
    let http = exchange::http(sink, &section);
    let tls = tls::decode(sink, &section, folder, kind, http.host.as_deref());
    let kind = match kind? {
        Kind::None => return Some(HealthCheck::None),
        Kind::Tcp => ProbeKind::Tcp,
        Kind::Http => ProbeKind::Http(http),
        Kind::Https => ProbeKind::Https { exchange: http, tls: tls? },
        Kind::Udp => ProbeKind::Udp(exchange::udp(sink, &section)?),
        Kind::Grpc => ProbeKind::Grpc(exchange::grpc(sink, &section, http.host, tls)),
        Kind::Exec => ProbeKind::Exec(exec::decode(sink, &section, folder)?),
    };
    Some(Probe { kind, timing, port, agent }.into())
}

/// The kinds of probe that `key` belongs to; none where it belongs to all.
pub(in crate::config) fn kinds_of(key: &str) -> Vec<&'static str> {
    let of = OF_KINDS.iter().find(|(keys, _)| keys.contains(&key));
    of.map_or_else(Vec::new, |(_, kinds)| kinds.iter().map(|kind| kind.name()).collect())
}

/// Reports keys that mean nothing to this kind of probe.
fn refuse_idle_keys(sink: &mut Sink<'_, '_>, section: &Section<'_, '_>, kind: Kind) {
    // A probe that is turned off may keep its keys for the day when it is turned on again.
    if kind == Kind::None {
        return;
    }
    for (keys, kinds) in OF_KINDS.iter().filter(|(_, kinds)| !kinds.contains(&kind)) {
        for key in keys.iter().filter(|key| section.has(key)) {
            let name = kind.name();
            let article = if name == "exec" { "an" } else { "a" };
            let message =
                format!("{key} {} means nothing to {article} {name} probe", section.subject());
            let kinds: Vec<_> = kinds.iter().map(|kind| format!("{:?}", kind.name())).collect();
            let remedy = format!("remove it, or set kind = {}", kinds.join(" or "));
            sink.error(&section.span_of(key), message, remedy);
        }
    }
}

fn decode_timing(sink: &mut Sink<'_, '_>, section: &Section<'_, '_>) -> Timing {
    let default = Timing::default();
    let interval = section.value_or(
        sink,
        "interval",
        |v| values::duration(v, SHORTEST_INTERVAL, LONGEST_INTERVAL),
        default.interval,
    );
    let timeout =
        section.value(sink, "timeout", |v| values::duration(v, SHORTEST_TIMEOUT, LONGEST_INTERVAL));
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
        flap_damping: section.value_or(sink, "flap_damping", flap_damping, default.flap_damping),
    }
}

/// `false`, or the longest time that a flapping backend is held down.
fn flap_damping(value: &DeValue<'_>) -> Result<Option<Duration>, Problem> {
    match value.as_bool() {
        Some(true) => Ok(Some(Timing::FLAP_DAMPING)),
        Some(false) => Ok(None),
        None if value.is_str() => values::duration(value, SHORTEST_HOLD, LONGEST_HOLD).map(Some),
        None => Err(values::expected(
            value,
            "false, true or a duration in quotes",
            "write false, or the longest hold like \"1m\"",
        )),
    }
}
