//! The configuration with the backends that are discovered: those that the text names, then those of each source.
//! Pure.
//!
//! What the configuration's rules ask of a backend that the text names is held of these, too. Who does not fit is left
//! out, with the reason; an address or a name that is taken goes to whoever came first.

use std::{
    collections::{BTreeSet, HashSet},
    net::{IpAddr, SocketAddr},
};

use super::{Book, Found};
use crate::config::{Backend, Config, Forwarding, Origin, Service, shown};

/// Slots of a hashing table that each backend has at the least, as the configuration's rules ask for.
const LEAST_TABLE_SLOTS: usize = 10;
/// Slots of a ring at the most, and what weights that would make more of them come down to.
const MOST_RING_SLOTS: u64 = 1 << 20;
const LESS_RING_SLOTS: u64 = 1 << 16;

/// `config` with the backends that `book` knows, in the place of those that it has from discovery.
#[must_use]
pub fn merge(config: &Config, book: &Book) -> Config {
    let mut merged = config.clone();
    for (service, own) in merged.services.iter_mut().zip(&config.services) {
        service.backends = backends(config, own, book);
    }
    merged
}

/// The backends of a service: those of the text, then those that `book` knows.
pub(super) fn backends(config: &Config, service: &Service, book: &Book) -> Vec<Backend> {
    let declared = service.backends.iter().filter(|backend| backend.origin.is_none());
    let mut members: Vec<Backend> = declared.cloned().collect();
    if service.discover.is_empty() {
        return members;
    }
    let most = if service.scheduler.hashes() {
        service.table_size as usize / LEAST_TABLE_SLOTS
    } else {
        usize::MAX
    };
    let mut addresses: HashSet<_> =
        members.iter().map(|backend| place(service, backend.address)).collect();
    let mut names: BTreeSet<_> = members.iter().map(|backend| backend.name.clone()).collect();
    let own = names.clone();
    for source in &service.discover {
        let key = (service.name.clone(), source.clone());
        let (fitting, _) = fit(config, service, book.found(&key));
        let mut found = Vec::new();
        for server in fitting {
            let mut name = server.name.clone().unwrap_or_else(|| called(server.address));
            if own.contains(&name) || members.len() + found.len() >= most {
                continue;
            }
            if names.contains(&name) {
                // Of another source, or of the other family's address of the same server.
                name = called(server.address);
            }
            if names.contains(&name) || !addresses.insert(place(service, server.address)) {
                continue;
            }
            names.insert(name.clone());
            found.push(Backend {
                name,
                address: server.address,
                weight: server.weight,
                tier: server.tier,
                max_connections: None,
                capacity: None,
                origin: Some(Origin { source: source.clone(), offer: server.offer }),
            });
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        members.extend(found);
    }
    lighten(service, &mut members);
    members
}

/// The servers of `found` that can be backends of a service, and why each of the others cannot.
pub(super) fn fit(
    config: &Config,
    service: &Service,
    found: &[Found],
) -> (Vec<Found>, Vec<String>) {
    let (mut fitting, mut left_out) = (Vec::with_capacity(found.len()), Vec::new());
    for server in found {
        match fault(config, service, server.address) {
            None => fitting.push(server.clone()),
            Some(fault) => left_out.push(format!("{} {fault}", shown(server.address))),
        }
    }
    (fitting, left_out)
}

/// Why an address cannot be a backend's of this service.
fn fault(config: &Config, service: &Service, address: SocketAddr) -> Option<String> {
    let (ip, port, own) = (address.ip(), address.port(), service.address);
    let forwarding = service.forwarding;
    if !is_of_a_server(ip) {
        return Some("is no address that a server is reached by".to_owned());
    }
    if !forwarding.is_tunnel() && ip.is_ipv4() != own.is_ipv4() {
        return Some("is not of the service's address family".to_owned());
    }
    if forwarding.keeps_packet() {
        if ip == own.ip() {
            return Some("is the service's own address".to_owned());
        }
        if port != 0 && port != own.port() {
            return Some(format!(
                "has another port than the service, and {forwarding} changes none"
            ));
        }
    } else if port == 0 && own.port() != 0 {
        return Some("has no port".to_owned());
    }
    let comes_back = config.services.iter().find(|other| {
        let there = other.address;
        other.protocol == service.protocol
            && there.ip() == ip
            && (there.port() == port || there.port() == 0)
    });
    comes_back.map(|other| format!("is the address of service {:?} here", other.name))
}

fn is_of_a_server(ip: IpAddr) -> bool {
    let wrong = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast();
    !wrong
        && match ip {
            IpAddr::V4(v4) => !v4.is_broadcast() && !v4.is_link_local(),
            // Which interface it is on, nobody says.
            IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none() && !v6.is_unicast_link_local(),
        }
}

/// What no two backends of a service have in common: where ports stay as they are, a backend is its address.
fn place(service: &Service, address: SocketAddr) -> SocketAddr {
    match service.forwarding {
        Forwarding::Nat => address,
        _ => SocketAddr::new(address.ip(), 0),
    }
}

/// The name of a server that nobody has named: no two addresses have the same, and it is the same each time.
fn called(address: SocketAddr) -> String {
    let ip = address.ip().to_string().replace(':', "-");
    // A name begins with a letter or a digit, and `::1` would not.
    let zero = if ip.starts_with('-') { "0" } else { "" };
    match address.port() {
        0 => format!("{zero}{ip}-any"),
        port => format!("{zero}{ip}-{port}"),
    }
}

/// Brings weights down that make more slots than there may be, in their proportion.
fn lighten(service: &Service, members: &mut [Backend]) {
    let weights = || members.iter().map(|backend| u64::from(backend.weight));
    let sum: u64 = weights().sum();
    let least = weights().min().unwrap_or(1).max(1);
    let room = if service.scheduler.hashes() {
        let table = u64::from(service.table_size);
        if sum / least <= table {
            return;
        }
        table / LEAST_TABLE_SLOTS as u64
    } else {
        // With no divisor in common, which is what can happen.
        if sum <= MOST_RING_SLOTS {
            return;
        }
        LESS_RING_SLOTS
    };
    for backend in members {
        let part = (u64::from(backend.weight) * room / sum).max(1);
        backend.weight = u16::try_from(part).unwrap_or(u16::MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, path::Path, time::SystemTime};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::{DiscoverySource, Tier, is_name},
        discovery::Answer,
    };

    fn config(keys: &str, backends: &[(&str, &str)]) -> Config {
        let mut text = format!(
            "[node]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\naddress = \"192.0.2.10:80\"\n\
             discover = [\"dns:web.internal:8080\", \"kubernetes:default/web\"]\n{keys}\n"
        );
        for (name, address) in backends {
            write!(text, "[[service.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n")
                .unwrap();
        }
        Config::parse(&text, Path::new("evenkeel.toml")).unwrap().config
    }

    fn server(address: &str) -> Found {
        Found::at(address.parse().unwrap())
    }

    fn named(name: &str, address: &str) -> Found {
        Found { name: Some(name.to_owned()), ..server(address) }
    }

    /// A book in which the sources have said this.
    fn book(config: &Config, said: &[(usize, &[Found])]) -> Book {
        let mut book = Book::default();
        for (index, found) in said {
            let key = ("web".to_owned(), config.services[0].discover[*index].clone());
            let answer = Answer { found: found.to_vec(), lacks: None };
            book.note(config, &key, Ok(answer), SystemTime::UNIX_EPOCH);
        }
        book
    }

    fn names(config: &Config) -> Vec<&str> {
        config.services[0].backends.iter().map(|backend| backend.name.as_str()).collect()
    }

    #[test]
    fn what_the_text_names_comes_first_and_keeps_its_name_and_address() {
        let config = config("", &[("b", "10.0.0.1:8080"), ("web-9", "10.0.0.99:8080")]);
        let dns = [server("10.0.0.2:8080"), server("10.0.0.1:8080"), server("10.0.0.2:8080")];
        let pods = [
            named("web-2", "10.0.0.7:8080"),
            named("web-1", "10.0.0.8:8080"),
            named("web-9", "10.0.0.5:8080"),
            named("same", "10.0.0.2:8080"),
        ];
        let merged = merge(&config, &book(&config, &[(0, &dns), (1, &pods)]));
        assert_eq!(names(&merged), ["b", "web-9", "10.0.0.2-8080", "web-1", "web-2"]);
        let origins: Vec<_> =
            merged.services[0].backends.iter().map(|b| b.origin.as_ref()).collect();
        assert_eq!(origins[0], None);
        assert_eq!(origins[2].unwrap().source.to_string(), "dns:web.internal:8080");
        // Merged again it is the same, and without a book it is the text's.
        assert_eq!(merge(&merged, &book(&config, &[(0, &dns), (1, &pods)])), merged);
        assert_eq!(merge(&merged, &Book::default()), config);
    }

    #[test]
    fn two_servers_of_one_name_are_both_there() {
        let config = config("", &[]);
        let (one, other) = ([named("web-0", "10.0.0.1:80")], [named("web-0", "10.0.0.2:80")]);
        let merged = merge(&config, &book(&config, &[(0, &one), (1, &other)]));
        assert_eq!(names(&merged), ["web-0", "10.0.0.2-80"]);
    }

    #[test]
    fn who_cannot_be_a_backend_is_left_out_with_the_reason() {
        for (keys, address, says) in [
            ("", "127.0.0.1:80", "no address"),
            ("", "0.0.0.0:80", "no address"),
            ("", "169.254.1.1:80", "no address"),
            ("", "[2001:db8::1]:80", "family"),
            ("", "192.0.2.10:80", "\"web\""),
            ("", "10.0.0.1:0", "no port"),
            ("forwarding = \"ipip\"", "10.0.0.1:8080", "port"),
            ("forwarding = \"dsr\"", "192.0.2.10:80", "own address"),
        ] {
            let config = config(keys, &[]);
            let (fitting, left_out) = fit(&config, &config.services[0], &[server(address)]);
            assert_eq!(fitting, [], "{keys} {address}");
            assert!(left_out[0].contains(says), "{keys} {address}: {left_out:?}");
        }
        for (keys, address) in [
            ("", "192.0.2.10:8080"),
            ("forwarding = \"ipip\"", "[2001:db8::1]:80"),
            ("forwarding = \"dsr\"", "10.0.0.1:0"),
        ] {
            let config = config(keys, &[]);
            let (fitting, left_out) = fit(&config, &config.services[0], &[server(address)]);
            assert_eq!((fitting.len(), left_out.len()), (1, 0), "{keys} {address}");
        }
    }

    #[test]
    fn a_table_has_room_for_who_is_in_it() {
        let config = config("scheduler = \"maglev\"\ntable_size = 31", &[]);
        let many: Vec<_> = (1..=9).map(|host| server(&format!("10.0.0.{host}:80"))).collect();
        let merged = merge(&config, &book(&config, &[(0, &many)]));
        assert_eq!(merged.services[0].backends.len(), 3);
    }

    fn servers() -> impl Strategy<Value = Vec<Found>> {
        let name = prop::option::of("[a-c]");
        let one = (0_u8..24, 1_u16..4, name, 1_u16.., any::<bool>(), any::<bool>());
        prop::collection::vec(one, 0..40).prop_map(|all| {
            let one = |(host, port, name, weight, v6, backup)| {
                let address = if v6 {
                    format!("[2001:db8::{host}]:{port}")
                } else {
                    format!("10.0.0.{host}:{port}")
                };
                let tier = if backup { Tier::Backup } else { Tier::Primary };
                Found { name, weight, tier, ..server(&address) }
            };
            all.into_iter().map(one).collect()
        })
    }

    proptest! {
        /// Whatever sources say, in whatever order: what comes of it is what the text could have named.
        #[test]
        fn what_is_merged_keeps_the_rules(
            mut dns in servers(), pods in servers(), seed in any::<u64>(), hashes in any::<bool>(),
        ) {
            let keys = if hashes { "scheduler = \"maglev\"" } else { "" };
            let config = config(keys, &[("a", "10.0.0.1:1"), ("z", "10.0.0.2:2")]);
            let merged = merge(&config, &book(&config, &[(0, &dns), (1, &pods)]));
            let backends = &merged.services[0].backends;
            let mut names = BTreeSet::new();
            let mut addresses = BTreeSet::new();
            for backend in backends {
                prop_assert!(is_name(&backend.name), "{}", backend.name);
                prop_assert!(names.insert(&backend.name), "{} twice", backend.name);
                prop_assert!(addresses.insert(backend.address), "{} twice", backend.address);
                prop_assert!(backend.address.is_ipv4() && backend.weight > 0);
            }
            let sum: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
            prop_assert!(sum <= MOST_RING_SLOTS);
            prop_assert_eq!(&backends[0].name, "a");
            prop_assert_eq!(&backends[1].name, "z");
            fastrand::Rng::with_seed(seed).shuffle(&mut dns);
            let shuffled = merge(&config, &book(&config, &[(0, &dns), (1, &pods)]));
            let order = |config: &Config| -> Vec<(String, SocketAddr)> {
                let backends = config.services[0].backends.iter();
                backends.map(|backend| (backend.name.clone(), backend.address)).collect()
            };
            prop_assert_eq!(order(&shuffled), order(&merged), "the order of an answer means nothing");
        }

        /// A drain is by the name: it has to be the server's for good.
        #[test]
        fn no_two_addresses_are_called_the_same(
            one in any::<(SocketAddr, u16)>(), other in any::<(SocketAddr, u16)>(),
        ) {
            let plain = |(mut address, port): (SocketAddr, u16)| {
                address.set_port(port);
                SocketAddr::new(address.ip(), address.port())
            };
            let (one, other) = (plain(one), plain(other));
            prop_assert!(is_name(&called(one)), "{}", called(one));
            prop_assert_eq!(called(one) == called(other), one == other);
        }
    }

    #[test]
    fn a_source_is_known_by_its_text() {
        let source: DiscoverySource = "dns:web.internal:8080".parse().unwrap();
        let config = config("", &[]);
        assert_eq!(config.services[0].discover[0], source);
    }
}
