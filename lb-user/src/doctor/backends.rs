//! The ways to the backends: whether their neighbours answer, by which interface they are reached, and
//! whether the clients' packets fit.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Finding, Level, counted};
use crate::{
    config::{Backend, Config, Forwarding, Service},
    nexthop::{NextHop, Unresolved},
};

/// The least MTU of IPv6 (RFC 8200, section 5).
const LEAST_IPV6: u32 = 1280;

/// The way to an address: the next hop with the name of its interface, or why there is none.
pub type Way = Result<(NextHop, String), Unresolved>;

/// The ways to all backends.
pub type Ways = BTreeMap<IpAddr, Way>;

/// Judges who answers, and where; `interfaces` are those that the program is on.
pub fn check(config: &Config, ways: &Ways, interfaces: &[&str]) -> Vec<Finding> {
    let mut bad = Vec::new();
    let mut good = 0;
    for (service, backend) in backends(config) {
        let subject = format!("{}/{}", service.name, backend.name);
        let address = backend.address.ip();
        match ways.get(&address) {
            None => {
                let message = format!("the way to {address}: the kernel gave no answer in time");
                bad.push(Finding::new(Level::Unseen, "next-hop", subject, message));
            }
            Some(Err(unresolved)) => bad.push(unreachable(subject, address, unresolved)),
            Some(Ok((_, name))) if !interfaces.contains(&name.as_str()) => {
                bad.push(elsewhere(subject, service, name, interfaces));
            }
            Some(Ok(_)) => good += 1,
        }
    }
    if bad.is_empty() && good > 0 {
        let message = format!("the next hops of {} are known", counted(good, "backend"));
        bad.push(Finding::new(Level::Ok, "next-hop", "", message));
    }
    bad
}

fn backends(config: &Config) -> impl Iterator<Item = (&Service, &Backend)> {
    config
        .services
        .iter()
        .flat_map(|service| service.backends.iter().map(move |backend| (service, backend)))
}

fn unreachable(subject: String, address: IpAddr, unresolved: &Unresolved) -> Finding {
    let found = |message| Finding::new(Level::Problem, "next-hop", subject, message);
    // These say what to do after a semicolon.
    let text = unresolved.to_string();
    match text.split_once("; ") {
        Some((what, remedy)) => {
            let message = match unresolved {
                // This one names whom it is about.
                Unresolved::NoNeighbour { gateway, .. } if *gateway == address => what.to_owned(),
                Unresolved::NoNeighbour { .. } => format!("on the way to {address}, {what}"),
                _ => format!("{address}: {what}"),
            };
            found(message).remedy(remedy)
        }
        None => found(format!("{address}: {text}")).remedy(format!("see `ip route get {address}`")),
    }
}

/// By an interface that is not ours replies come in unseen, and packets leave unasked.
fn elsewhere(subject: String, service: &Service, name: &str, interfaces: &[&str]) -> Finding {
    let remedy =
        format!("add {name:?} to [node] interfaces, or route it by {}", interfaces.join(", "));
    if service.forwarding == Forwarding::Nat {
        let message = format!(
            "it is reached by {name}, where the program is not: its replies come back untranslated, and no \
             connection succeeds"
        );
        return Finding::new(Level::Problem, "way-back", subject, message).remedy(remedy);
    }
    let message = format!(
        "it is reached by {name}, where the program is not: some drivers drop what is redirected to an \
         interface without a program"
    );
    Finding::new(Level::Note, "way-back", subject, message).remedy(remedy)
}

/// Judges whether packets of the `largest` size that clients may send here fit the ways to the backends.
pub fn check_mtu(config: &Config, ways: &Ways, largest: u32) -> Vec<Finding> {
    let mut found = Vec::new();
    for service in &config.services {
        let rooms = service.backends.iter().filter_map(|backend| {
            let (hop, name) = ways.get(&backend.address.ip())?.as_ref().ok()?;
            let overhead = overhead(service.forwarding, backend.address.is_ipv6());
            (hop.mtu != 0).then(|| (hop.mtu.saturating_sub(overhead), overhead, name))
        });
        let Some((room, overhead, name)) = rooms.min_by_key(|(room, ..)| *room) else { continue };
        let headers = if overhead == 0 {
            String::new()
        } else {
            format!(" less {overhead} of the tunnel's headers")
        };
        let wanted = largest + overhead;
        if service.address.is_ipv6() && room < LEAST_IPV6 {
            let message = format!(
                "the way by {name} takes packets of {room} bytes{headers}, and an IPv6 client cannot be told less than {LEAST_IPV6}"
            );
            let remedy = format!(
                "give {name}, and the network behind it, an MTU of {} or more",
                LEAST_IPV6 + overhead
            );
            found.push(Finding::new(Level::Problem, "mtu", &service.name, message).remedy(remedy));
        } else if room < largest {
            let message = format!(
                "the way by {name} takes packets of {room} bytes{headers}, and clients may send {largest}: they are told by ICMP, and where a firewall stops that, uploads hang"
            );
            let remedy = format!(
                "give {name}, and the network behind it, an MTU of {wanted} (`ip link set {name} mtu {wanted}`)"
            );
            found.push(Finding::new(Level::Warning, "mtu", &service.name, message).remedy(remedy));
        } else {
            let message = format!("packets of {largest} bytes fit the way to its backends");
            found.push(Finding::new(Level::Ok, "mtu", &service.name, message));
        }
    }
    found
}

/// Bytes that a tunnel's headers take.
fn overhead(forwarding: Forwarding, ipv6: bool) -> u32 {
    let ip = if ipv6 { 40 } else { 20 };
    match forwarding {
        Forwarding::Nat | Forwarding::Dsr => 0,
        Forwarding::Ipip => ip,
        Forwarding::Gue => ip + 8,
    }
}

#[cfg(test)]
pub mod tests {
    use std::path::Path;

    use super::*;

    /// A service with these lines, and one backend.
    pub fn text(lines: &str, service: &str, backend: &str) -> String {
        format!(
            "[node]\ninterfaces = [\"front\"]\n[[service]]\nname = \"web\"\naddress = \"{service}\"\n{lines}\n\
             [[service.backend]]\nname = \"web-01\"\naddress = \"{backend}\"\n"
        )
    }

    /// The same, understood.
    pub fn config(lines: &str) -> Config {
        let text = text(lines, "192.0.2.10:80", "10.0.0.11:80");
        Config::parse(&text, Path::new("test")).unwrap().config
    }

    #[expect(clippy::unnecessary_wraps, reason = "as an answer comes")]
    fn way(mtu: u32) -> Way {
        let hop = NextHop {
            ifindex: 2,
            source_mac: [2; 6],
            destination_mac: [4; 6],
            gateway: "10.0.0.11".parse().unwrap(),
            preferred_source: Some("10.0.0.1".parse().unwrap()),
            mtu,
        };
        Ok((hop, "back".to_owned()))
    }

    fn ways(way: Way) -> Ways {
        Ways::from([("10.0.0.11".parse().unwrap(), way)])
    }

    fn only(found: &[Finding]) -> (Level, &'static str, String) {
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].level < Level::Warning || found[0].remedy.is_some(), "{found:?}");
        (found[0].level, found[0].check, found[0].subject.clone())
    }

    #[test]
    fn who_does_not_answer_is_named() {
        let judge = |lines: &str, way: Way, interfaces: &[&str]| {
            only(&check(&config(lines), &ways(way), interfaces))
        };
        let both = ["front", "back"];
        assert_eq!(judge("", way(1500), &both), (Level::Ok, "next-hop", String::new()));
        let silent = Unresolved::NoNeighbour {
            gateway: "10.0.0.11".parse().unwrap(),
            interface: "back".to_owned(),
        };
        let web = || "web/web-01".to_owned();
        let told = |way: Way| check(&config(""), &ways(way), &both)[0].message.clone();
        assert!(told(Err(silent.clone())).starts_with("10.0.0.11 does not answer on back"));
        assert_eq!(judge("", Err(silent), &both), (Level::Problem, "next-hop", web()));
        let router = Unresolved::NoNeighbour {
            gateway: "10.0.0.1".parse().unwrap(),
            interface: "back".to_owned(),
        };
        let behind = "on the way to 10.0.0.11, 10.0.0.1 does not answer on back";
        assert!(told(Err(router)).starts_with(behind));
        assert_eq!(judge("", Err(Unresolved::InterfaceGone(7)), &both).0, Level::Problem);
        assert_eq!(judge("", way(1500), &["front"]), (Level::Problem, "way-back", web()));
        let dsr = "forwarding = \"dsr\"";
        assert_eq!(judge(dsr, way(1500), &["front"]), (Level::Note, "way-back", web()));
        let found = check(&config(""), &Ways::new(), &both);
        assert_eq!(only(&found), (Level::Unseen, "next-hop", web()));
    }

    #[test]
    fn tunnels_need_room() {
        let judge = |lines: &str, mtu| {
            let found = check_mtu(&config(lines), &ways(way(mtu)), 1500);
            only(&found).0
        };
        assert_eq!(judge("", 1500), Level::Ok);
        assert_eq!(judge("", 1400), Level::Warning);
        assert_eq!(judge("forwarding = \"ipip\"", 1519), Level::Warning);
        assert_eq!(judge("forwarding = \"ipip\"", 1520), Level::Ok);
        assert_eq!(judge("forwarding = \"gue\"", 1527), Level::Warning);
        assert_eq!(judge("forwarding = \"gue\"", 1528), Level::Ok);
    }

    #[test]
    fn ipv6_has_a_least_size() {
        let text = text("forwarding = \"ipip\"", "[2001:db8::10]:80", "10.0.0.11:80");
        let config = Config::parse(&text, Path::new("test")).unwrap().config;
        let judge = |mtu| only(&check_mtu(&config, &ways(way(mtu)), 1280)).0;
        assert_eq!(judge(1299), Level::Problem);
        assert_eq!(judge(1300), Level::Ok);
    }
}
