//! Where alerts go: a webhook that fails first, a real Alertmanager, and a program without privileges.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{
    evenkeel::Balancer,
    netns::{Namespace, succeeded},
    process::Process,
    settings::{Service, Settings},
    topology::Family,
    wait::eventually,
};
use serde_json::Value;

use super::{
    FAST, LONG, cleared,
    hook::{Answer, serve, told},
    raised, stage,
};

const ID: &str = "out-of-service/web/web-02";
const MANAGER: &str = "http://127.0.0.1:9093";

fn drain(balancer: &Balancer) {
    let drain = ["backend", "drain", "web-02", "--for", "forever", "--reason", "a test"];
    balancer.cli(&drain).unwrap().success().unwrap();
    raised(balancer, ID);
}

fn resume(balancer: &Balancer) {
    balancer.cli(&["backend", "resume", "web-02"]).unwrap().success().unwrap();
    cleared(balancer, ID);
}

/// A configuration with these targets.
fn with(targets: &str) -> evenkeel_tests::stage::Stage {
    stage(|lab| {
        let web = Service::web("web", Family::V4).backends(lab);
        format!("{}{FAST}{targets}", Settings::new(lab).with(web))
    })
}

/// The metrics that the playbook's page has an operator alert on, as it writes them.
fn playbooks_metrics() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/playbook/delivery-failed.md");
    let text = fs::read_to_string(page).unwrap();
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|quoted| quoted.starts_with("evenkeel_")).map(str::to_owned).collect()
}

/// What `/metrics` shows.
fn metrics(inside: &Namespace) -> String {
    let mut command = inside.command("curl");
    command.args(["--silent", "--show-error", "--max-time", "10", "http://127.0.0.1:9650/metrics"]);
    succeeded("curl", command.output().unwrap()).unwrap()
}

#[test]
fn a_webhook_gets_it_after_all() {
    let stage = with("");
    let balancer = &stage.balancer;
    let token = stage.scratch().join("token");
    fs::write(&token, "secret\n").unwrap();
    // Reload is enough; nobody listens there yet.
    let hook = format!(
        "[[alerts.webhook]]\nurl = \"http://127.0.0.1:8099/hook\"\ntimeout = \"500ms\"\n\
         headers = [\"X-Scope: edge\"]\nbearer_token_file = \"{}\"\n",
        token.display()
    );
    balancer.configure(&format!("{}{hook}", balancer.configuration().unwrap())).unwrap();
    balancer.cli(&["reload"]).unwrap().success().unwrap();
    drain(balancer);
    let failing = raised(balancer, "delivery-failed");
    assert!(failing["evidence"]["problem"].as_str().unwrap().contains("refused"), "{failing}");
    assert_eq!(failing["evidence"]["targets"], "webhook http://127.0.0.1:8099/hook", "{failing}");
    let inside = &stage.lab.edge.namespace;
    let failed = playbooks_metrics();
    assert!(!failed.is_empty(), "the playbook names no metric");
    for series in &failed {
        let (name, labels) = series.split_once('{').unwrap();
        let labels: Vec<_> = labels.trim_end_matches('}').split(',').collect();
        let text = metrics(inside);
        let shown = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        let fits = |line: &&str| labels.iter().all(|label| line.contains(label));
        let value = shown.clone().find(fits).and_then(|line| line.rsplit_once(' '));
        let value: f64 =
            value.unwrap_or_else(|| panic!("no {series} in {text}")).1.parse().unwrap();
        assert!(value >= 3.0, "{series} is {value}");
    }

    let received = serve(inside, 8099, &[Answer::Fail, Answer::Hang, Answer::Take]);
    let began = Instant::now();
    let (head, alert) = told(&received, ID, "raised");
    assert!(head.starts_with("POST /hook "), "{head}");
    let lower = head.to_lowercase();
    assert!(
        lower.contains("x-scope: edge") && lower.contains("authorization: bearer secret"),
        "{head}"
    );
    assert_eq!((&alert["kind"], &alert["backend"]), (&"out-of-service".into(), &"web-02".into()));
    // Meanwhile it answered, as it does now.
    assert!(stage.balancer.status().is_ok(), "after {:?}", began.elapsed());
    cleared(balancer, "delivery-failed");
    resume(balancer);
    let (_, alert) = told(&received, ID, "cleared");
    assert!(alert["cleared"].is_string(), "{alert}");
    let deliveries = balancer.json(&["alerts"]).unwrap()["deliveries"].clone();
    let count = |name: &str| deliveries[0][name].as_u64().unwrap();
    assert!(
        count("failed") >= 5 && count("delivered") >= 2 && count("dropped") == 0,
        "{deliveries}"
    );
}

/// The alerts that an Alertmanager shows, by its own tool.
fn shown(inside: &Namespace) -> Result<Vec<Value>> {
    let mut command = inside.command("amtool");
    command.args(["alert", "query", "-o", "json", "--alertmanager.url", MANAGER]);
    let text = succeeded("amtool", command.output()?)?;
    Ok(serde_json::from_str(&text)?)
}

#[test]
fn an_alertmanager_shows_it_until_it_is_resolved() {
    let stage = with(&format!("[[alerts.alertmanager]]\nurl = \"{MANAGER}\"\nrepeat = \"1s\"\n"));
    let (inside, scratch) = (&stage.lab.edge.namespace, stage.scratch());
    let config = scratch.join("alertmanager.yml");
    fs::write(&config, "route:\n  receiver: none\nreceivers:\n  - name: none\n").unwrap();
    let mut command = inside.command("prometheus-alertmanager");
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.path={}", scratch.join("alertmanager").display()));
    command.args(["--web.listen-address=127.0.0.1:9093", "--cluster.listen-address="]);
    let _manager = Process::start("alertmanager", command, scratch).unwrap();

    drain(&stage.balancer);
    let backend = |alert: &&Value| alert["labels"]["alertname"] == "out-of-service";
    let alert = eventually("the Alertmanager shows it", LONG, || {
        let shown = shown(inside)?;
        shown.iter().find(backend).cloned().with_context(|| format!("it shows {shown:?}"))
    })
    .unwrap();
    assert_eq!(alert["labels"]["severity"], "warning", "{alert}");
    assert_eq!(alert["labels"]["backend"], "web-02", "{alert}");
    let page = "https://wiki.example/lb/playbook/out-of-service.html";
    assert_eq!(
        (&alert["generatorURL"], &alert["annotations"]["runbook_url"]),
        (&page.into(), &page.into())
    );
    assert!(alert["annotations"]["summary"].as_str().unwrap().contains("a test"), "{alert}");
    // It is told again, before it would forget.
    let ends = |alert: &Value| alert["endsAt"].as_str().unwrap().to_owned();
    eventually("it is told again", LONG, || {
        let shown = shown(inside)?;
        let later = shown.iter().find(backend).context("it is gone")?;
        ensure!(ends(later) > ends(&alert), "it ends {}", ends(later));
        Ok(())
    })
    .unwrap();

    resume(&stage.balancer);
    eventually("the Alertmanager has it resolved", LONG, || {
        let shown = shown(inside)?;
        ensure!(!shown.iter().any(|alert| backend(&alert)), "it shows {shown:?}");
        Ok(())
    })
    .unwrap();
}

fn script(directory: &Path) -> String {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    let path = directory.join("notify");
    let text = format!(
        "#!/bin/sh\nout=$(mktemp {0}/told.XXXXXX)\n\
         echo \"$(id -un) $EVENKEEL_KIND $EVENKEEL_SEVERITY $EVENKEEL_STATUS $EVENKEEL_ALERT\" > $out\n\
         cat >> $out\ntest -e {0}/hang && sleep 600\nexit 0\n",
        directory.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn a_program_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = script(directory.path());
    let exec =
        format!("[[alerts.exec]]\ncommand = [\"{path}\"]\nuser = \"nobody\"\ntimeout = \"1s\"\n");
    let stage = with(&exec);
    let calls = || -> Vec<String> {
        let files = fs::read_dir(directory.path()).unwrap().flatten();
        let told = files.filter(|file| file.file_name().to_string_lossy().starts_with("told."));
        told.map(|file| fs::read_to_string(file.path()).unwrap_or_default()).collect()
    };
    let await_call = |status: &str| {
        let line = format!("nobody out-of-service warning {status} {ID}\n");
        eventually(&format!("the program is told {status}"), LONG, || {
            let calls = calls();
            let call = calls.iter().find_map(|call| call.strip_prefix(&line));
            let call = call.with_context(|| format!("it was told {calls:?}"))?;
            let alert: Value = serde_json::from_str(call)?;
            ensure!(alert["status"] == status && alert["service"] == "web", "{alert}");
            Ok(())
        })
        .unwrap();
    };
    drain(&stage.balancer);
    await_call("raised");
    // One that does not end is killed, and told again.
    fs::write(directory.path().join("hang"), "").unwrap();
    resume(&stage.balancer);
    let problem = || stage.balancer.json(&["alerts"]).unwrap()["deliveries"][0]["problem"].clone();
    eventually("it is killed", LONG, || {
        let problem = problem();
        ensure!(problem.as_str().is_some_and(|text| text.contains("was killed")), "{problem}");
        Ok(())
    })
    .unwrap();
    fs::remove_file(directory.path().join("hang")).unwrap();
    await_call("cleared");
    eventually("it is well again", Duration::from_mins(1), || {
        ensure!(problem().is_null(), "{}", problem());
        Ok(())
    })
    .unwrap();
}
