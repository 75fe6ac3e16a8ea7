//! `[alerts]` with its targets: `[[alerts.webhook]]`, `[[alerts.alertmanager]]`, `[[alerts.exec]]`.

use std::{path::Path, time::Duration};

use hyper::{
    Uri,
    header::{HeaderName, HeaderValue},
};
use toml::{Spanned, de::DeValue};

use super::{
    Form, Is, Key, Means, Refused, Section, Shape, health, key,
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
            ADDRESS,
            Means("the pages of the documentation"),
            "what the addresses of the playbook's pages begin with",
        ),
        key(
            "raise_after",
            Form::Duration(Duration::ZERO, DAY),
            Means("each kind's own"),
            "how long a cause lasts before its alert is raised",
        ),
        key(
            "clear_after",
            Form::Duration(Duration::ZERO, DAY),
            Means("each kind's own"),
            "how long a cause is over before its alert is cleared",
        ),
        key(
            "recent",
            Form::Duration(SECOND, DAY),
            Is("\"10m\""),
            "over how long the peak of connections, failing probes and drift are remembered",
        ),
        key(
            "reminder",
            Form::Duration(SECOND, MONTH),
            Is("\"1h\""),
            "for how long a backend may be taken out before that is an alert",
        ),
        key(
            "imbalance",
            Form::Decimal(1.01, 100.0),
            Is("1.25"),
            "`imbalance`: the largest share over its fair share",
        ),
        key(
            "failures",
            Form::Decimal(0.0001, 1.0),
            Is("0.05"),
            "`connection-failures`: the part of a backend's connections that fail",
        ),
        key(
            "handshakes",
            Form::Decimal(1.5, 1000.0),
            Is("4"),
            "`slow-handshakes`: how many times longer than before they take",
        ),
        key(
            "flaps",
            Form::Integer(2, 100),
            Is("3"),
            "`flapping`: how often a backend goes down within `recent`",
        ),
        key(
            "table_fill",
            Form::Decimal(0.01, 1.0),
            Is("0.8"),
            "`table-pressure`: the part of a connection table that is full",
        ),
        key(
            "late",
            Form::Duration(SHORTEST, DAY),
            Is("\"1s\""),
            "`probes-late`: how late probes and the controller's looks may begin",
        ),
        key(
            "webhook",
            Form::Tables(&WEBHOOK),
            Means("none"),
            "a web server that alerts are posted to, as JSON",
        ),
        key("alertmanager", Form::Tables(&ALERTMANAGER), Means("none"), "an Alertmanager"),
        key("exec", Form::Tables(&EXEC), Means("none"), "a program that is run for each alert"),
    ],
    later: &[],
};
const WEBHOOK: Shape = Shape {
    header: "[[alerts.webhook]]",
    keys: &[
        key("url", ADDRESS, Refused, "where the alerts are posted to"),
        HEADERS,
        TOKEN,
        CA_FILE,
        VERIFY,
        ATTEMPT,
        SEND_RESOLVED,
    ],
    later: &[],
};
const ALERTMANAGER: Shape = Shape {
    header: "[[alerts.alertmanager]]",
    keys: &[
        key("url", ADDRESS, Refused, "its address, without `/api/v2/alerts`"),
        HEADERS,
        TOKEN,
        CA_FILE,
        VERIFY,
        ATTEMPT,
        key(
            "repeat",
            Form::Duration(SECOND, HOUR),
            Is("\"1m\""),
            "how often it is told what is raised: more often than its `resolve_timeout`",
        ),
    ],
    later: &[],
};
const EXEC: Shape = Shape {
    header: "[[alerts.exec]]",
    keys: &[
        key(
            "command",
            Form::Words("list of texts"),
            Refused,
            "the program, by its whole path, and its arguments; the alert comes on its standard input as JSON",
        ),
        key("user", Form::Words("name of a user"), Is("\"nobody\""), "who runs it; not root"),
        ATTEMPT,
        SEND_RESOLVED,
    ],
    later: &[],
};

const ADDRESS: Form = Form::Words("address of a web server");
const HEADERS: Key =
    key("headers", Form::Words("list of `\"Name: value\"`"), Is("[]"), "headers of every request");
const TOKEN: Key = key(
    "bearer_token_file",
    Form::Words("path of a file"),
    Means("none"),
    "a file with the token that the server asks for; read for every attempt",
);
const CA_FILE: Key = key(
    "ca_file",
    Form::Words("path of a file"),
    Means("the system's"),
    "authorities that the server's certificate is held to, in PEM",
);
const VERIFY: Key =
    key("verify", Form::Boolean, Is("true"), "whether the server's certificate is verified");
const ATTEMPT: Key = key(
    "timeout",
    Form::Duration(SHORTEST, LONGEST_ATTEMPT),
    Is("\"10s\""),
    "how long an attempt may take",
);
const SEND_RESOLVED: Key =
    key("send_resolved", Form::Boolean, Is("true"), "whether it is told of alerts that cleared");

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST_ATTEMPT: Duration = Duration::from_mins(5);
const HOUR: Duration = Duration::from_hours(1);
const MONTH: Duration = Duration::from_hours(30 * 24);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
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
    let reminder = span("reminder", SECOND, MONTH).unwrap_or(defaults.reminder);
    let late = span("late", SHORTEST, DAY).unwrap_or(defaults.late);
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
    let repeat = section.value_or(sink, "repeat", |v| values::duration(v, SECOND, HOUR), REPEAT);
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
    let read = |value: &DeValue<'_>| values::duration(value, SHORTEST, LONGEST_ATTEMPT);
    section.value_or(sink, "timeout", read, TIMEOUT)
}

fn endpoint(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    folder: Option<&Path>,
) -> Option<Endpoint> {
    let headers = section.list(sink, "headers", header).unwrap_or_default();
    let token = section.value(sink, "bearer_token_file", values::string_of);
    let bearer_token_file = token.map(|name| {
        let (span, name) = (name.span(), name.into_inner());
        let path = folder.map_or_else(|| name.clone().into(), |folder| folder.join(&name));
        if folder.is_some() && !path.is_file() {
            let message =
                format!("bearer_token_file {} is {}, no file", section.subject(), path.display());
            let remedy = "make it, with the token alone in it, or correct the path";
            sink.error(&span, message, remedy);
        }
        path
    });
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
