//! `evenkeel verify`: a configuration is tried on the real program before anybody depends on it, and
//! whatever runs on the host does not notice.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path, process::Command};

use evenkeel_tests::{
    evenkeel::{Balancer, Outcome},
    load::{Load, Pattern},
    settings::Settings,
    stage::Stage,
    topology::{Family, Lab, Wiring},
};
use serde_json::Value;

/// A configuration of one service: its further lines, and those of each backend.
fn config(service: &str, backends: &[&str]) -> String {
    let mut text = format!(
        "[node]\ninterfaces = [\"not-here\"]\n\n[[service]]\nname = \"web\"\n\
         address = \"192.0.2.10:80\"\n{service}\n"
    );
    for (n, lines) in (1..).zip(backends) {
        let address = format!("10.0.0.{}:8080", 10 + n);
        let head = format!("name = \"web-0{n}\"\naddress = \"{address}\"");
        writeln!(text, "[[service.backend]]\n{head}\n{lines}").unwrap();
    }
    text
}

/// A balancer that is not running.
fn idle(lab: &Lab) -> Balancer {
    Balancer::prepare(lab, "").unwrap()
}

fn verify(balancer: &Balancer, text: &str, arguments: &[&str]) -> Outcome {
    let file = balancer.scratch().join("candidate.toml");
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    balancer.cli(&[&["verify", file], arguments].concat()).unwrap()
}

/// The exit code, and the report as JSON.
fn report(balancer: &Balancer, text: &str, arguments: &[&str]) -> (i32, Value) {
    let outcome = verify(balancer, text, &[arguments, &["-o", "json"]].concat());
    let value = serde_json::from_str(&outcome.stdout);
    (outcome.code, value.unwrap_or_else(|error| panic!("{error}: {outcome:?}")))
}

/// Names and counts of a split's backends.
fn counts(split: &Value) -> Vec<(String, u64)> {
    let backends = split["backends"].as_array().unwrap();
    let count = |backend: &Value| {
        (backend["name"].as_str().unwrap().to_owned(), backend["connections"].as_u64().unwrap())
    };
    backends.iter().map(count).collect()
}

fn kinds(problems: &Value) -> Vec<(&str, Option<&str>)> {
    let problems = problems.as_array().unwrap().iter();
    problems.map(|p| (p["kind"].as_str().unwrap(), p["backend"].as_str())).collect()
}

fn pairs(counts: &[(&str, u64)]) -> Vec<(String, u64)> {
    counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[test]
fn shares_are_exact_with_all_backends_and_with_each_one_down() {
    let lab = Lab::new(Wiring::Switched, 0).unwrap();
    let balancer = idle(&lab);
    let (code, report) = report(
        &balancer,
        &config("", &["", "", "weight = 2"]),
        &["--connections", "4000", "--seed", "7"],
    );
    assert_eq!((code, &report["passed"]), (0, &true.into()), "{report:#}");
    assert_eq!((&report["seed"], &report["thresholds"]["max_over_fair"]), (&7.into(), &1.1.into()));
    let service = &report["services"][0];
    for (field, value) in [
        ("name", "web"),
        ("address", "192.0.2.10:80"),
        ("protocol", "tcp"),
        ("scheduler", "round-robin"),
        ("forwarding", "nat"),
    ] {
        assert_eq!(service[field], value, "{service:#}");
    }
    let balance = &service["balance"];
    let wanted = pairs(&[("web-01", 1000), ("web-02", 1000), ("web-03", 2000)]);
    assert_eq!(counts(balance), wanted);
    assert_eq!(balance["connections"], 4000);
    assert!(balance["clients"].as_u64().unwrap() > 900, "{balance:#}");
    assert_eq!(balance["backends"][2]["expected_share"], 0.5);
    assert_eq!(balance["backends"][2]["share"], 0.5);
    assert_eq!((&balance["max_over_fair"], &balance["variation"]), (&1.0.into(), &0.0.into()));
    assert_eq!((&balance["p"], &balance["refused"]), (&1.0.into(), &serde_json::json!({})));

    // The heaviest first: of two thirds of 4000.
    let failures = service["failures"].as_array().unwrap();
    let down: Vec<_> = failures.iter().map(|f| f["backend"].as_str().unwrap()).collect();
    assert_eq!(down, ["web-03", "web-01", "web-02"]);
    assert_eq!(counts(&failures[0]["split"]), pairs(&[("web-01", 1333), ("web-02", 1333)]));
    assert_eq!(failures[0]["split"]["backends"][0]["gained"], 0.25);
    let two = counts(&failures[1]["split"]);
    assert!((888..=889).contains(&two[0].1) && (1777..=1778).contains(&two[1].1), "{two:?}");
}

#[test]
fn survivors_that_could_not_carry_the_load_fail_by_name() {
    let lab = Lab::new(Wiring::Switched, 0).unwrap();
    let balancer = idle(&lab);
    let backends = ["capacity = 2000", "capacity = 1400", "capacity = 2000\nweight = 2"];
    let text = config("expected_connections = 3000", &backends);
    let few = ["--connections", "2000"];
    let (code, found) = report(&balancer, &text, &few);
    assert_eq!((code, &found["passed"]), (4, &false.into()), "{found:#}");
    let service = &found["services"][0];
    assert_eq!(kinds(&service["problems"]), []);
    assert_eq!(service["balance"]["can_carry"], 4000);
    let failures = service["failures"].as_array().unwrap();
    assert_eq!(failures[0]["backend"], "web-03");
    assert_eq!(kinds(&failures[0]["problems"]), [("overload", Some("web-02"))]);
    assert_eq!(failures[0]["split"]["backends"][1]["load"], 1500);
    assert_eq!(failures[0]["split"]["can_carry"], 2800);
    assert!(failures[1..].iter().all(|failure| failure["passed"] == true), "{found:#}");

    let shown = verify(&balancer, &text, &few);
    assert_eq!(shown.code, 4, "{shown:?}");
    let said = "without web-03, backend \"web-02\" would have 1500 of the 3000 expected connections, \
                and its capacity is 1400";
    assert!(shown.stdout.contains(said), "{}", shown.stdout);
    assert!(shown.stderr.contains("verification failed: 1 problem"), "{}", shown.stderr);

    // Where nobody need survive, it is only shown.
    let lax = verify(&balancer, &text, &[&few[..], &["--survive", "0"]].concat());
    assert_eq!(lax.code, 0, "{lax:?}");
    let lax = verify(&balancer, &format!("{text}\n[verify]\nsurvive = 0\n"), &few);
    assert_eq!(lax.code, 0, "{lax:?}");

    // max_connections turn away what is more than all of them.
    let text = config("expected_connections = 3000", &["max_connections = 1400"; 3]);
    let (code, found) = report(&balancer, &text, &few);
    assert_eq!(code, 4, "{found:#}");
    for failure in found["services"][0]["failures"].as_array().unwrap() {
        assert_eq!(kinds(&failure["problems"]), [("overload", None)]);
        let message = failure["problems"][0]["message"].as_str().unwrap();
        assert!(message.starts_with("200 of the 3000 expected connections"), "{message}");
    }
}

#[test]
fn a_table_that_is_too_small_fails_the_thresholds() {
    let lab = Lab::new(Wiring::Switched, 0).unwrap();
    let balancer = idle(&lab);
    // 31 slots for three: one has eleven, the others ten. Beside it the table that is usual.
    for (scheduler, key, kind) in [
        ("maglev", "max_over_fair = 1.01", "imbalance"),
        ("source-hash", "max_variation = 0.03", "variation"),
        ("maglev", "min_p = 0.000001", "chance"),
    ] {
        let scheduler = format!("scheduler = \"{scheduler}\"");
        let tiny = config(&format!("{scheduler}\ntable_size = 31"), &[""; 3]);
        let usual = config(&scheduler, &[""; 3]).replace("\"web\"", "\"usual\"");
        let (_, usual) = usual.split_at(usual.find("[[service]]").unwrap());
        let usual = usual.replace("192.0.2.10:80", "192.0.2.10:81");
        let text = format!("{tiny}\n{usual}\n[verify]\nconnections = 40000\n{key}\n");
        let (code, found) = report(&balancer, &text, &["--failures", "0"]);
        assert_eq!(code, 4, "{key}: {found:#}");
        let services = &found["services"];
        assert_eq!(kinds(&services[0]["problems"])[0].0, kind, "{found:#}");
        assert_eq!(kinds(&services[1]["problems"]), [], "{found:#}");
        assert_eq!(services[1]["failures_left_out"], 3);
    }
}

#[test]
fn only_clients_that_are_let_in_are_made() {
    let lab = Lab::new(Wiring::Switched, 0).unwrap();
    let balancer = idle(&lab);
    let few = ["--connections", "500"];
    let limited = "allow = [\"198.51.100.0/24\", \"2001:db8::/32\"]\ndeny = [\"198.51.100.0/25\"]\n\
                   [service.limits]\nnew_connections = 1\nclient_new_connections = 1\n";
    let (code, found) = report(&balancer, &config(limited, &["", ""]), &few);
    assert_eq!(code, 0, "{found:#}");
    let balance = &found["services"][0]["balance"];
    assert_eq!(balance["refused"], serde_json::json!({}));
    assert!(balance["clients"].as_u64().unwrap() <= 128, "{balance:#}");

    let nobody = config("allow = [\"2001:db8::/32\"]", &["", ""]);
    let (code, found) = report(&balancer, &nobody, &few);
    assert_eq!(code, 4, "{found:#}");
    assert_eq!(kinds(&found["services"][0]["problems"]), [("refused", None)]);

    let empty = config("", &[]);
    let (code, found) = report(&balancer, &empty, &few);
    assert_eq!(code, 4, "{found:#}");
    assert_eq!(found["services"][0]["balance"]["refused"]["reply-no-backend"], 500);
}

/// Services of every scheduler, way of forwarding, family and protocol, and some that are sticky.
fn everything() -> String {
    let mut text = "[node]\ninterfaces = [\"not-here\"]\n".to_owned();
    let mut port = 1000;
    let schedulers = [
        "scheduler = \"round-robin\"",
        "scheduler = \"round-robin\"\nsticky = \"10m\"",
        "scheduler = \"least-connections\"",
        "scheduler = \"maglev\"\ntable_size = 251",
        "scheduler = \"source-hash\"\ntable_size = 251",
        "scheduler = \"random\"",
    ];
    let modes = [
        "forwarding = \"nat\"",
        "snat = false",
        "forwarding = \"dsr\"",
        "forwarding = \"ipip\"",
        "forwarding = \"gue\"",
    ];
    for scheduler in schedulers {
        for mode in modes {
            for (family, protocol) in [(4, "tcp"), (4, "udp"), (6, "tcp"), (6, "udp")] {
                port += 1;
                let service = if family == 4 { "192.0.2.10" } else { "[2001:db8::10]" };
                let lines = format!("protocol = \"{protocol}\"\n{scheduler}\n{mode}");
                writeln!(text, "[[service]]\nname = \"s{port}\"\naddress = \"{service}:{port}\"")
                    .unwrap();
                writeln!(text, "{lines}").unwrap();
                // The far end of a tunnel may be of the other family.
                let far = if mode.contains("ipip") { 10 - family } else { family };
                for n in 11..=13 {
                    let ip = if far == 4 { format!("10.0.0.{n}") } else { format!("[fd00::{n}]") };
                    writeln!(
                        text,
                        "[[service.backend]]\nname = \"b{n}\"\naddress = \"{ip}:{port}\""
                    )
                    .unwrap();
                }
            }
        }
    }
    let every = "[[service]]\nname = \"every\"\naddress = \"192.0.2.10:*\"\n[[service.backend]]\n\
                 name = \"b\"\naddress = \"10.0.0.11:*\"\n";
    text + every
}

#[test]
fn every_scheduler_forwarding_family_and_protocol_is_verified() {
    let lab = Lab::new(Wiring::Switched, 0).unwrap();
    let balancer = idle(&lab);
    let arguments = ["--connections", "400", "--failures", "1"];
    let (code, found) = report(&balancer, &everything(), &arguments);
    assert_eq!(code, 0, "{found:#}");
    let services = found["services"].as_array().unwrap();
    assert_eq!(services.len(), 6 * 5 * 4 + 1);
    for service in services {
        let whole = counts(&service["balance"]);
        let sum: u64 = whole.iter().map(|(_, count)| count).sum();
        assert_eq!(sum, 400, "{service:#}");
        assert!(whole.iter().all(|(_, count)| *count > 0), "{service:#}");
        if service["name"] != "every" {
            let survivors = counts(&service["failures"][0]["split"]);
            assert_eq!(survivors.len(), 2, "{service:#}");
            assert!(survivors.iter().all(|(_, count)| *count > 0), "{service:#}");
        }
    }
}

/// Every file below a directory.
fn files(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        found.insert(path.display().to_string());
        if path.is_dir() {
            found.extend(files(&path));
        }
    }
    found
}

#[test]
fn a_live_balancer_does_not_notice() {
    let stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    stage.ask(Family::V4, 20).unwrap().flawless().unwrap();
    let observed = || {
        let balancer = &stage.balancer;
        let counted = ["web-01", "web-02"].map(|name| balancer.counters("web", name).unwrap());
        (counted.map(|c| c.connections), files(balancer.bpffs_path()))
    };
    let before = observed();
    assert_eq!(before.0, [10, 10]);
    let text = stage.balancer.configuration().unwrap();
    let (code, found) = report(&stage.balancer, &text, &["--connections", "2000"]);
    assert_eq!(code, 0, "{found:#}");
    assert_eq!(observed(), before);

    // What was verified is what the live one does; and it serves all the while.
    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();
    load.proceed(50).unwrap();
    // Without a file, --config's.
    let path = stage.balancer.config_path();
    let arguments = ["verify", "--config", path.to_str().unwrap(), "--quick"];
    stage.balancer.cli(&arguments).unwrap().success().unwrap();
    load.proceed(50).unwrap();
    load.stop().unwrap().flawless().unwrap();
}

#[test]
fn the_result_is_told_as_junit_too() {
    let lab = Lab::new(Wiring::Switched, 0).unwrap();
    let balancer = idle(&lab);
    let text = config("expected_connections = 100", &["capacity = 60"; 2]);
    let file = balancer.scratch().join("verify.xml");
    let arguments = ["--connections", "500", "--junit", file.to_str().unwrap()];
    let outcome = verify(&balancer, &text, &arguments);
    assert_eq!(outcome.code, 4, "{outcome:?}");
    let xml = fs::read_to_string(&file).unwrap();
    for part in [
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
        "<testsuite name=\"web\" tests=\"3\" failures=\"2\" errors=\"0\">",
        "<testcase classname=\"verify.web\" name=\"all backends up\">",
        "<testcase classname=\"verify.web\" name=\"web-02 down\">",
        "<failure type=\"overload\" message=\"backend &quot;web-02&quot; would have 100",
    ] {
        assert!(xml.contains(part), "no {part} in {xml}");
    }
    let printed = verify(&balancer, &text, &["--connections", "500", "-o", "junit"]);
    assert_eq!(printed.code, 4, "{printed:?}");
    assert!(printed.stdout.ends_with("</testsuites>\n"), "{}", printed.stdout);
}

#[test]
fn what_cannot_be_verified_says_why() {
    let lab = Lab::new(Wiring::Switched, 0).unwrap();
    let balancer = idle(&lab);
    let invalid = verify(&balancer, &config("", &["capacity = 0"]), &[]);
    assert_eq!(invalid.code, 2, "{invalid:?}");
    assert!(invalid.stderr.contains("capacity of backend \"web-01\" is 0"), "{invalid:?}");
    let unknown = verify(&balancer, &config("", &["capcity = 1"]), &[]);
    assert!(unknown.stderr.contains("did you mean \"capacity\"?"), "{unknown:?}");
    let missing = balancer.cli(&["verify", "/nowhere.toml"]).unwrap();
    assert_eq!(missing.code, 2, "{missing:?}");
    let usage = verify(&balancer, &config("", &["", ""]), &["--max-over-fair", "0.9"]);
    assert_eq!(usage.code, 2, "{usage:?}");

    // Root without its capabilities.
    let file = balancer.scratch().join("candidate.toml");
    fs::write(&file, config("", &["", ""])).unwrap();
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--"])
        .arg(balancer.binary_path())
        .arg("verify")
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("run it as root") && said.contains("CAP_BPF"), "{said}");
}
