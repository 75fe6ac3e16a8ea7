//! The file, edited by hand: noticed, not overwritten, and taken up when somebody asks.

use anyhow::ensure;
use evenkeel_tests::{
    stage::Stage,
    topology::Wiring,
    wait::{PATIENCE, eventually},
};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{WHILE, apply, candidate, cli, history, load, other, state, two_of_three};

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
    // Nor does a file that says the same, whoever asks for it.
    stage.balancer.configure(&text).unwrap();
    let refused = cli(&stage, &["reload"]);
    assert!(refused.code == 4 && refused.stderr.contains("web without web-01"), "{refused:?}");
    stage.balancer.signal(Signal::HUP).unwrap();
    eventually("the refusal is in the log", PATIENCE, || {
        let log = stage.balancer.log();
        ensure!(log.contains("reload refused") && log.contains("web without web-01"), "{log}");
        Ok(())
    })
    .unwrap();
    assert_eq!(history(&stage), before.2);
    stage.balancer.configure(&before.0).unwrap();
    apply(&stage, &text, &[]).success().unwrap();
    assert_eq!(stage.balancer.configuration().unwrap(), text);
    stage.balancer.configure(&text.replace("capacity = 600", "capacity = 500")).unwrap();
    cli(&stage, &["reload", "--no-verify"]).success().unwrap();
}
