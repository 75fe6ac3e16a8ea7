//! `evenkeel explain`: a real client's next connection goes where it was said, and what it says is what a person
//! reads.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use evenkeel_tests::{
    evenkeel::Balancer,
    http::{self, Connection},
    settings::{Service, Settings},
    stage::Stage,
    topology::{Family, Wiring},
};
use serde_json::Value;

/// Services over the same servers, each of which decides in another way, on ports from 80 on.
const WAYS: [(&str, &[&str]); 6] = [
    ("web", &[]),
    ("sticky", &["sticky = \"10m\""]),
    ("maglev", &["scheduler = \"maglev\""]),
    ("least", &["scheduler = \"least-connections\""]),
    ("closed", &["deny = [\"198.51.100.0/24\"]"]),
    ("empty", &[]),
];

fn stage() -> Stage {
    Stage::new(Wiring::Switched, 3, |lab| {
        let mut settings = Settings::new(lab);
        for (port, (name, lines)) in (80..).zip(WAYS) {
            let mut service = Service::web(name, Family::V4).at_port(port);
            if name != "empty" {
                service = service.backends(lab);
            }
            settings =
                settings.with(lines.iter().fold(service, |service, line| service.line(*line)));
        }
        let over_v6 = Service::web("six", Family::V6).backends_over(Family::V6, lab);
        settings.with(over_v6)
    })
    .unwrap()
}

fn explained(balancer: &Balancer, client: &str, service: &str) -> Value {
    balancer.json(&["explain", client, service]).unwrap()
}

fn text(balancer: &Balancer, arguments: &[&str]) -> String {
    balancer.cli(&[&["explain"], arguments].concat()).unwrap().success().unwrap()
}

/// The name of the server that answers.
fn answers(stage: &Stage, family: Family, port: u16) -> String {
    stage.client().run(|| Ok(http::get(family.service(port), "/")?.text())).unwrap()
}

#[test]
fn the_next_connection_goes_where_it_was_said() {
    let stage = stage();
    let balancer = &stage.balancer;
    let before = balancer.json(&["counters"]).unwrap();
    let client = stage.lab.client.v4.to_string();
    for (service, family, port) in [("web", Family::V4, 80), ("six", Family::V6, 80)] {
        let client = stage.lab.client.address(family, 0).ip().to_string();
        let mut backends = Vec::new();
        for turn in 0..4 {
            let said = explained(balancer, &client, service);
            assert_eq!(said["outcome"], "slot", "{said}");
            assert_eq!((&said["slot"], &said["slots"]), (&(turn % 3).into(), &3.into()), "{said}");
            assert_eq!(said, explained(balancer, &client, service), "it took no turn");
            let backend = answers(&stage, family, port);
            assert_eq!(said["backend"], *backend, "{service}, {turn}");
            backends.push(backend);
        }
        assert_eq!(backends[0], backends[3]);
        assert_ne!(backends[0], backends[1]);
    }
    // Only connections were counted, no question.
    let total = |counters: &Value, service: &str| -> u64 {
        let services = counters["services"].as_array().unwrap();
        let service = services.iter().find(|one| one["name"] == service).unwrap();
        let backends = service["backends"].as_array().unwrap();
        backends.iter().map(|one| one["connections"]["total"].as_u64().unwrap()).sum()
    };
    let after = balancer.json(&["counters"]).unwrap();
    assert_eq!((total(&before, "web"), total(&after, "web")), (0, 4), "{after}");

    // A client that was there keeps its backend; another one would not.
    let backend = answers(&stage, Family::V4, 81);
    let said = explained(balancer, &client, "sticky");
    assert_eq!((&said["outcome"], &said["backend"]), (&"sticky".into(), &backend.clone().into()));
    assert_eq!(answers(&stage, Family::V4, 81), backend);
    assert_eq!(explained(balancer, "203.0.113.9", "sticky")["outcome"], "slot");

    // A connection that there is, by its very ends; maglev goes by the port.
    for _ in 0..8 {
        let connection = stage.client().run(|| {
            let mut connection = Connection::open(Family::V4.service(82))?;
            let backend = connection.get("/")?.text();
            Ok((connection.local()?.to_string(), backend, connection))
        });
        let (end, backend, connection) = connection.unwrap();
        let said = explained(balancer, &end, "maglev");
        assert_eq!((&said["outcome"], &said["backend"]), (&"existing".into(), &(*backend).into()));
        assert_eq!(said["connection"]["state"], "established", "{said}");
        drop(connection);
    }
}

#[test]
fn a_person_reads_why() {
    let stage = stage();
    let balancer = &stage.balancer;
    let client = stage.lab.client.v4.to_string();
    let end = format!("{client}:40000");
    let said = text(balancer, &[&end, "web"]);
    let expected = format!(
        "{end} to web (192.0.2.10:80/tcp): web-01\n  round-robin: the cursor stands at slot 0 of 3; other \
         connections that come first move it on\n"
    );
    assert_eq!(said, expected);
    let said = text(balancer, &[&client, "maglev"]);
    assert!(said.contains("maglev: the hash of both ends names slot "), "{said}");
    assert!(said.contains("another port may get another backend"), "{said}");
    let said = text(balancer, &[&client, "least"]);
    for part in ["drawn when it comes", "less loaded of two", "BACKEND", "web-03", "33.3%"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = text(balancer, &[&client, "closed"]);
    assert!(said.contains("no backend (drop-denied)"), "{said}");
    let said = text(balancer, &[&client, "empty"]);
    assert!(said.contains("no backend (drop-no-backend)"), "{said}");

    balancer
        .cli(&["backend", "drain", "web/web-01", "--for", "10m", "--reason", "test"])
        .unwrap()
        .success()
        .unwrap();
    let said = explained(balancer, &client, "web");
    assert_eq!((&said["backend"], &said["slots"]), (&"web-02".into(), &2.into()), "{said}");

    for (arguments, problem) in [
        (["nobody", "web"], "\"nobody\" is no client; write its address"),
        ([&*client, "wbe"], "there is no service \"wbe\"; the services are: web, sticky, maglev"),
        (["2001:db8::1", "web"], "its clients have IPv4 addresses"),
    ] {
        let refused = balancer.cli(&[&["explain"], &arguments[..]].concat()).unwrap();
        assert_ne!(refused.code, 0);
        assert!(refused.stderr.contains(problem), "{}", refused.stderr);
    }
}
