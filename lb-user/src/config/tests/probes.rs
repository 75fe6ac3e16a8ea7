//! `[service.health]` of every kind: what it means, how it is written again, and what is wrong with it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use super::{invalid::assert_error, parse, texts as edit, with};
use crate::config::{
    AgentCheck, Config, ExecProbe, GrpcProbe, HealthCheck, HttpProbe, Invalid, Probe, ProbeKind,
    ServiceSpec, Timing, TlsCheck, UdpProbe,
};

fn health(lines: &str) -> HealthCheck {
    let text = with(&format!("[service.health]\n{lines}"), "");
    parse(&text).unwrap().config.services.remove(0).health
}

fn kind(lines: &str) -> ProbeKind {
    health(lines).probe().unwrap().kind.clone()
}

#[test]
fn each_kind_takes_its_keys() {
    let shop = || Some("shop.example".to_owned());
    let https =
        |host, tls| ProbeKind::Https { exchange: HttpProbe { host, ..HttpProbe::default() }, tls };
    let udp = |send: &[u8], expect: Option<&[u8]>| {
        ProbeKind::Udp(UdpProbe { send: send.to_vec(), expect: expect.map(<[u8]>::to_vec) })
    };
    let grpc = |service: Option<&str>, host, tls| {
        ProbeKind::Grpc(GrpcProbe { service: service.map(str::to_owned), host, tls })
    };
    let anybody = TlsCheck { verify: false, ..TlsCheck::default() };
    let named = TlsCheck { server_name: Some("10.0.0.1".to_owned()), ..TlsCheck::default() };
    for (lines, expected) in [
        ("kind = 'https'", https(None, TlsCheck::default())),
        ("kind = 'https'\nhost = 'shop.example'\nverify = false", https(shop(), anybody.clone())),
        ("kind = 'https'\nserver_name = '10.0.0.1'", https(None, named.clone())),
        ("kind = 'udp'\nsend = 'ping'", udp(b"ping", None)),
        ("kind = 'udp'\nsend_hex = '00 Ff0a'\nexpect_hex = '01'", udp(&[0, 255, 10], Some(&[1]))),
        (
            "kind = 'udp'\nsend = \"a\\u0000\"\nexpect = 'pöng'",
            udp(b"a\0", Some("pöng".as_bytes())),
        ),
        ("kind = 'grpc'", grpc(None, None, None)),
        ("kind = 'grpc'\nservice = 'shop.Cart'", grpc(Some("shop.Cart"), None, None)),
        (
            "kind = 'grpc'\ntls = true\nhost = 'shop.example'",
            grpc(None, shop(), Some(TlsCheck::default())),
        ),
        ("kind = 'grpc'\ntls = true\nserver_name = '10.0.0.1'", grpc(None, None, Some(named))),
        (
            "kind = 'exec'\ncommand = ['/bin/true', '-v', '']\nuser = 'daemon'",
            ProbeKind::Exec(ExecProbe {
                command: ["/bin/true", "-v", ""].map(str::to_owned).to_vec(),
                user: "daemon".to_owned(),
                environment: Vec::new(),
            }),
        ),
    ] {
        assert_eq!(kind(lines), expected, "{lines}");
    }
    let ProbeKind::Exec(exec) = kind("kind = 'exec'\ncommand = ['/bin/true']") else { panic!() };
    assert_eq!(exec.user, "nobody");
}

#[test]
fn flap_damping_and_agents() {
    for (lines, expected) in [
        ("", Some(Duration::from_mins(1))),
        ("flap_damping = true", Some(Duration::from_mins(1))),
        ("flap_damping = '5m'", Some(Duration::from_mins(5))),
        ("flap_damping = false", None),
    ] {
        let timing = health(&format!("kind = 'tcp'\n{lines}")).timing().unwrap();
        assert_eq!(timing.flap_damping, expected, "{lines}");
    }
    let seconds = Duration::from_secs;
    for (lines, interval, timeout, keep) in [
        ("", seconds(2), seconds(1), seconds(60)),
        ("interval = '500ms'", Duration::from_millis(500), Duration::from_millis(500), seconds(60)),
        ("interval = '1m'\nkeep = '5m'", seconds(60), seconds(1), seconds(300)),
    ] {
        let lines = format!("kind = 'tcp'\n[service.health.agent]\nport = 9100\n{lines}");
        let check = AgentCheck { port: 9100, interval, timeout, keep };
        assert_eq!(health(&lines).probe().unwrap().agent, Some(check), "{lines}");
    }
    assert_eq!(health("kind = 'none'\nagent.port = 1\npath = '/'"), HealthCheck::None);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (lines, line, fragments) in [
        (
            "kind = 'http'\nverify = true",
            8,
            &["verify of the probe", "a http probe", "kind = \"https\" or \"grpc\""][..],
        ),
        ("kind = 'https'\nsend = 'x'", 8, &["means nothing to a https probe", "kind = \"udp\""]),
        ("kind = 'udp'\nsend = 'x'\nexpect_body = 'y'", 9, &["means nothing to a udp probe"]),
        (
            "kind = 'exec'\ncommand = ['/bin/true']\nservice = 'y'",
            9,
            &["means nothing to an exec probe"],
        ),
        ("kind = 'tcp'\nhost = 'y'", 8, &["set kind = \"http\" or \"https\" or \"grpc\""]),
        ("kind = 'https'\nverify = 'no'", 8, &["must be true or false"]),
        ("kind = 'https'\nserver_name = 'a b'", 8, &["which no certificate can be for"]),
        ("kind = 'https'\nhost = 'a_b!'", 8, &["which no certificate can be for", "server_name"]),
        ("kind = 'https'\nca_file = ''", 8, &["ca_file of the probe", "is empty"]),
        (
            "kind = 'https'\nca_file = '/nowhere/ca.pem'",
            8,
            &["is /nowhere/ca.pem: it cannot be read: No such"],
        ),
        ("kind = 'grpc'\nverify = false", 8, &["means nothing without TLS", "tls = true"]),
        ("kind = 'grpc'\nservice = 'a/b'", 8, &["no name of a gRPC service"]),
        ("kind = 'udp'", 6, &["has no send", "send_hex"]),
        ("kind = 'udp'\nsend = ''", 8, &["send of the probe", "is empty"]),
        ("kind = 'udp'\nsend = 'a'\nsend_hex = '00'", 9, &["says again what send says"]),
        ("kind = 'udp'\nsend_hex = '0'", 8, &["not bytes in hexadecimal digits"]),
        ("kind = 'udp'\nsend_hex = 'gg'", 8, &["two hexadecimal digits a byte"]),
        ("kind = 'exec'", 6, &["has no command", "add command = ["]),
        ("kind = 'exec'\ncommand = '/bin/true'", 8, &["must be a list"]),
        ("kind = 'exec'\ncommand = []", 8, &["command of the probe", "is empty"]),
        ("kind = 'exec'\ncommand = ['true']", 8, &["is \"true\", not an absolute path"]),
        (
            "kind = 'exec'\ncommand = ['/bin/true', 5]",
            8,
            &["an entry of command", "must be a string"],
        ),
        (
            "kind = 'exec'\ncommand = ['/nowhere/check']",
            8,
            &["/nowhere/check, which cannot be run: No such"],
        ),
        ("kind = 'exec'\ncommand = ['/bin']", 8, &["/bin, which is no file"]),
        ("kind = 'exec'\ncommand = ['/etc/passwd']", 8, &["user \"nobody\" may not run", "chmod"]),
        (
            "kind = 'exec'\ncommand = ['/bin/true']\nuser = 'no-such-user'",
            9,
            &["user of the probe", "this host does not have"],
        ),
        ("kind = 'exec'\ncommand = ['/bin/true']\nuser = 'root'", 9, &["has every privilege"]),
        ("kind = 'tcp'\nflap_damping = 1", 8, &["must be false, true or a duration"]),
        ("kind = 'tcp'\nflap_damping = '2h'", 8, &["out of range", "use 1s to 1h"]),
        ("kind = 'tcp'\nagent = 9100", 8, &["[service.health.agent] must be a table"]),
        (
            "kind = 'tcp'\n[service.health.agent]",
            8,
            &["the agent of service \"web\"", "has no port"],
        ),
        (
            "kind = 'tcp'\n[service.health.agent]\nprot = 1\nport = 1",
            9,
            &["did you mean \"port\"?"],
        ),
        (
            "kind = 'tcp'\nagent = {port = 1, timeout = '5s'}",
            8,
            &["timeout of the agent", "longer than its interval"],
        ),
        (
            "kind = 'tcp'\nagent = {port = 1, keep = '1s'}",
            8,
            &["keep of the agent", "shorter than its interval"],
        ),
        ("kind = 'grcp'", 7, &["did you mean \"grpc\"?"]),
        ("kind = 'http'\nverfy = true", 8, &["did you mean \"verify\"?"]),
    ] {
        assert_error(&with(&format!("[service.health]\n{lines}"), ""), line, fragments);
    }
}

#[test]
fn every_error_is_told_at_once() {
    let lines =
        "kind = 'tcp'\nverify = 1\nsend_hex = 'x'\nport = 0\nflap_damping = 3\nagent.port = 0";
    let invalid = parse(&with(&format!("[service.health]\n{lines}"), "")).unwrap_err();
    let shown = invalid.to_string();
    for part in ["verify", "send_hex", "port of the probe", "flap_damping", "port of the agent"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

#[test]
fn files_are_looked_for_beside_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let parse = |lines: &str| -> Result<HealthCheck, Invalid> {
        let text = with(&format!("[service.health]\n{lines}"), "");
        let origin = directory.path().join("evenkeel.toml");
        Config::parse(&text, &origin).map(|loaded| loaded.config.services[0].health.clone())
    };
    let fault = |lines: &str| parse(lines).unwrap_err().to_string();
    let authority = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    let (good, text) = (directory.path().join("ca.pem"), authority.cert.pem());
    fs::write(&good, &text).unwrap();
    let health = parse("kind = 'https'\nca_file = 'ca.pem'").unwrap();
    let ProbeKind::Https { tls, .. } = &health.probe().unwrap().kind else { panic!() };
    assert_eq!(tls.ca_file.as_deref(), Some(good.as_path()));

    fs::write(directory.path().join("empty.pem"), "# nothing yet\n").unwrap();
    let shown = fault("kind = 'https'\nca_file = 'empty.pem'");
    assert!(shown.contains("evenkeel.toml:8:11: error: ca_file of the probe"), "{shown}");
    assert!(shown.contains("holds no certificate"), "{shown}");
    let broken = text.replacen("MII", "AAA", 1);
    fs::write(directory.path().join("broken.pem"), format!("{text}{broken}")).unwrap();
    let shown = fault("kind = 'https'\nca_file = 'broken.pem'");
    assert!(shown.contains("its certificate number 2 cannot be used"), "{shown}");
    let shown = fault("kind = 'https'\nca_file = 'ca.pem'\nverify = false");
    assert!(shown.contains("means nothing with verify = false"), "{shown}");

    let program = directory.path().join("check");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    let lines = format!("kind = 'exec'\ncommand = ['{}']", program.display());
    for (mode, runs) in [(0o755, true), (0o700, false), (0o750, false), (0o001, true)] {
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(parse(&lines).is_ok(), runs, "{mode:o}");
    }
}

#[test]
fn what_is_written_reads_back() {
    let timing = Timing { rise: 4, flap_damping: None, ..Timing::default() };
    let seconds = Duration::from_secs;
    let agent =
        AgentCheck { port: 9100, interval: seconds(3), timeout: seconds(1), keep: seconds(30) };
    let tls = TlsCheck { verify: false, server_name: Some("a.example".to_owned()), ca_file: None };
    let grpc = GrpcProbe { service: Some("a.B".to_owned()), host: Some("h".to_owned()), tls: None };
    let exec = ExecProbe {
        command: vec!["/bin/true".to_owned(), "two words \"quoted\"".to_owned()],
        user: "daemon".to_owned(),
        environment: Vec::new(),
    };
    for kind in [
        ProbeKind::Https { exchange: HttpProbe::default(), tls: TlsCheck::default() },
        ProbeKind::Https { exchange: HttpProbe::default(), tls: tls.clone() },
        ProbeKind::Udp(UdpProbe { send: b"\0\xff".to_vec(), expect: Some(b"text".to_vec()) }),
        ProbeKind::Grpc(GrpcProbe::default()),
        ProbeKind::Grpc(GrpcProbe { tls: Some(tls), ..grpc.clone() }),
        ProbeKind::Grpc(grpc),
        ProbeKind::Exec(exec),
    ] {
        for (port, agent) in [(None, None), (Some(81), Some(agent))] {
            let health: HealthCheck = Probe { kind: kind.clone(), timing, port, agent }.into();
            let address = "192.0.2.9:80".parse().unwrap();
            let spec = ServiceSpec { health, ..ServiceSpec::new("a".to_owned(), address) };
            let edited = edit::add_service("[node]\ninterfaces = ['eth0']", &spec).unwrap();
            let read = Config::parse(&edited, Path::new("x.toml")).unwrap().config;
            assert_eq!(read.services[0].health, spec.health, "{edited}");
        }
    }
}

#[test]
fn json_has_the_keys_of_the_configuration() {
    for (lines, expected) in [
        ("kind = 'none'", serde_json::json!({"kind": "none"})),
        (
            "kind = 'https'\nserver_name = 'a.example'",
            serde_json::json!({"kind": "https", "path": "/", "verify": true, "server_name": "a.example"}),
        ),
        ("kind = 'udp'\nsend = 'ping'", serde_json::json!({"kind": "udp", "send": "ping"})),
        (
            "kind = 'exec'\ncommand = ['/bin/true']\nagent.port = 9",
            serde_json::json!({"kind": "exec", "command": ["/bin/true"], "agent": {"port": 9,
                "interval": "2s", "timeout": "1s", "keep": "1m"}}),
        ),
    ] {
        let json = serde_json::to_value(health(lines)).unwrap();
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&json[key], value, "{key} of {json}");
        }
        assert!(json.get("environment").is_none());
    }
}
