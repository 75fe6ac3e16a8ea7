//! The rules that need more than one value: uniqueness, families, capacities, and what is legal
//! but dangerous. The text is decoded already; nothing here reads TOML.

mod announce;
mod backends;
mod prefixes;
mod prudence;
mod shares;

use std::{collections::HashMap, hash::Hash, net::IpAddr, ops::Range};

use super::{
    decode::{RawConfig, RawService},
    diagnostic::Sink,
    endpoint::Endpoint,
    prefix::Prefix,
};

/// What one entry of the kernel's table of source addresses holds, of each family.
const MOST_SOURCE_ADDRESSES: usize = 8;
/// The ports that Linux gives its own connections unless it is told otherwise.
const LOCAL_PORTS: Range<u16> = 32_768..61_000;

/// Judges `raw` as a whole.
pub(super) fn check(raw: &RawConfig, sink: &mut Sink<'_, '_>) {
    check_node_and_nat(raw, sink);
    check_tunnel(raw, sink);
    check_capacity(raw, sink);
    prefixes::check(raw, sink);
    check_service_identity(&raw.services, sink);
    announce::check(&raw.services, sink);
    for service in &raw.services {
        backends::check(service, sink);
        backends::check_tiers(service, sink);
        shares::check(service, sink);
        prudence::check(service, &raw.services, sink);
    }
}

fn check_node_and_nat(raw: &RawConfig, sink: &mut Sink<'_, '_>) {
    for Repeat { key: interface, span, first } in
        repeated(raw.interfaces.iter().map(|i| (i.get_ref(), i.span())))
    {
        let message = format!(
            "interface {:?} is listed twice (first on line {})",
            interface,
            sink.line(&first)
        );
        sink.error(&span, message, "list it once");
    }
    let addresses = &raw.source_addresses;
    for Repeat { key: address, span, first } in
        repeated(addresses.iter().map(|a| (a.get_ref(), a.span())))
    {
        let line = sink.line(&first);
        let message = format!("source address {address} is listed twice (first on line {line})");
        sink.error(&span, message, "list it once");
    }
    for (family, member) in
        [("IPv4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool), ("IPv6", IpAddr::is_ipv6)]
    {
        let mut of_family = addresses.iter().filter(|address| member(address.get_ref()));
        let count = of_family.clone().count();
        if let Some(extra) = of_family.nth(MOST_SOURCE_ADDRESSES) {
            let message = format!("source_addresses in [nat] lists {count} {family} addresses");
            let remedy = format!("keep at most {MOST_SOURCE_ADDRESSES} of each family");
            sink.error(&extra.span(), message, remedy);
        }
    }
    if let Some(ports) = &raw.source_ports {
        let range = ports.get_ref();
        if range.low < LOCAL_PORTS.end && range.high >= LOCAL_PORTS.start {
            let message = format!(
                "source_ports {range} overlaps the host's own ports ({}-{})",
                LOCAL_PORTS.start,
                LOCAL_PORTS.end - 1
            );
            let remedy = "stay below them, or keep the host off them with the sysctl \
                          net.ipv4.ip_local_port_range";
            sink.warning(&ports.span(), message, remedy);
        }
    }
}

fn check_tunnel(raw: &RawConfig, sink: &mut Sink<'_, '_>) {
    let is_v4 = |prefix: &Prefix| prefix.address.is_ipv4();
    for (index, prefix) in raw.tunnel_sources.iter().enumerate() {
        let (prefix, span) = (prefix.get_ref(), prefix.span());
        let mut earlier = raw.tunnel_sources.iter().take(index);
        if earlier.any(|earlier| is_v4(earlier.get_ref()) == is_v4(prefix)) {
            let message = format!(
                "source_prefixes in [tunnel] lists a second {} prefix, {prefix}",
                family(prefix.address)
            );
            sink.error(&span, message, "keep at most one of each family");
        } else if prefix.length == Prefix::bits(prefix.address) {
            let message = format!(
                "source prefix {prefix} has no bits that could vary, so a backend's network card \
                 puts every tunnelled packet into one queue"
            );
            sink.warning(&span, message, "use a shorter prefix");
        }
    }
}

fn check_capacity(raw: &RawConfig, sink: &mut Sink<'_, '_>) {
    let services = usize::try_from(raw.tables.services).unwrap_or(usize::MAX);
    if let Some(extra) = raw.services.get(services) {
        let count = raw.services.len();
        let message = format!("there are {count} services, and room for {services}");
        let remedy = format!("remove some, or set services = {count} in [tables]");
        sink.error(&extra.span, message, remedy);
    }
    let backends = usize::try_from(raw.tables.backends).unwrap_or(usize::MAX);
    let mut all = raw.services.iter().flat_map(|service| &service.backends);
    let count = all.clone().count();
    if let Some(extra) = all.nth(backends) {
        let message = format!("there are {count} backends, and room for {backends}");
        let remedy = format!("remove some, or set backends = {count} in [tables]");
        sink.error(&extra.span, message, remedy);
    }
}

fn check_service_identity(services: &[RawService], sink: &mut Sink<'_, '_>) {
    let names = services.iter().filter_map(|s| s.name.as_ref());
    for Repeat { key: name, span, first } in
        repeated(names.map(|name| (name.get_ref(), name.span())))
    {
        let message =
            format!("service name {:?} is used twice (first on line {})", name, sink.line(&first));
        sink.error(&span, message, "give each service a name of its own");
    }
    let addresses = services.iter().filter_map(|service| {
        let address = service.address.as_ref()?;
        Some(((*address.get_ref(), service.protocol), address.span()))
    });
    for Repeat { key: (address, protocol), span, first } in repeated(addresses) {
        let line = sink.line(&first);
        let owner = services
            .iter()
            .find(|s| s.address.as_ref().is_some_and(|a| a.span() == first))
            .map_or_else(String::new, RawService::title);
        let message = format!(
            "address {}/{protocol} belongs to {owner} already (line {line})",
            Endpoint(address)
        );
        sink.error(&span, message, "use another address, port or protocol");
    }
}

/// A key that has come before.
struct Repeat<K> {
    key: K,
    span: Range<usize>,
    first: Range<usize>,
}

fn repeated<K: Copy + Eq + Hash>(items: impl Iterator<Item = (K, Range<usize>)>) -> Vec<Repeat<K>> {
    let mut seen: HashMap<K, Range<usize>> = HashMap::new();
    let mut found = Vec::new();
    for (key, span) in items {
        match seen.get(&key) {
            Some(first) => found.push(Repeat { key, span, first: first.clone() }),
            None => drop(seen.insert(key, span)),
        }
    }
    found
}

/// The name of an address's family.
fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
