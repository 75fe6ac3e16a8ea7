//! Back again: what is not confirmed in time, and what `rollback` asks for.

use std::time::{Duration, SystemTime};

use anyhow::ensure;
use evenkeel_tests::{
    stage::Stage,
    topology::Wiring,
    wait::{PATIENCE, eventually},
};
use serde_json::{Value, json};

use crate::{
    Mounted, WHILE, apply, await_text, candidate, cli, history, load, other, state, two_of_three,
};

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
