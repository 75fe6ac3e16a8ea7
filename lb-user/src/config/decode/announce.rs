//! `[announce]`, and `[service.announce]`, which says otherwise for one service.

use std::{ops::Range, path::Path, time::Duration};

use toml::Spanned;

use super::{
    Absent, Form, Is, Means, Section, Shape, availability::MOST_BACKENDS, health, key, names,
    shape::Key, values,
};
use crate::config::{
    announce::{Announce, AnnounceWay, Hook, OnStop},
    diagnostic::Sink,
};

pub(super) const ANNOUNCE: Shape = Shape {
    header: "[announce]",
    keys: &[
        enabled(Is("true"), "`false`: only services that say otherwise are announced"),
        way(Is("\"address\"")),
        interface(Is("\"lo\"")),
        command(Means("none")),
        user(Is("\"nobody\"")),
        timeout(Is("\"10s\"")),
        min_active(Means("the service's `min_active`")),
        announce_after(Is("\"10s\"")),
        withdraw_after(Is("\"0s\"")),
        on_stop(Is("\"withdraw\"")),
    ],
    later: &[],
};
pub(super) const OF_SERVICE: Shape = Shape {
    header: "[service.announce]",
    keys: &[
        enabled(
            Is("true"),
            "`false`: this service neither announces its address nor keeps it announced",
        ),
        way(INHERITED),
        interface(INHERITED),
        command(INHERITED),
        user(INHERITED),
        timeout(INHERITED),
        min_active(INHERITED),
        announce_after(INHERITED),
        withdraw_after(INHERITED),
        on_stop(INHERITED),
    ],
    later: &[],
};
const INHERITED: Absent = Means("as `[announce]` has it");
const LONGEST: Duration = Duration::from_hours(1);
const SHORTEST_RUN: Duration = Duration::from_millis(100);
const LONGEST_RUN: Duration = Duration::from_mins(5);

const fn enabled(absent: Absent, meaning: &'static str) -> Key {
    key("enabled", Form::Boolean, absent, meaning)
}

const fn way(absent: Absent) -> Key {
    let meaning = "how: the address is put on `interface`, where BIRD or FRR finds it; ExaBGP is told; a program is run";
    key("way", Form::Choice(names::<AnnounceWay>), absent, meaning)
}

const fn interface(absent: Absent) -> Key {
    let meaning = "of `address`: the interface that it is put on, as /32 or /128";
    key("interface", Form::Words("interface name"), absent, meaning)
}

const fn command(absent: Absent) -> Key {
    let form = Form::Words("list: the program's absolute path, and its arguments");
    let meaning = "of `hook`: the program; `announce` or `withdraw` and the address, as `192.0.2.10/32`, follow";
    key("command", form, absent, meaning)
}

const fn user(absent: Absent) -> Key {
    let form = Form::Words("user of this host, not root");
    key("user", form, absent, "of `hook`: who runs it")
}

const fn timeout(absent: Absent) -> Key {
    let form = Form::Duration(SHORTEST_RUN, LONGEST_RUN);
    key("timeout", form, absent, "of `hook`: how long it may run")
}

const fn min_active(absent: Absent) -> Key {
    let meaning = "active backends without which the address is withdrawn. Every edge sees the same backends: with more than 1, their failure may withdraw the address everywhere";
    key("min_active", Form::Integer(1, MOST_BACKENDS), absent, meaning)
}

const fn announce_after(absent: Absent) -> Key {
    let meaning = "how long backends and node must have been well before the address is announced";
    key("announce_after", Form::Duration(Duration::ZERO, LONGEST), absent, meaning)
}

const fn withdraw_after(absent: Absent) -> Key {
    let meaning =
        "how long they must have been otherwise before it is withdrawn; a drain does not wait";
    key("withdraw_after", Form::Duration(Duration::ZERO, LONGEST), absent, meaning)
}

const fn on_stop(absent: Absent) -> Key {
    let meaning = "when the daemon is told to stop: the address is withdrawn, or stays as the data path does (`keep`)";
    key("on_stop", Form::Choice(names::<OnStop>), absent, meaning)
}

/// What is said of announcing, and where.
#[derive(Clone)]
pub(in crate::config) struct RawAnnounce {
    pub(in crate::config) announce: Announce,
    /// Where the table begins.
    pub(in crate::config) span: Range<usize>,
    /// Where the interface is named, or else the table.
    pub(in crate::config) interface: Range<usize>,
    enabled: bool,
}

/// `[announce]` of the document; `None` where there is none.
pub(super) fn decode(
    sink: &mut Sink<'_, '_>,
    root: &Section<'_, '_>,
    folder: Option<&Path>,
) -> Option<RawAnnounce> {
    let section = root.table(sink, "announce", &ANNOUNCE, None)?;
    Some(read(sink, &section, None, folder))
}

/// How a service is announced, where `[announce]` says `node`; `None` where it is not.
pub(super) fn of_service(
    sink: &mut Sink<'_, '_>,
    service: &Section<'_, '_>,
    node: Option<&RawAnnounce>,
    folder: Option<&Path>,
) -> Option<RawAnnounce> {
    let subject = format!("of the announcement {}", service.subject());
    let section = service.table(sink, "announce", &OF_SERVICE, Some(subject));
    let told = match section {
        Some(section) => read(sink, &section, node, folder),
        None => node?.clone(),
    };
    told.enabled.then_some(told)
}

fn read(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    node: Option<&RawAnnounce>,
    folder: Option<&Path>,
) -> RawAnnounce {
    let default = node.map_or_else(Announce::default, |node| node.announce.clone());
    let way = section.value_or(sink, "way", values::choice, default.way);
    refuse_idle(sink, section, way);
    let mut span = |key, default| {
        section.value_or(sink, key, |v| values::duration(v, Duration::ZERO, LONGEST), default)
    };
    let announce_after = span("announce_after", default.announce_after);
    let withdraw_after = span("withdraw_after", default.withdraw_after);
    let named = section.value(sink, "interface", values::interface);
    let min_active = section.value(sink, "min_active", |v| values::integer(v, 1, MOST_BACKENDS));
    let inherited = default.hook.filter(|_| !section.has("command"));
    let hook = if way == AnnounceWay::Hook { hook(sink, section, inherited, folder) } else { None };
    RawAnnounce {
        interface: match (&named, node) {
            (Some(named), _) => named.span(),
            (None, Some(node)) => node.interface.clone(),
            (None, None) => section.span.clone(),
        },
        span: section.span.clone(),
        enabled: section.value_or(sink, "enabled", values::boolean, true),
        announce: Announce {
            way,
            interface: named.map_or(default.interface, Spanned::into_inner),
            hook,
            min_active: min_active.map(Spanned::into_inner).or(default.min_active),
            announce_after,
            withdraw_after,
            on_stop: section.value_or(sink, "on_stop", values::choice, default.on_stop),
        },
    }
}

/// The program of a hook; what is not said is as `inherited` has it.
fn hook(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    inherited: Option<Hook>,
    folder: Option<&Path>,
) -> Option<Hook> {
    let run = |v: &toml::de::DeValue<'_>| values::duration(v, SHORTEST_RUN, LONGEST_RUN);
    let before = inherited.as_ref().map_or(Announce::TIMEOUT, |hook| hook.timeout);
    let timeout = section.value_or(sink, "timeout", run, before);
    match inherited {
        Some(hook) if !section.has("user") => Some(Hook { timeout, ..hook }),
        _ => Some(Hook { exec: health::program(sink, section, folder)?, timeout }),
    }
}

/// Reports keys that mean nothing to this way.
fn refuse_idle(sink: &mut Sink<'_, '_>, section: &Section<'_, '_>, way: AnnounceWay) {
    let of = [
        ("interface", AnnounceWay::Address),
        ("command", AnnounceWay::Hook),
        ("user", AnnounceWay::Hook),
        ("timeout", AnnounceWay::Hook),
    ];
    for (key, meant) in of.into_iter().filter(|(key, meant)| section.has(key) && *meant != way) {
        let message = format!("{key} {} means nothing to way = \"{way}\"", section.subject());
        let remedy = format!("remove it, or set way = \"{meant}\"");
        sink.error(&section.span_of(key), message, remedy);
    }
}
