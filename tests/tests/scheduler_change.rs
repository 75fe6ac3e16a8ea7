//! A service's scheduler changes while it runs: open connections stay where they are, new ones follow the
//! new one, and the file says so.

use evenkeel_tests::{
    http::Connection,
    load::{Load, Pattern},
    settings::Settings,
    stage::Stage,
    topology::{Family, Wiring},
};

/// How many requests are "under load for a while".
const WHILE: u64 = 200;
const SCHEDULERS: [&str; 5] =
    ["least-connections", "maglev", "source-hash", "random", "round-robin"];

#[test]
fn changed_under_load_without_one_failed_request() {
    let stage = Stage::new(Wiring::Switched, 3, Settings::web).unwrap();
    let open = || stage.client().run(|| Connection::open(Family::V4.service(80))).unwrap();
    let mut kept: Vec<_> = (0..6).map(|_| open()).collect();
    let names = |kept: &mut Vec<Connection>| -> Vec<String> {
        kept.iter_mut().map(|connection| connection.get("/").unwrap().text()).collect()
    };
    let before = names(&mut kept);
    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();
    load.proceed(WHILE).unwrap();
    for scheduler in SCHEDULERS {
        let set = ["service", "set", "web", "--scheduler", scheduler];
        stage.balancer.cli(&set).unwrap().success().unwrap();
        load.proceed(WHILE).unwrap();
        assert_eq!(names(&mut kept), before, "{scheduler}");
        let file = stage.balancer.configuration().unwrap();
        assert!(file.contains(&format!("scheduler = \"{scheduler}\"")), "{file}");
        if scheduler == "source-hash" {
            // One client, one backend.
            let mut fresh: Vec<_> = (0..6).map(|_| open()).collect();
            let mut served = names(&mut fresh);
            served.dedup();
            assert_eq!(served.len(), 1, "{served:?}");
        }
    }
    load.stop().unwrap().flawless().unwrap();

    let refused = stage.balancer.cli(&["service", "set", "web", "--scheduler", "magleve"]).unwrap();
    assert_eq!(refused.code, 2, "{refused:?}");
}
