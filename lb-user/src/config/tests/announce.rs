//! `[announce]` and `[service.announce]`.

use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::config::{AnnounceWay, HostFacts, OnStop};

fn text(node: &str, web: &str, tls: &str) -> String {
    let service = |name: &str, port: u16, announce: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\naddress = \"192.0.2.10:{port}\"\n{announce}\n\
             [[service.backend]]\nname = \"a\"\naddress = \"10.0.0.1:80\"\n\
             [[service.backend]]\nname = \"b\"\naddress = \"10.0.0.2:80\"\n"
        )
    };
    let (web, tls) = (service("web", 80, web), service("tls", 443, tls));
    format!("[node]\ninterfaces = [\"eth0\"]\n{node}\n{web}{tls}")
}

#[test]
fn a_service_is_announced_as_the_node_unless_it_says_otherwise() {
    let config = Config::parse_text(&text("", "", "")).unwrap().config;
    assert!(config.services.iter().all(|service| service.announce.is_none()));

    let node = "[announce]\ninterface = \"dummy0\"\nannounce_after = \"3s\"\non_stop = \"keep\"";
    let one = "[service.announce]\nmin_active = 2";
    let other = "[service.announce]\nenabled = false";
    let config = Config::parse_text(&text(node, one, other)).unwrap().config;
    let web = config.services[0].announce.as_ref().unwrap();
    assert_eq!((web.way, web.interface.as_str()), (AnnounceWay::Address, "dummy0"));
    assert_eq!((web.min_active, web.on_stop), (Some(2), OnStop::Keep));
    assert_eq!((web.announce_after, web.withdraw_after), (Duration::from_secs(3), Duration::ZERO));
    assert_eq!(config.services[1].announce, None);

    let node = "[announce]\nenabled = false\nway = \"hook\"\ncommand = [\"/bin/hook\", \"x\"]";
    let one = "[service.announce]\ntimeout = \"2s\"";
    let config = Config::parse_text(&text(node, one, "")).unwrap().config;
    let hook = config.services[0].announce.as_ref().unwrap().hook.as_ref().unwrap();
    assert_eq!(hook.exec.command, ["/bin/hook", "x"]);
    assert_eq!((hook.exec.user.as_str(), hook.timeout), ("nobody", Duration::from_secs(2)));
    assert_eq!(config.services[1].announce, None);
}

#[test]
fn an_address_is_announced_once_and_by_what_its_way_needs() {
    for (node, web, tls, says) in [
        ("", "[service.announce]\nway = \"exabgp\"", "[service.announce]", "otherwise than"),
        ("[announce]\nway = \"hook\"", "", "", "no command"),
        ("[announce]\nway = \"exabgp\"\ninterface = \"lo\"", "", "", "means nothing"),
        ("[announce]\ncommand = [\"/bin/hook\"]", "", "", "means nothing"),
        ("[announce]\nway = \"bgp\"", "", "", "unknown"),
        ("[announce]\nafter = \"3s\"", "", "", "unknown key"),
    ] {
        let error = Config::parse_text(&text(node, web, tls)).unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
    let local = text("[announce]", "", "").replace("192.0.2.10", "127.0.0.2");
    let error = Config::parse_text(&local).unwrap_err().to_string();
    assert!(error.contains("which no router forwards to"), "{error}");
    // What differs only in how many backends it needs is announced alike.
    let few = "[service.announce]\nmin_active = 3";
    let loaded = Config::parse_text(&text("[announce]", few, "")).unwrap();
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.iter().any(|warning| warning.contains("is never announced")), "{warnings:?}");
}

#[test]
fn the_host_must_have_the_interface_and_the_address_nowhere_else() {
    let loaded = Config::parse_text(&text("[announce]", "", "")).unwrap();
    let facts = |interfaces: &[(&str, &[&str])]| {
        let addresses = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect();
        let interfaces: BTreeMap<_, _> =
            interfaces.iter().map(|(name, list)| ((*name).to_owned(), addresses(list))).collect();
        HostFacts { interfaces, ..HostFacts::default() }
    };
    let told = |facts: &HostFacts| -> Vec<String> {
        loaded.check_host(facts).iter().map(ToString::to_string).collect()
    };
    assert_eq!(told(&facts(&[("eth0", &[]), ("lo", &[])])), [] as [String; 0]);
    assert_eq!(told(&facts(&[("eth0", &[]), ("lo", &["192.0.2.10"])])), [] as [String; 0]);
    let missing = told(&facts(&[("eth0", &[])]));
    assert!(missing.iter().all(|told| told.contains("error: interface \"lo\", which the address")));
    assert_eq!(missing.len(), 2);
    let elsewhere = told(&facts(&[("eth0", &["192.0.2.10"]), ("lo", &[])]));
    assert!(elsewhere.iter().all(|told| told.contains("warning: 192.0.2.10 of service")));
    assert_eq!(elsewhere.len(), 2);
}
