//! What is changed on one edge is at work on all of them when the command returns, whoever changes it and how.

use std::time::Instant;

use anyhow::ensure;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::ground::{Ground, TABLES, TIMEOUT, WHILE, flawless, patiently};

const ALL: &str = "applied by edge-1, edge-2, edge-3";

fn thirds() -> Vec<(String, u64)> {
    ["web-01", "web-02", "web-03"].map(|name| (name.to_owned(), 10)).to_vec()
}

/// How many of `count` requests each backend got by way of an edge.
fn shares(of: &[(&str, u64)]) -> Vec<(String, u64)> {
    of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[test]
fn what_is_changed_on_one_edge_is_at_work_on_all() {
    let ground = Ground::new(3, 3).unwrap();
    let before = ground.await_together().unwrap();
    for edge in 0..3 {
        assert_eq!(ground.shares(edge, 20), shares(&[("web-01", 10), ("web-02", 10)]));
    }
    let loads = ground.load();

    // A backend is added: every edge has it the moment that the command returns.
    let told = ground.done(0, &ground.spare(2));
    assert!(told.contains(ALL), "{told}");
    for edge in 0..3 {
        assert_eq!(ground.edges[edge].backends("web").unwrap().len(), 3, "edge {edge}");
    }
    ground.await_reached(&[0, 1, 2], "web-03");
    flawless(loads);
    for edge in 0..3 {
        assert_eq!(ground.shares(edge, 30), thirds(), "edge {edge}");
    }
    assert!(ground.await_together().unwrap() > before);

    // Each edge's file is its own, but for the services.
    for edge in 0..3 {
        let text = ground.edges[edge].configuration().unwrap();
        let name = format!("edge = \"edge-{}\"", edge + 1);
        assert!(text.contains(&name) && text.contains("# This edge's own part."), "{text}");
        assert!(text.contains("web-03"), "{text}");
    }

    // People take it out on one edge, and back on another.
    let reason = ["backend", "drain", "web/web-01", "--for", "1h", "--reason", "its disk"];
    let told = ground.done(1, &reason);
    assert!(told.contains(ALL), "{told}");
    for edge in 0..3 {
        let seen = ground.edges[edge].backend_status("web", "web-01").unwrap();
        assert_eq!(seen["exception"]["reason"], "its disk", "{seen}");
        assert_eq!(ground.shares(edge, 20), shares(&[("web-02", 10), ("web-03", 10)]));
    }
    let told = ground.done(2, &["backend", "resume", "web-01"]);
    assert!(told.contains(ALL), "{told}");
    for edge in 0..3 {
        assert_eq!(ground.shares(edge, 30), thirds(), "edge {edge}");
    }

    // Another service, through the API.
    let body = json!({ "name": "api", "address": "192.0.2.10:81", "protocol": "tcp" }).to_string();
    let answer = ground.edges[2].api("POST", "/v1/services", Some(&body)).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let fleet = &answer.body["fleet"];
    let everybody = json!(["edge-1", "edge-2", "edge-3"]);
    assert_eq!((&fleet["applied"], &fleet["missing"]), (&everybody, &json!([])), "{fleet}");
    for edge in 0..3 {
        let status = ground.edges[edge].status().unwrap();
        assert_eq!(status["services"][1]["name"], "api", "edge {edge}");
        // Who did it, and where, is in every edge's history.
        let history = ground.edges[edge].json(&["history"]).unwrap();
        let last = history["entries"].as_array().unwrap().last().unwrap().to_string();
        assert!(edge == 2 || last.contains("edge-3"), "edge {edge}: {last}");
    }

    ground.done(0, &["backend", "add", "api", "web-01", "10.0.0.11:8080"]);

    // A whole text, and back again.
    let file = ground.candidate(
        2,
        "web-01\"\naddress = \"10.0.0.11:8080\"\nweight = 1",
        "web-01\"\naddress = \"10.0.0.11:8080\"\nweight = 2",
    );
    let told = ground.done(2, &["apply", &file]);
    assert!(told.contains(ALL), "{told}");
    let heavier = shares(&[("web-01", 20), ("web-02", 10), ("web-03", 10)]);
    for edge in 0..3 {
        assert_eq!(ground.shares(edge, 40), heavier, "edge {edge}");
    }
    let told = ground.done(0, &["rollback"]);
    assert!(told.contains(ALL), "{told}");
    for edge in 0..3 {
        assert_eq!(ground.shares(edge, 30), thirds(), "edge {edge}");
    }

    // What fails its verification is written nowhere.
    let file = ground.candidate(1, "name = \"web\"", "name = \"web\"\nexpected_connections = 9");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("weight = 1", "weight = 1\ncapacity = 1")).unwrap();
    let revision = ground.await_together().unwrap();
    let refused = ground.cli(1, &["apply", &file]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert_eq!(ground.await_together().unwrap(), revision);
    // Where what is at work fails already, what may help is not refused for it.
    ground.done(1, &["apply", "--no-verify", &file]);
    let outcome = ground.cli(0, &["backend", "weight", "web", "web-01", "2"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.contains(ALL), "{outcome:?}");
    assert!(outcome.stderr.contains("fails its verification, as what was"), "{outcome:?}");
}

/// Compare-and-swap: who comes second takes up what the first one wrote, and writes again.
#[test]
fn changes_wait_for_confirmation_and_those_at_the_same_moment_all_count() {
    let mut ground = Ground::new(2, 4).unwrap();
    waits_for_its_confirmation(&mut ground);
    let spares: Vec<_> = (2..4).map(|backend| ground.spare(backend)).collect();
    let add = |edge: usize, spare: usize| {
        (edge, spares[spare].iter().map(String::as_str).collect::<Vec<_>>())
    };
    for outcome in ground.at_once(&[add(0, 0), add(1, 1)]) {
        outcome.success().unwrap();
    }
    ground.await_together().unwrap();
    ground.await_reached(&[0, 1], "web-03");
    ground.await_reached(&[0, 1], "web-04");
    for edge in 0..2 {
        let mut names = ground.edges[edge].backends("web").unwrap();
        names.sort();
        assert_eq!(names, ["web-01", "web-02", "web-03", "web-04"]);
        assert_eq!(ground.shares(edge, 40).len(), 4);
    }

    // One may go of four where three have to stay. Both edges take out one at the same moment.
    let file = ground.candidate(0, "name = \"web\"", "name = \"web\"\nmin_active = 3");
    ground.done(0, &["apply", &file]);
    let drain = |name| vec!["backend", "drain", name, "--for", "1h", "--reason", "a test"];
    let outcomes = ground.at_once(&[(0, drain("web/web-01")), (1, drain("web/web-02"))]);
    let (done, refused): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| outcome.code == 0);
    assert_eq!(done.len(), 1, "{outcomes:#?}");
    assert!(refused[0].stderr.contains("min_active"), "{refused:?}");
    for edge in 0..2 {
        assert_eq!(ground.shares(edge, 40).len(), 3);
    }
}

/// A change waits in the store: anybody may confirm it, and whoever is left takes it back.
fn waits_for_its_confirmation(ground: &mut Ground) {
    let weights = ["weight = 1", "weight = 2"];
    let file = ground.candidate(0, weights[0], weights[1]);
    let told = ground.done(0, &["apply", "--no-verify", "--confirm", "10m", &file]);
    assert!(told.contains("applied by edge-1, edge-2"), "{told}");
    assert_eq!(ground.shares(1, 30), shares(&[("web-01", 20), ("web-02", 10)]));
    let waits = ground.edges[1].status().unwrap()["daemon"]["confirmation"].clone();
    assert!(waits["seconds_left"].as_u64() > Some(500), "{waits}");
    let refused = ground.cli(1, &["backend", "weight", "web", "web-01", "3"]);
    assert!(refused.code != 0 && refused.stderr.contains("confirm"), "{refused:?}");
    ground.done(1, &["confirm"]);
    let waits = ground.edges[0].status().unwrap()["daemon"]["confirmation"].clone();
    assert!(waits.is_null(), "{waits}");

    // Nobody confirms, and the edge that wrote it is gone.
    let file = ground.candidate(0, weights[1], weights[0]);
    let loads = ground.load();
    ground.done(0, &["apply", "--no-verify", "--confirm", "4s", &file]);
    assert_eq!(ground.edges[1].backend_status("web", "web-01").unwrap()["weight"], 1);
    ground.edges[0].kill().unwrap();
    patiently("it is taken back", || {
        let weight = ground.edges[1].backend_status("web", "web-01")?["weight"].clone();
        ensure!(weight == 2, "it is {weight}");
        Ok(())
    })
    .unwrap();
    ground.edges[0].run().unwrap();
    ground.await_together().unwrap();
    assert_eq!(ground.edges[0].backend_status("web", "web-01").unwrap()["weight"], 2);
    flawless(loads);
}

#[test]
fn who_does_not_apply_a_change_goes_on_and_is_named() {
    let mut ground =
        Ground::prepare(evenkeel_tests::servers::Etcd::start().unwrap(), 2, 3).unwrap();
    ground.start(&ground.text(0, &ground.web())).unwrap();
    // There is no room for a third one on this edge.
    let small = ground.text(1, &ground.web());
    let small = small.replace(TABLES, &format!("{TABLES}backends = 2\n"));
    ground.start(&small).unwrap();
    ground.await_together().unwrap();
    let loads = ground.load();

    let outcome = ground.cli(0, &ground.spare(2));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("applied by edge-1"), "{outcome:?}");
    assert!(!outcome.stdout.contains("edge-2"), "{outcome:?}");
    assert!(outcome.stderr.contains("warning: not applied by edge-2: "), "{outcome:?}");
    assert!(outcome.stderr.contains("backends"), "it says why: {outcome:?}");
    ground.await_alert(1, "store-refused", true);
    ground.await_alert(0, "edge-behind", true);
    ground.await_reached(&[0], "web-03");
    assert_eq!(ground.shares(0, 30).len(), 3);
    assert_eq!(ground.shares(1, 20).len(), 2);
    patiently("everybody sees that it refuses", || {
        let view = ground.view(0)?;
        let edge = edge(&view, "edge-2");
        ensure!(edge["refused"].to_string().contains("backends"), "{view:#}");
        Ok(())
    })
    .unwrap();

    ground.done(0, &["backend", "remove", "web", "web-03"]);
    ground.await_alert(1, "store-refused", false);
    ground.await_alert(0, "edge-behind", false);
    ground.await_together().unwrap();

    // One that hangs is waited for as long as a request may take, and then named; its data path goes on.
    ground.edges[1].signal(Signal::STOP).unwrap();
    let began = Instant::now();
    let drain = ["backend", "drain", "web/web-01", "--for", "1h", "--reason", "its disk"];
    let outcome = ground.cli(0, &drain);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.ends_with("applied by edge-1\n"), "{outcome:?}");
    assert!(outcome.stderr.contains("not applied by edge-2: it is at revision"), "{outcome:?}");
    assert!(began.elapsed() >= TIMEOUT, "{:?}", began.elapsed());
    for load in &loads {
        load.proceed(WHILE).unwrap();
    }
    ground.edges[1].signal(Signal::CONT).unwrap();
    ground.await_together().unwrap();
    assert_eq!(ground.shares(1, 20), shares(&[("web-02", 20)]));
    flawless(loads);
}

/// An edge in a view of the fleet.
pub fn edge<'a>(view: &'a Value, name: &str) -> &'a Value {
    let edges = view["edges"].as_array().unwrap();
    edges.iter().find(|edge| edge["name"] == name).unwrap_or(&Value::Null)
}
