//! `[alerts]` with its targets: `[[alerts.webhook]]`, `[[alerts.alertmanager]]`, `[[alerts.exec]]`.

use std::{path::Path, time::Duration};

use hyper::{
    Uri,
    header::{HeaderName, HeaderValue},
};
use toml::{Spanned, de::DeValue};

use super::{
    Form, Is, Key, Means, Refused, Section, Shape, file_of, health, key,
    values::{self, Problem},
};
use crate::{
    config::{
        alerts::{Alertmanager, Alerts, Endpoint, Program, Webhook},
        diagnostic::Sink,
    },
    health::TlsCheck,
};

pub(super) const ALERTS: Shape = Shape {
    header: "[alerts]",
    keys: &[
        key(
            "playbook",
            Form::Words("address, `http://` or `https://`"),
            Means("`docs/`"),
            "what the addresses of the playbook's pages begin with, where the book is served",
        ),
        key(
            "raise_after",
            Form::Duration(Duration::ZERO, DAY),
            Means("as long as its kind has it"),
            "how long a cause must last before its alert rises",
        ),
        key(
            "clear_after",
            Form::Duration(Duration::ZERO, DAY),
            Means("as long as its kind has it"),
            "how long a cause must be over before its alert clears",
        ),
        key(
            "recent",
            Form::Duration(SECOND, DAY),
            Is("\"10m\""),
            "over how long the peak of connections, falls and drift are remembered",
        ),
        key(
            "lately",
            Form::Duration(SECOND, LONGEST_LATELY),
            Is("\"10s\""),
            "over how long a backend's connections are compared with its past; longer where few come",
        ),
        key(
            "reminder",
            Form::Duration(SECOND, LONGEST_REMINDER),
            Is("\"1h\""),
            "how long a backend may be taken out before `out-of-service` rises",
        ),
        key(
            "imbalance",
            Form::Decimal(1.01, 100.0),
            Is("1.25"),
            "imbalance index from which `imbalance` rises",
        ),
        key(
            "failures",
            Form::Decimal(0.0001, 1.0),
            Is("0.05"),
            "part of a backend's new connections that fail, from which `connection-failures` rises",
        ),
        key(
            "handshakes",
            Form::Decimal(1.5, 1000.0),
            Is("4"),
            "how many times as long as before handshakes take, from which `slow-handshakes` rises",
        ),
        key(
            "flaps",
            Form::Integer(2, 100),
            Is("3"),
            "falls of a backend within `recent` from which `flapping` rises",
        ),
        key(
            "table_fill",
            Form::Decimal(0.01, 1.0),
            Is("0.8"),
            "part of a connection table that is full, from which `table-pressure` rises",
        ),
        key(
            "late",
            Form::Duration(SHORTEST_DELAY, DAY),
            Is("\"1s\""),
            "how late probes and the daemon's look may begin before `probes-late` rises",
        ),
        key(
            "webhook",
            Form::Tables(&WEBHOOK),
            Means("none"),
            "a server that alerts are posted to as JSON",
        ),
        key(
            "alertmanager",
            Form::Tables(&ALERTMANAGER),
            Means("none"),
            "an Alertmanager, which is told again and again what is raised",
        ),
        key("exec", Form::Tables(&EXEC), Means("none"), "a program that is run for each alert"),
    ],
    later: &[],
};
const WEBHOOK: Shape = Shape {
    header: "[[alerts.webhook]]",
    keys: &[URL, HEADERS, BEARER_TOKEN_FILE, CA_FILE, VERIFY, ATTEMPT, SEND_RESOLVED],
    later: &[],
};
const ALERTMANAGER: Shape = Shape {
    header: "[[alerts.alertmanager]]",
    keys: &[
        URL,
        HEADERS,
        BEARER_TOKEN_FILE,
        CA_FILE,
        VERIFY,
        ATTEMPT,
        key(
            "repeat",
            Form::Duration(SECOND, LONGEST_REPEAT),
            Is("\"1m\""),
            "how often it is told: more often than its `resolve_timeout`",
        ),
    ],
    later: &[],
};
const EXEC: Shape = Shape {
    header: "[[alerts.exec]]",
    keys: &[
        key(
            "command",
            Form::Words("list: the program's absolute path, and its arguments"),
            Refused,
            "the program",
        ),
        key("user", Form::Words("user of this host, not root"), Is("\"nobody\""), "who runs it"),
        ATTEMPT,
        SEND_RESOLVED,
    ],
    later: &[],
};
const URL: Key = key(
    "url",
    Form::Words("address, `http://` or `https://`"),
    Refused,
    "where it is; of an Alertmanager what stands before `/api/v2/alerts`",
);
const HEADERS: Key = key(
    "headers",
    Form::Words("list of headers, `\"Name: value\"`"),
    Means("none"),
    "what every request has beside",
);
const BEARER_TOKEN_FILE: Key = key(
    "bearer_token_file",
    Form::Words("file name"),
    Means("no token"),
    "a file with the token that it asks for, read anew for each attempt",
);
const CA_FILE: Key = key(
    "ca_file",
    Form::Words("file of certificates in PEM"),
    Means("the system's authorities"),
    "whom to trust instead",
);
const VERIFY: Key = key("verify", Form::Boolean, Is("true"), "`false` accepts any certificate");
const ATTEMPT: Key = key(
    "timeout",
    Form::Duration(SHORTEST_DELAY, LONGEST_ATTEMPT),
    Is("\"10s\""),
    "how long an attempt may take",
);
const SEND_RESOLVED: Key =
    key("send_resolved", Form::Boolean, Is("true"), "whether it is told of alerts that cleared");

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
/// Past that the past would be forgotten sooner than what is compared with it.
const LONGEST_LATELY: Duration = Duration::from_mins(10);
const LONGEST_REMINDER: Duration = Duration::from_hours(30 * 24);
const SHORTEST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_ATTEMPT: Duration = Duration::from_mins(5);
const LONGEST_REPEAT: Duration = Duration::from_hours(1);
/// How long an attempt may take where nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Alertmanager's own `resolve_timeout` is 5 minutes.
const REPEAT: Duration = Duration::from_mins(1);

/// `[alerts]` of the document, or its defaults. Files are looked for from `folder`; where there is none,
/// they are not looked at.
pub(super) fn decode(
    sink: &mut Sink<'_, '_>,
    root: &Section<'_, '_>,
    folder: Option<&Path>,
) -> Alerts {
    let defaults = Alerts::default();
    let Some(section) = root.table(sink, "alerts", &ALERTS, None) else { return defaults };
    let mut span = |key, least, most| {
        let value = section.value(sink, key, |v| values::duration(v, least, most));
        value.map(Spanned::into_inner)
    };
    let raise_after = span("raise_after", Duration::ZERO, DAY);
    let clear_after = span("clear_after", Duration::ZERO, DAY);
    let recent = span("recent", SECOND, DAY).unwrap_or(defaults.recent);
    let lately = span("lately", SECOND, LONGEST_LATELY).unwrap_or(defaults.lately);
    let reminder = span("reminder", SECOND, LONGEST_REMINDER).unwrap_or(defaults.reminder);
    let late = span("late", SHORTEST_DELAY, DAY).unwrap_or(defaults.late);
    let mut number = |key, least, most, default| {
        section.value_or(sink, key, |v| values::decimal(v, least, most), default)
    };
    let imbalance = number("imbalance", 1.01, 100.0, defaults.imbalance);
    let failures = number("failures", 0.0001, 1.0, defaults.failures);
    let handshakes = number("handshakes", 1.5, 1000.0, defaults.handshakes);
    let table_fill = number("table_fill", 0.01, 1.0, defaults.table_fill);
    let flaps = section.value_or(sink, "flaps", |v| values::integer(v, 2, 100), defaults.flaps);
    let playbook = section.value(sink, "playbook", address).map(Spanned::into_inner);
    let none = |_: &str| String::new();
    let webhooks = section.tables(sink, "webhook", &WEBHOOK, none);
    let alertmanagers = section.tables(sink, "alertmanager", &ALERTMANAGER, none);
    let programs = section.tables(sink, "exec", &EXEC, none);
    Alerts {
        playbook,
        raise_after,
        clear_after,
        recent,
        lately,
        reminder,
        imbalance,
        failures,
        handshakes,
        flaps,
        table_fill,
        late,
        webhooks: webhooks.iter().filter_map(|table| webhook(sink, table, folder)).collect(),
        alertmanagers: alertmanagers
            .iter()
            .filter_map(|table| alertmanager(sink, table, folder))
            .collect(),
        programs: programs.iter().filter_map(|table| program(sink, table, folder)).collect(),
    }
}

fn webhook(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    folder: Option<&Path>,
) -> Option<Webhook> {
    let send_resolved = section.value_or(sink, "send_resolved", values::boolean, true);
    Some(Webhook { endpoint: endpoint(sink, section, folder)?, send_resolved })
}

fn alertmanager(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    folder: Option<&Path>,
) -> Option<Alertmanager> {
    let repeat =
        section.value_or(sink, "repeat", |v| values::duration(v, SECOND, LONGEST_REPEAT), REPEAT);
    Some(Alertmanager { endpoint: endpoint(sink, section, folder)?, repeat })
}

fn program(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    folder: Option<&Path>,
) -> Option<Program> {
    let send_resolved = section.value_or(sink, "send_resolved", values::boolean, true);
    let timeout = timeout(sink, section);
    Some(Program { exec: health::program(sink, section, folder)?, timeout, send_resolved })
}

fn timeout(sink: &mut Sink<'_, '_>, section: &Section<'_, '_>) -> Duration {
    let converted = |v: &DeValue<'_>| values::duration(v, SHORTEST_DELAY, LONGEST_ATTEMPT);
    section.value_or(sink, "timeout", converted, TIMEOUT)
}

fn endpoint(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    folder: Option<&Path>,
) -> Option<Endpoint> {
    let headers = section.list(sink, "headers", header).unwrap_or_default();
    let remedy = "make it, with the token alone in it, or correct the path";
    let bearer_token_file = file_of(sink, section, "bearer_token_file", folder, remedy);
    let verify = section.value_or(sink, "verify", values::boolean, true);
    let ca_file = health::ca_file(sink, section, folder);
    if !verify && section.has("ca_file") {
        let message = format!("ca_file {} means nothing with verify = false", section.subject());
        sink.error(&section.span_of("ca_file"), message, "remove one of the two");
    }
    let timeout = timeout(sink, section);
    let example = "add url = \"https://alerts.example/hook\"";
    let url = section.require(sink, "url", example).then(|| section.value(sink, "url", address));
    Some(Endpoint {
        url: url??.into_inner(),
        headers: headers.into_iter().map(Spanned::into_inner).collect(),
        bearer_token_file,
        tls: TlsCheck { verify, ca_file, server_name: None },
        timeout,
    })
}

/// An address that a web browser could open.
fn address(value: &DeValue<'_>) -> Result<String, Problem> {
    let text = values::string(value)?;
    let known: Option<Uri> = text.parse().ok();
    let fits = known.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
    });
    if fits {
        return Ok(text.to_owned());
    }
    let remedy = "write it like \"https://alerts.example/hook\" or \"http://127.0.0.1:9093\"";
    Err(Problem::new(format!("is {text:?}, no address of a web server"), remedy))
}

/// A header, as `Name: value`.
fn header(value: &DeValue<'_>) -> Result<(String, String), Problem> {
    let text = values::string(value)?;
    let parts = text.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
    match parts {
        Some((name, value))
            if HeaderName::try_from(name).is_ok() && HeaderValue::from_str(value).is_ok() =>
        {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(Problem::new(
            format!("is {text:?}, no header"),
            "write it like \"X-Scope: balancers\"",
        )),
    }
}
