//! Bad configurations and bad requests: said clearly, refused, and without effect on what runs.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use evenkeel_tests::{
    evenkeel::Balancer,
    settings::Settings,
    stage::Stage,
    topology::{Family, Lab, Wiring},
};
use serde_json::Value;

/// The configuration that every case changes in one place.
const GOOD: &str = r#"[node]
interfaces = ["front", "back"]

[[service]]
name = "web"
address = "192.0.2.10:80"
protocol = "tcp"
[service.health]
kind = "tcp"
[[service.backend]]
name = "web-01"
address = "10.0.0.11:8080"
[[service.backend]]
name = "web-02"
address = "10.0.0.12:8080"
weight = 2
"#;

/// What is replaced by what, on which line the message is, and what it has to mention.
const BAD: [(&str, &str, &str, usize, &str); 13] = [
    ("unknown key", "weight = 2", "wieght = 2", 16, "weight"),
    ("unknown section", "[node]", "[nodes]\n[node]", 1, "nodes"),
    ("not TOML", "weight = 2", "weight = = 2", 16, ""),
    ("duplicate backend name", "name = \"web-02\"", "name = \"web-01\"", 14, "web-01"),
    ("duplicate backend address", "10.0.0.12:8080", "10.0.0.11:8080", 15, "10.0.0.11:8080"),
    ("mixed families", "10.0.0.12:8080", "[fd00::12]:8080", 15, "IPv6"),
    ("port out of range", "10.0.0.12:8080", "10.0.0.12:80800", 15, "port"),
    ("port zero", "192.0.2.10:80", "192.0.2.10:0", 6, "port"),
    ("weight of zero", "weight = 2", "weight = 0", 16, "drain"),
    ("no such interface", "\"back\"", "\"bakc\"", 2, "back"),
    (
        "overlapping services",
        "weight = 2\n",
        "weight = 2\n[[service]]\nname = \"other\"\naddress = \"192.0.2.10:80\"\n",
        19,
        "web",
    ),
    (
        "duplicate service name",
        "weight = 2\n",
        "weight = 2\n[[service]]\nname = \"web\"\naddress = \"192.0.2.10:81\"\n",
        18,
        "web",
    ),
    ("unknown protocol", "protocol = \"tcp\"", "protocol = \"tpc\"", 7, "tcp"),
];

#[test]
fn bad_configurations_are_refused_with_file_line_and_remedy() {
    let lab = Lab::new(Wiring::Switched, 0).unwrap();
    let balancer = Balancer::prepare(&lab, GOOD).unwrap();
    let good = balancer.check(&balancer.config_path()).unwrap();
    assert_eq!(good.code, 0, "{good:?}");

    let bad = balancer.scratch().join("bad.toml");
    for (case, from, to, line, mention) in BAD {
        assert!(GOOD.contains(from), "{case}");
        std::fs::write(&bad, GOOD.replace(from, to)).unwrap();
        let outcome = balancer.check(&bad).unwrap();
        assert_eq!(outcome.code, 2, "{case}: {outcome:?}");
        let said = &outcome.stderr;
        assert!(said.contains(&format!("bad.toml:{line}:")), "{case}: {said}");
        assert!(said.contains(mention), "{case} does not mention {mention}: {said}");
    }

    let missing = balancer.check(&balancer.scratch().join("missing.toml")).unwrap();
    assert_eq!(missing.code, 2, "{missing:?}");
    assert!(missing.stderr.contains("missing.toml"), "{missing:?}");

    balancer.configure(&GOOD.replace("weight = 2", "weight = 0")).unwrap();
    let refused = balancer.run_refused().unwrap();
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("evenkeel.toml:16:"), "{refused:?}");
    assert!(!balancer.bpffs_path().join("program").exists(), "nothing is loaded");

    let usage = balancer.cli(&["no-such-command"]).unwrap();
    assert_eq!(usage.code, 2, "{usage:?}");
    let absent = balancer.cli(&["status"]).unwrap();
    assert_eq!(absent.code, 3, "{absent:?}");
}

#[test]
fn dangerous_configurations_are_warned_about() {
    let lab = Lab::new(Wiring::Switched, 0).unwrap();
    let lone = GOOD.find("[[service.backend]]\nname = \"web-02\"").unwrap();
    let none = GOOD.find("[[service.backend]]").unwrap();
    let cases = [
        ("no backend", GOOD[..none].to_owned(), "no backend"),
        ("one backend", GOOD[..lone].to_owned(), "one backend"),
        ("nobody's address", GOOD.replace("192.0.2.10", "192.0.2.99"), "192.0.2.99"),
        ("not probed", GOOD.replace("kind = \"tcp\"", "kind = \"none\""), "probe"),
    ];
    let balancer = Balancer::prepare(&lab, GOOD).unwrap();
    for (case, text, mention) in cases {
        balancer.configure(&text).unwrap();
        let outcome = balancer.check(&balancer.config_path()).unwrap();
        assert_eq!(outcome.code, 0, "{case}: {outcome:?}");
        let said = outcome.stderr.to_lowercase();
        assert!(said.contains("warning") && said.contains(mention), "{case}: {outcome:?}");
    }
}

#[test]
fn a_running_balancer_goes_on_when_its_file_turns_bad() {
    let mut stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    let good = stage.balancer.configuration().unwrap();
    stage.balancer.configure(&good.replace("weight = 1", "weight = 0")).unwrap();
    let checked = stage.balancer.check(&stage.balancer.config_path()).unwrap();
    assert_eq!(checked.code, 2, "{checked:?}");
    stage.ask(Family::V4, 20).unwrap().flawless().unwrap();

    // Nor may a restart with it take away what is loaded.
    stage.balancer.terminate().unwrap();
    let refused = stage.balancer.run_refused().unwrap();
    assert_eq!(refused.code, 2, "{refused:?}");
    let report = stage.ask(Family::V4, 20).unwrap();
    report.flawless().unwrap();
    assert_eq!((report.by_backend["web-01"], report.by_backend["web-02"]), (10, 10));

    stage.balancer.configure(&good).unwrap();
    stage.balancer.run().unwrap();
    assert_eq!(stage.balancer.counters("web", "web-01").unwrap().connections, 20);
    stage.ask(Family::V6, 20).unwrap().flawless().unwrap();
}

/// Everything that a request could have changed.
fn state(balancer: &Balancer) -> (String, Value) {
    let mut services = balancer.status().unwrap()["services"].take();
    // What time does to a service is no change of it.
    for service in services.as_array_mut().unwrap() {
        service.as_object_mut().unwrap().remove("windows");
        for backend in service["backends"].as_array_mut().unwrap() {
            backend.as_object_mut().unwrap().remove("since_change_seconds");
        }
    }
    (balancer.configuration().unwrap(), services)
}

#[test]
fn bad_requests_get_a_problem_and_change_nothing() {
    let stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    let balancer = &stage.balancer;
    let before = state(balancer);
    let backends = "/v1/services/web/backends";
    let new = |address: &str, rest: &str| {
        format!("{{\"name\": \"new\", \"address\": \"{address}\"{rest}}}")
    };
    let cases = [
        ("no JSON", "POST", backends, Some("{\"name\": ".to_owned())),
        ("no body", "POST", backends, None),
        ("not an object", "POST", backends, Some("[1, 2]".to_owned())),
        ("no address", "POST", backends, Some("{\"name\": \"new\"}".to_owned())),
        ("no such key", "POST", backends, Some(new("10.0.0.99:80", ", \"wieght\": 2"))),
        ("bad address", "POST", backends, Some(new("10.0.0.999:80", ""))),
        ("no port", "POST", backends, Some(new("10.0.0.99", ""))),
        ("other family", "POST", backends, Some(new("[fd00::99]:80", ""))),
        ("weight of zero", "POST", backends, Some(new("10.0.0.99:80", ", \"weight\": 0"))),
        ("negative weight", "POST", backends, Some(new("10.0.0.99:80", ", \"weight\": -1"))),
        ("address taken", "POST", backends, Some(new("10.0.0.11:8080", ""))),
        (
            "name taken",
            "POST",
            backends,
            Some("{\"name\": \"web-01\", \"address\": \"10.0.0.99:80\"}".to_owned()),
        ),
        ("no such service", "POST", "/v1/services/wev/backends", Some(new("10.0.0.99:80", ""))),
        ("service taken", "POST", "/v1/services", Some(new("192.0.2.10:80", ""))),
        ("no such backend", "DELETE", "/v1/services/web/backends/web-09", None),
        ("no such service to delete", "DELETE", "/v1/services/wev", None),
        (
            "weight of zero to set",
            "PATCH",
            "/v1/services/web/backends/web-01",
            Some("{\"weight\": 0}".to_owned()),
        ),
        ("no such path", "GET", "/v1/nothing", None),
        ("no such method", "PUT", backends, Some("{}".to_owned())),
    ];
    for (case, method, path, body) in cases {
        let answer = balancer.api(method, path, body.as_deref()).unwrap();
        assert!((400..500).contains(&answer.status), "{case}: {answer:?}");
        assert_eq!(answer.content_type, "application/problem+json", "{case}: {answer:?}");
        let said = answer.body["detail"].as_str().or(answer.body["title"].as_str());
        assert!(said.is_some_and(|said| !said.is_empty()), "{case}: {answer:?}");
        assert_eq!(state(balancer), before, "{case} changed something");
    }
    stage.ask(Family::V4, 10).unwrap().flawless().unwrap();

    let good = balancer.api("POST", backends, Some(&new("10.0.0.99:80", ", \"weight\": 2")));
    assert!((200..300).contains(&good.unwrap().status));
    assert_eq!(balancer.backends("web").unwrap(), ["web-01", "web-02", "new"]);
    let counters = balancer.api("GET", "/v1/counters", None).unwrap();
    assert_eq!((counters.status, &*counters.content_type), (200, "application/json"));
    assert!(counters.body["verdicts"].is_object(), "{counters:?}");
}

#[test]
fn the_command_line_names_what_is_wrong() {
    let stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    let before = state(&stage.balancer);
    for (arguments, mention) in [
        (&["backend", "add", "wev", "x", "10.0.0.99:80"][..], "wev"),
        (&["backend", "add", "web", "web-01", "10.0.0.99:80"], "web-01"),
        (&["backend", "remove", "web", "web-09"], "web-09"),
        (&["backend", "weight", "web", "web-01", "0"], "drain"),
        (&["service", "show", "wev"], "wev"),
        (&["counters", "web/web-09"], "web-09"),
    ] {
        let outcome = stage.balancer.cli(arguments).unwrap();
        assert!(outcome.code == 1 || outcome.code == 2, "{arguments:?}: {outcome:?}");
        assert!(outcome.stderr.contains(mention), "{arguments:?}: {outcome:?}");
        assert!(outcome.stdout.is_empty(), "{arguments:?}: {outcome:?}");
        assert_eq!(state(&stage.balancer), before, "{arguments:?}");
    }
    for reading in [&["status"][..], &["counters"], &["service", "list"], &["backend", "list"]] {
        for format in ["table", "wide", "json"] {
            let arguments = [reading, &["-o", format]].concat();
            let text = stage.balancer.cli(&arguments).unwrap().success().unwrap();
            assert!(text.contains("web-01") || text.contains("web6"), "{arguments:?}: {text}");
        }
    }
}

#[test]
fn one_socket_has_one_daemon() {
    let stage = Stage::new(Wiring::Switched, 1, Settings::web).unwrap();
    let refused = stage.balancer.run_refused().unwrap();
    assert_eq!(refused.code, 1, "{refused:?}");
    stage.balancer.status().unwrap();
    stage.ask(Family::V4, 10).unwrap().flawless().unwrap();
}
