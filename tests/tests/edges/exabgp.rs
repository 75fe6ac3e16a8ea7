//! ExaBGP on an edge, told by the process that it runs.

use std::fs;

use anyhow::ensure;
use evenkeel_tests::{
    modes::Mode,
    topology::{Family, Fleet},
    wait::{PATIENCE, eventually},
};

use crate::{
    bird,
    ground::{Ground, documented},
};

const ANNOUNCE: &str = "[announce]\nway = \"exabgp\"\nannounce_after = \"300ms\"\n";
const RUN: &str = "/usr/bin/evenkeel exabgp";

#[test]
fn exabgp_announces_what_it_is_told_and_its_silence_is_an_alert() {
    let mut ground = Ground::new(Fleet::new(3).unwrap(), Mode::Nat, ANNOUNCE).unwrap();
    bird::start(&mut ground, &[]);
    let edge = &ground.balancers[0];
    let silent = |raised: bool| {
        eventually("the alert is right", PATIENCE, || {
            let alerts = edge.json(&["alerts"])?;
            let alerts = alerts["alerts"].as_array().cloned().unwrap_or_default();
            let told = alerts.iter().any(|alert| alert["id"] == "announce-failed/web");
            ensure!(told == raised, "{alerts:?}");
            Ok(())
        })
        .unwrap();
    };
    silent(true);

    let directory = ground.directory().to_owned();
    let file = directory.join("exabgp.conf");
    let text = fs::read_to_string(documented("exabgp.conf")).unwrap();
    assert!(text.contains(RUN));
    let run = format!(
        "{} --socket {} exabgp",
        edge.binary_path().display(),
        edge.socket_path().display()
    );
    fs::write(&file, text.replace(RUN, &run)).unwrap();
    let environment = directory.join("exabgp.env");
    fs::write(
        &environment,
        "[exabgp.daemon]\nuser = 'root'\ndrop = false\n[exabgp.api]\ncli = false\n",
    )
    .unwrap();
    let arguments = ["--env", environment.to_str().unwrap(), file.to_str().unwrap()];
    let speaker = Fleet::start(&ground.fleet.edges[0], "exabgp", &arguments, &directory).unwrap();
    ground.await_ways(Family::V4, &[0]).unwrap();
    silent(false);

    // An orderly stop withdraws before the daemon is gone.
    ground.balancers[0].terminate().unwrap();
    ground.await_ways(Family::V4, &[]).unwrap();
    ground.balancers[0].run().unwrap();
    ground.await_ways(Family::V4, &[0]).unwrap();
    drop(speaker);
}
