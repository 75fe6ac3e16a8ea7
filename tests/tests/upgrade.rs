//! Upgrades under load: another program over the same tables, another layout of them, and back; and what a
//! crash on the way leaves.
//!
//! `evenkeel-next` is the same source with another layout: sticky clients' table has larger values.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail them, like the tests")]

use std::{fs, process::Command};

use anyhow::ensure;
use evenkeel_tests::{
    evenkeel::{self, Outcome},
    http::Connection,
    loads::{Loads, connections},
    netns::succeeded,
    settings::{HTTP_PROBE, Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};
use serde_json::Value;

const REPLACE: &[&str] = &["--replace-data-path"];

/// A stage whose backends are probed: a new data path has to learn first who is up.
fn stage() -> Stage {
    let probed = |lab: &Lab| {
        let web = |name, family| Service::web(name, family).backends(lab).probed(HTTP_PROBE);
        Settings::new(lab).with(web("web", Family::V4)).with(web("web6", Family::V6))
    };
    let stage = Stage::new(Wiring::Switched, 2, probed).unwrap();
    for service in ["web", "web6"] {
        for host in &stage.lab.backends {
            stage.balancer.await_active(service, &host.name, true).unwrap();
        }
    }
    stage
}

/// No request failed, and every connection is counted once, before and after.
fn flawless(loads: Loads, stage: &Stage) {
    let fresh = loads.flawless(stage).unwrap();
    assert_eq!(connections(stage, "web").unwrap(), fresh.ok, "counters are kept");
}

/// What bpftool says of a pin.
fn shown(stage: &Stage, kind: &str, pin: &str) -> Value {
    let mut command = Command::new("bpftool");
    command.args(["-j", kind, "show", "pinned"]).arg(stage.balancer.bpffs_path().join(pin));
    serde_json::from_str(&succeeded("bpftool", command.output().unwrap()).unwrap()).unwrap()
}

/// Each interface runs the program that is pinned.
fn assert_one_program(stage: &Stage) {
    let program = shown(stage, "prog", "program")["id"].clone();
    for link in ["links/front", "links/back"] {
        assert_eq!(shown(stage, "link", link)["prog_id"], program, "{link}");
    }
}

fn layout(stage: &Stage) -> u64 {
    stage.balancer.status().unwrap()["daemon"]["layout"].as_u64().unwrap()
}

fn refused(stage: &Stage, parts: &[&str]) {
    let Outcome { code, stderr, .. } = stage.balancer.run_refused().unwrap();
    assert_eq!(code, 1, "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "no {part:?} in {stderr}");
    }
}

#[test]
fn another_program_takes_the_same_tables_over() {
    let mut stage = stage();
    let loads = Loads::start(&stage).unwrap();
    // What the verifier made of it: without the flag it deletes the log calls.
    let size = |stage: &Stage| shown(stage, "prog", "program")["bytes_xlated"].clone();
    let mut before = size(&stage);
    for arguments in [&["--log-drops"][..], &[]] {
        stage.balancer.terminate().unwrap();
        stage.balancer.run_with(arguments);
        stage.balancer.run().unwrap();
        assert_one_program(&stage);
        let now = size(&stage);
        assert_ne!(before, now, "it is the same program as before");
        before = now;
        loads.proceed().unwrap();
    }
    flawless(loads, &stage);
}

#[test]
fn a_version_with_another_layout_is_refused_or_replaces_the_data_path() {
    let mut stage = stage();
    let (current, next) = (evenkeel::binary().unwrap(), evenkeel::next_version().unwrap());
    let loads = Loads::start(&stage).unwrap();
    let size = |stage: &Stage| shown(stage, "map", "maps/AFFINITIES_V4")["bytes_value"].clone();
    let (before, old) = (size(&stage), layout(&stage));

    // Refused, and nothing is lost by it.
    stage.balancer.terminate().unwrap();
    stage.balancer.install(next.clone());
    let told = format!("has layout version {old}, and this evenkeel has {}", old + 1);
    let ways_out = ["--replace-data-path", "(open connections go on)", "evenkeel detach"];
    refused(&stage, &[&[told.as_str()][..], &ways_out].concat());
    loads.proceed().unwrap();
    stage.balancer.install(current.clone());
    stage.balancer.run().unwrap();
    loads.proceed().unwrap();

    // Replaced, with all connections.
    stage.balancer.terminate().unwrap();
    stage.balancer.install(next);
    stage.balancer.run_with(REPLACE);
    stage.balancer.run().unwrap();
    loads.proceed().unwrap();
    assert_eq!(layout(&stage), old + 1);
    assert_ne!(size(&stage), before, "it is the same layout");
    assert_one_program(&stage);
    let pins = stage.balancer.bpffs_path().to_owned();
    assert!(!pins.join("next").exists() && !pins.join("old-maps").exists(), "pins are left");
    assert!(
        stage.balancer.log().contains("these tables begin empty: AFFINITIES_V4, AFFINITIES_V6")
    );
    // From then on it is a data path like any other.
    stage.balancer.run_with(&[]);
    stage.balancer.kill().unwrap();
    stage.balancer.run().unwrap();
    loads.proceed().unwrap();
    flawless(loads, &stage);

    // And back: what a later version changed the earlier one does not know.
    let mut open = stage.client().run(|| Connection::open(Family::V4.service(80))).unwrap();
    open.get("/").unwrap();
    stage.balancer.terminate().unwrap();
    stage.balancer.install(current);
    refused(&stage, &["--replace-data-path", "(open connections are cut)"]);
    open.get("/").unwrap();
    stage.balancer.run_with(REPLACE);
    stage.balancer.run().unwrap();
    assert_eq!((layout(&stage), size(&stage)), (old, before));
    assert_one_program(&stage);
    assert!(stage.balancer.log().contains("open connections will be cut"));
    stage.ask(Family::V4, 100).unwrap().flawless().unwrap();
    stage.ask(Family::V6, 100).unwrap().flawless().unwrap();
    assert!(open.get("/").is_err(), "a connection of the old tables goes on");
    assert_eq!(connections(&stage, "web").unwrap(), 100, "counters begin anew");
}

#[test]
fn a_crash_while_the_data_path_is_replaced_leaves_the_old_one_or_the_new_one() {
    let mut stage = stage();
    let (current, next) = (evenkeel::binary().unwrap(), evenkeel::next_version().unwrap());
    let loads = Loads::start(&stage).unwrap();
    let pins = stage.balancer.bpffs_path().to_owned();
    let old = layout(&stage);

    // While the new tables are being made.
    stage.balancer.terminate().unwrap();
    stage.balancer.install(next.clone());
    stage.balancer.run_with(REPLACE);
    let mut daemon = stage.balancer.begin().unwrap();
    eventually("the new program is loaded", PATIENCE, || {
        ensure!(pins.join("next/program").exists(), "{}", daemon.tail());
        Ok(())
    })
    .unwrap();
    daemon.kill().unwrap();
    assert!(pins.join("next").exists(), "it was too late for what is tried here");
    loads.proceed().unwrap();
    stage.balancer.install(current);
    stage.balancer.run_with(&[]);
    stage.balancer.run().unwrap();
    assert_eq!(layout(&stage), old);
    assert!(!pins.join("next").exists(), "pins are left");
    loads.proceed().unwrap();

    // Between the two renames that make the new maps the data path's.
    stage.balancer.terminate().unwrap();
    stage.balancer.install(next);
    stage.balancer.run_with(REPLACE);
    stage.balancer.run().unwrap();
    stage.balancer.kill().unwrap();
    fs::create_dir_all(pins.join("next")).unwrap();
    fs::rename(pins.join("maps"), pins.join("next/maps")).unwrap();
    fs::create_dir(pins.join("old-maps")).unwrap();
    loads.proceed().unwrap();
    stage.balancer.run_with(&[]);
    stage.balancer.run().unwrap();
    assert_eq!(layout(&stage), old + 1);
    assert!(!pins.join("next").exists() && !pins.join("old-maps").exists(), "pins are left");
    loads.proceed().unwrap();
    flawless(loads, &stage);

    // `detach` takes all of it away.
    stage.balancer.terminate().unwrap();
    fs::create_dir_all(pins.join("next/maps")).unwrap();
    stage.balancer.detach().unwrap().success().unwrap();
    assert!(!pins.exists(), "pins are left");
}
