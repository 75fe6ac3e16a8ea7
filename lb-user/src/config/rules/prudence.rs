//! What is legal and dangerous about one service: said, and let through.

use std::time::Duration;

use humantime::format_duration;

use crate::config::{
    choices::Tier,
    decode::{RawBackend, RawService},
    diagnostic::Sink,
    model::HealthCheck,
};

/// How many times their load the other backends may get when the heaviest fails, before that is worth
/// a word.
const MOST_LOAD: u64 = 3;
/// How long a backend that fails may keep its share, before that is worth a word.
const LONGEST_BLINDNESS: Duration = Duration::from_mins(1);

/// Judges `service`; `all` are the services that there are.
pub(super) fn check(service: &RawService, all: &[RawService], sink: &mut Sink<'_, '_>) {
    check_spare(service, sink);
    check_probe(service, sink);
    check_hosts(service, sink);
    check_circle(service, all, sink);
    if let Some(address) = &service.address
        && address.get_ref().ip().is_loopback()
    {
        let title = service.title();
        let message = format!("{title} is on a loopback address, which no other host can reach");
        sink.warning(&address.span(), message, "use an address that clients route to this host");
    }
}

/// Whether the others can take over from any one backend.
fn check_spare(service: &RawService, sink: &mut Sink<'_, '_>) {
    let title = service.title();
    match service.backends.as_slice() {
        // How many there will be is not the text's to say.
        _ if !service.discover.is_empty() => {}
        [] => {
            let message = format!("{title} has no backend yet, so no connection to it can succeed");
            sink.warning(&service.span, message, "add backends as [[service.backend]]");
        }
        [only] => {
            let message = format!(
                "{title} has one backend, so nothing takes over when {} fails",
                only.title()
            );
            sink.warning(&service.span, message, "add a second one");
        }
        // A spare stands by.
        backends if backends.iter().any(|backend| backend.tier == Tier::Backup) => {}
        backends => check_weights(service, backends, sink),
    }
}

/// Two equal backends get twice their load when one fails, which is what there are two for; nine
/// tenths of the weight on one of them are another matter.
fn check_weights(service: &RawService, backends: &[RawBackend], sink: &mut Sink<'_, '_>) {
    let weight = |backend: &RawBackend| backend.weight.map_or(0, u64::from);
    let sum: u64 = backends.iter().map(weight).sum();
    let Some(heaviest) = backends.iter().max_by_key(|backend| weight(backend)) else { return };
    let others = sum - weight(heaviest);
    if others > 0 && sum > MOST_LOAD * others {
        let message = format!(
            "{} has {}% of the weight of {}: when it fails, the others get {} times their load",
            heaviest.title(),
            weight(heaviest) * 100 / sum,
            service.title(),
            sum / others
        );
        sink.warning(
            &heaviest.span,
            message,
            "bring the weights closer together, or add a backend",
        );
    }
}

fn check_probe(service: &RawService, sink: &mut Sink<'_, '_>) {
    let Some(health) = &service.health else { return };
    let title = service.title();
    if *health == HealthCheck::None {
        let message = format!("{title} is not probed, so a dead backend keeps its share");
        let remedy = "add [service.health] with kind = \"tcp\" or \"http\"";
        sink.warning(&service.span, message, remedy);
    }
    let blind = health.timing().map(|timing| timing.interval.saturating_mul(timing.fall));
    if let Some(blind) = blind.filter(|blind| *blind > LONGEST_BLINDNESS) {
        let blind = format_duration(blind);
        let message = format!("a backend of {title} that fails keeps its share for {blind}");
        sink.warning(&service.span, message, "lower interval or fall in [service.health]");
    }
}

/// Backends that are one host under several ports fail together.
fn check_hosts(service: &RawService, sink: &mut Sink<'_, '_>) {
    let mut hosts = service.backends.iter().filter_map(|backend| backend.address.as_ref());
    let Some(first) = hosts.next() else { return };
    let host = first.get_ref().ip();
    if service.backends.len() > 1
        && service.discover.is_empty()
        && hosts.all(|address| address.get_ref().ip() == host)
    {
        let message = format!(
            "every backend of {} is on {host}, so nothing takes over when that host fails",
            service.title()
        );
        sink.warning(&service.span, message, "add one on another host");
    }
}

/// A backend that is a service of this balancer gets its connections back.
fn check_circle(service: &RawService, all: &[RawService], sink: &mut Sink<'_, '_>) {
    for backend in &service.backends {
        let Some(address) = &backend.address else { continue };
        let to = address.get_ref();
        let taken = |other: &&RawService| {
            other.protocol == service.protocol
                && other.address.as_ref().is_some_and(|own| {
                    let own = own.get_ref();
                    own.ip() == to.ip() && (own.port() == to.port() || own.port() == 0)
                })
        };
        if let Some(other) = all.iter().find(taken) {
            let message = format!(
                "{} of {} has the address of {} here, so its connections come back to this balancer",
                backend.title(),
                service.title(),
                other.title()
            );
            sink.warning(&address.span(), message, "write the address of a server");
        }
    }
}
