//! Probes of the other kinds, agents, and backends that flap, beside real traffic.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::ensure;
use evenkeel_tests::{
    evenkeel::Balancer,
    http::Connection,
    servers::{AGENT_PORT, Agent, TLS_PORT, TinyWeb, TlsNginx, UdpEcho},
    settings::{HTTP_PROBE, Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// Often enough for a test, patient enough for a machine that does other things, too.
const TIMES: &str = "interval = \"500ms\"\ntimeout = \"500ms\"\nrise = 2\nfall = 3\n";

fn web(lab: &Lab, health: &str) -> Settings {
    let service = Service::web("web", Family::V4).backends(lab).probed(health);
    Settings::new(lab).with(service)
}

/// Waits until `status` gives a reason for a backend that contains `part`, and answers the reason.
fn await_reason(balancer: &Balancer, backend: &str, part: &str) -> String {
    eventually(&format!("{backend} has the reason {part:?}"), PATIENCE, || {
        let status = balancer.backend_status("web", backend)?;
        let reason = status["reason"].as_str().unwrap_or_default().to_owned();
        ensure!(reason.contains(part), "it is {status}");
        Ok(reason)
    })
    .unwrap()
}

/// An authority: its own certificate in PEM, and what makes others.
fn authority() -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Test authority");
    (params.self_signed(&key).unwrap().pem(), Issuer::new(params, key))
}

/// A certificate for `shop.example` and its key, in PEM.
fn certificate(issuer: &Issuer<'_, KeyPair>, until: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["shop.example".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

#[test]
fn a_certificate_that_expired_takes_a_backend_out_until_it_is_renewed() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (root, issuer) = authority();
    let (good, old) = (certificate(&issuer, 2120), certificate(&issuer, 2021));
    let start = |index: usize, (certificate, key): &(String, String)| {
        TlsNginx::start(&lab.backends[index], directory.path(), certificate, key).unwrap()
    };
    let (_first, mut second) = (start(0, &good), start(1, &old));
    let file = directory.path().join("ca.pem");
    fs::write(&file, root).unwrap();
    let health = format!(
        "kind = \"https\"\npath = \"/healthz\"\nhost = \"shop.example\"\nport = {TLS_PORT}\n\
         ca_file = \"{}\"\n{TIMES}",
        file.display()
    );
    let balancer = Balancer::start(&lab, &web(&lab, &health)).unwrap();
    balancer.await_active("web", "web-01", true).unwrap();
    await_reason(&balancer, "web-02", "the certificate expired on 2021-01-01T00:00:00Z");
    balancer.await_active("web", "web-02", false).unwrap();

    second.renew(&lab.backends[1], &good.0, &good.1).unwrap();
    balancer.await_active("web", "web-02", true).unwrap();
}

#[test]
fn an_agent_halves_its_share_and_drains() {
    let health = format!(
        "kind = \"tcp\"\n{TIMES}[service.health.agent]\nport = {AGENT_PORT}\ninterval = \"200ms\"\n\
         timeout = \"200ms\"\n"
    );
    let stage = Stage::new(Wiring::Switched, 2, |lab| web(lab, &health)).unwrap();
    let balancer = &stage.balancer;
    let agent = Agent::start(&stage.lab.backends[0], "up").unwrap();
    balancer.await_active("web", "web-01", true).unwrap();
    balancer.await_active("web", "web-02", true).unwrap();
    // One without an agent is as it would be without asking.
    let told = |says: &str, share: f64| {
        eventually(&format!("web-01 says {says:?}"), PATIENCE, || {
            let status = balancer.backend_status("web", "web-01")?;
            ensure!(status["agent"] == says, "it is {status}");
            let found = status["share"].as_f64().unwrap_or(-1.0);
            ensure!((found - share).abs() < 1e-9, "its share is {found}");
            Ok(())
        })
        .unwrap();
    };
    told("ready", 0.5);
    agent.say("50%");
    told("50%", 1.0 / 3.0);
    let report = stage.ask(Family::V4, 60).unwrap();
    report.flawless().unwrap();
    assert_eq!((report.by_backend["web-01"], report.by_backend["web-02"]), (20, 40));

    let open = || stage.client().run(|| Connection::open(Family::V4.service(80))).unwrap();
    let mut kept = open();
    while kept.get("/").unwrap().text() != "web-01" {
        kept = open();
    }
    agent.say("drain #new kernel");
    told("drain (new kernel)", 0.0);
    await_reason(balancer, "web-01", "its agent says drain (new kernel)");
    let status = balancer.backend_status("web", "web-01").unwrap();
    assert_eq!((&status["health"], &status["active"]), (&"up".into(), &false.into()));
    let report = stage.ask(Family::V4, 30).unwrap();
    report.flawless().unwrap();
    assert_eq!(report.by_backend["web-02"], 30);
    // What is open goes on.
    assert_eq!(kept.get("/").unwrap().text(), "web-01");

    // Its last word stands while it is silent.
    drop(agent);
    eventually("the silence is noticed", PATIENCE, || {
        let status = balancer.backend_status("web", "web-01")?;
        let says = status["agent"].as_str().unwrap_or_default().to_owned();
        ensure!(says.starts_with("drain (new kernel); silent since: cannot connect"), "{says}");
        Ok(())
    })
    .unwrap();
    assert_eq!(stage.ask(Family::V4, 10).unwrap().by_backend["web-02"], 10);
    let _again = Agent::start(&stage.lab.backends[0], "ready up 100%").unwrap();
    told("100%", 0.5);
}

#[test]
fn a_backend_that_flaps_is_held_down_and_returns_by_itself() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let servers: Vec<_> = lab.backends.iter().map(|host| TinyWeb::start(host).unwrap()).collect();
    let health = format!("{HTTP_PROBE}flap_damping = \"20s\"\n");
    // It takes one probe to fall and one to return: it flaps faster than the damping forgets.
    let health = health.replace("rise = 2", "rise = 1").replace("fall = 3", "fall = 1");
    let balancer = Balancer::start(&lab, &web(&lab, &health)).unwrap();
    balancer.await_active("web", "web-01", true).unwrap();
    balancer.await_active("web", "web-02", true).unwrap();
    let mut falls = 0;
    let held = loop {
        servers[1].set_sick(true);
        balancer.await_active("web", "web-02", false).unwrap();
        falls += 1;
        servers[1].set_sick(false);
        let status = eventually("it is back, or held", PATIENCE, || {
            let status = balancer.backend_status("web", "web-02")?;
            let held = status["reason"].as_str().is_some_and(|why| why.contains("held down"));
            ensure!(held || status["active"] == true, "it is {status}");
            Ok(status)
        })
        .unwrap();
        if status["active"] == false {
            break status["reason"].as_str().unwrap().to_owned();
        }
    };
    assert!(falls > 2, "held after {falls} falls");
    assert!(held.contains(&format!("held down: flapped {falls} times in ")), "{held}");
    assert!(held.contains("returns in "), "{held}");
    // The others serve meanwhile, and it returns without anybody's doing.
    balancer.await_active("web", "web-01", true).unwrap();
    balancer.await_active("web", "web-02", true).unwrap();
    assert!(balancer.log().contains("held down: flapped"), "{}", balancer.log());
}

/// A script that everybody may run.
fn script(directory: &Path, text: &str) -> PathBuf {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    let path = directory.join("check");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_program_decides_about_each_backend() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let flag = directory.path().join("repaired");
    let text = format!(
        "[ \"$EVENKEEL_SERVICE\" = web ] || exit 9\n\
         [ \"$EVENKEEL_BACKEND\" = web-01 ] && exit 0\n\
         [ -e {} ] && exit 0\n\
         echo \"no licence at $EVENKEEL_ADDRESS $EVENKEEL_PORT\"; exit 2",
        flag.display()
    );
    let path = script(directory.path(), &text);
    let times = TIMES.replace("\"500ms\"", "\"2s\"");
    let health = format!("kind = \"exec\"\ncommand = [\"{}\"]\n{times}", path.display());
    let balancer = Balancer::start(&lab, &web(&lab, &health)).unwrap();
    balancer.await_active("web", "web-01", true).unwrap();
    let address = lab.backends[1].address(Family::V4, 8080);
    let says = format!("exit code 2: \"no licence at {} {}\"", address.ip(), address.port());
    await_reason(&balancer, "web-02", &says);
    fs::write(&flag, "").unwrap();
    balancer.await_active("web", "web-02", true).unwrap();
}

#[test]
fn a_udp_server_is_probed_by_what_it_answers() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let servers: Vec<_> = lab.backends.iter().map(|host| UdpEcho::start(host).unwrap()).collect();
    let health = format!("kind = \"udp\"\nsend = \"ping\"\nexpect = \" ping\"\n{TIMES}");
    let service = Service::datagrams("dns", Family::V4).backends(&lab).probed(&health);
    let balancer = Balancer::start(&lab, &Settings::new(&lab).with(service)).unwrap();
    balancer.await_active("dns", "web-01", true).unwrap();
    balancer.await_active("dns", "web-02", true).unwrap();
    let mut servers = servers.into_iter();
    let (_kept, gone) = (servers.next().unwrap(), servers.next().unwrap());
    gone.finish().unwrap();
    balancer.await_active("dns", "web-02", false).unwrap();
    let status = balancer.backend_status("dns", "web-02").unwrap();
    assert_eq!(status["reason"], "nothing listens on that UDP port");
    let _again = UdpEcho::start(&lab.backends[1]).unwrap();
    balancer.await_active("dns", "web-02", true).unwrap();
}

#[test]
fn a_service_is_added_with_any_probe() {
    let stage = Stage::new(Wiring::Switched, 1, |lab| web(lab, "kind = \"tcp\"")).unwrap();
    for (port, options, kind) in [
        (
            "81",
            &["--probe", "https", "--probe-host", "a.example", "--probe-no-verify"][..],
            "https",
        ),
        ("82", &["--probe", "udp", "--probe-send", "ping"], "udp"),
        ("83", &["--probe", "grpc", "--probe-service", "shop.Cart", "--probe-tls"], "grpc"),
        ("84", &["--probe", "exec", "--probe-command", "/bin/true"], "exec"),
    ] {
        let address = format!("{}:{port}", Family::V4.vip());
        let arguments = [&["service", "add", kind, &address][..], options].concat();
        stage.balancer.cli(&arguments).unwrap().success().unwrap();
        let shown = stage.balancer.json(&["service", "show", kind]).unwrap();
        assert_eq!(shown["probe"], format!("{kind} every 2s"));
    }
    let outcome =
        stage.balancer.cli(&["service", "add", "x", "192.0.2.1:9", "--probe-tls"]).unwrap();
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("--probe-tls goes with --probe grpc"), "{outcome:?}");
    let file = stage.balancer.configuration().unwrap();
    assert!(
        file.contains("command = [\"/bin/true\"]") && file.contains("verify = false"),
        "{file}"
    );
}
