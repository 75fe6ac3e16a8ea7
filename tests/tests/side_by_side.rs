//! Two instances on one machine, each with paths of its own, do not know of each other.

use evenkeel_tests::{
    load::{Load, Pattern},
    settings::Settings,
    stage::Stage,
    topology::{Family, Wiring},
};

#[test]
fn two_instances_serve_and_one_going_does_not_disturb_the_other() {
    // Even their addresses are the same: only the namespaces and the paths tell them apart.
    let mut one = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    let mut two = Stage::new(Wiring::Direct, 2, Settings::web).unwrap();
    let service = Family::V4.service(80);
    let load = Load::start(two.client(), service, Pattern::default()).unwrap();

    let report = one.ask(Family::V4, 200).unwrap();
    report.flawless().unwrap();
    assert_eq!((report.by_backend["web-01"], report.by_backend["web-02"]), (100, 100));
    one.balancer.cli(&["backend", "remove", "web", "web-01"]).unwrap().success().unwrap();
    assert_eq!(two.balancer.backends("web").unwrap(), ["web-01", "web-02"]);

    load.proceed(100).unwrap();
    one.balancer.kill().unwrap();
    one.balancer.detach().unwrap().success().unwrap();
    load.proceed(100).unwrap();
    two.balancer.status().unwrap();
    drop(one);
    load.proceed(100).unwrap();

    let report = load.stop().unwrap();
    report.flawless().unwrap();
    let shares = (report.by_backend["web-01"], report.by_backend["web-02"]);
    assert!(shares.0.abs_diff(shares.1) <= 1, "{shares:?}");
    two.balancer.terminate().unwrap();
}
