//! The metrics: clean by `promtool`'s measure, true, and scraped by a real Prometheus.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use evenkeel::http::metrics::{Kind, METRICS};
use evenkeel_tests::{
    process::Process,
    stage::Stage,
    topology::Family,
    wait::{PATIENCE, eventually},
};
use serde_json::Value;

use crate::{LISTENER, curl, get, stage};

/// Connections to each of the two backends.
const EACH: u64 = 200;

/// The value of a sample in the text format, by its name and labels.
fn sample(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// A stage to whose backends connections came that are over by now, and what is told of them.
fn scraped() -> (Stage, String) {
    let stage = stage();
    stage.ask(Family::V4, 2 * EACH).unwrap().flawless().unwrap();
    let text = eventually("the connections are over", PATIENCE, || {
        let text = String::from_utf8(get(&stage, "/metrics")?.body)?;
        for backend in ["web-01", "web-02"] {
            let labels = format!("{{service=\"web\",backend=\"{backend}\"}}");
            let open = sample(&text, &format!("evenkeel_backend_open_connections{labels}"));
            ensure!(open == Some(0.0), "{open:?} of {backend} are open");
        }
        Ok(text)
    })
    .unwrap();
    (stage, text)
}

fn promtool(text: &str) -> Result<String> {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run promtool: is the package prometheus installed?")?;
    child.stdin.take().context("no stdin")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(output.status.success(), "promtool found: {said}");
    Ok(said)
}

#[test]
fn metrics_are_clean_and_true() {
    let (stage, text) = scraped();
    assert_eq!(promtool(&text).unwrap(), "");
    assert!(promtool(&text.replace("# HELP", "# HOLP")).is_err(), "it finds nothing in anything");
    let counters = stage.balancer.json(&["counters"]).unwrap();
    for (index, backend) in ["web-01", "web-02"].into_iter().enumerate() {
        let labels = format!("service=\"web\",backend=\"{backend}\"");
        let value = |name: &str, more: &str| {
            let name = format!("evenkeel_backend_{name}{{{labels}{more}}}");
            sample(&text, &name).unwrap_or_else(|| panic!("no {name} in\n{text}"))
        };
        let known = &counters["services"][0]["backends"][index];
        let is = |found: f64, known: &Value| assert_eq!(Some(found), known.as_f64(), "{known}");
        is(value("connections_total", ""), &EACH.into());
        is(value("bytes_total", ",direction=\"in\""), &known["bytes"]["in"]);
        is(value("packets_total", ",direction=\"out\""), &known["packets"]["out"]);
        is(value("refused_total", ""), &0.into());
        is(value("handshake_seconds_count", ""), &EACH.into());
        let bucket = format!("evenkeel_backend_handshake_seconds_bucket{{le=\"+Inf\",{labels}}}");
        is(sample(&text, &bucket).unwrap(), &EACH.into());
        let sum = known["handshake_microseconds"].as_f64().unwrap() / 1e6;
        assert!((value("handshake_seconds_sum", "") - sum).abs() < 1e-9);
        assert!(sum > 0.0, "handshakes take time");
        for (name, more, known) in [
            ("up", "", 1),
            ("active", "", 1),
            ("admin_state", ",state=\"ready\"", 1),
            ("admin_state", ",state=\"drain\"", 0),
            ("weight", "", 1),
        ] {
            is(value(name, more), &known.into());
        }
        assert!((value("ring_share", "") - 0.5).abs() < 1e-9);
    }
    let to_backend = sample(&text, "evenkeel_packets_total{verdict=\"to-backend\"}").unwrap();
    assert!(to_backend >= 8.0 * f64::from(u32::try_from(EACH).unwrap()), "{to_backend}");

    // A drained backend shows.
    let drain = ["backend", "drain", "web-01", "--for", "10m", "--reason", "kernel upgrade"];
    stage.balancer.cli(&drain).unwrap().success().unwrap();
    eventually("the drain shows", PATIENCE, || {
        let text = get(&stage, "/metrics")?.text();
        let labels = "{service=\"web\",backend=\"web-01\",state=\"drain\"}";
        let drain = sample(&text, &format!("evenkeel_backend_admin_state{labels}"));
        ensure!(drain == Some(1.0), "{drain:?}");
        let active = "evenkeel_backend_active{service=\"web\",backend=\"web-01\"}";
        ensure!(sample(&text, active) == Some(0.0));
        Ok(())
    })
    .unwrap();
}

/// What Prometheus answers.
fn ask(stage: &Stage, path: &str) -> Result<Value> {
    let answer = curl(stage, &["--globoff", &format!("http://127.0.0.1:9090/api/v1/{path}")])?;
    let mut answer: Value = serde_json::from_str(&answer).with_context(|| answer.clone())?;
    ensure!(answer["status"] == "success", "{answer}");
    Ok(answer["data"].take())
}

fn start_prometheus(stage: &Stage) -> Process {
    let directory = stage.scratch().join("prometheus");
    fs::create_dir(&directory).unwrap();
    let configuration = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: evenkeel\n  static_configs:\n  \
         - targets: ['{LISTENER}']\n"
    );
    fs::write(directory.join("prometheus.yml"), configuration).unwrap();
    let mut command = stage.lab.edge.namespace.command("prometheus");
    command
        .arg(format!("--config.file={}", directory.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
        .arg("--web.listen-address=127.0.0.1:9090");
    Process::start("prometheus", command, &directory).unwrap()
}

#[test]
fn prometheus_takes_every_metric() {
    let (stage, _) = scraped();
    let _prometheus = start_prometheus(&stage);
    eventually("Prometheus has scraped", PATIENCE, || {
        let query = "query?query=sum(evenkeel_backend_connections_total)";
        let found = ask(&stage, query)?["result"][0]["value"][1].clone();
        let all = (2 * EACH).to_string();
        ensure!(found.as_str() == Some(&*all), "{found}");
        Ok(())
    })
    .unwrap();
    let target = ask(&stage, "targets").unwrap()["activeTargets"][0].clone();
    assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()), "{target}");

    let names = ask(&stage, "label/__name__/values").unwrap();
    let names: BTreeSet<String> = serde_json::from_value(names).unwrap();
    // Only where a backend has a maximum, a probe has passed, there are alerts and who is told, or is announced.
    let absent = [
        "evenkeel_backend_max_connections",
        "evenkeel_backend_probe_seconds",
        "evenkeel_alert",
        "evenkeel_alert_deliveries_total",
        "evenkeel_announced",
        "evenkeel_store_connected",
        "evenkeel_store_revision",
    ];
    let known = ask(&stage, "metadata").unwrap();
    for metric in METRICS {
        let (name, kind) = match metric.kind {
            Kind::Counter => (metric.exported(), "counter"),
            Kind::Gauge => (metric.exported(), "gauge"),
            Kind::Info => (metric.exported(), "info"),
            Kind::Histogram => (metric.family() + "_bucket", "histogram"),
        };
        assert!(names.contains(&name) || absent.contains(&&*name), "no {name} in {names:?}");
        let told = &known[metric.family()][0];
        assert_eq!(told["type"], kind, "{name}: {told}");
        assert_eq!(told["help"], metric.help, "{name}");
    }
}
