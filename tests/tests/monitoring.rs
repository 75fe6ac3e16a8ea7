//! What `dist/` has for Prometheus and Grafana: the rules tell what they shall, the dashboard is sound, and
//! neither asks for what no daemon exports.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use evenkeel::{
    alerts::catalogue,
    http::metrics::{METRICS, Metric},
};
use serde_json::Value;

/// What the alerts' part of a daemon exports, beside the catalogue of all other metrics.
const OF_ALERTS: [&str; 2] = ["evenkeel_alert", "evenkeel_alert_deliveries_total"];

/// What a daemon exports, by the names of the samples, but for what a histogram adds to its own; and what
/// Prometheus knows by itself.
fn exported() -> BTreeSet<String> {
    let others = OF_ALERTS.into_iter().chain(["up"]).map(str::to_owned);
    METRICS.iter().map(Metric::exported).chain(others).collect()
}

/// What only others than the daemon can tell.
const BY_OTHERS: &str = "daemon-down";

fn dist(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist").join(path)
}

fn promtool(arguments: &[&str], directory: &Path) -> String {
    let mut command = Command::new("promtool");
    let output = command.args(arguments).current_dir(directory).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {text}");
    text
}

/// The metrics that an expression asks for.
fn metrics(expression: &str) -> BTreeSet<String> {
    let is_name = |char: char| char.is_ascii_alphanumeric() || "_:".contains(char);
    let words = expression.split(|char: char| !is_name(char));
    let metrics = words.filter(|word| word.starts_with("evenkeel_") || *word == "up");
    metrics
        .map(|name| {
            let parts = ["_bucket", "_sum", "_count"];
            let part = parts.iter().find_map(|part| name.strip_suffix(part));
            part.unwrap_or(name).to_owned()
        })
        .collect()
}

fn assert_exported(expression: &str) {
    let exported = exported();
    for name in metrics(expression) {
        assert!(exported.contains(&name), "no daemon exports {name}: {expression}");
    }
}

/// The rules as Prometheus has read them.
fn rules() -> Vec<Value> {
    // promtool reads YAML and tells little of it; what is needed here is on lines of its own.
    let text = fs::read_to_string(dist("prometheus/evenkeel.rules.yml")).unwrap();
    let rules = text.split("      - alert: ").skip(1).map(|rule| {
        let line = |name: &str| {
            let found = rule.lines().find_map(|line| line.trim().strip_prefix(name));
            found.unwrap_or_default().trim().to_owned()
        };
        let expression = rule.split("        expr: ").nth(1).unwrap();
        let end = expression.find("        labels:").unwrap();
        serde_json::json!({
            "name": rule.lines().next().unwrap(),
            "expr": expression[..end],
            "severity": line("severity:"),
            "kind": line("kind:"),
            "summary": line("summary:"),
            "description": line("description:"),
            "page": line("runbook_url:"),
        })
    });
    rules.collect()
}

#[test]
fn the_rules_tell_what_they_shall_and_nothing_else() {
    let directory = dist("prometheus");
    let rules = rules();
    let checked = promtool(&["check", "rules", "evenkeel.rules.yml"], &directory);
    assert!(checked.contains(&format!("{} rules found", rules.len())), "{checked}");
    promtool(&["test", "rules", "evenkeel.rules.test.yml"], &directory);

    let tests = fs::read_to_string(directory.join("evenkeel.rules.test.yml")).unwrap();
    let mut kinds = BTreeSet::new();
    for rule in &rules {
        let text = |name: &str| rule[name].as_str().unwrap();
        assert_exported(text("expr"));
        let known = catalogue().iter().find(|entry| entry.kind.to_string() == text("kind"));
        let severity = known.map_or("critical or warning".to_owned(), |e| e.severity.to_string());
        assert!(severity.contains(text("severity")), "{rule}: it is {severity} for the daemon");
        assert!(!text("summary").is_empty() && !text("description").is_empty(), "{rule}");
        assert_eq!(text("page"), format!("docs/playbook/{}.html", text("kind")));
        kinds.insert(text("kind").to_owned());
        // Each is tested both ways.
        let asked = format!("{{alertname=\"{}\", alertstate=\"firing\"}}", text("name"));
        let asked: Vec<_> = tests.split(&asked).skip(1).collect();
        let silent = |test: &&&str| test.lines().nth(2).unwrap().ends_with("exp_samples: []");
        let (fires, does_not) =
            (asked.iter().filter(|test| !silent(test)), asked.iter().filter(silent));
        let by_others = text("name") == "EvenkeelAllDown";
        assert!(fires.count() > 0 && (by_others || does_not.count() > 0), "{rule} is not tested");
    }
    let all = catalogue().iter().map(|entry| entry.kind.to_string());
    assert_eq!(kinds, all.chain([BY_OTHERS.to_owned()]).collect());
}

/// Every query below a value of a dashboard: panels, annotations, variables.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "expr" => found.push(text.clone()),
                    // `label_values(SELECTOR, LABEL)` is Grafana's own.
                    Value::String(text) if name == "definition" => {
                        let selector = text.strip_prefix("label_values(").unwrap();
                        found.push(selector.rsplit_once(',').unwrap().0.to_owned());
                    }
                    _ => queries(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queries(item, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let text = fs::read_to_string(dist("grafana/evenkeel.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(dashboard["uid"], "evenkeel", "links to it are by this");
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> =
        variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "job", "instance", "service"]);

    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id is there twice: {panel}");
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for cell in (at("y")..at("y") + at("h"))
            .flat_map(|y| (at("x")..at("x") + at("w")).map(move |x| (x, y)))
        {
            assert!(cell.0 < 24 && taken.insert(cell), "panels lie over each other: {panel}");
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{panel}");
            assert!(!panel["description"].as_str().unwrap().is_empty(), "{panel}");
        }
    }

    let mut found = Vec::new();
    queries(&dashboard, &mut found);
    assert!(found.len() > 25, "{found:?}");
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (index, query) in found.iter().enumerate() {
        assert_exported(query);
        let query = ["$job", "$instance", "$service"]
            .iter()
            .fold(query.clone(), |query, variable| query.replace(variable, ".+"))
            .replace("$__rate_interval", "1m");
        assert!(!query.contains('$'), "an unknown variable: {query}");
        let quoted = serde_json::to_string(&query).unwrap();
        write!(rules, "      - record: dashboard:query{index}\n        expr: {quoted}\n").unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("rules.yml"), rules).unwrap();
    promtool(&["check", "rules", "rules.yml"], directory.path());
}
