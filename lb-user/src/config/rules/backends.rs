//! The backends of one service: their names and addresses, and what the forwarding mode asks of
//! these.

use std::net::SocketAddr;

use toml::Spanned;

use super::{Repeat, family, repeated};
use crate::config::{
    choices::{Forwarding, Tier},
    decode::{RawBackend, RawService},
    diagnostic::Sink,
    endpoint::{Endpoint, shown},
};

pub(super) fn check(service: &RawService, sink: &mut Sink<'_, '_>) {
    let names = service.backends.iter().filter_map(|b| b.name.as_ref());
    for Repeat { key: name, span, first } in
        repeated(names.map(|name| (name.get_ref(), name.span())))
    {
        let message = format!(
            "backend name {:?} is used twice in {} (first on line {})",
            name,
            service.title(),
            sink.line(&first)
        );
        sink.error(&span, message, "give each backend of a service a name of its own");
    }
    check_capacity(service, sink);
    let Some(forwarding) = service.forwarding else { return };
    check_distinct(service, forwarding, sink);
    let Some(own) = &service.address else { return };
    for (backend, address) in with_address(service) {
        if !forwarding.is_tunnel() && address.get_ref().is_ipv4() != own.get_ref().is_ipv4() {
            wrong_family(service, backend, address, *own.get_ref(), sink);
        } else if forwarding.keeps_packet() {
            check_kept(service, forwarding, *own.get_ref(), (backend, address), sink);
        } else if address.get_ref().port() == 0 && own.get_ref().port() != 0 {
            let message =
                format!("{} is on every port and {} on one", backend.title(), service.title());
            let exact = SocketAddr::new(address.get_ref().ip(), own.get_ref().port());
            let remedy = format!(
                "name its port, like \"{exact}\"; * goes with a service on every port, and with dsr, \
                 ipip and gue"
            );
            sink.error(&address.span(), message, remedy);
        }
    }
    check_probe_port(service, *own.get_ref(), sink);
}

/// Whether there are enough backends for what the service asks of them.
pub(super) fn check_tiers(service: &RawService, sink: &mut Sink<'_, '_>) {
    let (count, title) = (service.backends.len(), service.title());
    let primaries = service.backends.iter().filter(|b| b.tier == Tier::Primary).count();
    let least = service.availability.min_active as usize;
    if count == 0 || !service.discover.is_empty() {
        return;
    }
    if least > count {
        let message = format!("min_active of {title} is {least}, and it has {count} backends");
        let remedy = format!("set it to {count} at the most, or add backends");
        sink.error(&service.min_active_span, message, remedy);
    } else if primaries == 0 {
        let message = format!("every backend of {title} is a backup, so all of them are always in");
        let remedy = "remove tier = \"backup\" from those that shall serve while all is well";
        sink.warning(&service.span, message, remedy);
    } else if least > primaries {
        let message = format!(
            "min_active of {title} is {least}, and it has {primaries} primary backends, so its \
             backups are always in"
        );
        sink.warning(&service.min_active_span, message, "set it lower, or add primary backends");
    }
}

/// A limit that lets in more than the backend is said to carry.
fn check_capacity(service: &RawService, sink: &mut Sink<'_, '_>) {
    for backend in &service.backends {
        let (Some(capacity), Some(most)) = (&backend.capacity, backend.max_connections) else {
            continue;
        };
        if most > *capacity.get_ref() {
            let message = format!(
                "max_connections of {} is {most}, more than its capacity of {}",
                backend.title(),
                capacity.get_ref()
            );
            let remedy = "lower max_connections, or it can be overloaded";
            sink.warning(&capacity.span(), message, remedy);
        }
    }
}

fn check_distinct(service: &RawService, forwarding: Forwarding, sink: &mut Sink<'_, '_>) {
    // Where ports stay as they are, a backend is its address.
    let key = |address: SocketAddr| match forwarding {
        Forwarding::Nat => address,
        _ => SocketAddr::new(address.ip(), 0),
    };
    let addresses = with_address(service).map(|(_, a)| (key(*a.get_ref()), a.span()));
    for Repeat { key: address, span, first } in repeated(addresses) {
        let address = match forwarding {
            Forwarding::Nat => shown(address),
            _ => address.ip().to_string(),
        };
        let message = format!(
            "backend address {address} is used twice in {} (first on line {})",
            service.title(),
            sink.line(&first)
        );
        sink.error(&span, message, "to give a backend a larger share, raise its weight");
    }
}

fn wrong_family(
    service: &RawService,
    backend: &RawBackend,
    address: &Spanned<SocketAddr>,
    own: SocketAddr,
    sink: &mut Sink<'_, '_>,
) {
    let message = format!(
        "{} is {} and {} is {}",
        backend.title(),
        family(address.get_ref().ip()),
        service.title(),
        family(own.ip())
    );
    let remedy = "a service and its backends are of one family: use an address of the service's, a \
                  second service, or forwarding = \"ipip\" or \"gue\"";
    sink.error(&address.span(), message, remedy);
}

/// A backend that gets packets as the client sent them.
fn check_kept(
    service: &RawService,
    forwarding: Forwarding,
    own: SocketAddr,
    (backend, address): (&RawBackend, &Spanned<SocketAddr>),
    sink: &mut Sink<'_, '_>,
) {
    let (ip, port) = (address.get_ref().ip(), address.get_ref().port());
    if ip == own.ip() {
        let message = format!("{} has the address of {} itself", backend.title(), service.title());
        let remedy = "write the address by which the server is reached; the service's own goes onto \
                      its loopback interface";
        sink.error(&address.span(), message, remedy);
    }
    if port == 0 || port == own.port() {
        return;
    }
    let every = Endpoint(SocketAddr::new(ip, 0));
    let (its, choice) = if own.port() == 0 {
        ("every port".to_owned(), format!("\"{every}\""))
    } else {
        let same = SocketAddr::new(ip, own.port());
        (format!("port {}", own.port()), format!("\"{same}\" or \"{every}\""))
    };
    let message = format!(
        "{} is on port {port} and {} on {its}, and {forwarding} does not change ports",
        backend.title(),
        service.title()
    );
    let remedy = format!("write {choice}, or set forwarding = \"nat\"");
    sink.error(&address.span(), message, remedy);
}

/// A backend without a port of its own, in a service without one, can only be probed on a port that
/// the probe names.
fn check_probe_port(service: &RawService, own: SocketAddr, sink: &mut Sink<'_, '_>) {
    let probed = service
        .health
        .as_ref()
        .is_some_and(|health| health.needs_port() && health.port().is_none());
    let lacks_port = |address: &Spanned<SocketAddr>| address.get_ref().port() == 0;
    if probed
        && own.port() == 0
        && let Some((backend, _)) = with_address(service).find(|(_, address)| lacks_port(address))
    {
        let message =
            format!("the probe of {} has no port to go to at {}", service.title(), backend.title());
        sink.error(&service.span, message, "set port in [service.health]");
    }
}

fn with_address(service: &RawService) -> impl Iterator<Item = (&RawBackend, &Spanned<SocketAddr>)> {
    service.backends.iter().filter_map(|backend| Some((backend, backend.address.as_ref()?)))
}
