//! Allowed and denied prefixes: that there is room for them, that no prefix is in both lists, and that
//! somebody is left who may connect.

use std::{cmp::Ordering, net::SocketAddr};

use super::family;
use crate::config::{
    decode::{Entry, MOST_SAID, Place, RawConfig, RawPrefixes},
    diagnostic::{Position, Sink},
};

pub(super) fn check(raw: &RawConfig, sink: &mut Sink<'_, '_>) {
    let of_services = raw.services.iter().map(|service| &service.prefixes);
    let lists = || raw.prefixes.iter().chain(of_services.clone());
    let (count, room) = (lists().map(|lists| lists.count).sum::<usize>(), raw.tables.prefixes);
    if count as u64 > u64::from(room)
        && let Some(last) = lists().rfind(|lists| lists.count > 0)
    {
        let message = format!("there are {count} allowed and denied prefixes, and room for {room}");
        let remedy = format!("remove some, or set prefixes = {count} in [tables]");
        sink.error(&last.span, message, remedy);
    }
    for lists in lists() {
        check_contradiction(lists, sink);
        check_empty(lists, sink);
    }
    if let Some(node) = &raw.prefixes {
        for v4 in [true, false] {
            let of_family = |address: &SocketAddr| address.is_ipv4() == v4;
            let shut_out = raw.services.iter().find(|service| {
                service.address.as_ref().is_some_and(|address| of_family(address.get_ref()))
            });
            if let Some((service, address)) =
                shut_out.and_then(|service| Some((service, service.address.as_ref()?)))
            {
                check_reach(node, &service.title(), *address.get_ref(), sink);
            }
        }
    }
    for service in &raw.services {
        if let Some(address) = &service.address {
            check_reach(&service.prefixes, &service.title(), *address.get_ref(), sink);
            check_idle(&service.prefixes, *address.get_ref(), sink);
        }
    }
}

/// No prefix is in both lists.
fn check_contradiction(lists: &RawPrefixes, sink: &mut Sink<'_, '_>) {
    let (mut allow, mut deny) = (lists.allow.iter().peekable(), lists.deny.iter().peekable());
    let mut said = 0;
    while let (Some(allowed), Some(denied)) = (allow.peek(), deny.peek()) {
        match allowed.prefix.cmp(&denied.prefix) {
            Ordering::Less => drop(allow.next()),
            Ordering::Greater => drop(deny.next()),
            Ordering::Equal => {
                said += 1;
                if said > MOST_SAID {
                    let message = format!(
                        "more than {MOST_SAID} prefixes {} are allowed and denied",
                        lists.subject
                    );
                    sink.error(&lists.span, message, "keep each in one of the two lists");
                    return;
                }
                contradiction(lists, allowed, denied, sink);
                allow.next();
                deny.next();
            }
        }
    }
}

fn contradiction(lists: &RawPrefixes, allowed: &Entry, denied: &Entry, sink: &mut Sink<'_, '_>) {
    let other = match &allowed.place {
        Place::Text(span) => format!("line {}", sink.line(span)),
        Place::File(file, line) => format!("line {line} of {}", file.display()),
    };
    let message =
        format!("prefix {} {} is denied, and allowed on {other}", denied.prefix, lists.subject);
    let remedy = "keep it in one of the two lists";
    match &denied.place {
        Place::Text(span) => sink.error(span, message, remedy),
        Place::File(file, line) => {
            let line = usize::try_from(*line).unwrap_or(usize::MAX);
            sink.error_in(file, Position { line, column: 1 }, message, remedy);
        }
    }
}

/// An allow list without a prefix would allow nobody, or everybody; nobody means either.
fn check_empty(lists: &RawPrefixes, sink: &mut Sink<'_, '_>) {
    if let Some(key) = &lists.allow_key
        && lists.whole
        && lists.allow.is_empty()
    {
        let message = format!("the allow list {} has no prefix", lists.subject);
        let remedy = "list who is allowed; to allow everybody remove it, to allow nobody remove the \
                      service";
        sink.error(key, message, remedy);
    }
}

/// Warns of an allow list that shuts out a whole family that a service is reached by.
fn check_reach(lists: &RawPrefixes, service: &str, address: SocketAddr, sink: &mut Sink<'_, '_>) {
    let reaches = |entry: &Entry| entry.prefix.address.is_ipv4() == address.is_ipv4();
    if let Some(key) = &lists.allow_key
        && lists.whole
        && !lists.allow.is_empty()
        && !lists.allow.iter().any(reaches)
    {
        let family = family(address.ip());
        let message = format!(
            "the allow list {} has no {family} prefix, so nobody reaches {service}",
            lists.subject
        );
        sink.warning(key, message, format!("add the {family} prefixes of its clients"));
    }
}

/// Warns of prefixes that no client of the service can have.
fn check_idle(lists: &RawPrefixes, address: SocketAddr, sink: &mut Sink<'_, '_>) {
    let entries = lists.allow.iter().chain(&lists.deny);
    // Files may be shared with services of the other family.
    let idle = entries.filter_map(|entry| match &entry.place {
        Place::Text(span) if entry.prefix.address.is_ipv4() != address.is_ipv4() => {
            Some((entry.prefix, span))
        }
        _ => None,
    });
    for (prefix, span) in idle.take(MOST_SAID) {
        let message = format!(
            "prefix {prefix} {} never matches, because its clients are {}",
            lists.subject,
            family(address.ip())
        );
        sink.warning(span, message, "remove it");
    }
}
