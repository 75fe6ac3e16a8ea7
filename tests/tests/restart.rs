//! The data path outlives the daemon: killed, stopped, restarted; and detach takes all of it away.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::fs;

use evenkeel_tests::{
    http::Connection,
    load::{Load, Pattern},
    netns::succeeded,
    settings::{HTTP_PROBE, Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
};

const WHILE: u64 = 300;

fn probed(lab: &Lab) -> Settings {
    let web = |name, family| Service::web(name, family).backends(lab).probed(HTTP_PROBE);
    Settings::new(lab).with(web("web", Family::V4)).with(web("web6", Family::V6))
}

fn connections(stage: &Stage, service: &str) -> u64 {
    let count = |host: &evenkeel_tests::topology::Host| {
        stage.balancer.counters(service, &host.name).unwrap().connections
    };
    stage.lab.backends.iter().map(count).sum()
}

fn await_all(stage: &Stage) {
    for service in ["web", "web6"] {
        for host in &stage.lab.backends {
            stage.balancer.await_active(service, &host.name, true).unwrap();
        }
    }
}

#[test]
fn killed_and_restarted_under_load_without_one_failed_request() {
    let mut stage = Stage::new(Wiring::Switched, 2, probed).unwrap();
    await_all(&stage);
    let client = stage.client();
    let fresh = Load::start(client, Family::V4.service(80), Pattern::default()).unwrap();
    let kept = Pattern { keep_alive: true, threads: 4, ..Pattern::default() };
    let kept = Load::start(client, Family::V6.service(80), kept).unwrap();
    for _ in 0..2 {
        fresh.proceed(WHILE).unwrap();
        kept.proceed(WHILE).unwrap();
        let before = connections(&stage, "web");
        stage.balancer.kill().unwrap();
        fresh.proceed(WHILE).unwrap();
        kept.proceed(WHILE).unwrap();
        stage.balancer.run().unwrap();
        // What was made while no daemon ran is counted too.
        assert!(connections(&stage, "web") >= before + WHILE);
        assert!(stage.balancer.status().unwrap()["services"][0]["backends"][1]["active"] == true);
    }
    let (fresh, kept) = (fresh.stop().unwrap(), kept.stop().unwrap());
    fresh.flawless().unwrap();
    kept.flawless().unwrap();
    assert_eq!(connections(&stage, "web"), fresh.ok, "every connection is counted once");
    assert_eq!(connections(&stage, "web6"), 4, "the kept connections were kept");
}

#[test]
fn sigterm_leaves_the_data_path_and_detach_removes_it() {
    let mut stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    let service = Family::V4.service(80);
    let mut kept = stage.client().run(|| Connection::open(service)).unwrap();
    kept.get("/").unwrap();

    stage.balancer.terminate().unwrap();
    let status = stage.balancer.cli(&["status"]).unwrap();
    assert_eq!(status.code, 3, "no daemon answers: {status:?}");
    let report = stage.ask(Family::V4, 100).unwrap();
    report.flawless().unwrap();
    assert_eq!(report.by_backend["web-01"], report.by_backend["web-02"]);
    stage.ask(Family::V6, 100).unwrap().flawless().unwrap();
    kept.get("/").unwrap();

    let pins = stage.balancer.bpffs_path().to_owned();
    for pin in ["program", "links/front", "links/back", "maps"] {
        assert!(pins.join(pin).exists(), "{pin} is not pinned");
    }

    stage.balancer.run().unwrap();
    kept.get("/").unwrap();
    assert_eq!(connections(&stage, "web"), 101);
    assert_eq!(stage.balancer.counters("web6", "web-01").unwrap().connections, 50);

    stage.balancer.terminate().unwrap();
    let detached = stage.balancer.detach().unwrap();
    assert_eq!(detached.code, 0, "{detached:?}");
    assert!(!pins.exists() || fs::read_dir(&pins).unwrap().next().is_none(), "pins are left");
    for device in stage.lab.interfaces() {
        let mut link = stage.lab.edge.namespace.command("ip");
        let text = link.args(["link", "show", "dev", &device]).output().unwrap();
        let text = succeeded("ip link", text).unwrap();
        assert!(!text.contains("xdp"), "a program is left: {text}");
    }
    assert_eq!(stage.ask(Family::V4, 4).unwrap().ok, 0, "nobody listens on the edge itself");
    let again = stage.balancer.detach().unwrap();
    assert!(again.code == 0 || again.code == 1, "{again:?}");
}

#[test]
fn the_pinned_program_can_be_asked_about_a_packet() {
    let stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    let packet = stage.scratch().join("packet");
    fs::write(
        &packet,
        evenkeel_tests::frame::Frame::tcp4()
            .to(std::net::Ipv4Addr::new(203, 0, 113, 9), 80)
            .build(),
    )
    .unwrap();
    let mut command = std::process::Command::new("bpftool");
    command.args(["prog", "run", "pinned"]).arg(stage.balancer.bpffs_path().join("program"));
    command.arg("data_in").arg(&packet).args(["data_out", "/dev/null"]);
    let answer = succeeded("bpftool prog run", command.output().unwrap()).unwrap();
    assert!(answer.contains("Return value: 2"), "not ours is XDP_PASS (2): {answer}");
}
