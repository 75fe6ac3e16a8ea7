//! What came to each backend over the last minutes, and the imbalance of it.

use anyhow::ensure;
use evenkeel_tests::{
    settings::{Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};
use serde_json::Value;

use crate::{json, stage};

/// The windows of the first service, once the last minute's has so many connections.
fn windows(stage: &Stage, connections: u64) -> Vec<Value> {
    eventually("the connections are in the windows", PATIENCE, || {
        let windows = json(stage, "/v1/status")["services"][0]["windows"].clone();
        ensure!(windows[1]["connections"] == connections, "{windows}");
        Ok(serde_json::from_value(windows)?)
    })
    .unwrap()
}

fn near(found: &Value, known: f64) {
    let number = found.as_f64().unwrap();
    assert!((number - known).abs() < 0.005, "{number} is not {known}");
}

#[test]
fn equal_shares_have_an_index_of_one() {
    let stage = stage();
    assert_eq!(windows(&stage, 0)[0]["index"], Value::Null, "nothing is no balance");
    stage.ask(Family::V4, 400).unwrap().flawless().unwrap();
    let windows = windows(&stage, 400);
    let seconds: Vec<_> = windows.iter().map(|window| window["seconds"].as_u64()).collect();
    assert_eq!(seconds, [Some(10), Some(60), Some(600)]);
    for window in &windows[1..] {
        assert_eq!(window["connections"], 400);
        near(&window["index"], 1.0);
        near(&window["variation"], 0.0);
        for backend in window["backends"].as_array().unwrap() {
            assert_eq!(backend["connections"], 200, "{backend}");
            near(&backend["fair"], 0.5);
            near(&backend["share"], 0.5);
            assert_eq!(backend["errors"], 0, "{backend}");
            let times = [&backend["handshake_p50_us"], &backend["handshake_p99_us"]];
            let [half, most] = times.map(|time| time.as_u64().unwrap());
            assert!(0 < half && half <= most, "{backend}");
        }
    }
}

#[test]
fn one_that_gets_all_has_its_share_over_the_fair_one() {
    // All connections of one client go to one backend, whose fair share is half of them.
    let web = |lab: &Lab| {
        Service::web("web", Family::V4).backends(lab).line("scheduler = \"source-hash\"")
    };
    let stage = Stage::new(Wiring::Switched, 2, |lab| Settings::new(lab).with(web(lab))).unwrap();
    stage.ask(Family::V4, 100).unwrap().flawless().unwrap();
    let window = &windows(&stage, 100)[1];
    // The table of a hash is not cut in exact halves.
    let index = window["index"].as_f64().unwrap();
    assert!((1.9..2.1).contains(&index), "{window}");
    assert!(window["variation"].as_f64().unwrap() > 0.9, "{window}");
}
