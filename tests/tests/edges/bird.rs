//! Two edges behind a router that all run BIRD, with BFD: what becomes of downloads and of new connections when an
//! edge is drained, cut off, or dies.

use std::time::Duration;

use evenkeel_tests::{
    load::{Load, Pattern},
    modes::Mode,
    servers::PORT,
    topology::{Family, Fleet},
};

use crate::{
    downloads::Downloads,
    ground::{Ground, documented},
};

const DOWNLOADS: usize = 24;
/// A second would do for these hosts; here nothing else flaps.
const ANNOUNCE: &str = "[announce]\nannounce_after = \"300ms\"\n";

fn bird(ground: &mut Ground) {
    let directory = ground.directory().to_owned();
    let hosts = [&ground.fleet.router].into_iter().chain(&ground.fleet.edges);
    let mut speakers = Vec::new();
    for host in hosts {
        let kind = if host.name == "router" { "router" } else { "edge" };
        let socket = directory.join(format!("{}.ctl", host.name));
        let file = documented(&format!("bird-{kind}.conf"));
        let arguments = ["-f", "-c", &file, "-s", socket.to_str().unwrap()];
        speakers.push(Fleet::start(host, "bird", &arguments, &directory).unwrap());
    }
    ground.speakers = speakers;
    for family in Family::BOTH {
        ground.await_ways(family, &[0, 1]).unwrap();
    }
}

/// New connections, one after the other.
fn visitors(ground: &Ground) -> Load {
    let pattern = Pattern { threads: 4, pause: Duration::from_millis(5), ..Pattern::default() };
    Load::start(&ground.fleet.client.namespace, Family::V4.service(PORT), pattern).unwrap()
}

fn downloads(ground: &Ground) -> Downloads {
    let server = Family::V4.service(PORT);
    let downloads = Downloads::begin(&ground.fleet.client.namespace, server, DOWNLOADS).unwrap();
    for edge in 0..2 {
        assert!(ground.connections(edge).unwrap() > 0, "edge {edge} carries none of them");
    }
    downloads
}

fn nothing_breaks(mode: Mode) {
    let mut ground = Ground::new(Fleet::new(3).unwrap(), mode, ANNOUNCE).unwrap();
    bird(&mut ground);
    let (downloads, visitors) = (downloads(&ground), visitors(&ground));

    // Drained: its flows go on over the other edge, and come back.
    let drain = ["node", "drain", "--for", "10m", "--reason", "new kernel"];
    let told = ground.balancers[1].cli(&drain).unwrap().success().unwrap();
    assert!(told.contains("traffic has left this node"), "{told}");
    ground.await_ways(Family::V4, &[0]).unwrap();
    downloads.proceed().unwrap();
    ground.balancers[1].cli(&["node", "resume"]).unwrap().success().unwrap();
    ground.await_ways(Family::V4, &[0, 1]).unwrap();
    downloads.proceed().unwrap();

    // Cut from its link.
    ground.fleet.link(0, false).unwrap();
    ground.await_ways(Family::V4, &[1]).unwrap();
    downloads.proceed().unwrap();
    ground.fleet.link(0, true).unwrap();
    ground.await_ways(Family::V4, &[0, 1]).unwrap();
    downloads.proceed().unwrap();

    // Dead, while both get one more backend.
    ground.add_spare(0).unwrap();
    ground.add_spare(1).unwrap();
    ground.fleet.kill(0).unwrap();
    ground.await_ways(Family::V4, &[1]).unwrap();
    downloads.proceed().unwrap();
    visitors.proceed(100).unwrap();

    visitors.stop().unwrap().flawless().unwrap();
    assert_eq!(downloads.finish().unwrap(), [] as [String; 0]);
}

#[test]
fn in_tunnels_no_flow_breaks_whatever_happens_to_an_edge() {
    nothing_breaks(Mode::Ipip(Family::V4));
}

#[test]
fn with_dsr_no_flow_breaks_whatever_happens_to_an_edge() {
    nothing_breaks(Mode::Dsr);
}
