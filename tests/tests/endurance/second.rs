//! A second daemon on what another one works with: refused, and told by which process.

use std::path::Path;

use evenkeel_tests::{
    load::{Load, Pattern},
    settings::Settings,
    stage::Stage,
    topology::{Family, Wiring},
};

#[test]
fn a_second_daemon_is_refused_and_told_who_is_there() {
    let mut stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();
    load.proceed(50).unwrap();
    let balancer = &stage.balancer;
    let elsewhere = |name: &str| balancer.scratch().join(name);
    let (socket, directory) = (elsewhere("second.sock"), elsewhere("second"));
    let pins = Path::new("/sys/fs/bpf").join(format!("evk-{}-second", std::process::id()));
    let holder = format!("process {}", balancer.process_id().unwrap());
    let pins_before = balancer.bpffs_path().join("links");

    // Each time one place alone is the same.
    for (same, others) in [
        ("--state-dir", vec![("--socket", &*socket), ("--bpffs", &*pins)]),
        ("--bpffs", vec![("--socket", &*socket), ("--state-dir", &*directory)]),
        ("--socket", vec![("--state-dir", &*directory), ("--bpffs", &*pins)]),
        ("--state-dir", Vec::new()),
    ] {
        let refused = balancer.run_elsewhere(&others).unwrap();
        assert_eq!(refused.code, 1, "{same}: {refused:?}");
        let said = refused.stderr.lines().last().unwrap_or_default();
        assert!(said.contains(&holder) && said.contains(same), "{same}: {refused:?}");
        assert!(!pins.exists(), "{same}: pins are left");
        balancer.status().unwrap();
        assert!(pins_before.join("front").exists(), "{same}: a pin is gone");
    }
    // Nor is its data path taken away under it.
    let detached = balancer.detach().unwrap();
    assert!(detached.code == 1 && detached.stderr.contains(&holder), "{detached:?}");
    load.proceed(50).unwrap();

    // Killed, it holds nothing.
    stage.balancer.kill().unwrap();
    stage.balancer.run().unwrap();
    load.proceed(50).unwrap();
    load.stop().unwrap().flawless().unwrap();
}
