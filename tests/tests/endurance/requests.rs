//! Ten thousand requests to the API, many at once, reads and changes mixed: all answered, none lost.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use anyhow::Context as _;
use evenkeel_tests::{
    load::{Load, Pattern},
    settings::{Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
    unix::ask,
};

const REQUESTS: usize = 10_000;
/// Who asks at the same time.
const CLIENTS: usize = 100;
/// Those of them who change things, each a service of its own.
const CHANGING: usize = 10;
/// Backends that each of these adds, and gives a weight; every second it removes again.
const BACKENDS: usize = 8;
/// Mebibytes by which the daemon's memory may grow.
const MEMORY: u64 = 128;

fn settings(lab: &Lab) -> Settings {
    let web = Service::web("web", Family::V4).backends(lab);
    (0..CHANGING).fold(Settings::new(lab).with(web), |settings, number| {
        let port = u16::try_from(1000 + number).unwrap();
        let service = Service {
            name: format!("bulk-{number}"),
            address: Family::V4.service(port),
            ..Service::web("", Family::V4)
        };
        settings.with(service.backend(&lab.backends[0], 1))
    })
}

/// The most memory that the daemon ever had, in mebibytes.
fn memory(stage: &Stage) -> u64 {
    let path = format!("/proc/{}/status", stage.balancer.process_id().unwrap());
    let status = fs::read_to_string(path).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn ten_thousand_requests_at_once_are_all_answered() {
    let stage = Stage::new(Wiring::Switched, 2, settings).unwrap();
    let pattern = Pattern { threads: 4, ..Pattern::default() };
    let load = Load::start(stage.client(), Family::V4.service(80), pattern).unwrap();
    load.proceed(50).unwrap();
    let before = memory(&stage);
    let socket = stage.balancer.socket_path();
    let asked = AtomicUsize::new(0);
    let send = |method: &str, path: &str, body: &str| {
        asked.fetch_add(1, Relaxed);
        let (status, answer) =
            ask(&socket, method, path, body).with_context(|| format!("{method} {path}")).unwrap();
        assert_eq!(status, 200, "{method} {path}: {answer}");
    };
    let change = |client: usize| {
        let path = format!("/v1/services/bulk-{client}/backends");
        for number in 0..BACKENDS {
            let (name, host) = (format!("b-{client}-{number}"), number + 1);
            let body = format!(r#"{{"name": "{name}", "address": "10.0.0.{host}:8{client:03}"}}"#);
            send("POST", &path, &body);
            let weight = format!(r#"{{"weight": {host}}}"#);
            send("PATCH", &format!("{path}/{name}"), &weight);
            if number % 2 == 1 {
                send("DELETE", &format!("{path}/{name}"), "");
            }
        }
    };
    let read = |client: usize| {
        // Most are small: what is tested is that many come at once, and not how long a table is.
        let path = match client % 10 {
            0 => "/v1/status",
            1 => "/v1/counters",
            _ => "/v1/history",
        };
        while asked.load(Relaxed) < REQUESTS {
            send("GET", path, "");
        }
    };
    thread::scope(|scope| {
        let (change, read) = (&change, &read);
        for client in 0..CLIENTS {
            scope.spawn(move || {
                if client < CHANGING {
                    change(client);
                }
                read(client);
            });
        }
    });
    let after = memory(&stage);
    println!("{} requests; {before} MiB before, {after} MiB after", asked.load(Relaxed));
    assert!(after <= before + MEMORY, "{before} MiB before, {after} MiB after");

    // Each change is in the file and at work, as if it had been alone.
    let text = stage.balancer.configuration().unwrap();
    for client in 0..CHANGING {
        let mut wanted = vec!["web-01".to_owned()];
        wanted.extend((0..BACKENDS).step_by(2).map(|number| format!("b-{client}-{number}")));
        let service = format!("bulk-{client}");
        assert_eq!(stage.balancer.backends(&service).unwrap(), wanted, "{service}");
        for (number, name) in (0..).step_by(2).zip(&wanted[1..]) {
            assert!(text.contains(&format!("name = \"{name}\"")), "{name} is not in the file");
            let status = stage.balancer.backend_status(&service, name).unwrap();
            assert_eq!(status["weight"], number + 1, "{status}");
        }
    }
    let history = stage.balancer.json(&["history"]).unwrap();
    let last = history["entries"].as_array().unwrap().last().unwrap()["number"].clone();
    assert_eq!(last, 1 + CHANGING * (2 * BACKENDS + BACKENDS / 2), "one entry a change");
    load.proceed(50).unwrap();
    load.stop().unwrap().flawless().unwrap();
}
