//! The daemon as a service of a real systemd: its unit's sandbox and capabilities, reload, restart, watchdog,
//! and who may do what over the socket.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::path::Path;

use anyhow::{Result, ensure};
use evenkeel_tests::{
    evenkeel::{Outcome, package},
    load::{Load, Pattern},
    servers::TinyWeb,
    settings::{HTTP_PROBE, Service, Settings},
    systemd::Host,
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};
use serde_json::Value;

const UNIT: &[u8] = include_bytes!("../../dist/evenkeel.service");
const FILE: &str = "/etc/evenkeel/evenkeel.toml";
const WHILE: u64 = 300;

/// A host with the unit, its groups, and users in one, the other and none of them.
fn installed(lab: &Lab, settings: &Settings) -> Host {
    let host = Host::boot(&lab.edge.namespace).unwrap();
    host.write("/etc/systemd/system/evenkeel.service", UNIT).unwrap();
    host.write(FILE, settings.to_string().as_bytes()).unwrap();
    for group in ["evenkeel", "evenkeel-admin"] {
        host.done(&["groupadd", "--system", group]).unwrap();
    }
    for (user, groups) in [("watch", "evenkeel"), ("deploy", "evenkeel-admin"), ("other", "")] {
        host.done(&["useradd", "--no-create-home", "--groups", groups, user]).unwrap();
    }
    host.done(&["systemctl", "daemon-reload"]).unwrap();
    host
}

fn property(host: &Host, name: &str) -> String {
    let show = ["systemctl", "show", "evenkeel", "--value", "--property", name];
    host.done(&show).unwrap().trim().to_owned()
}

fn journal(host: &Host) -> String {
    host.done(&["journalctl", "--unit", "evenkeel", "--no-pager", "--output", "cat"]).unwrap()
}

/// What the journal has of the daemon, with all fields, where these match.
fn entries(host: &Host, matches: &[&str]) -> Vec<Value> {
    let all = ["journalctl", "--unit", "evenkeel", "--no-pager", "--output", "json"];
    let text = host.done(&[&all, matches].concat()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A command of `evenkeel` by a user of the host.
fn by(host: &Host, user: &str, arguments: &[&str]) -> Outcome {
    let mut command =
        vec!["setpriv", "--reuid", user, "--regid", user, "--init-groups", "evenkeel"];
    command.extend(arguments);
    host.run(&command).unwrap()
}

fn await_active(host: &Host, count: usize) {
    let active = format!("{count} of 2 backends active");
    eventually(&active, PATIENCE, || {
        let status = property(host, "StatusText");
        ensure!(status.contains(&active), "systemd was told: {status}\n{}", journal(host));
        Ok(())
    })
    .unwrap();
}

fn started(lab: &Lab, settings: &Settings) -> Host {
    let host = installed(lab, settings);
    let start = host.run(&["systemctl", "start", "evenkeel"]).unwrap();
    let status = host.run(&["systemctl", "status", "--no-pager", "--full", "evenkeel"]).unwrap();
    assert_eq!(start.code, 0, "{start:?}\n{}\n{}", status.stdout, journal(&host));
    host
}

fn web(lab: &Lab) -> Settings {
    Settings::new(lab).with(Service::web("web", Family::V4).backends(lab).probed(HTTP_PROBE))
}

fn install(host: &Host, package: &Path) -> String {
    host.write("/tmp/evenkeel.deb", &std::fs::read(package).unwrap()).unwrap();
    // As an unattended upgrade calls it.
    let dpkg = ["dpkg", "--force-unsafe-io", "--force-confold", "--install", "/tmp/evenkeel.deb"];
    host.done(&dpkg).unwrap()
}

#[test]
fn the_package_brings_a_service_that_an_upgrade_restarts_and_a_removal_stops() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let _servers: Vec<_> = lab.backends.iter().map(|host| TinyWeb::start(host).unwrap()).collect();
    let host = Host::boot_bare(&lab.edge.namespace).unwrap();
    let package = package().unwrap();
    install(&host, &package);
    assert_eq!(property(&host, "ActiveState"), "inactive", "nobody has configured it");
    assert_eq!(property(&host, "UnitFileState"), "disabled");

    host.write(FILE, web(&lab).to_string().as_bytes()).unwrap();
    host.done(&["systemctl", "enable", "--now", "evenkeel"]).unwrap();
    await_active(&host, 2);
    let service = Family::V4.service(80);
    let load = Load::start(&lab.client.namespace, service, Pattern::default()).unwrap();
    load.proceed(WHILE).unwrap();
    let first = property(&host, "MainPID");
    install(&host, &package);
    await_active(&host, 2);
    assert_ne!(property(&host, "MainPID"), first, "the new files run");
    assert!(journal(&host).contains("data path taken over"), "{}", journal(&host));
    load.proceed(WHILE).unwrap();
    load.stop().unwrap().flawless().unwrap();

    host.done(&["dpkg", "--remove", "evenkeel"]).unwrap();
    assert_eq!(property(&host, "ActiveState"), "inactive");
    let pins = host.run(&["test", "-e", "/sys/fs/bpf/evenkeel/program"]).unwrap();
    assert_eq!(pins.code, 1, "nobody could control it any more");
    host.done(&["dpkg", "--purge", "evenkeel"]).unwrap();
    assert_ne!(host.run(&["test", "-e", "/etc/evenkeel"]).unwrap().code, 0);
}

/// The capabilities in a line of `/proc/PID/status`, by their names.
fn capabilities(host: &Host, line: &str) -> String {
    let id = property(host, "MainPID");
    let status = host.done(&["cat", &format!("/proc/{id}/status")]).unwrap();
    let value = status.lines().find_map(|known| known.strip_prefix(line)).unwrap().trim();
    let decoded = host.done(&["capsh", &format!("--decode={value}")]).unwrap();
    decoded.trim().split_once('=').unwrap().1.to_owned()
}

#[test]
fn a_service_that_is_reloaded_restarted_and_hung_loses_no_request() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let _servers: Vec<_> = lab.backends.iter().map(|host| TinyWeb::start(host).unwrap()).collect();
    let host = started(&lab, &web(&lab));
    await_active(&host, 2);
    let service = Family::V4.service(80);
    let load = Load::start(&lab.client.namespace, service, Pattern::default()).unwrap();
    load.proceed(WHILE).unwrap();

    // A reload returns when the file is at work, and fails where it is refused.
    let text = web(&lab).to_string().replace("weight = 1", "weight = 3");
    host.write(FILE, text.as_bytes()).unwrap();
    host.done(&["systemctl", "reload", "evenkeel"]).unwrap();
    let status = host.done(&["evenkeel", "backend", "list", "-o", "json"]).unwrap();
    assert!(status.contains("\"weight\": 3"), "{status}");
    host.write(FILE, b"[node]\ninterfaces = []\nodd = 1\n").unwrap();
    assert_ne!(host.run(&["systemctl", "reload", "evenkeel"]).unwrap().code, 0);
    assert!(journal(&host).contains("odd"), "{}", journal(&host));
    host.write(FILE, text.as_bytes()).unwrap();
    load.proceed(WHILE).unwrap();

    host.done(&["systemctl", "restart", "evenkeel"]).unwrap();
    assert!(journal(&host).contains("data path taken over"), "{}", journal(&host));
    await_active(&host, 2);
    load.proceed(WHILE).unwrap();

    // A daemon that hangs is ended by its watchdog, and another one takes over.
    host.write("/run/systemd/system/evenkeel.service.d/quick.conf", b"[Service]\nWatchdogSec=3s\n")
        .unwrap();
    host.done(&["systemctl", "daemon-reload"]).unwrap();
    host.done(&["systemctl", "restart", "evenkeel"]).unwrap();
    let first = property(&host, "MainPID");
    host.done(&["kill", "-STOP", &first]).unwrap();
    eventually("another daemon runs", 2 * PATIENCE, || {
        let (now, state) = (property(&host, "MainPID"), property(&host, "ActiveState"));
        ensure!(now != first && now != "0" && state == "active", "{now} is {state}");
        Ok(())
    })
    .unwrap();
    assert!(journal(&host).lines().filter(|line| line.contains("taken over")).count() >= 3);
    await_active(&host, 2);
    load.proceed(WHILE).unwrap();

    host.done(&["systemctl", "stop", "evenkeel"]).unwrap();
    assert_eq!(property(&host, "Result"), "success");
    load.proceed(WHILE).unwrap();
    load.stop().unwrap().flawless().unwrap();
    host.done(&["evenkeel", "detach"]).unwrap();
}

#[test]
fn the_sandbox_leaves_what_the_daemon_needs_and_no_more() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let _servers: Vec<_> = lab.backends.iter().map(|host| TinyWeb::start(host).unwrap()).collect();
    let probe = "kind = \"exec\"\ncommand = [\"/usr/bin/test\", \"-w\", \"/dev/null\"]\n\
                 interval = \"300ms\"";
    let settings =
        Settings::new(&lab).with(Service::web("web", Family::V4).backends(&lab).probed(probe));
    let host = started(&lab, &settings);
    // Its probes run, as a user without rights.
    await_active(&host, 2);
    let kept = "cap_kill,cap_setgid,cap_setuid,cap_net_admin,cap_perfmon,cap_bpf";
    assert_eq!(capabilities(&host, "CapEff:"), kept);
    assert_eq!(capabilities(&host, "CapPrm:"), kept);
    assert_eq!(capabilities(&host, "CapInh:"), "");
    // What it has dropped is not in the way of the audit, a new ring, a verification and the history.
    host.done(&["evenkeel", "backend", "weight", "web", "web-01", "2"]).unwrap();
    let text = host.done(&["cat", FILE]).unwrap().replace("weight = 2", "weight = 4");
    host.write("/root/new.toml", text.as_bytes()).unwrap();
    host.done(&["evenkeel", "apply", "/root/new.toml"]).unwrap();
    host.done(&["evenkeel", "rollback"]).unwrap();
    eventually("an audit was made", PATIENCE, || audited(&host)).unwrap();
    let text = journal(&host);
    for trouble in ["could not", "ERROR", "denied", "not permitted"] {
        assert!(!text.contains(trouble), "{trouble}:\n{text}");
    }
    assert_eq!(entries(&host, &["--priority", "err"]), Vec::<Value>::new());
    host.done(&["systemctl", "stop", "evenkeel"]).unwrap();
    host.done(&["evenkeel", "detach"]).unwrap();
}

/// Whether the daemon has compared the kernel's tables: it has if it mends what a stranger did.
fn audited(host: &Host) -> Result<()> {
    let update = "map=/sys/fs/bpf/evenkeel/maps/TUNNELS; size=$(bpftool -j map show pinned $map | \
                  sed 's/.*\"bytes_value\":\\([0-9]*\\).*/\\1/'); \
                  bpftool map update pinned $map key 0 0 0 0 value $(yes 7 | head -n $size)";
    host.done(&["sh", "-c", update])?;
    eventually("the stranger's value is mended", PATIENCE, || {
        ensure!(journal(host).contains("are mended: backend web/web-01"), "{}", journal(host));
        Ok(())
    })
}

#[test]
fn groups_of_the_socket_tell_who_may_read_and_who_may_change() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let _servers: Vec<_> = lab.backends.iter().map(|host| TinyWeb::start(host).unwrap()).collect();
    let host = started(&lab, &web(&lab));
    await_active(&host, 2);
    let drain = ["backend", "drain", "web/web-01", "--for", "1h", "--reason", "a test"];

    assert_eq!(by(&host, "watch", &["status"]).code, 0);
    let refused = by(&host, "watch", &drain);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("evenkeel-admin"), "{refused:?}");
    await_active(&host, 2);

    for reads in [&["status"][..], &["backend", "list"], &["counters"]] {
        let denied = by(&host, "other", reads);
        assert_eq!(denied.code, 1, "{denied:?}");
        assert!(denied.stderr.contains("group evenkeel"), "{denied:?}");
    }

    assert_eq!(by(&host, "deploy", &["status"]).code, 0);
    let drained = by(&host, "deploy", &drain);
    assert_eq!(drained.code, 0, "{drained:?}");
    await_active(&host, 1);
    let status = by(&host, "watch", &["status"]).stdout;
    assert!(status.contains("deploy"), "who asked is told: {status}");
    // The journal has it by its fields, and the events have it from the state that the unit lets be written.
    let drains = entries(&host, &["KIND=admin", "SERVICE=web", "BACKEND=web-01"]);
    let [entry] = &drains[..] else { panic!("{drains:?}") };
    let field = |name: &str| entry[name].as_str().unwrap_or_default();
    assert!(field("WHO").starts_with("deploy (uid"), "{entry}");
    assert!(field("MESSAGE").contains("drains for 1h") && field("PRIORITY") == "6", "{entry}");
    assert_eq!(field("SYSLOG_IDENTIFIER"), "evenkeel");
    let events = "/var/lib/evenkeel/events/events.jsonl";
    let kept = host.done(&["cat", events]).unwrap();
    assert!(
        kept.lines().any(|line| line.contains("\"admin\"") && line.contains("deploy")),
        "{kept}"
    );
    host.done(&["systemctl", "stop", "evenkeel"]).unwrap();
    host.done(&["evenkeel", "detach"]).unwrap();
}
