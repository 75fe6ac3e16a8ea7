//! What can happen to an edge, while downloads are under way and new connections are made.

use std::time::Duration;

use evenkeel_tests::{
    load::{Load, Pattern},
    servers::PORT,
    topology::Family,
};

use crate::{downloads::Downloads, ground::Ground};

const DOWNLOADS: usize = 24;
/// How many ask at once for something short.
pub const VISITORS: usize = 4;

/// Here nothing flaps that one would have to wait for.
pub const ANNOUNCE: &str = "[announce]\nannounce_after = \"300ms\"\n";

/// New connections, one after the other.
pub fn visitors(ground: &Ground) -> Load {
    let pause = Duration::from_millis(5);
    let pattern = Pattern { threads: VISITORS, pause, ..Pattern::default() };
    Load::start(&ground.fleet.client.namespace, Family::V4.service(PORT), pattern).unwrap()
}

/// Downloads, of which each edge carries some.
pub fn downloads(ground: &Ground) -> Downloads {
    let server = Family::V4.service(PORT);
    let downloads = Downloads::begin(&ground.fleet.client.namespace, server, DOWNLOADS).unwrap();
    for edge in 0..2 {
        assert!(ground.connections(edge).unwrap() > 0, "edge {edge} carries none of them");
    }
    downloads
}

/// An edge is drained, and comes back.
pub fn drained(ground: &Ground, edge: usize) {
    let drain = ["node", "drain", "--for", "10m", "--reason", "new kernel"];
    let told = ground.balancers[edge].cli(&drain).unwrap().success().unwrap();
    assert!(told.contains("traffic has left this node"), "{told}");
    ground.await_ways(Family::V4, &[1 - edge]).unwrap();
    ground.balancers[edge].cli(&["node", "resume"]).unwrap().success().unwrap();
    ground.await_ways(Family::V4, &[0, 1]).unwrap();
}

/// An edge is cut from its link, which is mended.
pub fn cut(ground: &Ground, edge: usize) {
    ground.fleet.link(edge, false).unwrap();
    ground.await_ways(Family::V4, &[1 - edge]).unwrap();
    visitors(ground).proceed(20).unwrap();
    ground.fleet.link(edge, true).unwrap();
    ground.await_ways(Family::V4, &[0, 1]).unwrap();
}

/// An edge dies for good.
pub fn killed(ground: &Ground, edge: usize) {
    ground.fleet.kill(edge).unwrap();
    ground.await_ways(Family::V4, &[1 - edge]).unwrap();
}
