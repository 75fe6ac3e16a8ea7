//! Ports: those that NAT gives to balanced connections must not be the host's own.
//!
//! A reply is told by the backend's address and port and ours. Where the host itself has a connection to
//! the same backend from the same port, its replies go to a client, and the client's to it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use super::{Finding, Level};
use crate::config::{Config, Forwarding, Nat, PortRange};

/// What is known of the host's own ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// `net.ipv4.ip_local_port_range`, which IPv6 has, too.
    pub ephemeral: Option<(u16, u16)>,
    /// `net.ipv4.ip_local_reserved_ports`: ranges that are never given out.
    pub reserved: Vec<(u16, u16)>,
    /// The addresses that the host's own connections to the backends have.
    pub own: BTreeSet<IpAddr>,
    /// Sockets that wait for anybody.
    pub listening: Vec<(Transport, SocketAddr)>,
    /// Connected TCP sockets: ours and the other end.
    pub connected: Vec<(SocketAddr, SocketAddr)>,
}

/// A transport protocol, as sockets have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Judges the ports.
pub fn check(ports: &Ports, config: Option<&Config>) -> Vec<Finding> {
    let default = Nat { source_addresses: Vec::new(), source_ports: PortRange::default() };
    let nat = config.map_or(&default, |config| &config.nat);
    let translates =
        |config: &Config| config.services.iter().any(|s| s.forwarding == Forwarding::Nat && s.snat);
    if config.is_some_and(|config| !translates(config)) {
        let message = "no service puts an address of this host in the place of the client's";
        return vec![Finding::new(Level::Ok, "source-ports", "", message)];
    }
    // Where no address is named, packets have the one that the host's own have.
    let shared = nat.source_addresses.is_empty()
        || nat.source_addresses.iter().any(|address| ports.own.contains(address));
    let mut found = vec![ephemeral(ports, nat, shared)];
    found.extend(config.and_then(|config| connected(ports, config, shared)));
    found.extend(listening(ports, nat));
    found
}

fn ephemeral(ports: &Ports, nat: &Nat, shared: bool) -> Finding {
    let range = nat.source_ports;
    let found = |level, message| Finding::new(level, "source-ports", range.to_string(), message);
    let Some((low, high)) = ports.ephemeral else {
        return found(Level::Unseen, "the host's own range (ip_local_port_range)".to_owned());
    };
    let (from, to) = (range.low.max(low), range.high.min(high));
    let clashing = (from..=to)
        .filter(|port| !ports.reserved.iter().any(|(low, high)| (low..=high).contains(&port)))
        .count();
    if clashing == 0 {
        let message = format!("NAT's ports are apart from the host's own ({low}-{high})");
        return found(Level::Ok, message);
    }
    let message = format!("{clashing} of NAT's ports are also the host's own ({low}-{high})");
    if shared {
        let message = format!(
            "{message}: a connection of the host to a backend and a client's get each other's packets"
        );
        found(Level::Problem, message).remedy(format!(
            "[nat] source_ports below {low}; or `sysctl -w net.ipv4.ip_local_reserved_ports={range}`, in \
             /etc/sysctl.d to stay"
        ))
    } else {
        found(
            Level::Note,
            format!("{message}, but not its addresses: [nat] source_addresses are others"),
        )
    }
}

/// Connections of the host that clash right now.
fn connected(ports: &Ports, config: &Config, shared: bool) -> Option<Finding> {
    if !shared {
        return None;
    }
    let range = config.nat.source_ports;
    let backends: BTreeSet<SocketAddr> = config
        .services
        .iter()
        .filter(|service| service.forwarding == Forwarding::Nat && service.snat)
        .flat_map(|service| service.backends.iter().map(|backend| backend.address))
        .collect();
    let clash = ports.connected.iter().find(|(own, other)| {
        (range.low..=range.high).contains(&own.port()) && backends.contains(other)
    })?;
    let message = format!(
        "the host has a connection from {} to the backend at {}: a client's may get the same port",
        clash.0, clash.1
    );
    Some(
        Finding::new(Level::Warning, "own-connections", range.to_string(), message)
            .remedy("have the program behind it take a port outside of the range"),
    )
}

/// A server's socket is in the way only where a backend calls it from its own server's port.
fn listening(ports: &Ports, nat: &Nat) -> Option<Finding> {
    let range = nat.source_ports;
    let on_source = |address: &IpAddr| {
        address.is_unspecified()
            || ports.own.contains(address)
            || nat.source_addresses.contains(address)
    };
    let within: BTreeSet<String> = ports
        .listening
        .iter()
        .filter(|(_, own)| (range.low..=range.high).contains(&own.port()) && on_source(&own.ip()))
        .map(|(transport, own)| match transport {
            Transport::Tcp => format!("{}/tcp", own.port()),
            Transport::Udp => format!("{}/udp", own.port()),
        })
        .collect();
    if within.is_empty() {
        return None;
    }
    let list: Vec<_> = within.iter().take(8).cloned().collect();
    let more = if within.len() > list.len() { ", …" } else { "" };
    let message = format!(
        "servers of this host listen on {}{more}: harmless, unless a backend calls them from the very port \
         that it serves (as some cluster protocols do)",
        list.join(", ")
    );
    Some(
        Finding::new(Level::Note, "listening", range.to_string(), message)
            .remedy("in that case leave their ports out of [nat] source_ports"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::backends::tests::config;

    fn ports() -> Ports {
        Ports {
            ephemeral: Some((32768, 60999)),
            own: ["10.0.0.1".parse().unwrap()].into(),
            ..Ports::default()
        }
    }

    fn with_nat(nat: &str) -> Config {
        let text = crate::doctor::backends::tests::text("", "192.0.2.10:80", "10.0.0.11:80");
        let text = format!("[nat]\n{nat}\n{text}");
        Config::parse(&text, std::path::Path::new("test")).unwrap().config
    }

    fn levels(ports: &Ports, config: Option<&Config>) -> Vec<(Level, &'static str)> {
        check(ports, config).iter().map(|finding| (finding.level, finding.check)).collect()
    }

    #[test]
    fn ranges_clash_where_they_overlap() {
        let wide = with_nat("source_ports = \"30000-33000\"");
        assert_eq!(levels(&ports(), None), [(Level::Ok, "source-ports")]);
        assert_eq!(levels(&ports(), Some(&config(""))), [(Level::Ok, "source-ports")]);
        assert_eq!(levels(&ports(), Some(&wide)), [(Level::Problem, "source-ports")]);
        let message = &check(&ports(), Some(&wide))[0].message;
        assert!(message.starts_with("233 of"), "{message}");
        let reserved = Ports { reserved: vec![(32768, 33000)], ..ports() };
        assert_eq!(levels(&reserved, Some(&wide)), [(Level::Ok, "source-ports")]);
        let others = with_nat("source_ports = \"30000-33000\"\nsource_addresses = [\"10.0.0.2\"]");
        assert_eq!(levels(&ports(), Some(&others)), [(Level::Note, "source-ports")]);
        let same = with_nat("source_ports = \"30000-33000\"\nsource_addresses = [\"10.0.0.1\"]");
        assert_eq!(levels(&ports(), Some(&same)), [(Level::Problem, "source-ports")]);
        let transparent = config("snat = false");
        let clash = Ports { ephemeral: Some((1024, 60999)), ..ports() };
        assert_eq!(levels(&clash, Some(&transparent)), [(Level::Ok, "source-ports")]);
        assert_eq!(levels(&Ports::default(), None), [(Level::Unseen, "source-ports")]);
    }

    #[test]
    fn the_hosts_own_sockets_are_named() {
        let to = |from: &str, to: &str| Ports {
            connected: vec![(from.parse().unwrap(), to.parse().unwrap())],
            ..ports()
        };
        let clash = to("10.0.0.1:2000", "10.0.0.11:80");
        let config = config("");
        assert!(levels(&clash, Some(&config)).contains(&(Level::Warning, "own-connections")));
        for apart in [to("10.0.0.1:40000", "10.0.0.11:80"), to("10.0.0.1:2000", "10.0.0.11:81")] {
            assert_eq!(levels(&apart, Some(&config)).len(), 1);
        }
        let server = |own: &str| Ports {
            listening: vec![(Transport::Udp, own.parse().unwrap())],
            ..ports()
        };
        for (own, noted) in [
            ("0.0.0.0:5405", true),
            ("10.0.0.1:5405", true),
            ("127.0.0.1:5405", false),
            ("0.0.0.0:53", false),
        ] {
            let found = levels(&server(own), Some(&config));
            assert_eq!(found.contains(&(Level::Note, "listening")), noted, "{own}");
        }
    }
}
