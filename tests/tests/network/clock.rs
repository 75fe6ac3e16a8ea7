//! The clock is set by more than a year while a drain is under way: the balancer's time goes on as it is.
//!
//! The machine's own clock stays what it is: libfaketime stands between the daemon and it, and reads from a
//! file what to tell.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use evenkeel_tests::{
    evenkeel::Balancer,
    loads::Loads,
    settings::{HTTP_PROBE, Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
};

/// How long the drain lasts.
const DRAIN: Duration = Duration::from_secs(6);

fn library() -> PathBuf {
    let libraries = fs::read_dir("/usr/lib").unwrap().flatten();
    let mut found = libraries.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    let found = found.find(|path| path.is_file());
    found.context("no libfaketimeMT.so.1 below /usr/lib: install the package faketime").unwrap()
}

/// Sets the daemon's clock off the machine's.
fn set(file: &Path, offset: &str) {
    // At once, so that nobody reads half of it.
    let fresh = file.with_extension("new");
    fs::write(&fresh, offset).unwrap();
    fs::rename(fresh, file).unwrap();
}

/// The year that the daemon's last line has.
fn year(balancer: &Balancer) -> u32 {
    let log = balancer.log();
    let last = log.lines().last().unwrap();
    last.get(..4).and_then(|year| year.parse().ok()).with_context(|| last.to_owned()).unwrap()
}

#[test]
fn a_clock_that_is_set_ends_no_drain_and_takes_nobody_down() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let web = |name, family| Service::web(name, family).backends(&lab).probed(HTTP_PROBE);
    let settings = Settings::new(&lab).with(web("web", Family::V4)).with(web("web6", Family::V6));
    let mut stage = Stage::on(lab, &settings).unwrap();
    stage.balancer.terminate().unwrap();
    let offset = stage.scratch().join("offset");
    set(&offset, "+0");
    stage.balancer.set_environment("LD_PRELOAD", library());
    stage.balancer.set_environment("FAKETIME_TIMESTAMP_FILE", &offset);
    stage.balancer.set_environment("FAKETIME_NO_CACHE", "1");
    stage.balancer.set_environment("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    stage.balancer.set_environment("NO_FAKE_STAT", "1");
    stage.balancer.run().unwrap();
    for service in ["web", "web6"] {
        for host in &stage.lab.backends {
            stage.balancer.await_active(service, &host.name, true).unwrap();
        }
    }
    let loads = Loads::start(&stage).unwrap();
    let began = Instant::now();
    let balancer = &stage.balancer;
    let drain = |name: &str| {
        let arguments = ["backend", "drain", name, "--for", "6s", "--reason", "the clock"];
        balancer.cli(&arguments).unwrap().success().unwrap();
    };
    drain("web/web-02");
    let before = year(balancer);

    set(&offset, "+800d");
    loads.proceed().unwrap();
    let doing = balancer.backend_status("web", "web-02").unwrap()["state"].clone();
    // A slow machine may be later than the drain's end.
    assert!(doing == "drain" || began.elapsed() >= DRAIN, "it is {doing}");
    balancer.await_active("web", "web-02", true).unwrap();
    assert!(began.elapsed() >= DRAIN, "the drain ended after {:?}", began.elapsed());
    assert!(year(balancer) >= before + 2, "the daemon's clock was not set");

    let began = Instant::now();
    drain("web/web-01");
    set(&offset, "-800d");
    loads.proceed().unwrap();
    balancer.await_active("web", "web-01", true).unwrap();
    assert!(began.elapsed() >= DRAIN, "the drain ended after {:?}", began.elapsed());
    assert!(year(balancer) + 2 <= before, "the daemon's clock was not set back");
    loads.proceed().unwrap();
    let up = balancer.backend_status("web", "web-01").unwrap()["health_seconds"].clone();
    assert!(up.as_u64().is_some_and(|up| up < 86_400), "it has been up for {up} seconds");
    let log = balancer.log();
    assert!(!log.contains("backend is down"), "{log}");
    loads.flawless(&stage).unwrap();
}
