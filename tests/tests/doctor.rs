//! `evenkeel doctor`: on a good host it finds nothing bad, and each thing that is really broken is named,
//! alone, with a way out and the right exit code.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::{fs, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{
    evenkeel::Balancer,
    settings::{Service, Settings},
    topology::{Family, Lab, Wiring},
    xdp_pass,
};
use serde_json::Value;

/// Level, check and subject of a finding.
type Named = (String, String, String);

/// The findings from warnings on, and the exit code.
fn examine(balancer: &Balancer, extra: &[&str]) -> Result<(Vec<Named>, i32)> {
    let mut command = balancer.command(&["doctor", "-o", "json"]);
    command.arg("--socket").arg(balancer.socket_path());
    command.arg("--state-dir").arg(balancer.state_path());
    if !extra.contains(&"--config") {
        command.arg("--config").arg(balancer.config_path());
    }
    if !extra.contains(&"--bpffs") {
        command.arg("--bpffs").arg(balancer.bpffs_path());
    }
    let output = command.args(extra).output()?;
    let text = String::from_utf8(output.stdout)?;
    let report: Value = serde_json::from_str(&text)
        .with_context(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))?;
    let findings = report["findings"].as_array().context("no findings")?;
    let bad = |level: &str| level != "ok" && level != "note";
    let mut named = Vec::new();
    for finding in findings.iter().filter(|finding| finding["level"].as_str().is_some_and(bad)) {
        let part = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        ensure!(
            finding["remedy"].is_string() || part("level") == "unseen",
            "no way out: {finding}"
        );
        named.push((part("level"), part("check"), part("subject")));
    }
    let count = |level: &str| named.iter().filter(|(found, ..)| found == level).count();
    ensure!(
        report["problems"] == count("problem") && report["warnings"] == count("warning"),
        "{text}"
    );
    Ok((named, output.status.code().unwrap_or(-1)))
}

fn expect(balancer: &Balancer, extra: &[&str], expected: &[(&str, &str, &str)]) {
    let (found, code) = examine(balancer, extra).unwrap();
    let expected: Vec<Named> = expected
        .iter()
        .map(|(level, check, subject)| ((*level).into(), (*check).into(), (*subject).into()))
        .collect();
    assert_eq!(found, expected);
    let problem = expected.iter().any(|(level, ..)| level == "problem");
    assert_eq!(code, i32::from(problem), "{found:?}");
}

fn lab() -> (Lab, Settings) {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    // The namespace may have inherited anything.
    for interface in ["all", "front", "back"] {
        lab.edge.namespace.sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), "0").unwrap();
    }
    let settings = Settings::new(&lab).with(Service::web("web", Family::V4).backends(&lab));
    (lab, settings)
}

#[test]
fn a_running_balancers_host_is_examined() {
    let (lab, settings) = lab();
    let balancer = Balancer::start(&lab, &settings).unwrap();
    let edge = &lab.edge.namespace;
    expect(&balancer, &[], &[]);

    edge.sysctl("net/ipv4/conf/front/rp_filter", "1").unwrap();
    expect(&balancer, &[], &[("warning", "rp-filter", "front")]);
    edge.sysctl("net/ipv4/conf/front/rp_filter", "0").unwrap();

    edge.sysctl("net/ipv4/ip_local_port_range", "20000 60999").unwrap();
    expect(&balancer, &[], &[("problem", "source-ports", "1024-32767")]);
    edge.sysctl("net/ipv4/ip_local_reserved_ports", "20000-32767").unwrap();
    expect(&balancer, &[], &[]);

    edge.ip("link set back mtu 1400").unwrap();
    expect(&balancer, &[], &[("warning", "mtu", "web")]);
    edge.ip("link set back mtu 1500").unwrap();

    // Nothing takes what is redirected into a veth whose other end has neither GRO nor a program.
    lab.client.namespace.offloads("eth0", &["gro", "off"]).unwrap();
    expect(&balancer, &[], &[("problem", "xdp-redirect", "front")]);
    lab.client.namespace.offloads("eth0", &["gro", "on"]).unwrap();

    lab.backends[1].namespace.ip("link set eth0 down").unwrap();
    edge.ip("neigh flush all").unwrap();
    expect(&balancer, &[], &[("problem", "next-hop", "web/web-02")]);
}

#[test]
fn a_host_is_examined_before_the_first_start() {
    let (lab, settings) = lab();
    let text = settings.to_string();
    let balancer = Balancer::prepare(&lab, &text).unwrap();
    let edge = &lab.edge.namespace;
    expect(&balancer, &[], &[]);

    // Merged packets come before a program in generic mode.
    balancer.configure(&text.replace("[node]\n", "[node]\nxdp_mode = \"generic\"\n")).unwrap();
    edge.offloads("front", &["gro", "on"]).unwrap();
    edge.offloads("back", &["gro", "off"]).unwrap();
    expect(&balancer, &[], &[("warning", "gro", "front")]);
    edge.offloads("front", &["gro", "off"]).unwrap();

    // Replies would come in where no program is.
    balancer.configure(&text.replace(", \"back\"]", "]")).unwrap();
    let back = ["web/web-01", "web/web-02"].map(|subject| ("problem", "way-back", subject));
    expect(&balancer, &[], &back);

    balancer
        .configure(&text.replace("protocol = \"tcp\"", "protocol = \"tcp\"\nsnat = false"))
        .unwrap();
    edge.sysctl("net/ipv4/ip_forward", "0").unwrap();
    expect(&balancer, &[], &[("warning", "forwarding", "")]);
    edge.sysctl("net/ipv4/ip_forward", "1").unwrap();

    balancer.configure(&text.replace("[node]", "[nodes]")).unwrap();
    let path = balancer.config_path();
    let path = path.to_str().unwrap();
    expect(&balancer, &[], &[("problem", "configuration", path)]);
    balancer.configure(&text).unwrap();

    let elsewhere = balancer.scratch().join("pins");
    let elsewhere = elsewhere.to_str().unwrap();
    expect(&balancer, &["--bpffs", elsewhere], &[("problem", "bpffs", elsewhere)]);

    edge.ip("link set front down").unwrap();
    expect(&balancer, &[], &[("problem", "interface", "front")]);
    edge.ip("link set front up").unwrap();

    xdp_pass::attach(edge, "front").unwrap();
    expect(&balancer, &[], &[("problem", "xdp-program", "front")]);
}

#[test]
fn what_cannot_be_seen_is_said() {
    let (lab, settings) = lab();
    let balancer = Balancer::prepare(&lab, &settings.to_string()).unwrap();
    let mut command = lab.edge.namespace.command("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--"]);
    command.arg(balancer.binary_path()).args(["doctor", "--config"]).arg(balancer.config_path());
    command.arg("--state-dir").arg(balancer.state_path()).arg("--bpffs").arg(balancer.bpffs_path());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("unseen   program: whether the kernel takes"), "{text}");
    assert!(!text.contains('\u{1b}'), "colours are for terminals: {text}");
    assert!(text.contains(" not seen, "), "{text}");

    // Without a configuration the host alone is examined.
    let nothing = balancer.scratch().join("none.toml");
    let (found, code) = examine(&balancer, &["--config", nothing.to_str().unwrap()]).unwrap();
    assert_eq!((found.as_slice(), code), ([].as_slice(), 0));
}

#[test]
fn connections_of_the_host_itself_are_seen() {
    let (lab, settings) = lab();
    let backend: SocketAddr = lab.backends[0].address(Family::V4, evenkeel_tests::servers::PORT);
    let balancer = Balancer::prepare(&lab, &settings.to_string()).unwrap();
    let listener =
        lab.backends[0].namespace.run(|| Ok(std::net::TcpListener::bind(backend)?)).unwrap();
    // The ports that the host gives out are made to lie in NAT's range, and are kept from clashing.
    let edge = &lab.edge.namespace;
    edge.sysctl("net/ipv4/ip_local_port_range", "20000 20999").unwrap();
    let connection = edge.run(|| Ok(std::net::TcpStream::connect(backend)?)).unwrap();
    edge.sysctl("net/ipv4/ip_local_port_range", "40000 40999").unwrap();
    expect(&balancer, &[], &[("warning", "own-connections", "1024-32767")]);
    drop((connection, listener));
}

#[test]
fn completions_and_pages_are_written() {
    let (lab, settings) = lab();
    let balancer = Balancer::prepare(&lab, &settings.to_string()).unwrap();
    for (shell, begins) in
        [("bash", "_evenkeel()"), ("zsh", "#compdef evenkeel"), ("fish", "complete -c evenkeel")]
    {
        let text = balancer.command(&["completions", shell]).output().unwrap();
        let text = String::from_utf8(text.stdout).unwrap();
        assert!(text.contains(begins) && text.contains("doctor"), "{shell}: {text}");
    }
    let pages = balancer.scratch().join("man");
    let status = balancer.command(&["man"]).arg(&pages).status().unwrap();
    assert!(status.success());
    for page in ["evenkeel.1", "evenkeel-doctor.1", "evenkeel-backend-drain.1"] {
        let text = fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
    let one = balancer.command(&["man"]).output().unwrap();
    assert!(String::from_utf8_lossy(&one.stdout).contains(".TH evenkeel 1"));
}
