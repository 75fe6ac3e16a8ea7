//! Backends come and go under load, in the running data path and in the configuration file.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use evenkeel_tests::{
    http::Connection,
    load::{Load, Pattern},
    servers::{PORT, big_file},
    settings::{Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
};

/// How many requests are "under load for a while".
const WHILE: u64 = 300;

/// The first two of three backends, so that one is left to add.
fn two_of_three(lab: &Lab) -> Settings {
    let service = Service::web("web", Family::V4);
    Settings::new(lab).with(service.backend(&lab.backends[0], 1).backend(&lab.backends[1], 1))
}

#[test]
fn added_and_removed_under_load_without_one_failed_request() {
    let mut stage = Stage::new(Wiring::Switched, 3, two_of_three).unwrap();
    // Comments are somebody's, and are kept.
    let text = stage.balancer.configuration().unwrap();
    let text = format!("# The shop. Ask before you touch it.\n{text}# The end.\n");
    stage.balancer.kill().unwrap();
    stage.balancer.configure(&text).unwrap();
    stage.balancer.run().unwrap();

    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();
    load.proceed(WHILE).unwrap();

    let third = stage.lab.backends[2].address(Family::V4, PORT).to_string();
    let added = stage.balancer.cli(&["backend", "add", "web", "web-03", &third]).unwrap();
    added.success().unwrap();
    load.proceed(WHILE).unwrap();
    assert_eq!(stage.balancer.backends("web").unwrap(), ["web-01", "web-02", "web-03"]);
    assert!(stage.balancer.counters("web", "web-03").unwrap().connections > 0);

    let removed = stage.balancer.cli(&["backend", "remove", "web", "web-01"]).unwrap();
    removed.success().unwrap();
    // What was under way when the command returned may still reach web-01; nothing after that.
    load.proceed(WHILE).unwrap();
    let before = stage.nginx[0].served("/").unwrap();
    load.proceed(WHILE).unwrap();
    assert_eq!(stage.nginx[0].served("/").unwrap(), before, "web-01 still gets connections");

    let report = load.stop().unwrap();
    report.flawless().unwrap();
    assert_eq!(report.by_backend.len(), 3, "all three took part: {report:?}");

    let file = stage.balancer.configuration().unwrap();
    assert!(file.starts_with("# The shop. Ask before you touch it.\n"), "{file}");
    assert!(file.contains("# The end.\n"), "{file}");
    assert!(file.contains("\"web-03\"") && file.contains(&third), "{file}");
    assert!(!file.contains("\"web-01\""), "{file}");
    let check = stage.balancer.check(&stage.balancer.config_path()).unwrap();
    assert_eq!(check.code, 0, "{check:?}");
}

/// Begins a slow download and tells which backend serves it.
fn slow_download(stage: &Stage) -> (Connection, String, usize) {
    big_file(&stage.files().join("big"), 6).unwrap();
    let mut connection = stage.client().run(|| Connection::open(Family::V4.service(80))).unwrap();
    let backend = connection.get("/").unwrap().text();
    let length = connection.begin("/slow/big").unwrap();
    assert!(connection.read(&mut [0; 1000]).unwrap() > 0);
    (connection, backend, length)
}

/// Reads to the end; how many bytes came, and whether the end was an error.
fn read_on(mut connection: Connection) -> (usize, bool) {
    let (mut total, mut buffer) = (0, vec![0; 65_536]);
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return (total, false),
            Ok(length) => total += length,
            Err(_) => return (total, true),
        }
    }
}

#[test]
fn remove_lets_an_open_connection_finish() {
    let stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    let (connection, backend, length) = slow_download(&stage);
    stage.balancer.cli(&["backend", "remove", "web", &backend]).unwrap().success().unwrap();
    let report = stage.ask(Family::V4, 20).unwrap();
    report.flawless().unwrap();
    assert!(!report.by_backend.contains_key(&backend), "{report:?}");
    let (rest, broken) = read_on(connection);
    // `slow_download` has read up to 1,000 bytes of it.
    assert!(!broken && (length - 1000..length).contains(&rest), "{rest} of {length} bytes");
}

#[test]
fn remove_now_cuts_open_connections() {
    let stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    let (connection, backend, length) = slow_download(&stage);
    let removed = stage.balancer.cli(&["backend", "remove", "web", &backend, "--now"]).unwrap();
    removed.success().unwrap();
    let (rest, _) = read_on(connection);
    assert!(rest < length - 1000, "the download went on to its end");
    stage.ask(Family::V4, 20).unwrap().flawless().unwrap();
}

#[test]
fn weights_and_services_change_while_running() {
    let stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    let balancer = &stage.balancer;
    balancer.cli(&["backend", "weight", "web", "web-02", "3"]).unwrap().success().unwrap();
    let report = stage.ask(Family::V4, 40).unwrap();
    assert_eq!((report.by_backend["web-01"], report.by_backend["web-02"]), (10, 30));

    let address = Family::V4.service(81).to_string();
    balancer.cli(&["service", "add", "api", &address]).unwrap().success().unwrap();
    let first = stage.lab.backends[0].address(Family::V4, PORT).to_string();
    let added = balancer.cli(&["backend", "add", "api", "only", &first, "--weight", "7"]).unwrap();
    added.success().unwrap();
    assert_eq!(balancer.backend_status("api", "only").unwrap()["weight"], 7);
    let server = Family::V4.service(81);
    let report = evenkeel_tests::load::requests(stage.client(), server, 10, 2).unwrap();
    report.flawless().unwrap();
    assert_eq!(report.by_backend["web-01"], 10);

    let listed = balancer.cli(&["service", "list"]).unwrap().success().unwrap();
    assert!(listed.contains("api") && listed.contains("web6"), "{listed}");
    balancer.cli(&["service", "remove", "api", "--now"]).unwrap().success().unwrap();
    let report = evenkeel_tests::load::requests(stage.client(), server, 4, 2).unwrap();
    assert_eq!(report.ok, 0, "{report:?}");
    stage.ask(Family::V6, 10).unwrap().flawless().unwrap();
}
