//! One edge alone: the address on its interface, what a crash, a restart and an operator's own address do to it, hooks,
//! and the node's drain.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{
    evenkeel::Balancer,
    netns::succeeded,
    settings::{Service, Settings},
    stage::Stage,
    topology::{Family, Lab, VIP4, Wiring},
    wait::{PATIENCE, eventually},
};

const QUICK: &str = "[announce]\nannounce_after = \"200ms\"\n";

fn lab() -> Lab {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    // The lab's edge has the address on its front; here the balancer puts it where it belongs.
    lab.edge.namespace.ip(&format!("address del {VIP4}/32 dev front")).unwrap();
    lab
}

fn settings(lab: &Lab, announce: &str) -> String {
    let settings = Settings::new(lab).with(Service::web("web", Family::V4).backends(lab));
    settings.to_string().replacen("\n[[service]]", &format!("\n{announce}\n[[service]]"), 1)
}

fn has_address(lab: &Lab) -> Result<bool> {
    let mut command = lab.edge.namespace.command("ip");
    command.args(["-brief", "address", "show", "dev", "lo"]);
    let text = succeeded("ip address", command.output().context("run ip")?)?;
    Ok(text.contains(&format!("{VIP4}/32")))
}

fn await_address(lab: &Lab, there: bool) {
    eventually(&format!("the address is there: {there}"), PATIENCE, || {
        ensure!(has_address(lab)? == there, "it is not so");
        Ok(())
    })
    .unwrap();
}

fn await_announced(balancer: &Balancer, announced: bool) {
    eventually(&format!("announced: {announced}"), PATIENCE, || {
        let told = balancer.status()?["announcements"][0].clone();
        ensure!(told["announced"] == announced, "{told}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_address_follows_the_backends_the_people_and_the_daemon() {
    let lab = lab();
    let text = settings(&lab, QUICK);
    let mut stage = Stage::on_text(lab, &text).unwrap();
    await_address(&stage.lab, true);
    await_announced(&stage.balancer, true);
    // Enough for a request, from the host's own network alone.
    stage.ask(Family::V4, 20).unwrap().flawless().unwrap();

    // Both backends out: withdrawn at once; back, and it is announced again.
    let out = ["backend", "drain", "web/web-01", "--for", "1h", "--reason", "disk", "--force"];
    stage.balancer.cli(&out).unwrap().success().unwrap();
    let out = ["backend", "drain", "web/web-02", "--for", "1h", "--reason", "disk", "--force"];
    stage.balancer.cli(&out).unwrap().success().unwrap();
    await_address(&stage.lab, false);
    let events = stage.balancer.cli(&["events"]).unwrap().success().unwrap();
    assert!(events.contains("is withdrawn: web has 0 of 1 active backends"), "{events}");
    stage.balancer.cli(&["backend", "resume", "web-01"]).unwrap().success().unwrap();
    await_address(&stage.lab, true);

    // Somebody takes it off: it is put back.
    stage.lab.edge.namespace.ip(&format!("address del {VIP4}/32 dev lo")).unwrap();
    await_address(&stage.lab, true);

    // A crash leaves it, as it leaves the data path; the next daemon takes both over.
    stage.balancer.kill().unwrap();
    assert!(has_address(&stage.lab).unwrap());
    stage.ask(Family::V4, 20).unwrap().flawless().unwrap();
    stage.balancer.run().unwrap();
    await_announced(&stage.balancer, true);
    let log = stage.balancer.log();
    assert_eq!(log.matches("is withdrawn").count(), 1, "{log}");

    // A drain is kept over a restart, and everybody is told of it.
    let drain = ["node", "drain", "--for", "forever", "--reason", "new kernel", "--no-wait"];
    stage.balancer.cli(&drain).unwrap().success().unwrap();
    await_address(&stage.lab, false);
    stage.balancer.terminate().unwrap();
    stage.balancer.run().unwrap();
    let status = stage.balancer.cli(&["status"]).unwrap().success().unwrap();
    assert!(status.contains("this node is drained"), "{status}");
    assert!(status.contains("until somebody resumes it"), "{status}");
    eventually("the alert is raised", PATIENCE, || {
        let alerts = stage.balancer.cli(&["alerts"])?.success()?;
        ensure!(alerts.contains("this node is drained since"), "{alerts}");
        Ok(())
    })
    .unwrap();
    assert_eq!(stage.balancer.cli(&["healthcheck"]).unwrap().code, 1);
    assert!(!has_address(&stage.lab).unwrap());
    stage.balancer.cli(&["node", "resume"]).unwrap().success().unwrap();
    await_address(&stage.lab, true);
    let told = stage.balancer.cli(&["healthcheck", "web"]).unwrap();
    assert_eq!((told.code, told.stdout.as_str()), (0, "well: 1 of 1 service can be served\n"));
    let metrics = stage.lab.edge.namespace.command("curl");
    let mut metrics = metrics;
    let metrics = metrics.args(["--silent", "http://127.0.0.1:9650/metrics"]).output().unwrap();
    let metrics = succeeded("curl", metrics).unwrap();
    let line = format!("evenkeel_announced{{service=\"web\",address=\"{VIP4}\"}} 1");
    assert!(metrics.contains(&line), "{metrics}");

    // Told to stop, it withdraws; and nobody being there is a no.
    stage.balancer.terminate().unwrap();
    assert!(!has_address(&stage.lab).unwrap());
    assert_eq!(stage.balancer.cli(&["healthcheck"]).unwrap().code, 1);

    // What a crash left goes with the data path.
    stage.balancer.run().unwrap();
    await_address(&stage.lab, true);
    stage.balancer.kill().unwrap();
    stage.balancer.detach().unwrap().success().unwrap();
    assert!(!has_address(&stage.lab).unwrap());
}

#[test]
fn an_operators_own_address_stays_and_is_told_of() {
    let lab = lab();
    lab.edge.namespace.ip(&format!("address add {VIP4}/32 dev lo")).unwrap();
    let mut balancer = Balancer::prepare(&lab, &settings(&lab, QUICK)).unwrap();
    balancer.run().unwrap();
    eventually("the alert is raised", PATIENCE, || {
        let alerts = balancer.cli(&["alerts"])?.success()?;
        ensure!(alerts.contains("put there by somebody else"), "{alerts}");
        Ok(())
    })
    .unwrap();
    balancer.terminate().unwrap();
    assert!(has_address(&lab).unwrap());
    let wrong = settings(&lab, "[announce]\ninterface = \"dummy7\"\n");
    let file = balancer.scratch().join("wrong.toml");
    fs::write(&file, wrong).unwrap();
    let refused = balancer.check(&file).unwrap();
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("interface \"dummy7\", which the address of service \"web\""));
}

#[test]
fn a_hook_is_told_and_its_failure_is_an_alert() {
    let lab = lab();
    let directory = tempfile::tempdir().unwrap();
    let (script, log) = (directory.path().join("hook"), directory.path().join("log"));
    let broken = directory.path().join("broken");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let lines = format!(
        "#!/bin/sh\n[ -e {broken} ] && {{ echo no router; exit 3; }}\n\
         echo \"$1 $2 $EVENKEEL_SERVICES\" >> {log}\n",
        broken = broken.display(),
        log = log.display()
    );
    fs::write(&script, lines).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let announce = format!("{QUICK}way = \"hook\"\ncommand = [\"{}\"]\n", script.display());
    let mut balancer = Balancer::prepare(&lab, &settings(&lab, &announce)).unwrap();
    balancer.run().unwrap();
    let told = || fs::read_to_string(&log).unwrap_or_default();
    let await_told = |lines: &str| {
        eventually("the hook was told", PATIENCE, || {
            ensure!(told() == lines, "{}", told());
            Ok(())
        })
        .unwrap();
    };
    // Nobody knows what it was told before.
    let first = format!("withdraw {VIP4}/32 web\nannounce {VIP4}/32 web\n");
    await_told(&first);
    fs::write(&broken, "").unwrap();
    let drain = ["node", "drain", "--for", "1h", "--reason", "new kernel", "--no-wait"];
    balancer.cli(&drain).unwrap().success().unwrap();
    eventually("the alert is raised", PATIENCE, || {
        let alerts = balancer.cli(&["alerts"])?.success()?;
        ensure!(alerts.contains("cannot be withdrawn: exit code 3: \"no router\""), "{alerts}");
        Ok(())
    })
    .unwrap();
    assert_eq!(balancer.status().unwrap()["announcements"][0]["announced"], true);
    fs::remove_file(&broken).unwrap();
    await_told(&format!("{first}withdraw {VIP4}/32 web\n"));
}
