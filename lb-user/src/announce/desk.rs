//! The desk that the controller hands its facts to: a gate for each address that services are to be announced
//! at, and what follows for whoever carries it out.
//!
//! An address that several services have is announced while *any* of them is well. All edges see the same
//! backends: held to all of them, the failure of one service's backends would withdraw the others'
//! address everywhere. Who wants it otherwise has the lesser services not count (`enabled = false`), or
//! gives each an address of its own.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::gate::{Fitness, Gate, Timing};
use crate::config::{Announce, Config};

/// What the node and a service are like.
#[derive(Clone, Debug, Default)]
pub struct View<'a> {
    /// Why no service is to be announced, in people's words: the node is being drained.
    pub unwanted: Option<String>,
    /// What is wrong with the node; empty: nothing.
    pub problems: Vec<String>,
    /// Active backends of each service.
    pub active: BTreeMap<&'a str, usize>,
}

/// What is to be done about an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The address.
    pub address: IpAddr,
    /// How it is announced.
    pub announce: Announce,
    /// The services that have it.
    pub services: Vec<String>,
    /// Whether it shall be announced.
    pub announced: bool,
    /// Why, or why not.
    pub why: String,
}

/// An address that is announced now, or is not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The address.
    pub address: IpAddr,
    /// The services that have it.
    pub services: Vec<String>,
    /// Whether it is announced now.
    pub announced: bool,
    /// Why.
    pub why: String,
}

/// The gates of a daemon.
#[derive(Debug, Default)]
pub struct Desk {
    gates: BTreeMap<IpAddr, (Gate, Instant)>,
    orders: Vec<Order>,
    due: Option<Instant>,
}

impl Desk {
    /// Takes up what a look saw, and tells what turned. `left`: the addresses that a daemon before this one
    /// left announced.
    pub fn note(
        &mut self,
        config: &Config,
        view: &View<'_>,
        left: &[IpAddr],
        now: Instant,
    ) -> Vec<Turn> {
        let mut addresses: BTreeMap<IpAddr, (&Announce, Vec<String>, Vec<String>)> =
            BTreeMap::new();
        for service in &config.services {
            let Some(announce) = &service.announce else { continue };
            let of = addresses.entry(service.address.ip());
            let (_, services, short) = of.or_insert_with(|| (announce, Vec::new(), Vec::new()));
            services.push(service.name.clone());
            let least = announce.min_active.unwrap_or(service.availability.min_active);
            let active = view.active.get(service.name.as_str()).copied().unwrap_or(0);
            if active < least as usize {
                short.push(format!("{} has {active} of {least} active backends", service.name));
            }
        }
        self.gates.retain(|address, _| addresses.contains_key(address));
        let (mut orders, mut turns) = (Vec::new(), Vec::new());
        self.due = None;
        for (address, (announce, services, short)) in addresses {
            let (fitness, mut why) = judge(view, &services, &short);
            let fresh = || (Gate::new(left.contains(&address)), now);
            let (gate, since) = self.gates.entry(address).or_insert_with(fresh);
            let timing = Timing {
                announce_after: announce.announce_after,
                withdraw_after: announce.withdraw_after,
            };
            if gate.note(fitness, timing, now) {
                *since = now;
                turns.push(Turn {
                    address,
                    services: services.clone(),
                    announced: gate.is_announced(),
                    why: why.clone(),
                });
            }
            self.due = self.due.into_iter().chain(gate.due(timing)).min();
            if let Some(wait) = gate.waits(timing, now) {
                let wait = Duration::from_secs(wait.as_secs() + 1);
                why = format!("well, announced in {}", humantime::format_duration(wait));
            }
            orders.push(Order {
                address,
                announce: announce.clone(),
                services,
                announced: gate.is_announced(),
                why,
            });
        }
        self.orders = orders;
        turns
    }

    /// When a gate turns, if all stays as it is.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is to be done.
    #[must_use]
    pub fn orders(&self) -> &[Order] {
        &self.orders
    }

    /// Since when an address is announced, or not.
    #[must_use]
    pub fn since(&self, address: IpAddr) -> Option<Instant> {
        self.gates.get(&address).map(|(_, since)| *since)
    }
}

/// Whether traffic for an address may come here, and why. `short`: what is wrong with those of its services
/// that have too few backends.
fn judge(view: &View<'_>, services: &[String], short: &[String]) -> (Fitness, String) {
    if let Some(why) = &view.unwanted {
        return (Fitness::Unwanted, why.clone());
    }
    if !view.problems.is_empty() {
        return (Fitness::Unwell, view.problems.join("; "));
    }
    if short.len() == services.len() {
        return (Fitness::Unwell, short.join("; "));
    }
    if short.is_empty() {
        return (Fitness::Well, "backends and node are well".to_owned());
    }
    (Fitness::Well, format!("well, though {}", short.join("; ")))
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, path::Path};

    use super::*;

    fn config(announce: &str) -> Config {
        let mut text = format!("[node]\ninterfaces = [\"eth0\"]\n{announce}\n");
        for (name, address) in
            [("web", "192.0.2.10:80"), ("tls", "192.0.2.10:443"), ("dns", "192.0.2.53:53")]
        {
            write!(
                text,
                "[[service]]\nname = \"{name}\"\naddress = \"{address}\"\nmin_active = 2\n\
                 [[service.backend]]\nname = \"a\"\naddress = \"10.0.0.1:80\"\n\
                 [[service.backend]]\nname = \"b\"\naddress = \"10.0.0.2:80\"\n"
            )
            .unwrap();
        }
        Config::parse(&text, Path::new("evenkeel.toml")).unwrap().config
    }

    fn view(web: usize, tls: usize, dns: usize) -> View<'static> {
        View { active: [("web", web), ("tls", tls), ("dns", dns)].into(), ..View::default() }
    }

    fn turned(turns: &[Turn]) -> Vec<(String, bool)> {
        turns.iter().map(|turn| (turn.address.to_string(), turn.announced)).collect()
    }

    #[test]
    fn any_service_of_an_address_keeps_it_announced() {
        let config = config("[announce]\nannounce_after = \"0s\"");
        let (mut desk, now) = (Desk::default(), Instant::now());
        let both = [("192.0.2.10".to_owned(), true), ("192.0.2.53".to_owned(), true)];
        assert_eq!(turned(&desk.note(&config, &view(2, 2, 2), &[], now)), both);
        assert_eq!(desk.note(&config, &view(1, 2, 2), &[], now), []);
        assert!(desk.orders()[0].why.contains("web has 1 of 2 active backends"));
        let turns = desk.note(&config, &view(1, 0, 2), &[], now);
        assert_eq!(turned(&turns), [("192.0.2.10".to_owned(), false)]);
        assert_eq!(turns[0].why, "web has 1 of 2 active backends; tls has 0 of 2 active backends");
        assert_eq!(desk.orders()[0].services, ["web", "tls"]);
    }

    #[test]
    fn nothing_is_announced_by_a_node_that_is_drained_or_ill() {
        let config =
            config("[announce]\nannounce_after = \"0s\"\nmin_active = 1\nwithdraw_after = \"5s\"");
        let (mut desk, now) = (Desk::default(), Instant::now());
        assert_eq!(desk.note(&config, &view(1, 1, 0), &[], now).len(), 1);
        let ill = View { problems: vec!["interface eth0 is missing".into()], ..view(1, 1, 1) };
        assert_eq!(desk.note(&config, &ill, &[], now), []);
        let turns = desk.note(&config, &ill, &[], now + Duration::from_secs(5));
        assert_eq!((turns.len(), turns[0].why.as_str()), (1, "interface eth0 is missing"));
        assert_eq!(desk.note(&config, &view(1, 1, 1), &[], now + Duration::from_secs(6)).len(), 2);
        let drained = View { unwanted: Some("drained: upgrade".into()), ..view(1, 1, 1) };
        let turns = desk.note(&config, &drained, &[], now + Duration::from_secs(6));
        assert!(turns.len() == 2 && turns.iter().all(|turn| turn.why == "drained: upgrade"));
    }

    #[test]
    fn what_was_left_announced_stays_if_all_is_well() {
        let config = config("[announce]");
        let left = ["192.0.2.10".parse().unwrap(), "192.0.2.53".parse().unwrap()];
        let (mut desk, now) = (Desk::default(), Instant::now());
        let turns = desk.note(&config, &view(2, 2, 0), &left, now);
        assert_eq!(turned(&turns), [("192.0.2.53".to_owned(), false)]);
        assert!(desk.orders()[0].announced && !desk.orders()[1].announced);
        let none = self::config("");
        assert_eq!(desk.note(&none, &view(2, 2, 2), &left, now), []);
        assert_eq!(desk.orders(), []);
    }
}
