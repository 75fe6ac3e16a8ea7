//! Kernel parameters of routing that reach the few packets which the program leaves to the kernel.
//!
//! Balanced packets leave by the program itself: neither `rp_filter` nor `ip_forward` sees them. The
//! kernel gets those of no connection, of connections that were cut, ICMP, what has TTL 1, packets to a
//! backend whose neighbour is not known yet, and the daemon's own probes.

use super::{Finding, Level};
use crate::config::{Config, Forwarding};

/// What is set, of each interface that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// By interface.
    pub interfaces: Vec<Parameters>,
}

/// Parameters of an interface, each `None` where it cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// The interface.
    pub name: String,
    /// The larger of its `rp_filter` and that of `all`: 0 off, 1 strict, 2 loose.
    pub rp_filter: Option<u8>,
    /// `net.ipv4.conf.IF.forwarding`.
    pub forwards_v4: Option<bool>,
    /// `net.ipv6.conf.IF.forwarding`.
    pub forwards_v6: Option<bool>,
    /// `accept_local` of it or of `all`.
    pub accept_local: Option<bool>,
    /// `net.ipv6.conf.IF.disable_ipv6`; `None` where the kernel has no IPv6.
    pub no_ipv6: Option<bool>,
}

/// Judges the parameters.
pub fn check(routing: &Routing, config: Option<&Config>) -> Vec<Finding> {
    let mut found = Vec::new();
    let several = routing.interfaces.len() > 1;
    for parameters in &routing.interfaces {
        found.push(rp_filter(parameters, several));
        found.extend(config.and_then(|config| ipv6(parameters, config)));
    }
    found.extend(config.map(|config| forwarding(routing, config)));
    found
}

fn rp_filter(parameters: &Parameters, several: bool) -> Finding {
    let name = &parameters.name;
    let found = |level, message: &str| Finding::new(level, "rp-filter", name, message);
    match parameters.rp_filter {
        None => found(Level::Unseen, "rp_filter"),
        Some(1) if several => {
            let message = "strict: where a client's packets come by one interface and the route back to it \
                           leads by another, the kernel drops in silence what the program leaves to it \
                           (resets of unknown connections, ICMP, the daemon's probes)";
            found(Level::Warning, message).remedy(format!(
                "sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.{name}.rp_filter=2 (loose), in \
                 /etc/sysctl.d to stay"
            ))
        }
        Some(1) => found(Level::Ok, "strict, which does no harm with one interface"),
        Some(0) => found(Level::Ok, "off"),
        Some(_) => found(Level::Ok, "loose"),
    }
}

fn ipv6(parameters: &Parameters, config: &Config) -> Option<Finding> {
    let wanted = config.services.iter().find(|service| {
        service.address.is_ipv6() || service.backends.iter().any(|b| b.address.is_ipv6())
    })?;
    (parameters.no_ipv6 == Some(true)).then(|| {
        let message = format!("IPv6 is disabled there, and service {:?} needs it", wanted.name);
        let remedy = format!("sysctl -w net.ipv6.conf.{}.disable_ipv6=0", parameters.name);
        Finding::new(Level::Problem, "ipv6", &parameters.name, message).remedy(remedy)
    })
}

/// Whether the kernel has to forward, and does.
fn forwarding(routing: &Routing, config: &Config) -> Finding {
    let found = |level, message: String| Finding::new(level, "forwarding", "", message);
    let off = |v4: bool| -> Vec<&str> {
        let of = |p: &Parameters| if v4 { p.forwards_v4 } else { p.forwards_v6 };
        let off = routing.interfaces.iter().filter(|p| of(p) == Some(false));
        off.map(|p| p.name.as_str()).collect()
    };
    // The backends' route leads through this host, and with it all their other traffic.
    let router = config
        .services
        .iter()
        .find(|service| service.forwarding == Forwarding::Nat && !service.snat);
    if let Some(service) = router {
        let v4 = service.address.is_ipv4();
        let off = off(v4);
        if !off.is_empty() {
            let message = format!(
                "service {:?} has snat = false, so its backends' route leads through this host, which does \
                 not forward what is not balanced ({})",
                service.name,
                off.join(", ")
            );
            let key = if v4 { "net.ipv4.ip_forward" } else { "net.ipv6.conf.all.forwarding" };
            let remedy = format!("sysctl -w {key}=1, with a firewall that says what may pass");
            return found(Level::Warning, message).remedy(remedy);
        }
    }
    let v4 = config.services.iter().any(|service| service.address.is_ipv4());
    let v6 = config.services.iter().any(|service| service.address.is_ipv6());
    if (v4 && !off(true).is_empty()) || (v6 && !off(false).is_empty()) {
        let message = "off, and not needed: the program sends packets itself, by next hops that the daemon \
                       keeps; until one is known (the first second) they wait for the client's retransmission";
        return found(Level::Ok, message.to_owned());
    }
    let local = routing.interfaces.iter().any(|p| p.accept_local == Some(true));
    let message = if local {
        "on, with accept_local: the kernel forwards a packet whose next hop is not known yet"
    } else {
        "on; the program asks the kernel's routes where a next hop is not known yet"
    };
    found(Level::Ok, message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(name: &str) -> Parameters {
        Parameters {
            name: name.to_owned(),
            rp_filter: Some(2),
            forwards_v4: Some(true),
            forwards_v6: Some(true),
            accept_local: Some(false),
            no_ipv6: Some(false),
        }
    }

    fn config(service: &str) -> Config {
        crate::doctor::backends::tests::config(service)
    }

    fn bad(interfaces: Vec<Parameters>, service: &str) -> Vec<(Level, &'static str, String)> {
        check(&Routing { interfaces }, Some(&config(service)))
            .into_iter()
            .filter(|finding| finding.level > Level::Note)
            .map(|finding| (finding.level, finding.check, finding.subject))
            .collect()
    }

    #[test]
    fn strict_filters_are_named_where_there_are_two_ways() {
        let strict = || Parameters { rp_filter: Some(1), ..parameters("front") };
        assert_eq!(bad(vec![parameters("front"), parameters("back")], ""), []);
        assert_eq!(bad(vec![strict()], ""), []);
        assert_eq!(
            bad(vec![strict(), parameters("back")], ""),
            [(Level::Warning, "rp-filter", "front".to_owned())]
        );
        let unread = Parameters { rp_filter: None, ..parameters("front") };
        assert_eq!(bad(vec![unread], ""), [(Level::Unseen, "rp-filter", "front".to_owned())]);
    }

    #[test]
    fn forwarding_is_needed_where_backends_route_through_us() {
        let off = || Parameters { forwards_v4: Some(false), ..parameters("front") };
        assert_eq!(bad(vec![off()], ""), []);
        assert_eq!(
            bad(vec![off()], "snat = false"),
            [(Level::Warning, "forwarding", String::new())]
        );
        assert_eq!(bad(vec![parameters("front")], "snat = false"), []);
    }

    #[test]
    fn ipv6_is_needed_where_a_service_has_it() {
        let off = || vec![Parameters { no_ipv6: Some(true), ..parameters("front") }];
        assert_eq!(bad(off(), ""), []);
        let text = crate::doctor::backends::tests::text("", "[2001:db8::10]:80", "[fd00::11]:80");
        let config = Config::parse(&text, std::path::Path::new("test")).unwrap().config;
        let found = check(&Routing { interfaces: off() }, Some(&config));
        assert!(found.iter().any(|f| f.check == "ipv6" && f.level == Level::Problem), "{found:?}");
    }
}
