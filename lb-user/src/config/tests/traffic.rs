//! Schedulers, forwarding modes, every port, timeouts, tables and tunnels.

use std::time::Duration;

use super::{invalid::assert_error, parse, with};
use crate::config::{
    Config, Endpoint, Forwarding, HostFacts, Overload, Prefix, Scheduler, Service, Tables,
    Timeouts, Tunnel, shown,
};

fn config(text: &str) -> Config {
    parse(text).unwrap().config
}

fn service(lines: &str) -> Service {
    config(&with(lines, "")).services.pop().unwrap()
}

/// The service `web` on every port, its backends too.
fn every_port(service: &str) -> String {
    with(service, "").replace(":80\"", ":*\"")
}

#[test]
fn schedulers() {
    for (name, scheduler) in [
        ("round-robin", Scheduler::RoundRobin),
        ("least-connections", Scheduler::LeastConnections),
        ("maglev", Scheduler::Maglev),
        ("source-hash", Scheduler::SourceHash),
        ("random", Scheduler::Random),
    ] {
        let service = service(&format!("scheduler = \"{name}\""));
        assert_eq!((service.scheduler, service.table_size), (scheduler, 65_537));
    }
    for size in [23, 1_048_573] {
        let lines = format!("scheduler = \"maglev\"\ntable_size = {size}");
        assert_eq!(service(&lines).table_size, size);
    }
}

#[test]
fn table_sizes() {
    for (lines, fragments) in [
        (
            "scheduler='maglev'\ntable_size = 65536",
            &["is 65536, which is not a prime", "use 65537"],
        ),
        ("scheduler='maglev'\ntable_size = 1048572", &["not a prime", "use 1048573"]),
        ("scheduler='maglev'\ntable_size = 1048574", &["out of range", "use 2 to 1048573"]),
        ("scheduler='maglev'\ntable_size = 19", &["too small for 2 backends", "at least 20"]),
        (
            "scheduler='random'\ntable_size = 23",
            &["means nothing to the scheduler random", "maglev"],
        ),
    ] {
        assert_error(&with(lines, ""), 7, fragments);
    }
    let text = with("scheduler='source-hash'\ntable_size = 23", "weight = 30");
    let fragments = ["leave backend \"web-01\" less than one of the 23 slots", "closer together"];
    assert_error(&text, 7, &fragments);
    // Weights that make no ring make a table.
    let heavy = with("scheduler='maglev'", "weight = 65535");
    assert!(parse(&heavy).is_ok());
    // A scheduler that is wrong says nothing about its table.
    assert_error(
        &with("scheduler='maglov'\ntable_size = 23", ""),
        6,
        &["did you mean \"maglev\"?"],
    );
}

#[test]
fn forwarding_modes() {
    let nat = service("");
    assert_eq!((nat.forwarding, nat.snat, nat.gue_port), (Forwarding::Nat, true, 6080));
    assert_eq!((nat.overload, nat.sticky), (Overload::Reject, None));
    assert!(!service("snat = false").snat);
    let gue = service("forwarding = \"gue\"\ngue_port = 6081\noverload = \"drop\"");
    assert_eq!((gue.forwarding, gue.gue_port), (Forwarding::Gue, 6081));
    assert_eq!(gue.overload, Overload::Drop);
    for (lines, fragments) in [
        ("snat = 0\nforwarding='nat'", &["must be true or false, not an integer"][..]),
        ("snat = true\nforwarding='dsr'", &["means nothing to the forwarding mode dsr"]),
        ("gue_port = 1\nforwarding='ipip'", &["gue_port", "set forwarding = \"gue\""]),
        ("gue_port = 0\nforwarding='gue'", &["use 1 to 65535"]),
        ("overload = \"refuse\"", &["use reject or drop"]),
    ] {
        assert_error(&with(lines, ""), 6, fragments);
    }
}

#[test]
fn backends_that_get_packets_as_they_are() {
    for mode in ["dsr", "ipip", "gue"] {
        let text = with(&format!("forwarding = \"{mode}\""), "");
        let backends = config(&text.replace("12:80", "12:*")).services.pop().unwrap().backends;
        assert_eq!(backends.iter().map(|b| b.address.port()).collect::<Vec<_>>(), [80, 0]);
        let message = format!(
            "backend \"web-02\" is on port 8080 and service \"web\" on port 80, and {mode} does not \
             change ports"
        );
        let remedy = "write \"10.0.0.12:80\" or \"10.0.0.12:*\", or set forwarding = \"nat\"";
        assert_error(&text.replace("12:80", "12:8080"), 12, &[&message, remedy]);
        let twice = text.replace("10.0.0.12:80", "10.0.0.11:*");
        assert_error(&twice, 12, &["backend address 10.0.0.11 is used twice"]);
        let own = text.replace("10.0.0.12:80", "192.0.2.10:80");
        assert_error(&own, 12, &["has the address of service \"web\" itself", "loopback"]);
        let other = text.replace("10.0.0.12:80", "[2001:db8::12]:80");
        if mode == "dsr" {
            assert_error(&other, 12, &["is IPv6 and service \"web\" is IPv4", "\"ipip\" or"]);
        } else {
            assert!(parse(&other).is_ok(), "{mode}");
        }
    }
}

#[test]
fn every_port_of_an_address() {
    let loaded = parse(&every_port("")).unwrap();
    let service = &loaded.config.services[0];
    assert_eq!(shown(service.address), "192.0.2.10:*");
    assert_eq!(shown(service.backends[0].address), "10.0.0.11:*");
    let json = serde_json::to_value(service).unwrap();
    assert_eq!(json["address"], "192.0.2.10:*");
    assert_eq!(json["backends"][1]["address"], "10.0.0.12:*");
    // NAT may put all ports onto one.
    assert!(parse(&every_port("").replace("10.0.0.12:*", "10.0.0.12:8080")).is_ok());
    let mixed = every_port("forwarding = 'dsr'").replace("10.0.0.12:*", "10.0.0.12:8080");
    assert_error(&mixed, 12, &["service \"web\" on every port", "write \"10.0.0.12:*\", or set"]);
    let keeps = with("", "").replace("10.0.0.12:80", "10.0.0.12:*");
    assert_error(&keeps, 12, &["on every port and service \"web\" on one", "\"10.0.0.12:80\""]);
    // The exact service stands beside it; a second one on every port does not.
    let exact = "[[service]]\nname = \"b\"\naddress = \"192.0.2.10:80\"";
    let text = format!("{}{exact}", every_port(""));
    assert_eq!(config(&text).services.len(), 2);
    let message = "address 192.0.2.10:*/tcp belongs to service \"web\" already";
    assert_error(&text.replace("192.0.2.10:80", "192.0.2.10:*"), 16, &[message]);
    assert_error(&every_port("").replace("10:*", "10:0"), 5, &["or * for every port"]);
}

#[test]
fn every_port_has_no_port_to_probe() {
    let text = every_port("[service.health]\nkind = \"tcp\"");
    let message = "the probe of service \"web\" has no port to go to at backend \"web-01\"";
    assert_error(&text, 3, &[message, "set port in [service.health]"]);
    let service = &config(&text.replace("\"tcp\"", "\"tcp\"\nport = 22")).services[0];
    assert_eq!(service.probe_target(&service.backends[0]), "10.0.0.11:22".parse().unwrap());
    let dsr = with("forwarding='dsr'\n[service.health]\nkind = \"tcp\"", "");
    let service = &config(&dsr.replace("11:80", "11:*")).services[0];
    assert_eq!(service.probe_target(&service.backends[0]), "10.0.0.11:80".parse().unwrap());
}

#[test]
fn every_port_of_the_host_warns() {
    let facts = HostFacts {
        interfaces: [("eth0".to_owned(), vec!["192.0.2.10".parse().unwrap()])].into(),
        ..HostFacts::default()
    };
    let found = parse(&every_port("")).unwrap().check_host(&facts);
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().contains("takes every tcp port of 192.0.2.10, which eth0 owns"));
    assert_eq!(parse(&with("", "")).unwrap().check_host(&facts), []);
}

#[test]
fn endpoints() {
    for text in ["192.0.2.10:80", "192.0.2.10:*", "[2001:db8::1]:443", "[2001:db8::1]:*"] {
        assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
    }
    assert_eq!(format!("{:>14}|", "192.0.2.1:*".parse::<Endpoint>().unwrap()), "   192.0.2.1:*|");
    for (text, fragment) in [
        ("192.0.2.10:0", "write * for every port"),
        ("192.0.2.10", "is not an address with a port"),
        ("2001:db8::1:*", "is not an address with a port"),
        ("[192.0.2.10]:*", "is not an address with a port"),
        ("*:80", "is not an address with a port"),
    ] {
        let error = text.parse::<Endpoint>().unwrap_err().to_string();
        assert!(error.contains(fragment), "{error}");
    }
}

#[test]
fn timeouts_and_affinity() {
    let minutes = Duration::from_mins;
    let default = Timeouts {
        syn: minutes(1),
        established: minutes(124),
        closing: minutes(4),
        udp: Duration::from_secs(30),
    };
    assert_eq!(service("").timeouts, default);
    let some = service("sticky = \"10m\"\n[service.timeouts]\nsyn = \"5s\"\nudp = \"2m\"");
    let timeouts = Timeouts { syn: Duration::from_secs(5), udp: minutes(2), ..default };
    assert_eq!((some.timeouts, some.sticky), (timeouts, Some(minutes(10))));
    let json = serde_json::to_value(&some).unwrap();
    assert_eq!(
        (&json["timeouts"]["established"], &json["sticky"]),
        (&"2h 4m".into(), &"10m".into())
    );
    for (lines, line, fragments) in [
        ("sticky = \"500ms\"", 6, &["sticky of service \"web\"", "use 1s to 30days"][..]),
        ("sticky = \"31d\"", 6, &["out of range"]),
        ("sticky = 600", 6, &["must be a duration in quotes"]),
        (
            "[service.timeouts]\nsyn = \"0s\"",
            7,
            &["syn of the timeouts of service", "use 1s to 1h"],
        ),
        ("[service.timeouts]\nestablishd = \"1h\"", 7, &["did you mean \"established\"?"]),
        ("timeouts = 1", 6, &["[service.timeouts] must be a table"]),
    ] {
        assert_error(&with(lines, ""), line, fragments);
    }
}

#[test]
fn tables() {
    let text = "unconfirmed = 1024\nclients = 2\nfragments = 3\nprefixes = 4";
    let tables = config(&with("", &format!("[tables]\n{text}"))).tables;
    let wanted =
        Tables { unconfirmed: 1024, clients: 2, fragments: 3, prefixes: 4, ..Tables::default() };
    assert_eq!(tables, wanted);
    for (line, fragments) in [
        ("unconfirmed = 100000", &["is 100000, which is not a power of two; use 131072"][..]),
        ("unconfirmed = 33554432", &["use 1 to 16777216"]),
        ("clients = 0", &["clients in [tables] is 0, out of range"]),
        ("fragment = 5", &["did you mean \"fragments\"?"]),
    ] {
        assert_error(&with("", &format!("[tables]\n{line}")), 14, fragments);
    }
}

#[test]
fn tunnels() {
    let prefix = |text: &str| text.parse::<Prefix>().unwrap();
    let default = Tunnel { source_v4: prefix("198.18.0.0/16"), source_v6: prefix("100::/64") };
    assert_eq!(config(&with("", "")).tunnel, default);
    let of = |list: &str| with("", &format!("[tunnel]\nsource_prefixes = {list}"));
    let one = Tunnel { source_v6: prefix("fd00:1::/48"), ..default };
    assert_eq!(config(&of("[\"fd00:1::/48\"]")).tunnel, one);
    for (list, fragments) in [
        ("[\"10.0.0.0/8\", \"172.16.0.0/12\"]", &["lists a second IPv4 prefix, 172.16.0.0/12"][..]),
        ("[\"10.0.0.1/8\"]", &["bits set after its length", "write \"10.0.0.0/8\""]),
        ("[\"128.0.0.0/1\"]", &["most of all addresses", "a length of 8 or more"]),
        ("[\"224.0.0.0/8\"]", &["a multicast address"]),
        ("\"10.0.0.0/8\"", &["must be a list"]),
    ] {
        assert_error(&of(list), 14, fragments);
    }
    let warnings = parse(&of("[\"10.0.0.1\"]")).unwrap().warnings;
    let found = warnings.iter().any(|w| w.message.contains("10.0.0.1/32 has no bits that could"));
    assert!(found, "{warnings:?}");
}
