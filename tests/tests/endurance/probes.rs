//! Backends that try a prober's patience, and a table that is full: at load, without one failed request.

use std::{fs, net::TcpListener, thread, time::Duration};

use anyhow::ensure;
use evenkeel_tests::{
    evenkeel::Balancer,
    http::Connection,
    load::{Load, Pattern},
    servers::{PORT, TinyWeb},
    settings::{HTTP_PROBE, Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};

/// Descriptors that the daemon has open.
fn descriptors(balancer: &Balancer) -> usize {
    fs::read_dir(format!("/proc/{}/fd", balancer.process_id().unwrap())).unwrap().count()
}

fn web(lab: &Lab) -> Settings {
    Settings::new(lab).with(Service::web("web", Family::V4).backends(lab).probed(HTTP_PROBE))
}

#[test]
fn a_target_that_accepts_and_never_answers_gets_nothing_and_costs_little() {
    let lab = Lab::new(Wiring::Switched, 3).unwrap();
    let servers: Vec<_> =
        lab.backends[..2].iter().map(|host| TinyWeb::start(host).unwrap()).collect();
    // The kernel accepts for it; nobody reads.
    let mute = lab.backends[2].namespace.run(|| Ok(TcpListener::bind(("::", PORT))?)).unwrap();
    let balancer = Balancer::start(&lab, &web(&lab)).unwrap();
    for backend in ["web-01", "web-02"] {
        balancer.await_active("web", backend, true).unwrap();
    }
    let client = &lab.client.namespace;
    let load = Load::start(client, Family::V4.service(80), Pattern::default()).unwrap();
    let says = "timed out after 300ms while waiting for the response";
    eventually("it is down, and said why", PATIENCE, || {
        let status = balancer.backend_status("web", "web-03")?;
        let reason = status["reason"].as_str().unwrap_or_default();
        ensure!(status["health"] == "down" && reason.contains(says), "{status}");
        Ok(())
    })
    .unwrap();
    let (before, probed) = (descriptors(&balancer), servers[0].probes());
    eventually("the others are probed on", PATIENCE, || {
        ensure!(servers[0].probes() >= probed + 20, "not yet");
        Ok(())
    })
    .unwrap();
    let after = descriptors(&balancer);
    assert!(after <= before + 4, "{before} descriptors, later {after}");
    assert_eq!(balancer.counters("web", "web-03").unwrap().connections, 0);

    // It comes to its senses.
    drop(mute);
    let _third = TinyWeb::start(&lab.backends[2]).unwrap();
    balancer.await_active("web", "web-03", true).unwrap();
    load.proceed(100).unwrap();
    let report = load.stop().unwrap();
    report.flawless().unwrap();
    assert!(report.by_backend.contains_key("web-03"), "{report:?}");
}

#[test]
fn a_backend_that_flaps_every_second_is_held_and_nobody_notices() {
    let lab = Lab::new(Wiring::Switched, 3).unwrap();
    let servers: Vec<_> = lab.backends.iter().map(|host| TinyWeb::start(host).unwrap()).collect();
    let probe = "kind = \"http\"\npath = \"/healthz\"\ninterval = \"300ms\"\ntimeout = \"300ms\"\n\
                 rise = 2\nfall = 2\nflap_damping = \"1m\"\n";
    let service = Service::web("web", Family::V4).backends(&lab).probed(probe);
    let balancer = Balancer::start(&lab, &Settings::new(&lab).with(service)).unwrap();
    for host in &lab.backends {
        balancer.await_active("web", &host.name, true).unwrap();
    }
    let client = &lab.client.namespace;
    let load = Load::start(client, Family::V4.service(80), Pattern::default()).unwrap();
    let kept = Pattern { keep_alive: true, threads: 4, ..Pattern::default() };
    let kept = Load::start(client, Family::V4.service(80), kept).unwrap();
    for turn in 0..10 {
        // The pace is what is tested.
        servers[2].set_sick(turn % 2 == 0);
        thread::sleep(Duration::from_secs(1));
    }
    let status = balancer.backend_status("web", "web-03").unwrap();
    let reason = status["reason"].as_str().unwrap_or_default();
    assert!(status["health"] == "down" && reason.contains("flap"), "it is not held: {status}");
    for backend in ["web-01", "web-02"] {
        let status = balancer.backend_status("web", backend).unwrap();
        assert_eq!(status["active"], true, "{status}");
    }
    let log = balancer.log();
    let turns = log.lines().filter(|line| line.contains("web-03") && line.contains("was ")).count();
    assert!((2..10).contains(&turns), "{turns} changes of its health in 10: {log}");
    load.proceed(100).unwrap();
    load.stop().unwrap().flawless().unwrap();
    kept.stop().unwrap().flawless().unwrap();
}

#[test]
fn a_full_connection_table_refuses_the_newest_by_name_and_keeps_the_rest() {
    /// Room, and unconfirmed ones.
    const ROOM: usize = 64;
    const PLACES: usize = 16;
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let text = format!(
        "{}\n[tables]\nconnections = {ROOM}\nunconfirmed = {PLACES}\n",
        Settings::new(&lab).with(Service::web("web", Family::V4).backends(&lab))
    );
    let stage = Stage::on_text(lab, &text).unwrap();
    let (client, service) = (stage.client(), Family::V4.service(80));
    let kept = Pattern { keep_alive: true, threads: 8, ..Pattern::default() };
    let kept = Load::start(client, service, kept).unwrap();
    kept.proceed(100).unwrap();
    let open = || client.run(|| Connection::open_within(service, Duration::from_millis(300)));
    let full = || stage.balancer.verdict("drop-table-full").unwrap();
    assert_eq!(full(), 0);
    let mut held = Vec::new();
    while held.len() < 2 * (ROOM + PLACES) {
        match open() {
            Ok(connection) => held.push(connection),
            Err(_) => break,
        }
    }
    assert!(held.len() + 8 >= ROOM, "{} opened beside the load's", held.len());
    assert!(full() > 0, "refused by another name: {}", stage.balancer.json(&["counters"]).unwrap());
    // Who is in stays in, however many knock.
    for _ in 0..10 {
        assert!(open().is_err(), "there was room");
    }
    kept.proceed(200).unwrap();
    for connection in &mut held {
        assert_eq!(connection.get("/").unwrap().status, 200);
    }
    assert!(full() >= 10);
    // Room again, room for new ones.
    drop(held);
    eventually("new connections are made again", PATIENCE, || open().map(drop)).unwrap();
    kept.proceed(100).unwrap();
    kept.stop().unwrap().flawless().unwrap();
}
