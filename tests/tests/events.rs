//! Events: each change told once, in order, with who and why; kept over restarts; and followed over them.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::ensure;
use evenkeel_tests::{
    evenkeel::Balancer,
    process::Process,
    servers::TinyWeb,
    settings::{HTTP_PROBE, Service, Settings},
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Two servers and a spare that joins where one of them fails.
struct Theatre {
    // Dropped in order: the balancer stops before its servers.
    balancer: Balancer,
    servers: Vec<TinyWeb>,
    lab: Lab,
}

impl Theatre {
    fn new() -> Self {
        let lab = Lab::new(Wiring::Switched, 3).unwrap();
        let servers = lab.backends.iter().map(|host| TinyWeb::start(host).unwrap()).collect();
        let web = Service::web("web", Family::V4).backends(&lab).backup(&lab.backends[2]);
        let web = web.line("min_active = 2").probed(HTTP_PROBE);
        let balancer = Balancer::start(&lab, &Settings::new(&lab).with(web)).unwrap();
        for backend in ["web-01", "web-02"] {
            balancer.await_active("web", backend, true).unwrap();
        }
        balancer.await_active("web", "web-03", false).unwrap();
        Self { balancer, servers, lab }
    }

    fn cli(&self, arguments: &[&str]) -> String {
        self.balancer.cli(arguments).unwrap().success().unwrap()
    }

    /// The server says that it is sick, or not any more, and what follows is awaited.
    fn set_sick(&self, index: usize, is_sick: bool) {
        self.servers[index].set_sick(is_sick);
        let name = &self.lab.backends[index].name;
        self.balancer.await_active("web", name, !is_sick).unwrap();
        self.balancer.await_active("web", "web-03", is_sick).unwrap();
    }

    /// All events that the daemon has.
    fn events(&self) -> Vec<Value> {
        let page = self.balancer.json(&["events", "-n", "4096"]).unwrap();
        page["events"].as_array().unwrap().clone()
    }

    /// A follower whose output goes to a file.
    fn follower(&self, name: &str, arguments: &[&str]) -> Process {
        let arguments = [&["events", "--follow", "-o", "json"], arguments].concat();
        let mut command = self.balancer.command(&arguments);
        command.arg("--socket").arg(self.balancer.socket_path());
        Process::start(name, command, self.balancer.scratch()).unwrap()
    }
}

/// What a follower has shown.
fn shown(follower: &Process) -> Vec<Value> {
    let output = follower.output();
    let lines = output.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["id"].as_u64().unwrap()).collect()
}

/// Whether an event is of a kind, about a backend (or nobody), asked for by a user (or nobody), and has
/// these words in its message and its reason.
fn is(event: &Value, (kind, backend, who, message, why): (&str, &str, &str, &str, &str)) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    text(&event["kind"]) == kind
        && text(&event["backend"]) == backend
        && text(&event["who"]["user"]) == who
        && text(&event["message"]).contains(message)
        && text(&event["why"]).contains(why)
}

#[test]
fn every_change_is_told_in_order_with_who_and_why() {
    let theatre = Theatre::new();
    theatre.set_sick(1, true);
    theatre.set_sick(1, false);
    let drain = ["backend", "drain", "web/web-01", "--for", "1h", "--reason", "a new kernel"];
    theatre.cli(&drain);
    theatre.balancer.await_active("web", "web-01", false).unwrap();
    theatre.cli(&["backend", "resume", "web/web-01"]);
    theatre.cli(&["backend", "drain", "web/web-01", "--for", "1s", "--reason", "a moment"]);
    eventually("its time is up", PATIENCE, || {
        let web_01 = theatre.balancer.backend_status("web", "web-01")?;
        ensure!(web_01["admin"] == "ready" && web_01["active"] == true, "{web_01}");
        Ok(())
    })
    .unwrap();
    theatre.cli(&["backend", "weight", "web", "web-01", "3"]);
    let text = theatre.balancer.configuration().unwrap();
    theatre.balancer.configure(&text.replace("weight = 3", "weight = 4")).unwrap();
    eventually("the edit is seen", PATIENCE, || {
        let edited = &theatre.balancer.status()?["daemon"]["config_edited"];
        ensure!(!edited.is_null(), "not yet");
        Ok(())
    })
    .unwrap();
    theatre.cli(&["reload"]);
    theatre.cli(&["rollback"]);
    theatre.cli(&["backend", "remove", "web", "web-02", "--force"]);
    theatre.servers[0].set_sick(true);
    theatre.servers[2].set_sick(true);
    for backend in ["web-01", "web-03"] {
        theatre.balancer.await_active("web", backend, false).unwrap();
    }

    let events = theatre.events();
    let ids = ids(&events);
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let failed = "probes in a row failed";
    let expected = [
        ("configuration", "", "daemon", "started with", ""),
        ("started", "", "", "a new data path", ""),
        ("health", "web-02", "", "backend is up, was unknown", "passed"),
        ("health", "web-02", "", "backend is down, was up", failed),
        ("active", "web-03", "", "the backup gets new connections", "active"),
        ("health", "web-02", "", "backend is up, was down", "passed"),
        ("active", "web-03", "", "the backup gets no new connections", "standby"),
        ("admin", "web-01", "root", "web/web-01 drains for 1h", "a new kernel"),
        ("active", "web-01", "", "the backend gets no new connections", "drain"),
        ("admin", "web-01", "root", "ready again", ""),
        ("active", "web-01", "", "the backend gets new connections", "active"),
        ("admin", "web-01", "root", "drains for 1s", "a moment"),
        ("admin", "web-01", "daemon", "the time of its drain is up", "a moment"),
        ("membership", "web-01", "root", "web/web-01 has weight 3", ""),
        ("configuration", "", "", "was edited; what is at work stays", ""),
        ("configuration", "", "root", "reloaded", ""),
        ("membership", "web-01", "root", "has weight 4, had 3", ""),
        ("configuration", "", "root", "rolled back to", ""),
        ("membership", "web-01", "root", "has weight 3, had 4", ""),
        ("membership", "web-02", "root", "web/web-02 removed", ""),
        ("active", "web-02", "", "gets no new connections now: removed", ""),
        ("all-down", "", "", "service web: none of 2 backends can serve", ""),
    ];
    let mut rest = events.iter();
    for wanted in expected {
        assert!(
            rest.any(|event| is(event, wanted)),
            "{wanted:?} is missing, or not there:\n{events:#?}"
        );
    }
    // The log has the same words, once.
    let log = theatre.balancer.log();
    assert_eq!(
        log.matches("backend is down, was up").count(),
        events
            .iter()
            .filter(|event| {
                is(
                    event,
                    (
                        "health",
                        event["backend"].as_str().unwrap_or_default(),
                        "",
                        "is down, was up",
                        "",
                    ),
                )
            })
            .count()
    );

    // Asked for in parts.
    let filtered = ["events", "--backend", "web/web-02", "--kind", "health", "-n", "1"];
    let page = theatre.balancer.json(&filtered).unwrap();
    let [last] = &page["events"].as_array().unwrap()[..] else { panic!("{page}") };
    assert!(is(last, ("health", "web-02", "", "backend is up, was down", "")), "{last}");
    let lines = theatre.cli(&["events", "--since", "1h", "--kind", "admin"]);
    assert_eq!(lines.lines().count(), 4, "{lines}");
    assert!(lines.contains("web/web-01") && lines.contains("(by root (uid 0))"), "{lines}");
    let refused = theatre.balancer.cli(&["events", "--kind", "weather"]).unwrap();
    assert!(refused.code == 2 && refused.stderr.contains("membership"), "{refused:?}");
}

#[test]
fn they_are_kept_over_restarts_and_followed_over_them() {
    let mut theatre = Theatre::new();
    let mut follower = theatre.follower("all", &["-n", "4096"]);
    let filtered =
        theatre.follower("health", &["-n", "0", "--backend", "web-02", "--kind", "health"]);
    let from = ids(&theatre.events());
    eventually("both follow", PATIENCE, || {
        ensure!(shown(&follower).len() >= from.len(), "{}", follower.output());
        Ok(())
    })
    .unwrap();
    theatre.set_sick(1, true);
    // Those who follow are sent home, or a stop would wait for them.
    theatre.balancer.terminate().unwrap();
    theatre.balancer.run().unwrap();
    theatre.set_sick(1, false);
    theatre.balancer.kill().unwrap();
    theatre.balancer.run().unwrap();
    theatre.set_sick(1, true);

    let events = theatre.events();
    let all = ids(&events);
    assert!(all.is_sorted_by(|a, b| a < b), "{all:?}");
    assert!(all.starts_with(&from), "{from:?} is kept: {all:?}");
    let mut rest = events.iter();
    let over = "data path taken over, connections and counters kept";
    for wanted in [
        ("health", "web-02", "", "is down, was up", ""),
        ("stopped", "", "", "stops at SIGTERM", "SIGTERM"),
        ("started", "", "", over, ""),
        ("health", "web-02", "", "is up, was", ""),
        ("started", "", "", over, ""),
        ("health", "web-02", "", "is down, was up", ""),
    ] {
        assert!(rest.any(|event| is(event, wanted)), "{wanted:?} is missing:\n{events:#?}");
    }
    eventually("the follower has all", PATIENCE, || {
        let seen = ids(&shown(&follower));
        let all = ids(&theatre.events());
        ensure!(seen == all, "it has {seen:?} of {all:?}");
        Ok(())
    })
    .unwrap();
    eventually("the other one has its own", PATIENCE, || {
        let seen = shown(&filtered);
        ensure!(seen.len() >= 3, "{seen:?}");
        let fits = |event: &Value| event["backend"] == "web-02" && event["kind"] == "health";
        ensure!(seen.iter().all(fits) && ids(&seen).is_sorted_by(|a, b| a < b), "{seen:?}");
        Ok(())
    })
    .unwrap();
    follower.signal(Signal::INT).unwrap();
    assert!(follower.wait(PATIENCE).unwrap().success());
}

#[test]
fn a_follower_ends_when_its_reader_has_left() {
    let theatre = Theatre::new();
    let mut command: Command = theatre.balancer.command(&["events", "--follow"]);
    command.arg("--socket").arg(theatre.balancer.socket_path()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("started with"), "{line}");
    drop(reader);
    // Nothing happens that it could write.
    let ended = eventually("it ends", PATIENCE, || {
        let ended = child.try_wait()?;
        ended.ok_or_else(|| anyhow::anyhow!("it still follows"))
    });
    if ended.is_err() {
        kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
        child.wait().unwrap();
    }
    assert!(ended.unwrap().success());
}
