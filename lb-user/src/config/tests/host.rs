//! The configuration against the host.

use std::collections::BTreeMap;

use super::{COMMENTED, parse};
use crate::config::{HostFacts, Severity};

fn facts(interfaces: &[(&str, &[&str])]) -> HostFacts {
    let interfaces = interfaces.iter().map(|(name, addresses)| {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        ((*name).to_owned(), addresses)
    });
    HostFacts { interfaces: interfaces.collect::<BTreeMap<_, _>>(), ..HostFacts::default() }
}

#[test]
fn a_host_that_fits() {
    let facts = facts(&[("eth0", &["192.0.2.10", "10.0.0.2"]), ("lo", &["127.0.0.1"])]);
    assert_eq!(parse(COMMENTED).unwrap().check_host(&facts), []);
}

#[test]
fn a_host_that_does_not() {
    let text = format!("{COMMENTED}[nat]\nsource_addresses = [\"10.0.0.2\"]\n");
    let found = parse(&text).unwrap().check_host(&facts(&[("eth1", &[]), ("lo", &[])]));
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found[0].severity, Severity::Error);
    assert_eq!(
        shown[0],
        "evenkeel.toml:4:15: error: interface \"eth0\" does not exist on this host; \
         did you mean \"eth1\"?"
    );
    let owns = |line: &str, what: &str| {
        let start = format!("evenkeel.toml:{line}: warning: no interface of this host owns {what}");
        assert!(shown.iter().any(|s| s.starts_with(&start)), "{start}\n{shown:#?}");
    };
    owns("9:11", "192.0.2.10 of service \"web\"; add it (`ip address add 192.0.2.10/32 dev");
    owns("31:11", "192.0.2.10 of service \"dns\"");
    owns("42:21", "source address 10.0.0.2");
    assert_eq!(shown.len(), 4);
}

#[test]
fn this_host_has_a_loopback() {
    let facts = HostFacts::read().unwrap();
    assert!(facts.interfaces.contains_key("lo"), "{facts:?}");
}
