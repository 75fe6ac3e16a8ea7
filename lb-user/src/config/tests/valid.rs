//! Valid texts and the values and warnings that they give.

use std::time::Duration;

use super::{COMMENTED, parse, with};
use crate::config::{
    Config, Forwarding, HealthCheck, HttpProbe, Nat, PortRange, Probe, ProbeKind, Protocol,
    Scheduler, Severity, StatusSet, Tables, Tier, Timing, XdpMode,
};

fn config(text: &str) -> Config {
    parse(text).unwrap().config
}

#[test]
fn defaults() {
    let config = config("[node]\ninterfaces = [\"eth0\"]\n");
    assert_eq!(config.node.interfaces, ["eth0"]);
    assert_eq!(config.node.xdp_mode, XdpMode::Auto);
    let source_ports = PortRange { low: 1024, high: 32767 };
    assert_eq!(config.nat, Nat { source_addresses: Vec::new(), source_ports });
    let tables = Tables {
        connections: 262_144,
        unconfirmed: 131_072,
        clients: 65_536,
        fragments: 16_384,
        prefixes: 131_072,
        services: 4096,
        backends: 16384,
    };
    assert_eq!(config.tables, tables);
    assert_eq!(config.services, []);
}

#[test]
fn every_key() {
    let text = r#"
[node]
interfaces = ["eth0", "eth1.100"]
xdp_mode = "generic"
[nat]
source_addresses = ["10.0.0.2", "2001:db8::2"]
source_ports = "1-2000"
[tables]
connections = 0x1000
services = 2
backends = 3
[[service]]
name = "web"
address = "[2001:db8::10]:443"
protocol = "tcp"
scheduler = "round-robin"
forwarding = "nat"
[service.health]
kind = "http"
method = "POST"
path = "/healthz?full=1"
host = "www.example.org:8080"
expect_status = "200, 204,300-399"
expect_body = "all good"
interval = "1s 500ms"
timeout = "200ms"
rise = 1
fall = 5
port = 9000
[[service.backend]]
name = "a"
address = "[2001:db8::11]:8443"
weight = 65535
tier = "primary"
"#;
    let config = config(text);
    assert_eq!(config.node.interfaces, ["eth0", "eth1.100"]);
    assert_eq!(config.node.xdp_mode, XdpMode::Generic);
    assert_eq!(config.nat.source_addresses.len(), 2);
    assert_eq!(config.nat.source_ports, PortRange { low: 1, high: 2000 });
    let tables = Tables { connections: 4096, services: 2, backends: 3, ..Tables::default() };
    assert_eq!(config.tables, tables);
    let service = config.service("web").unwrap();
    assert_eq!(service.address, "[2001:db8::10]:443".parse().unwrap());
    assert_eq!(service.protocol, Protocol::Tcp);
    assert_eq!(service.scheduler, Scheduler::RoundRobin);
    assert_eq!(service.forwarding, Forwarding::Nat);
    let Some(Probe { kind: ProbeKind::Http(exchange), timing, port, agent: None }) =
        service.health.probe()
    else {
        panic!("{:?}", service.health)
    };
    assert_eq!(exchange.method, "POST");
    assert_eq!(exchange.path, "/healthz?full=1");
    assert_eq!(exchange.host.as_deref(), Some("www.example.org:8080"));
    assert_eq!(exchange.expect_body.as_deref(), Some("all good"));
    assert_eq!(exchange.expect_status.to_string(), "200,204,300-399");
    assert!(exchange.expect_status.contains(350) && !exchange.expect_status.contains(201));
    let (interval, timeout) = (Duration::from_millis(1500), Duration::from_millis(200));
    assert_eq!(*timing, Timing { interval, timeout, rise: 1, fall: 5, ..Timing::default() });
    assert_eq!(*port, Some(9000));
    let backend = service.backend("a").unwrap();
    assert_eq!((backend.weight, backend.tier), (65535, Tier::Primary));
}

#[test]
fn a_probe_with_defaults() {
    for (text, health) in [
        ("kind = \"none\"", HealthCheck::None),
        ("kind = \"tcp\"", HealthCheck::of(ProbeKind::Tcp)),
        (
            "kind = \"http\"\nexpect_status = \"200-399\"",
            HealthCheck::of(ProbeKind::Http(HttpProbe::default())),
        ),
    ] {
        let config = config(&with(&format!("[service.health]\n{text}"), ""));
        assert_eq!(config.services[0].health, health, "{text}");
    }
    let one = config(&with("[service.health]\nkind = \"http\"\nexpect_status = 204", ""));
    let probe = one.services[0].health.probe().unwrap();
    let ProbeKind::Http(exchange) = &probe.kind else { panic!() };
    assert!(exchange.expect_status.contains(204) && !exchange.expect_status.contains(200));
}

/// Only a timeout that someone wrote can be too long.
#[test]
fn a_short_interval_shortens_the_default_timeout() {
    let config = config(&with("[service.health]\nkind = \"tcp\"\ninterval = \"500ms\"", ""));
    let timing = config.services[0].health.timing().unwrap();
    assert_eq!(timing.timeout, Duration::from_millis(500));
}

#[test]
fn one_address_serves_both_protocols() {
    let second = "[[service]]\nname = \"b\"\naddress = \"192.0.2.10:80\"\nprotocol = \"udp\"";
    assert_eq!(config(&with("", second)).services.len(), 2);
}

#[test]
fn inline_tables_and_dotted_keys() {
    let text = "node.interfaces = ['eth0']\nservice = [{ name = 'a', address = '192.0.2.1:1', \
                backend = [{ name = 'b', address = '10.0.0.1:1' }], health.kind = 'tcp' }]";
    let config = config(text);
    assert_eq!(config.services[0].backends[0].name, "b");
    assert_eq!(config.services[0].health.kind(), "tcp");
}

#[test]
fn warnings_have_lines() {
    let loaded = parse(COMMENTED).unwrap();
    let shown: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "evenkeel.toml:29:1: warning: service \"dns\" has one backend, so nothing takes over \
             when backend \"dns-01\" fails; add a second one",
            "evenkeel.toml:29:1: warning: service \"dns\" is not probed, so a dead backend keeps \
             its share; add [service.health] with kind = \"tcp\" or \"http\"",
        ]
    );
    assert_eq!(loaded.text, COMMENTED);
}

/// A service with two backends; what follows an address's quote is the text's.
fn two(one: &str, other: &str) -> String {
    let quoted = |address: &str| if address.contains('"') { "" } else { "\"" };
    format!(
        "[[service]]\nname=\"a\"\naddress=\"192.0.2.1:80\"\n[[service.backend]]\nname=\"b\"\n\
         address=\"{one}{}\n[[service.backend]]\nname=\"c\"\naddress=\"{other}{}\n",
        quoted(one),
        quoted(other)
    )
}

#[test]
fn dangerous_texts_warn() {
    let base = "[node]\ninterfaces = [\"eth0\"]\n";
    for (text, line, fragment) in [
        ("[[service]]\nname=\"a\"\naddress=\"192.0.2.1:80\"", 3, "has no backend yet"),
        ("[nat]\nsource_ports = \"1024-40000\"", 4, "overlaps the host's own ports"),
        ("[nat]\nsource_ports = \"60999-65535\"", 4, "(32768-60999)"),
        ("[[service]]\nname=\"a\"\naddress=\"127.0.0.1:80\"", 5, "loopback"),
        (&two("10.0.0.1:80\"\nweight = 9", "10.0.0.2:80"), 6, "90% of the weight"),
        (&two("10.0.0.1:80\"\nweight = 9", "10.0.0.2:80"), 6, "the others get 10 times"),
        (&two("10.0.0.1:80", "10.0.0.1:81"), 3, "every backend of service \"a\" is on 10.0.0.1"),
        (&two("10.0.0.1:80", "192.0.2.1:80"), 11, "come back to this balancer"),
        (
            &format!(
                "{}[service.health]\nkind=\"tcp\"\ninterval=\"21s\"",
                two("10.0.0.1:1", "10.0.0.2:1")
            ),
            3,
            "keeps its share for 1m 3s",
        ),
    ] {
        let warnings = parse(&format!("{base}{text}")).unwrap().warnings;
        let found = warnings.iter().find(|w| w.message.contains(fragment));
        let found = found.unwrap_or_else(|| panic!("{fragment}: {warnings:#?}"));
        assert_eq!(found.severity, Severity::Warning);
        assert_eq!(found.position.unwrap().line, line, "{fragment}");
    }
    assert_eq!(
        parse(&format!("{base}[nat]\nsource_ports = \"61000-65535\"")).unwrap().warnings,
        []
    );
    // Two thirds of the weight, and a minute of blindness, are not worth a word.
    let prudent = format!(
        "{base}{}[service.health]\nkind=\"tcp\"\ninterval=\"20s\"",
        two("10.0.0.1:80\"\nweight = 2", "10.0.0.2:80")
    );
    assert_eq!(parse(&prudent).unwrap().warnings, []);
}

#[test]
fn json_is_flat_and_readable() {
    let text = with("[service.health]\nkind = \"http\"\ninterval = \"1s\"\nport = 90", "");
    let json = serde_json::to_value(&config(&text).services[0]).unwrap();
    let health = serde_json::json!({
        "kind": "http", "method": "GET", "path": "/", "expect_status": "200-399",
        "interval": "1s", "timeout": "1s", "rise": 2, "fall": 3, "flap_damping": "1m", "port": 90
    });
    assert_eq!(json["health"], health);
    assert_eq!(json["address"], "192.0.2.10:80");
    assert_eq!(json["scheduler"], "round-robin");
    assert_eq!(json["backends"][0]["tier"], "primary");
    let warning = &parse(COMMENTED).unwrap().warnings[0];
    let json = serde_json::to_value(warning).unwrap();
    assert_eq!((&json["severity"], &json["line"]), (&"warning".into(), &29.into()));
}

#[test]
fn values_of_the_command_line() {
    assert_eq!("udp".parse(), Ok(Protocol::Udp));
    let error = "sctp".parse::<Protocol>().unwrap_err();
    assert_eq!(error.to_string(), "\"sctp\" is not one of: tcp, udp");
    assert!("200-299".parse::<StatusSet>().unwrap().contains(204));
    assert!("20".parse::<StatusSet>().is_err());
}
