//! Two edges behind a router that all run BIRD, with BFD: what becomes of downloads and of new connections when an
//! edge is drained, cut off, or dies.

use anyhow::ensure;
use evenkeel_tests::{
    modes::Mode,
    topology::{Family, Fleet},
    wait::{PATIENCE, eventually},
};

use crate::{
    faults::{ANNOUNCE, VISITORS, cut, downloads, drained, killed, visitors},
    ground::{Ground, documented},
};

/// Starts BIRD on the router, and on these edges.
pub fn start(ground: &mut Ground, edges: &[usize]) {
    let directory = ground.directory().to_owned();
    let edges = edges.iter().map(|edge| (&ground.fleet.edges[*edge], "edge"));
    for (host, kind) in [(&ground.fleet.router, "router")].into_iter().chain(edges) {
        let socket = directory.join(format!("{}.ctl", host.name));
        let file = documented(&format!("bird-{kind}.conf"));
        let arguments = ["-f", "-c", &file, "-s", socket.to_str().unwrap()];
        ground.speakers.push(Fleet::start(host, "bird", &arguments, &directory).unwrap());
    }
}

fn ground(mode: Mode) -> Ground {
    let mut ground = Ground::new(Fleet::new(3).unwrap(), mode, ANNOUNCE).unwrap();
    start(&mut ground, &[0, 1]);
    for family in Family::BOTH {
        ground.await_ways(family, &[0, 1]).unwrap();
    }
    ground
}

#[test]
fn in_tunnels_no_flow_breaks_whatever_happens_to_an_edge() {
    let ground = ground(Mode::Ipip(Family::V4));
    let (downloads, visitors) = (downloads(&ground), visitors(&ground));
    drained(&ground, 1);
    downloads.proceed().unwrap();
    cut(&ground, 0);
    downloads.proceed().unwrap();
    killed(&ground, 0);
    downloads.proceed().unwrap();
    visitors.proceed(100).unwrap();
    visitors.stop().unwrap().flawless().unwrap();
    assert_eq!(downloads.finish().unwrap(), [] as [String; 0]);
}

/// The backend takes connections when the other edge dies, whose flows this one has never seen: they go on by the
/// table that they were opened by.
#[test]
fn with_dsr_no_flow_breaks_when_an_edge_dies_after_a_backend_was_added() {
    let ground = ground(Mode::Dsr);
    let (downloads, visitors) = (downloads(&ground), visitors(&ground));
    // A table that was in force for a moment only is nobody's.
    eventually("the first table is old enough to be remembered", PATIENCE, || {
        let uptime = ground.balancers[0].status()?["daemon"]["uptime_seconds"].as_u64();
        ensure!(uptime >= Some(8), "{uptime:?}");
        Ok(())
    })
    .unwrap();
    ground.add_spare(0).unwrap();
    ground.add_spare(1).unwrap();
    for balancer in &ground.balancers {
        balancer.await_active("web", &ground.spare().0, true).unwrap();
    }
    killed(&ground, 1);
    downloads.proceed().unwrap();
    visitors.proceed(100).unwrap();
    visitors.stop().unwrap().flawless().unwrap();
    assert_eq!(downloads.finish().unwrap(), [] as [String; 0]);
}

/// Through NAT the source ports are known to one edge alone: what it carried ends with it, at once and not by a
/// timeout, and nothing else does.
#[test]
fn through_nat_the_flows_of_an_edge_that_dies_break_and_no_others() {
    let ground = ground(Mode::Nat);
    let downloads = downloads(&ground);
    let carried = usize::try_from(ground.connections(0).unwrap()).unwrap();
    let visitors = visitors(&ground);
    killed(&ground, 0);
    downloads.proceed().unwrap();
    visitors.proceed(100).unwrap();
    let report = visitors.stop().unwrap();
    // Who had a request under way lost that one.
    assert!(report.failed <= VISITORS as u64, "{report:?}");
    let broken = downloads.finish().unwrap();
    assert_eq!(broken.len(), carried, "{broken:#?}");
    assert!(broken.iter().all(|error| error.contains("reset")), "{broken:#?}");
}
