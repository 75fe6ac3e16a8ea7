//! What only the host can judge: whether interfaces exist and who owns the addresses. The check
//! is pure; reading the facts is apart from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
};

use nix::ifaddrs::getifaddrs;

use super::{AnnounceWay, Diagnostic, Loaded, Position, Severity, decode::nearest};
use crate::netdevice;

/// The interfaces of a host (of a network namespace), each with its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// By name; an interface without addresses is there too.
    pub interfaces: BTreeMap<String, Vec<IpAddr>>,
    /// Bytes of the largest IP packet that an interface takes, by name, where it tells.
    pub mtus: BTreeMap<String, u32>,
}

impl HostFacts {
    /// Reads the facts of the calling thread's network namespace.
    ///
    /// # Errors
    /// What the kernel answered when it was asked.
    pub fn read() -> io::Result<Self> {
        let mut facts = Self::default();
        for entry in getifaddrs()? {
            let addresses = facts.interfaces.entry(entry.interface_name).or_default();
            let Some(address) = entry.address else { continue };
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            let v6 = address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip()));
            addresses.extend(v4.or(v6));
        }
        for name in facts.interfaces.keys() {
            // One that went away meanwhile has none.
            if let Ok(mtu) = netdevice::mtu(name) {
                facts.mtus.insert(name.clone(), mtu);
            }
        }
        Ok(facts)
    }

    /// The same with these interfaces, whether they are there right now or not: those of a data path at
    /// work, which are no mistake in its configuration when they are missing for a while.
    #[must_use]
    pub fn with_interfaces(mut self, names: &[String]) -> Self {
        for name in names {
            self.interfaces.entry(name.clone()).or_default();
        }
        self
    }

    /// Every address that the host has.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.interfaces.values().flatten().copied().collect()
    }

    /// The smallest MTU of those of these interfaces that are there; zero where there is none.
    #[must_use]
    pub fn least_mtu(&self, interfaces: &[String]) -> u32 {
        interfaces.iter().filter_map(|name| self.mtus.get(name).copied()).min().unwrap_or(0)
    }

    fn owns(&self, address: IpAddr) -> bool {
        self.interfaces.values().flatten().any(|own| *own == address)
    }
}

impl Loaded {
    /// Whether the addresses that are put on interfaces can be.
    fn check_announcements(&self, facts: &HostFacts) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        let services = self.config.services.iter().zip(&self.places.announce_interfaces);
        for (service, position) in services {
            let announced = service.announce.as_ref();
            let Some(announce) = announced.filter(|a| a.way == AnnounceWay::Address) else {
                continue;
            };
            let mut say = |severity, message, remedy: String| {
                let (file, position) = (self.file.clone(), Some(*position));
                found.push(Diagnostic { severity, file, position, message, remedy });
            };
            let (name, ip) = (&service.name, service.address.ip());
            let interface = &announce.interface;
            if !facts.interfaces.contains_key(interface) {
                let message = format!(
                    "interface {interface:?}, which the address of service {name:?} is to be put on, \
                     does not exist on this host"
                );
                let remedy = "make it (`ip link add … type dummy`), or name another one".to_owned();
                say(Severity::Error, message, remedy);
            }
            let mut others = facts.interfaces.iter().filter(|(other, _)| *other != interface);
            if let Some((owner, _)) = others.find(|(_, addresses)| addresses.contains(&ip)) {
                let message = format!(
                    "{ip} of service {name:?} is on {owner} already, so it stays announced when it is \
                     withdrawn from {interface}"
                );
                say(Severity::Warning, message, format!("take it off {owner}"));
            }
        }
        found
    }

    /// What `facts` say about this configuration, in the order of the text: errors for interfaces
    /// that do not exist, warnings for addresses that no interface owns.
    #[must_use]
    pub fn check_host(&self, facts: &HostFacts) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        let mut say = |severity, position: &Position, message, remedy| {
            let (file, position) = (self.file.clone(), Some(*position));
            found.push(Diagnostic { severity, file, position, message, remedy });
        };
        for (name, position) in self.config.node.interfaces.iter().zip(&self.places.interfaces) {
            if !facts.interfaces.contains_key(name) {
                let known = facts.interfaces.keys().map(String::as_str);
                let remedy = nearest(name, known.clone()).map_or_else(
                    || format!("this host has {}", known.collect::<Vec<_>>().join(", ")),
                    |near| format!("did you mean {near:?}?"),
                );
                let message = format!("interface {name:?} does not exist on this host");
                say(Severity::Error, position, message, remedy);
            }
        }
        let sources = &self.config.nat.source_addresses;
        for (address, position) in sources.iter().zip(&self.places.source_addresses) {
            if !facts.owns(*address) {
                let message = format!("no interface of this host owns source address {address}");
                let remedy = "add it to the interface towards the backends, or replies get lost";
                say(Severity::Warning, position, message, remedy.to_owned());
            }
        }
        for (service, position) in self.config.services.iter().zip(&self.places.service_addresses) {
            let ip = service.address.ip();
            let owner = facts.interfaces.iter().find(|(_, addresses)| addresses.contains(&ip));
            if service.address.port() == 0
                && let Some((owner, _)) = owner
            {
                let message = format!(
                    "service {:?} takes every {} port of {ip}, which {owner} owns: the host's own \
                     services at that address are out of reach then",
                    service.name, service.protocol
                );
                let remedy = "use an address that nothing else on this host is reached by";
                say(Severity::Warning, position, message, remedy.to_owned());
            }
            if !facts.owns(ip)
                && service.announce.as_ref().is_none_or(|a| a.way != AnnounceWay::Address)
            {
                let message =
                    format!("no interface of this host owns {ip} of service {:?}", service.name);
                let length = if ip.is_ipv4() { 32 } else { 128 };
                let remedy = format!(
                    "add it (`ip address add {ip}/{length} dev …`), or have it routed to this host"
                );
                say(Severity::Warning, position, message, remedy);
            }
        }
        found.extend(self.check_announcements(facts));
        found.sort_by_key(|diagnostic| diagnostic.position);
        found
    }
}
