//! Whether what is to be announced can be: one address in one way, and one that others can be told of.

use std::{collections::HashMap, net::IpAddr, ops::Range};

use crate::config::{
    decode::{RawAnnounce, RawService},
    diagnostic::Sink,
};

pub(super) fn check(services: &[RawService], sink: &mut Sink<'_, '_>) {
    let mut known: HashMap<IpAddr, (&RawService, &RawAnnounce)> = HashMap::new();
    for service in services {
        let (Some(announce), Some(address)) = (&service.announce, &service.address) else {
            continue;
        };
        check_address(service, address.get_ref().ip(), &address.span(), sink);
        check_number(service, announce, sink);
        let (ip, span) = (address.get_ref().ip(), &announce.span);
        let (first, before) = *known.entry(ip).or_insert((service, announce));
        if !announce.announce.is_alike(&before.announce) {
            let message = format!(
                "{} announces {ip} otherwise than {} does, and an address is announced once",
                service.title(),
                first.title()
            );
            let remedy = "say the same in both, or set enabled = false in one of them";
            sink.error(span, message, remedy);
        }
    }
}

/// Whether a router could be told of the address.
fn check_address(service: &RawService, ip: IpAddr, span: &Range<usize>, sink: &mut Sink<'_, '_>) {
    let local = match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    };
    if local {
        let message =
            format!("{} would announce {ip}, which no router forwards to", service.title());
        let remedy = "use an address that is routed, or set enabled = false in [service.announce]";
        sink.error(span, message, remedy);
    }
}

/// Whether there are as many backends as there must be active ones.
fn check_number(service: &RawService, announce: &RawAnnounce, sink: &mut Sink<'_, '_>) {
    let (least, from) = match announce.announce.min_active {
        Some(least) => (least, "min_active of its announcement"),
        None => (service.availability.min_active, "its min_active"),
    };
    let there = service.backends.len();
    if least as usize > there && there > 0 {
        let message = format!(
            "{} is never announced: {from} is {least}, and it has {there} backends",
            service.title()
        );
        sink.warning(&announce.span, message, "lower it, or add backends");
    }
}
