//! What happens when backends fail and return: spares, slow start, who is kept when nobody is left, and
//! connections that fail before a probe could.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use evenkeel_tests::{
    evenkeel::Balancer,
    http::Connection,
    load::{Load, Pattern, requests},
    servers::TinyWeb,
    settings::{HTTP_PROBE, Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
    xdp_pass,
};

/// How many requests are "under load for a while".
const WHILE: u64 = 300;

fn web(lab: &Lab) -> Service {
    Service::web("web", Family::V4).backends(lab)
}

fn state(balancer: &Balancer, backend: &str) -> String {
    let status = balancer.backend_status("web", backend).unwrap();
    status["state"].as_str().unwrap().to_owned()
}

fn await_state(balancer: &Balancer, backend: &str, wanted: &str) {
    eventually(&format!("{backend} is {wanted}"), PATIENCE, || {
        let state = state(balancer, backend);
        anyhow::ensure!(state == wanted, "it is {state}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn backups_join_while_primaries_are_too_few() {
    let settings = |lab: &Lab| {
        let web = web(lab).backup(&lab.backends[2]).line("min_active = 2").probed(HTTP_PROBE);
        Settings::new(lab).with(web)
    };
    let mut stage = Stage::new(Wiring::Switched, 3, settings).unwrap();
    for backend in ["web-01", "web-02"] {
        stage.balancer.await_active("web", backend, true).unwrap();
    }
    await_state(&stage.balancer, "web-03", "standby");
    let report = stage.ask(Family::V4, 20).unwrap();
    report.flawless().unwrap();
    assert!(!report.by_backend.contains_key("web-03"), "{report:?}");

    stage.nginx[1].crash().unwrap();
    stage.balancer.await_active("web", "web-02", false).unwrap();
    await_state(&stage.balancer, "web-03", "active");
    let report = stage.ask(Family::V4, 20).unwrap();
    report.flawless().unwrap();
    assert_eq!((report.by_backend["web-01"], report.by_backend["web-03"]), (10, 10));

    let host = &stage.lab.backends[1];
    stage.nginx[1].launch(host).unwrap();
    await_state(&stage.balancer, "web-02", "active");
    await_state(&stage.balancer, "web-03", "standby");
}

#[test]
fn a_backend_that_returns_gets_its_share_by_and_by() {
    let settings = |lab: &Lab| {
        Settings::new(lab).with(web(lab).line("slow_start = \"20s\"").probed(HTTP_PROBE))
    };
    let stage = Stage::new(Wiring::Switched, 2, settings).unwrap();
    let balancer = &stage.balancer;
    for backend in ["web-01", "web-02"] {
        // At the start there is nobody to spare it.
        await_state(balancer, backend, "active");
    }
    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();
    let drain =
        ["backend", "drain", "web/web-02", "--for", "1h", "--reason", "a restart of its server"];
    balancer.cli(&drain).unwrap().success().unwrap();
    load.proceed(WHILE).unwrap();
    balancer.cli(&["backend", "resume", "web-02"]).unwrap().success().unwrap();
    let mut shares = Vec::new();
    eventually("it has its share", PATIENCE, || {
        let seen = balancer.backend_status("web", "web-02")?;
        let share = seen["share"].as_f64().unwrap_or_default();
        if shares.last() != Some(&share) {
            shares.push(share);
        }
        anyhow::ensure!(seen["state"] == "active" && (share - 0.5).abs() < 1e-9, "{seen}");
        Ok(())
    })
    .unwrap();
    assert!(shares[0] < 0.35, "it began with {shares:?}");
    assert!(shares.is_sorted() && shares.len() > 4, "{shares:?}");
    load.stop().unwrap().flawless().unwrap();
}

#[test]
fn when_nobody_is_up_the_service_says_what_happens() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let servers: Vec<_> = lab.backends.iter().map(|host| TinyWeb::start(host).unwrap()).collect();
    let keeping = web(&lab).line("on_all_down = \"keep\"").probed(HTTP_PROBE);
    let mut refusing = web(&lab).probed(HTTP_PROBE);
    (refusing.name, refusing.address) = ("other".to_owned(), Family::V4.service(81));
    let balancer =
        Balancer::start(&lab, &Settings::new(&lab).with(keeping).with(refusing)).unwrap();
    for (service, backend) in
        [("web", "web-01"), ("web", "web-02"), ("other", "web-01"), ("other", "web-02")]
    {
        balancer.await_active(service, backend, true).unwrap();
    }
    // Their probes fail, and they serve all the same: it is the probes that are wrong.
    for server in &servers {
        server.set_sick(true);
    }
    await_state(&balancer, "web-01", "fail-open");
    await_state(&balancer, "web-02", "fail-open");
    let client = &lab.client.namespace;
    let report = requests(client, Family::V4.service(80), 40, 4).unwrap();
    report.flawless().unwrap();
    assert_eq!((report.by_backend["web-01"], report.by_backend["web-02"]), (20, 20));
    // Who was taken out by people stays out.
    let drain = ["backend", "drain", "web/web-01", "--for", "1h", "--reason", "a test"];
    balancer.cli(&drain).unwrap().success().unwrap();
    let report = requests(client, Family::V4.service(80), 10, 2).unwrap();
    assert_eq!((report.ok, report.by_backend["web-02"]), (10, 10));

    for backend in ["web-01", "web-02"] {
        balancer.await_active("other", backend, false).unwrap();
    }
    // A veth hands on what is sent back only where its other end runs a program, too.
    xdp_pass::attach(client, "eth0").unwrap();
    let before = balancer.verdict("reply-no-backend").unwrap();
    let refused = client.run(|| {
        let address = Family::V4.service(81);
        Ok(std::net::TcpStream::connect_timeout(&address, PATIENCE))
    });
    let error = refused.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "told at once: {error}");
    assert_eq!(balancer.verdict("reply-no-backend").unwrap(), before + 1);
}

#[test]
fn connections_of_a_backend_that_fails_are_cut_where_that_is_wanted() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let servers: Vec<_> = lab.backends.iter().map(|host| TinyWeb::start(host).unwrap()).collect();
    let service = web(&lab).line("on_down = \"reset\"").probed(HTTP_PROBE);
    let balancer = Balancer::start(&lab, &Settings::new(&lab).with(service)).unwrap();
    for backend in ["web-01", "web-02"] {
        balancer.await_active("web", backend, true).unwrap();
    }
    let client = &lab.client.namespace;
    let open = || client.run(|| Connection::open(Family::V4.service(80))).unwrap();
    let (mut first, mut second) = (open(), open());
    let name = first.get("/").unwrap().text();
    let other = second.get("/").unwrap().text();
    assert_ne!(name, other, "round-robin");
    let sick = usize::from(name == "web-02");
    servers[sick].set_sick(true);
    balancer.await_active("web", &name, false).unwrap();
    eventually("its open connection is cut", PATIENCE, || {
        anyhow::ensure!(first.get("/").is_err(), "it goes on");
        Ok(())
    })
    .unwrap();
    assert_eq!(second.get("/").unwrap().text(), other, "the other one's goes on");
}

#[test]
fn a_backend_that_refuses_is_out_before_a_probe_sees_it() {
    let settings = |lab: &Lab| {
        let passive = "[service.passive]\nfailures = 5\neject_for = \"2s\"";
        Settings::new(lab).with(web(lab).line(passive))
    };
    let mut stage = Stage::new(Wiring::Switched, 2, settings).unwrap();
    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();
    load.proceed(WHILE).unwrap();
    stage.nginx[1].crash().unwrap();
    await_state(&stage.balancer, "web-02", "ejected");
    let seen = stage.balancer.backend_status("web", "web-02").unwrap();
    assert!(seen["reason"].as_str().unwrap().contains("refused"), "{seen}");
    // As long as it refuses it is tried now and then, and out again for longer.
    eventually("it is ejected again", PATIENCE, || {
        anyhow::ensure!(stage.balancer.log().contains("backend is ejected for 4s"), "not yet");
        Ok(())
    })
    .unwrap();
    let host = &stage.lab.backends[1];
    stage.nginx[1].launch(host).unwrap();
    await_state(&stage.balancer, "web-02", "active");
    load.proceed(WHILE).unwrap();
    let report = load.stop().unwrap();
    // What was answered when the server died is lost with it; who is refused afterwards finds the other.
    let refused = report.errors.iter().any(|error| error.contains("Connection refused"));
    assert!(report.failed <= 8 && !refused, "{report:?}");

    // Whatever is seen, half of them stay.
    for nginx in &mut stage.nginx {
        nginx.crash().unwrap();
    }
    for _ in 0..10 {
        let _ = stage.ask(Family::V4, 4);
    }
    let states = [state(&stage.balancer, "web-01"), state(&stage.balancer, "web-02")];
    assert!(states.contains(&"active".to_owned()), "{states:?}");
}
