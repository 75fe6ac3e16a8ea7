//! Somebody else writes to the kernel's tables: it is noticed, mended and told.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::process::Command;

use evenkeel_tests::{
    netns::succeeded,
    settings::Settings,
    stage::Stage,
    topology::{Family, Wiring},
    wait::{PATIENCE, eventually},
};
use serde_json::Value;

fn bpftool(stage: &Stage, verb: &[&str], map: &str, rest: &[String]) -> String {
    let mut command = Command::new("bpftool");
    command.args(["-j", "map"]).args(verb).arg("pinned");
    command.arg(stage.balancer.bpffs_path().join("maps").join(map)).args(rest);
    succeeded("bpftool", command.output().unwrap()).unwrap()
}

/// The first element of a map, its key and value as bytes in hexadecimal.
fn first(stage: &Stage, map: &str) -> (Vec<String>, Vec<String>) {
    let dump: Value = serde_json::from_str(&bpftool(stage, &["dump"], map, &[])).unwrap();
    let bytes = |value: &Value| {
        let bytes = value.as_array().unwrap().iter();
        bytes.map(|byte| byte.as_str().unwrap().to_owned()).collect()
    };
    (bytes(&dump[0]["key"]), bytes(&dump[0]["value"]))
}

fn hexadecimal(word: &str, bytes: &[String]) -> Vec<String> {
    let bytes = bytes.iter().map(|byte| byte.trim_start_matches("0x").to_owned());
    [word.to_owned(), "hex".to_owned()].into_iter().chain(bytes).collect()
}

fn await_repair(stage: &Stage, what: &str) {
    eventually(&format!("{what} is mended"), PATIENCE, || {
        let status = stage.balancer.status()?;
        let last = status["daemon"]["last_repair"]["what"].as_str().unwrap_or_default();
        anyhow::ensure!(last.contains(what), "the last one is {last:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn tables_that_somebody_else_changed_are_mended() {
    let stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    stage.ask(Family::V4, 10).unwrap().flawless().unwrap();
    assert_eq!(stage.balancer.status().unwrap()["daemon"]["table_repairs"], 0);

    // The service is gone.
    let (key, _) = first(&stage, "SERVICES_V4");
    bpftool(&stage, &["delete"], "SERVICES_V4", &hexadecimal("key", &key));
    await_repair(&stage, "service web at");
    stage.ask(Family::V4, 10).unwrap().flawless().unwrap();

    // So are its settings, and all that is known of the first backend.
    for (map, what) in
        [("SERVICE_SETTINGS", "the settings of service web"), ("BACKENDS_V4", "backend web/web-01")]
    {
        let (key, value) = first(&stage, map);
        let zeros = vec!["00".to_owned(); value.len()];
        let rest = [hexadecimal("key", &key), hexadecimal("value", &zeros)].concat();
        bpftool(&stage, &["update"], map, &rest);
        await_repair(&stage, what);
    }
    // And its address: the filter, and the table of addresses.
    let (key, _) = first(&stage, "ADDRESSES_V4");
    bpftool(&stage, &["delete"], "ADDRESSES_V4", &hexadecimal("key", &key));
    await_repair(&stage, "address 192.0.2.10");

    // The ring is another one, and an empty one.
    let pin = stage.balancer.bpffs_path().join("stranger");
    let mut create = Command::new("bpftool");
    create.args(["map", "create"]).arg(&pin);
    create.args("type array key 4 value 4 entries 5 name ring flags 0x1000".split(' '));
    succeeded("bpftool", create.output().unwrap()).unwrap();
    let swap = ["key", "0", "0", "0", "0", "value", "pinned", pin.to_str().unwrap()];
    bpftool(&stage, &["update"], "RINGS", &swap.map(str::to_owned));
    await_repair(&stage, "the ring of service web");

    let report = stage.ask(Family::V4, 20).unwrap();
    report.flawless().unwrap();
    assert_eq!((report.by_backend["web-01"], report.by_backend["web-02"]), (10, 10));
    let log = stage.balancer.log();
    assert!(log.contains("changed by somebody else, and are mended"), "{log}");
    let screen = stage.balancer.cli(&["status"]).unwrap().success().unwrap();
    assert!(screen.contains("somebody else changed the kernel's tables (5 times"), "{screen}");
}
