//! `[service.health]`: which kind of probe, and when. What a kind asks is in the files beside this one.

mod agent;
mod exchange;
mod exec;
mod tls;

use std::{path::Path, time::Duration};

use toml::de::DeValue;

pub(super) use self::{exec::decode as program, tls::ca_file};
use super::{
    Section, Shape,
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

const HEALTH: Shape = Shape {
    header: "[service.health]",
    keys: &[
        "kind",
        "method",
        "path",
        "host",
        "expect_status",
        "expect_body",
        "verify",
        "ca_file",
        "server_name",
        "send",
        "send_hex",
        "expect",
        "expect_hex",
        "service",
        "tls",
        "command",
        "user",
        "interval",
        "timeout",
        "rise",
        "fall",
        "flap_damping",
        "port",
        "agent",
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
