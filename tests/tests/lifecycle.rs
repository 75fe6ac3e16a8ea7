//! Backends that people take out for a while: what becomes of their connections, who is told, and that
//! nobody is forgotten.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::{fs, thread};

use evenkeel_tests::{
    evenkeel::{Balancer, Outcome},
    http::Connection,
    load::{Load, Pattern},
    servers::{TinyWeb, big_file},
    settings::{HTTP_PROBE, Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};
use serde_json::Value;

/// How many requests are "under load for a while".
const WHILE: u64 = 300;
const WHY: [&str; 2] = ["--reason", "kernel upgrade"];

fn probed(lab: &Lab) -> Settings {
    let web = |name, family| Service::web(name, family).backends(lab).probed(HTTP_PROBE);
    Settings::new(lab).with(web("web", Family::V4)).with(web("web6", Family::V6))
}

fn await_all(balancer: &Balancer) {
    for service in ["web", "web6"] {
        for backend in ["web-01", "web-02"] {
            balancer.await_active(service, backend, true).unwrap();
        }
    }
}

fn take_out(balancer: &Balancer, how: &str, name: &str, time: &str) -> Outcome {
    let arguments = [&["backend", how, name, "--for", time][..], &WHY].concat();
    balancer.cli(&arguments).unwrap()
}

fn admin(balancer: &Balancer, service: &str, backend: &str) -> Value {
    balancer.backend_status(service, backend).unwrap()["admin"].clone()
}

#[test]
fn a_drained_backend_finishes_its_connections_and_returns_by_itself() {
    let stage = Stage::new(Wiring::Switched, 2, probed).unwrap();
    let balancer = &stage.balancer;
    await_all(balancer);
    big_file(&stage.files().join("big"), 6).unwrap();
    let mut slow = stage.client().run(|| Connection::open(Family::V4.service(80))).unwrap();
    let backend = slow.get("/").unwrap().text();
    let length = slow.begin("/slow/big").unwrap();
    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();
    load.proceed(WHILE).unwrap();

    let told = take_out(balancer, "drain", &backend, "10m").success().unwrap();
    assert!(told.contains(&format!("web/{backend} drains for 10m")), "{told}");
    assert!(told.contains(&format!("web6/{backend} drains")), "every service that has it: {told}");
    let seen = balancer.backend_status("web", &backend).unwrap();
    assert_eq!((&seen["admin"], &seen["state"]), (&"drain".into(), &"drain".into()), "{seen}");
    assert_eq!((&seen["active"], &seen["health"]), (&false.into(), &"up".into()), "{seen}");
    assert_eq!(seen["exception"]["reason"], "kernel upgrade");
    assert_eq!((&seen["exception"]["by"]["uid"], &seen["share"]), (&0.into(), &0.0.into()));
    assert!(seen["exception"]["seconds_left"].as_u64().unwrap() <= 600, "{seen}");
    let screen = balancer.cli(&["status"]).unwrap().success().unwrap();
    let line = screen.lines().find(|line| line.starts_with(&format!("web/{backend} is out")));
    let line = line.unwrap_or_else(|| panic!("nothing reminds of it: {screen}"));
    assert!(
        line.contains("kernel upgrade") && line.contains("left") && line.contains("root"),
        "{line}"
    );

    // What was under way when the command returned may still reach it; nothing after that.
    load.proceed(WHILE).unwrap();
    let before = balancer.counters("web", &backend).unwrap().connections;
    load.proceed(WHILE).unwrap();
    assert_eq!(balancer.counters("web", &backend).unwrap().connections, before);

    // A script waits until the download is through, and sees it go on.
    let waited = thread::scope(|scope| {
        let name = format!("web/{backend}");
        let wait = scope.spawn(move || {
            balancer.cli(&["backend", "wait", &name, "--until", "drained"]).unwrap()
        });
        let (mut total, mut buffer) = (0, vec![0; 65_536]);
        loop {
            match slow.read(&mut buffer).unwrap() {
                0 => break,
                read => total += read,
            }
        }
        assert_eq!(total, length, "the download was cut");
        drop(slow);
        wait.join().unwrap()
    });
    assert_eq!(waited.code, 0, "{waited:?}");
    assert!(waited.stderr.contains("1 connection open"), "it told nothing meanwhile: {waited:?}");

    // Shortened, it ends by itself.
    take_out(balancer, "drain", &backend, "3s").success().unwrap();
    let back = balancer.cli(&["backend", "wait", &backend, "--until", "active"]).unwrap();
    assert_eq!(back.code, 0, "{back:?}");
    assert_eq!(admin(balancer, "web", &backend), "ready");
    load.proceed(WHILE).unwrap();
    assert!(balancer.counters("web", &backend).unwrap().connections > before);
    load.stop().unwrap().flawless().unwrap();
}

#[test]
fn maintenance_cuts_connections_stops_probes_and_outlives_the_daemon() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let servers: Vec<_> = lab.backends.iter().map(|host| TinyWeb::start(host).unwrap()).collect();
    let mut balancer = Balancer::start(&lab, &probed(&lab)).unwrap();
    await_all(&balancer);
    let client = &lab.client.namespace;
    let open = || client.run(|| Connection::open(Family::V4.service(80))).unwrap();
    let mut kept = open();
    while kept.get("/").unwrap().text() != "web-02" {
        kept = open();
    }

    let told = take_out(&balancer, "maintain", "web-02", "forever").success().unwrap();
    assert!(told.contains("until somebody resumes it"), "{told}");
    assert!(told.contains(" cut\n"), "{told}");
    assert!(kept.get("/").is_err(), "the open connection was not cut");
    // A probe that was under way may still arrive.
    let quiet = |what: &str| {
        let before = servers[1].probes();
        let others = servers[0].probes();
        eventually(what, PATIENCE, || {
            anyhow::ensure!(servers[0].probes() >= others + 10, "the other's probes go on");
            Ok(())
        })
        .unwrap();
        assert!(servers[1].probes() <= before + 1, "{what}: it is probed");
    };
    quiet("ten probes of the other one");

    balancer.kill().unwrap();
    balancer.run().unwrap();
    let seen = balancer.backend_status("web", "web-02").unwrap();
    assert_eq!((&seen["admin"], &seen["active"]), (&"maintenance".into(), &false.into()), "{seen}");
    assert_eq!(seen["exception"]["by"]["user"], "root", "{seen}");
    assert_eq!(seen["exception"]["seconds_left"], Value::Null, "{seen}");
    quiet("ten probes of the other one after the restart");

    // The time of another one runs out while no daemon runs.
    take_out(&balancer, "drain", "web6/web-01", "1s").success().unwrap_err();
    balancer.cli(&["backend", "resume", "web6/web-02"]).unwrap().success().unwrap();
    balancer.await_active("web6", "web-02", true).unwrap();
    take_out(&balancer, "drain", "web6/web-01", "1s").success().unwrap();
    balancer.terminate().unwrap();
    balancer.run().unwrap();
    balancer.await_active("web6", "web-01", true).unwrap();
    assert_eq!(admin(&balancer, "web6", "web-01"), "ready");

    assert_eq!(admin(&balancer, "web", "web-02"), "maintenance");
    let told = balancer.cli(&["backend", "resume", "web-02"]).unwrap().success().unwrap();
    assert!(told.contains("web/web-02 is ready again"), "{told}");
    assert!(told.contains("web6/web-02 is ready already"), "{told}");
    balancer.await_active("web", "web-02", true).unwrap();
}

#[test]
fn a_change_that_leaves_too_few_is_refused_and_says_who_would_carry_the_load() {
    let two = |lab: &Lab| {
        let web = Service::web("web", Family::V4).backends(lab).line("min_active = 2");
        Settings::new(lab).with(web).with(Service::web("web6", Family::V6).backends(lab))
    };
    let stage = Stage::new(Wiring::Switched, 3, two).unwrap();
    let balancer = &stage.balancer;
    stage.ask(Family::V4, 60).unwrap().flawless().unwrap();

    // One of three may go; it is told who carries its part.
    let first = take_out(balancer, "drain", "web-01", "1h");
    assert_eq!(first.code, 0, "{first:?}");
    assert!(first.stderr.contains("web-02 gets 50.0% of new connections (now 33.3%)"), "{first:?}");
    // How many come a second is known after a while.
    let refused = eventually("the load is measured", PATIENCE, || {
        let refused = take_out(balancer, "maintain", "web/web-02", "1h");
        anyhow::ensure!(refused.code == 2 && refused.stderr.contains("a second"), "{refused:?}");
        Ok(refused)
    });
    let refused = refused.unwrap();
    for part in ["1 of now 2", "min_active is 2", "web-03 gets 100.0%", "a second", "--force"] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
    assert_eq!(admin(balancer, "web", "web-02"), "ready");
    let removed = balancer.cli(&["backend", "remove", "web", "web-02"]).unwrap();
    assert_eq!(removed.code, 2, "{removed:?}");
    assert_eq!(balancer.backends("web").unwrap().len(), 3);

    // Of the other service the last one stays, too, unless somebody means it.
    take_out(balancer, "drain", "web6/web-02", "1h").success().unwrap();
    let last = take_out(balancer, "drain", "web6/web-03", "1h");
    assert_eq!(last.code, 2, "{last:?}");
    assert!(last.stderr.contains("turned away"), "{last:?}");
    let forced =
        [&["backend", "drain", "web6/web-03", "--for", "1h", "--force"][..], &WHY].concat();
    let forced = balancer.cli(&forced).unwrap();
    assert_eq!(forced.code, 0, "{forced:?}");
    assert!(forced.stderr.contains("no active backend left"), "{forced:?}");
    let remove = balancer.cli(&["backend", "remove", "web", "web-02", "--force"]).unwrap();
    assert_eq!(remove.code, 0, "{remove:?}");
    balancer.cli(&["backend", "resume", "web-03"]).unwrap().success().unwrap();
    stage.ask(Family::V6, 20).unwrap().flawless().unwrap();
}

#[test]
fn what_is_asked_wrongly_is_told_and_changes_nothing() {
    let stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    let balancer = &stage.balancer;
    let cases: [(&[&str], i32, &str); 11] = [
        (&["backend", "drain", "web-01"], 2, "--for"),
        (&["backend", "drain", "web-01", "--for", "5m"], 2, "--reason"),
        (&["backend", "drain", "web-01", "--for", "soon", "--reason", "x"], 2, "30m"),
        (&["backend", "drain", "web-01", "--for", "90days", "--reason", "x"], 2, "forever"),
        (&["backend", "drain", "web-01", "--for", "5m", "--reason", " "], 2, "reason is empty"),
        (&["backend", "drain", "web-09", "--for", "5m", "--reason", "x"], 2, "web-01, web-02"),
        (&["backend", "drain", "w/web-01", "--for", "5m", "--reason", "x"], 2, "web, web6"),
        (&["backend", "drain", "a/b/c", "--for", "5m", "--reason", "x"], 2, "SERVICE/BACKEND"),
        (&["backend", "wait", "web-01", "--until", "drained"], 1, "evenkeel backend drain"),
        (&["backend", "wait", "web-09", "--until", "active"], 1, "backend list"),
        (&["backend", "resume", "web-09"], 2, "web-01, web-02"),
    ];
    for (arguments, code, says) in cases {
        let outcome = balancer.cli(arguments).unwrap();
        assert_eq!(outcome.code, code, "{arguments:?}: {outcome:?}");
        assert!(outcome.stderr.contains(says), "{arguments:?}: {outcome:?}");
    }
    for (body, says) in [
        (r#"{"backend":"web-01","state":"drain"}"#, "for how long"),
        (r#"{"backend":"web-01","state":"ready","for":"5m"}"#, "leave them out"),
        (r#"{"backend":"web-01","state":"gone"}"#, "unknown variant"),
    ] {
        let answer = balancer.api("PUT", "/v1/admin", Some(body)).unwrap();
        assert_eq!(answer.status, 422, "{answer:?}");
        assert!(answer.body["detail"].as_str().unwrap().contains(says), "{answer:?}");
    }
    assert_eq!(admin(balancer, "web", "web-01"), "ready");

    take_out(balancer, "drain", "web-01", "1h").success().unwrap();
    let client = stage.client();
    let held = client.run(|| Connection::open(Family::V4.service(80))).unwrap();
    balancer.cli(&["backend", "resume", "web-01"]).unwrap().success().unwrap();
    take_out(balancer, "drain", "web-02", "1h").success().unwrap();
    let arguments = ["backend", "wait", "web-02", "--until", "drained", "--timeout", "1s"];
    let late = balancer.cli(&arguments).unwrap();
    assert_eq!(late.code, 1, "{late:?}");
    assert!(late.stderr.contains("web/web-02 is drain, 1 connection open after 1s"), "{late:?}");
    drop(held);
}

#[test]
fn check_tells_of_a_backend_that_has_been_out_for_long() {
    let mut stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    take_out(&stage.balancer, "drain", "web/web-02", "20days").success().unwrap();
    let check = |stage: &Stage| {
        let mut command = stage.balancer.command(&["check", "--config"]);
        command
            .arg(stage.balancer.config_path())
            .arg("--state-dir")
            .arg(stage.balancer.state_path());
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    assert!(!check(&stage).contains("has been out"), "it just went");
    // Two days later, as the file has it.
    stage.balancer.terminate().unwrap();
    let file = stage.balancer.state_path().join("exceptions.json");
    let mut document: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let since = &mut document["exceptions"][0]["since"]["secs_since_epoch"];
    *since = (since.as_u64().unwrap() - 2 * 86_400).into();
    fs::write(&file, document.to_string()).unwrap();
    let told = check(&stage);
    for part in ["web/web-02 has been out (drain) for 2d", "root", "kernel upgrade", "resume"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    stage.balancer.run().unwrap();
    assert_eq!(admin(&stage.balancer, "web", "web-02"), "drain");
}

#[test]
fn what_cannot_be_remembered_is_refused() {
    let stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    let balancer = &stage.balancer;
    // A directory in the file's place: as full a disk as root can make.
    let file = balancer.state_path().join("exceptions.json");
    fs::create_dir(&file).unwrap();
    fs::write(file.join("something"), "").unwrap();
    let refused = take_out(balancer, "drain", "web-01", "1h");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("exceptions.json"), "{refused:?}");
    let seen = balancer.backend_status("web", "web-01").unwrap();
    assert_eq!((&seen["admin"], &seen["active"]), (&"ready".into(), &true.into()), "{seen}");
    let report = stage.ask(Family::V4, 20).unwrap();
    report.flawless().unwrap();
    assert_eq!(report.by_backend["web-01"], 10);
    fs::remove_dir_all(&file).unwrap();
    take_out(balancer, "drain", "web-01", "1h").success().unwrap();
}
