//! The configuration as a whole: planned, applied, confirmed, taken back, reloaded; all or nothing, and
//! without one failed request.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

mod back;
mod reload;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::ensure;
use evenkeel_tests::{
    evenkeel::Outcome,
    load::{Load, Pattern},
    netns::succeeded,
    settings::{HTTP_PROBE, Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};
use serde_json::{Value, json};

/// How many requests are "under load for a while".
const WHILE: u64 = 200;

/// `web` with two of three backends, and `web6` with all three.
fn two_of_three(lab: &Lab) -> Settings {
    let web = Service::web("web", Family::V4);
    let web = web.backend(&lab.backends[0], 1).backend(&lab.backends[1], 1);
    Settings::new(lab).with(web).with(Service::web("web6", Family::V6).backends(lab))
}

/// Another configuration: `web` has the third backend, too, with twice the weight, and a probe; `web6`
/// has one less.
fn other(lab: &Lab) -> String {
    let [first, second, third] = &lab.backends[..] else { panic!("three backends") };
    let web = Service::web("web", Family::V4).backend(first, 1).backend(second, 1);
    let web = web.backend(third, 2).probed(HTTP_PROBE);
    let web6 = Service::web("web6", Family::V6).backend(first, 1).backend(third, 1);
    format!("# Other.\r\n{}# é, and no newline", Settings::new(lab).with(web).with(web6))
}

fn load(stage: &Stage) -> Load {
    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();
    load.proceed(WHILE).unwrap();
    load
}

/// Writes a candidate beside the configuration.
fn candidate(stage: &Stage, text: &str) -> PathBuf {
    let path = stage.balancer.scratch().join("candidate.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn cli(stage: &Stage, arguments: &[&str]) -> Outcome {
    stage.balancer.cli(arguments).unwrap()
}

fn apply(stage: &Stage, text: &str, more: &[&str]) -> Outcome {
    let path = candidate(stage, text);
    cli(stage, &[&["apply", "--no-verify", path.to_str().unwrap()], more].concat())
}

fn history(stage: &Stage) -> Vec<Value> {
    stage.balancer.json(&["history"]).unwrap()["entries"].as_array().unwrap().clone()
}

/// Everything that a change could have changed, but for what probes see.
fn state(stage: &Stage) -> (String, Vec<Vec<String>>, Vec<Value>, Value) {
    let backends =
        ["web", "web6"].map(|service| stage.balancer.backends(service).unwrap()).to_vec();
    let status = stage.balancer.status().unwrap();
    let text = stage.balancer.configuration().unwrap();
    (text, backends, history(stage), status["daemon"]["confirmation"].clone())
}

fn await_text(stage: &Stage, text: &str) {
    eventually("the configuration is another", PATIENCE, || {
        let found = stage.balancer.configuration()?;
        ensure!(found == text, "it is {found}\n{}", stage.balancer.log());
        Ok(())
    })
    .unwrap();
}

/// Something mounted over itself, until it is dropped: it can be neither renamed over nor, where it is
/// read-only, written.
struct Mounted(PathBuf);

impl Mounted {
    fn over(path: &Path, read_only: bool) -> Self {
        let path = path.canonicalize().unwrap();
        let mount = |arguments: &[&str]| {
            let output = Command::new("mount").args(arguments).arg(&path).output().unwrap();
            succeeded("mount", output).unwrap();
        };
        mount(&["--bind", path.to_str().unwrap()]);
        let mounted = Self(path.clone());
        if read_only {
            mount(&["-o", "remount,bind,ro"]);
        }
        mounted
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_plan_says_what_apply_then_does_under_load() {
    let stage = Stage::new(Wiring::Switched, 3, two_of_three).unwrap();
    let other = other(&stage.lab);
    let path = candidate(&stage, &other);
    let path = path.to_str().unwrap();
    let before = state(&stage);

    let plan = stage.balancer.json(&["plan", path]).unwrap();
    assert_eq!(plan["against"], "running");
    let web = &plan["services"][0];
    assert_eq!((&web["name"], &web["fate"]), (&json!("web"), &json!("changed")));
    let shares: Vec<_> = web["backends"].as_array().unwrap().iter().collect();
    let share = |index: usize, key: &str| shares[index][key].as_f64().unwrap();
    assert_eq!((share(0, "share_before"), share(0, "share_after")), (0.5, 0.25));
    assert_eq!((share(2, "share_before"), share(2, "share_after")), (0.0, 0.5));
    assert_eq!(shares[2]["fate"], "added");
    assert_eq!(plan["services"][1]["backends"][2]["fate"], "removed");
    let text = cli(&stage, &["plan", path]).success().unwrap();
    assert!(text.contains("+ web-03") && text.contains("health.kind: none → http"), "{text}");
    assert_eq!(state(&stage), before, "a plan changes nothing");

    let load = load(&stage);
    let applied = cli(&stage, &["apply", path]).success().unwrap();
    assert!(applied.contains("change 2: applied"), "{applied}");
    stage.balancer.await_active("web", "web-03", true).unwrap();
    load.proceed(WHILE).unwrap();
    assert_eq!(stage.balancer.configuration().unwrap(), other);
    assert_eq!(stage.balancer.backends("web").unwrap(), ["web-01", "web-02", "web-03"]);
    assert_eq!(stage.balancer.backends("web6").unwrap(), ["web-01", "web-03"]);
    let report = load.stop().unwrap();
    report.flawless().unwrap();
    assert_eq!(report.by_backend.len(), 3, "{report:?}");

    // The same once more is no change, and says so.
    let before = state(&stage);
    let same = cli(&stage, &["apply", path]).success().unwrap();
    assert!(same.contains("no change"), "{same}");
    assert!(cli(&stage, &["plan", path]).success().unwrap().contains("changes nothing"));
    assert_eq!(state(&stage), before);
}

#[test]
fn a_change_that_cannot_be_made_whole_is_not_made() {
    let stage = Stage::new(Wiring::Switched, 3, two_of_three).unwrap();
    let before = state(&stage);
    let good = other(&stage.lab);
    let refused = |text: &str, code: i32, mentions: &[&str]| {
        let outcome = apply(&stage, text, &[]);
        assert_eq!(outcome.code, code, "{outcome:?}");
        for mention in mentions {
            assert!(outcome.stderr.contains(mention), "no {mention:?}: {outcome:?}");
        }
        assert_eq!(state(&stage), before, "{mentions:?} changed something");
    };
    let load = load(&stage);
    // The second half alone is wrong, twice; both are said.
    let bad = good.replace("# é", "wieght = 2\ntiers = 1\n# é");
    refused(&bad, 2, &["candidate.toml:", "did you mean \"weight\"?", "did you mean \"tier\"?"]);
    refused(&good.replace("\"back\"", "\"bakc\""), 2, &["bakc", "did you mean \"back\"?"]);
    // Only a start can do these.
    let interfaces = good.replace("\"front\", \"back\"", "\"front\"");
    refused(&interfaces, 2, &["node.interfaces", "restart `evenkeel run`"]);
    let tables = format!("{good}\n[tables]\nservices = 10\n");
    refused(&tables, 2, &["tables.services", "evenkeel detach"]);
    {
        // A file that cannot be replaced.
        let _mounted = Mounted::over(&stage.balancer.config_path(), false);
        refused(&good, 1, &["write /", "evenkeel.toml"]);
    }
    {
        // A history that cannot be written.
        let _mounted = Mounted::over(&stage.balancer.state_path(), true);
        refused(&good, 1, &["history", "make room there or make it writable"]);
        let weight = cli(&stage, &["backend", "weight", "web", "web-01", "7"]);
        assert_eq!(weight.code, 1, "{weight:?}");
        assert_eq!(state(&stage), before);
        let confirm = apply(&stage, &good, &["--confirm", "60s"]);
        assert_eq!(confirm.code, 1, "{confirm:?}");
        assert_eq!(state(&stage), before);
    }
    load.stop().unwrap().flawless().unwrap();
    apply(&stage, &good, &[]).success().unwrap();
    assert_eq!(stage.balancer.configuration().unwrap(), good);
}

#[test]
fn without_a_daemon_a_plan_is_offline_or_says_so() {
    let mut stage = Stage::new(Wiring::Switched, 3, two_of_three).unwrap();
    stage.balancer.terminate().unwrap();
    let path = candidate(&stage, &other(&stage.lab));
    let path = path.to_str().unwrap();
    for arguments in [
        &["plan", path][..],
        &["apply", "--no-verify", path],
        &["confirm"],
        &["reload"],
        &["history"],
        &["history", "show", "1"],
        &["rollback"],
    ] {
        let outcome = cli(&stage, arguments);
        assert_eq!(outcome.code, 3, "{arguments:?}: {outcome:?}");
    }
    let config = stage.balancer.config_path();
    let offline = ["plan", path, "--offline", "--config", config.to_str().unwrap()];
    let plan = stage.balancer.json(&offline).unwrap();
    assert_eq!(plan["against"], config.to_str().unwrap());
    assert_eq!(plan["services"][0]["backends"][2]["share_after"], 0.5, "{plan}");
    let bad = candidate(&stage, "[node]\ninterfaces = 1\n");
    let bad = ["plan", bad.to_str().unwrap(), "--offline", "--config", config.to_str().unwrap()];
    let bad = cli(&stage, &bad);
    assert!(bad.code == 2 && bad.stderr.contains("candidate.toml:2"), "{bad:?}");
}

#[test]
fn killed_at_any_moment_of_an_apply_it_is_the_one_or_the_other() {
    let mut stage = Stage::new(Wiring::Switched, 3, two_of_three).unwrap();
    let texts = [stage.balancer.configuration().unwrap(), other(&stage.lab)];
    let socket = stage.balancer.socket_path();
    let load = load(&stage);
    for round in 0..6_u32 {
        let now = stage.balancer.configuration().unwrap();
        let wanted = texts.iter().find(|text| **text != now).unwrap();
        let path = candidate(&stage, wanted);
        let arguments =
            ["apply", "--no-verify", path.to_str().unwrap(), "--socket", socket.to_str().unwrap()];
        let mut apply = stage.balancer.command(&arguments).spawn().unwrap();
        // Not to wait for anything: the moment is what differs from round to round.
        std::thread::sleep(Duration::from_millis(u64::from(round) * 15));
        stage.balancer.kill().unwrap();
        let answered = apply.wait().unwrap().success();
        stage.balancer.run().unwrap();

        let text = stage.balancer.configuration().unwrap();
        assert!(texts.contains(&text), "torn: {text}");
        assert!(!answered || text == *wanted, "what was said to be done is undone");
        let backends = if text == texts[0] { 2 } else { 3 };
        assert_eq!(stage.balancer.backends("web").unwrap().len(), backends);
        let last = history(&stage).pop().unwrap()["number"].to_string();
        let recorded = cli(&stage, &["history", "show", &last, "--text"]).success().unwrap();
        assert_eq!(recorded, text, "the history ends with what is at work");
        let directory = std::fs::read_dir(stage.balancer.state_path().join("history")).unwrap();
        let files = directory.map(|file| file.unwrap().path());
        let left: Vec<_> = files.filter(|file| file.extension() == Some("new".as_ref())).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
    load.proceed(WHILE).unwrap();
    load.stop().unwrap().flawless().unwrap();
}
