//! The configuration as a whole: planned, applied, confirmed, taken back, reloaded; all or nothing, and
//! without one failed request.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
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
use rustix::process::Signal;
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
fn a_change_stays_when_it_is_confirmed_and_goes_when_it_is_not() {
    let stage = Stage::new(Wiring::Switched, 3, two_of_three).unwrap();
    let (old, new) = (stage.balancer.configuration().unwrap(), other(&stage.lab));
    let load = load(&stage);

    let applied = apply(&stage, &new, &["--confirm", "1h"]).success().unwrap();
    assert!(applied.contains("`evenkeel confirm` until 20"), "{applied}");
    let status = stage.balancer.status().unwrap();
    assert_eq!(status["daemon"]["confirmation"]["number"], 2, "{status}");
    let screen = cli(&stage, &["status"]).success().unwrap();
    assert!(screen.contains("! change 2"), "{screen}");
    // Nothing else goes in between.
    let before = state(&stage);
    let path = candidate(&stage, &old);
    let path = path.to_str().unwrap();
    for arguments in [
        &["apply", "--no-verify", path][..],
        &["apply", "--no-verify", path, "--confirm", "1h"],
        &["backend", "weight", "web", "web-01", "7"],
        &["reload"],
        &["rollback", "1"],
    ] {
        let refused = cli(&stage, arguments);
        assert_eq!(refused.code, 2, "{arguments:?}: {refused:?}");
        assert!(refused.stderr.contains("evenkeel confirm"), "{arguments:?}: {refused:?}");
        assert_eq!(state(&stage).0, before.0, "{arguments:?}");
    }
    let confirmed = cli(&stage, &["confirm"]).success().unwrap();
    assert!(confirmed.contains("change 2 is confirmed"), "{confirmed}");
    let again = cli(&stage, &["confirm"]);
    assert_eq!((again.code, again.stdout.is_empty()), (2, true), "{again:?}");
    assert_eq!(stage.balancer.status().unwrap()["daemon"]["confirmation"], Value::Null);

    // Taken back at once, and by itself.
    apply(&stage, &old, &["--confirm", "1h"]).success().unwrap();
    assert_eq!(stage.balancer.backends("web").unwrap().len(), 2);
    cli(&stage, &["rollback"]).success().unwrap();
    assert_eq!(stage.balancer.configuration().unwrap(), new);
    apply(&stage, &old, &["--confirm", "1s"]).success().unwrap();
    await_text(&stage, &new);
    assert_eq!(stage.balancer.backends("web").unwrap().len(), 3);
    stage.balancer.await_active("web", "web-03", true).unwrap();
    let last = history(&stage).pop().unwrap();
    assert_eq!(last["who"]["user"], "daemon", "{last}");
    assert!(last["what"].as_str().unwrap().contains("not confirmed in time"), "{last}");
    load.proceed(WHILE).unwrap();
    load.stop().unwrap().flawless().unwrap();
}

#[test]
fn the_data_path_goes_back_even_if_the_file_cannot_be_written() {
    let stage = Stage::new(Wiring::Switched, 3, two_of_three).unwrap();
    let (old, new) = (stage.balancer.configuration().unwrap(), other(&stage.lab));
    let load = load(&stage);
    apply(&stage, &new, &["--confirm", "10s"]).success().unwrap();
    let mounted = Mounted::over(&stage.balancer.config_path(), false);
    eventually("the data path is rolled back", PATIENCE, || {
        let backends = stage.balancer.backends("web")?;
        ensure!(backends.len() == 2, "{backends:?}\n{}", stage.balancer.log());
        Ok(())
    })
    .unwrap();
    assert_eq!(stage.balancer.configuration().unwrap(), new, "the file cannot follow yet");
    let late = cli(&stage, &["confirm"]);
    assert!(late.code == 2 && late.stderr.contains("not confirmed in time"), "{late:?}");
    drop(mounted);
    await_text(&stage, &old);
    eventually("nothing waits any more", PATIENCE, || {
        let daemon = stage.balancer.status()?["daemon"].clone();
        ensure!(daemon["confirmation"].is_null() && daemon["config_edited"].is_null(), "{daemon}");
        Ok(())
    })
    .unwrap();
    load.proceed(WHILE).unwrap();
    load.stop().unwrap().flawless().unwrap();
}

#[test]
fn a_daemon_that_is_killed_in_between_rolls_back_all_the_same() {
    let mut stage = Stage::new(Wiring::Switched, 3, two_of_three).unwrap();
    let (old, new) = (stage.balancer.configuration().unwrap(), other(&stage.lab));
    let load = load(&stage);

    // In time after a restart: still waited for, and confirmed.
    apply(&stage, &new, &["--confirm", "1h"]).success().unwrap();
    stage.balancer.kill().unwrap();
    stage.balancer.run().unwrap();
    assert_eq!(stage.balancer.configuration().unwrap(), new);
    let waits = stage.balancer.status().unwrap()["daemon"]["confirmation"].clone();
    assert_eq!((&waits["number"], &waits["who"]["uid"]), (&json!(2), &json!(0)), "{waits}");
    cli(&stage, &["confirm"]).success().unwrap();
    stage.balancer.kill().unwrap();
    stage.balancer.run().unwrap();
    assert_eq!(stage.balancer.configuration().unwrap(), new, "what is confirmed stays");

    // The time is over while a daemon runs, or while none does.
    for waits_dead in [false, true] {
        apply(&stage, &old, &["--confirm", "2s"]).success().unwrap();
        let over = SystemTime::now() + Duration::from_secs(2);
        stage.balancer.kill().unwrap();
        if waits_dead {
            eventually("the time to confirm is over", PATIENCE, || {
                ensure!(SystemTime::now() > over, "not yet");
                Ok(())
            })
            .unwrap();
        }
        stage.balancer.run().unwrap();
        await_text(&stage, &new);
        assert_eq!(stage.balancer.backends("web").unwrap().len(), 3);
        let last = history(&stage).pop().unwrap();
        assert!(last["what"].as_str().unwrap().contains("not confirmed in time"), "{last}");
        assert_eq!(stage.balancer.status().unwrap()["daemon"]["confirmation"], Value::Null);
    }
    load.proceed(WHILE).unwrap();
    load.stop().unwrap().flawless().unwrap();
}

#[test]
fn history_and_rollback_give_back_every_byte() {
    let stage = Stage::new(Wiring::Switched, 3, two_of_three).unwrap();
    let mut texts = vec![stage.balancer.configuration().unwrap()];
    cli(&stage, &["backend", "weight", "web", "web-02", "3"]).success().unwrap();
    texts.push(stage.balancer.configuration().unwrap());
    apply(&stage, &other(&stage.lab), &[]).success().unwrap();
    texts.push(stage.balancer.configuration().unwrap());
    cli(&stage, &["backend", "remove", "web", "web-01"]).success().unwrap();
    texts.push(stage.balancer.configuration().unwrap());

    let entries = history(&stage);
    let what = |index: usize| entries[index]["what"].as_str().unwrap();
    assert_eq!(entries.len(), 4, "{entries:#?}");
    assert!(what(0).contains("started with"), "{entries:#?}");
    assert_eq!(what(1), "backend web/web-02 has weight 3");
    assert!(what(2).contains("applied") && what(3).contains("web-01 removed"), "{entries:#?}");
    assert_eq!(entries[1]["who"], json!({"uid": 0, "user": "root"}));
    for (index, text) in texts.iter().enumerate() {
        let shown = cli(&stage, &["history", "show", &(index + 1).to_string(), "--text"]);
        assert_eq!(shown.success().unwrap(), *text, "entry {}", index + 1);
    }
    let diff = cli(&stage, &["history", "show", "2"]).success().unwrap();
    assert!(diff.contains("-weight = 1\n") && diff.contains("+weight = 3\n"), "{diff}");
    let table = cli(&stage, &["history"]).success().unwrap();
    assert!(table.lines().nth(1).unwrap().contains("root (uid 0)"), "{table}");

    let load = load(&stage);
    let back = |arguments: &[&str], text: &str| {
        cli(&stage, arguments).success().unwrap();
        assert_eq!(stage.balancer.configuration().unwrap(), text, "{arguments:?}");
        load.proceed(WHILE).unwrap();
    };
    back(&["rollback"], &texts[2]);
    back(&["rollback"], &texts[3]);
    back(&["rollback", "1"], &texts[0]);
    assert_eq!(stage.balancer.backend_status("web", "web-02").unwrap()["weight"], 1);
    back(&["rollback", "3"], &texts[2]);
    let none = cli(&stage, &["rollback", "99"]);
    assert!(none.code == 2 && none.stderr.contains("1 to 8"), "{none:?}");
    load.stop().unwrap().flawless().unwrap();
}

#[test]
fn edits_by_hand_are_drift_until_a_signal_takes_them() {
    let stage = Stage::new(Wiring::Switched, 3, two_of_three).unwrap();
    let old = stage.balancer.configuration().unwrap();
    let edited = other(&stage.lab);
    let load = load(&stage);
    let drift = || stage.balancer.status().unwrap()["daemon"]["config_edited"].clone();
    let await_drift = |there: bool| {
        eventually("drift is noticed", PATIENCE, || {
            ensure!(drift().is_null() != there, "{}", drift());
            Ok(())
        })
        .unwrap();
    };
    assert_eq!(drift(), Value::Null);
    // As editors do it: another file, renamed over the old one.
    let saved = candidate(&stage, &edited);
    std::fs::rename(&saved, stage.balancer.config_path()).unwrap();
    await_drift(true);
    let screen = cli(&stage, &["status"]).success().unwrap();
    assert!(screen.contains("! ") && screen.contains("was edited"), "{screen}");
    for outcome in [
        cli(&stage, &["backend", "weight", "web", "web-01", "7"]),
        apply(&stage, &old.replace("weight = 1", "weight = 5"), &[]),
        cli(&stage, &["rollback", "1"]),
    ] {
        assert_eq!(outcome.code, 2, "{outcome:?}");
        assert!(outcome.stderr.contains("evenkeel reload"), "{outcome:?}");
    }
    assert_eq!(stage.balancer.configuration().unwrap(), edited, "edits are not overwritten");
    assert_eq!(stage.balancer.backends("web").unwrap().len(), 2, "nor taken");
    assert_eq!(stage.balancer.log().matches("what is at work stays until").count(), 1);

    stage.balancer.signal(Signal::HUP).unwrap();
    await_drift(false);
    assert_eq!(stage.balancer.backends("web").unwrap().len(), 3);
    stage.balancer.await_active("web", "web-03", true).unwrap();
    load.proceed(WHILE).unwrap();
    assert_eq!(history(&stage).pop().unwrap()["who"], json!({"user": "signal"}));

    // One that is invalid changes nothing, and every reason is in the log.
    let before = state(&stage);
    let invalid = format!("{edited}\ncolour = 1\nwieght = 2\n");
    stage.balancer.configure(&invalid).unwrap();
    stage.balancer.signal(Signal::HUP).unwrap();
    eventually("the refusal is in the log", PATIENCE, || {
        let log = stage.balancer.log();
        let all = ["reload refused", "unknown key \"colour\"", "did you mean \"weight\"?"];
        ensure!(all.iter().all(|text| log.contains(text)), "{log}");
        Ok(())
    })
    .unwrap();
    let refused = cli(&stage, &["reload"]);
    assert!(refused.code == 2 && refused.stderr.contains("colour"), "{refused:?}");
    assert_eq!(state(&stage).1, before.1);
    assert_eq!(stage.balancer.configuration().unwrap(), invalid);
    stage.balancer.configure(&old).unwrap();
    let reloaded = cli(&stage, &["reload"]).success().unwrap();
    assert!(reloaded.contains("reloaded"), "{reloaded}");
    assert_eq!(stage.balancer.backends("web").unwrap().len(), 2);
    load.proceed(WHILE).unwrap();
    load.stop().unwrap().flawless().unwrap();
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

#[test]
fn a_candidate_that_fails_its_verification_does_not_go_live() {
    let stage = Stage::new(Wiring::Switched, 3, two_of_three).unwrap();
    let before = state(&stage);
    // Either of two could carry what both are expected to, if its capacity were larger.
    let text = before.0.replacen("[[service.backend]]", "[[service.backend]]\ncapacity = 600", 2);
    let text = text.replacen("protocol = ", "expected_connections = 1000\nprotocol = ", 1);
    let path = candidate(&stage, &text);
    let refused = cli(&stage, &["apply", path.to_str().unwrap()]);
    assert_eq!(refused.code, 4, "{refused:?}");
    for part in
        ["fails its verification, nothing was changed", "web without web-01", "1000", "--no-verify"]
    {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
    assert_eq!(state(&stage), before);
    apply(&stage, &text, &[]).success().unwrap();
    assert_eq!(stage.balancer.configuration().unwrap(), text);
}
