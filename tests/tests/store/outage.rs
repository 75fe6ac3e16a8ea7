//! The cluster loses a member, and then all of them; edges lose the cluster. The data path does not notice.

use anyhow::ensure;
use evenkeel_tests::servers::Etcd;

use crate::{
    ground::{Ground, WHILE, flawless, patiently},
    shared::edge,
};

const DRAIN: [&str; 7] = ["backend", "drain", "web/web-01", "--for", "1h", "--reason", "its disk"];

#[test]
fn edges_outlive_a_member_and_the_whole_cluster() {
    let mut ground = Ground::new(2, 4).unwrap();
    let loads = ground.load();
    let both = "applied by edge-1, edge-2";

    // Whoever an edge talks to is gone, or silent; another one has the same.
    let leader = ground.etcd.leader().unwrap();
    ground.etcd.kill(leader).unwrap();
    let told = ground.done(0, &ground.spare(2));
    assert!(told.contains(both), "{told}");
    ground.etcd.restart(leader).unwrap();
    let leader = ground.etcd.leader().unwrap();
    ground.etcd.freeze(leader, true).unwrap();
    patiently("a change is taken while a member is silent", || {
        let drained = ground.cli(1, &DRAIN);
        ensure!(drained.code == 0 && drained.stdout.contains(both), "{drained:?}");
        Ok(())
    })
    .unwrap();
    ground.etcd.freeze(leader, false).unwrap();
    ground.await_reached(&[0, 1], "web-03");
    for edge in 0..2 {
        ground.await_alert(edge, "store-unreachable", false);
        assert_eq!(ground.shares(edge, 20).len(), 2, "web-02 and web-03");
    }
    let revision = ground.await_together().unwrap();

    // All of them: what is at work stays, changes are refused, and everybody is told.
    ground.etcd.kill_all().unwrap();
    for edge in 0..2 {
        ground.await_alert(edge, "store-unreachable", true);
        let refused = ground.cli(edge, &ground.spare(3));
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("the store does not answer"), "{refused:?}");
        assert_eq!(ground.edges[edge].backends("web").unwrap(), ["web-01", "web-02", "web-03"]);
        let status = ground.done(edge, &["status"]);
        assert!(status.contains("store-unreachable") || status.contains("etcd"), "{status}");
        let view = ground.view(edge).unwrap();
        assert_eq!(view["store"]["connected"], false, "{view:#}");
        assert_eq!(view["store"]["revision"], revision, "{view:#}");
        assert!(view["store"]["problem"].is_string(), "{view:#}");
    }

    // A daemon that starts now has what it had: services, backends, and who was taken out. So it does after a reboot.
    ground.edges[0].kill().unwrap();
    ground.edges[0].run().unwrap();
    flawless(loads);
    ground.edges[1].kill().unwrap();
    ground.edges[1].detach().unwrap().success().unwrap();
    ground.edges[1].run().unwrap();
    for backend in ["web-02", "web-03"] {
        ground.await_reached(&[0, 1], backend);
    }
    for edge in 0..2 {
        assert_eq!(ground.edges[edge].backends("web").unwrap(), ["web-01", "web-02", "web-03"]);
        let out = ground.edges[edge].backend_status("web", "web-01").unwrap();
        assert_eq!(out["exception"]["reason"], "its disk", "{out}");
        assert_eq!(ground.shares(edge, 20).len(), 2, "web-02 and web-03");
        ground.await_alert(edge, "store-unreachable", true);
    }

    // And when it is back it is followed again.
    let loads = ground.load();
    ground.etcd.restart_all().unwrap();
    for edge in 0..2 {
        ground.await_alert(edge, "store-unreachable", false);
    }
    ground.await_together().unwrap();
    let told = ground.done(1, &ground.spare(3));
    assert!(told.contains(both), "{told}");
    ground.done(0, &["backend", "resume", "web-01"]);
    ground.await_reached(&[0, 1], "web-04");
    for edge in 0..2 {
        assert_eq!(ground.shares(edge, 40).len(), 4);
    }
    flawless(loads);
}

/// What an edge misses meanwhile is compacted, so that no watch can tell it.
#[test]
fn an_edge_that_is_cut_off_goes_on_and_follows_again() {
    let ground = Ground::new(2, 4).unwrap();
    let loads = ground.load();
    ground.cut(1, true);
    let outcome = ground.cli(0, &ground.spare(2));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("applied by edge-1"), "{outcome:?}");
    assert!(outcome.stderr.contains("warning: not applied by edge-2: "), "{outcome:?}");
    ground.await_alert(1, "store-unreachable", true);
    ground.await_alert(0, "edge-lost", true);
    let view = ground.view(0).unwrap();
    assert_eq!(edge(&view, "edge-2")["alive"], false, "{view:#}");
    assert_eq!(ground.edges[1].backends("web").unwrap(), ["web-01", "web-02"]);
    // Nobody waits for who is known to be lost.
    let outcome = ground.cli(0, &ground.spare(3));
    assert!(outcome.stderr.contains("warning: not applied by edge-2: "), "{outcome:?}");
    ground.etcd.compact().unwrap();
    for load in &loads {
        load.proceed(WHILE).unwrap();
    }

    ground.cut(1, false);
    ground.await_backends(1, &["web-01", "web-02", "web-03", "web-04"]);
    ground.await_alert(1, "store-unreachable", false);
    ground.await_alert(0, "edge-lost", false);
    ground.await_together().unwrap();
    let told = ground.done(1, &["backend", "remove", "web", "web-04"]);
    assert!(told.contains("applied by edge-1, edge-2"), "{told}");
    flawless(loads);
}

/// The member answers, and knows nothing of what the majority decides: its silence must not pass for peace.
#[test]
fn an_edge_whose_member_is_cut_from_the_others_notices() {
    let mut ground = Ground::prepare(Etcd::start().unwrap(), 2, 3).unwrap();
    let endpoints = ground.etcd.endpoints();
    ground.start(&ground.text_at(0, &endpoints[..2], "", &ground.web())).unwrap();
    ground.start(&ground.text_at(1, &endpoints[2..], "", &ground.web())).unwrap();
    ground.await_together().unwrap();
    let loads = ground.load();

    ground.etcd.isolate(2, true).unwrap();
    patiently("the others have a leader", || {
        let leader = ground.etcd.leader()?;
        ensure!(leader != 2, "it is still the one that is alone");
        Ok(())
    })
    .unwrap();
    ground.await_alert(1, "store-unreachable", true);
    let outcome = ground.cli(0, &ground.spare(2));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("warning: not applied by edge-2: "), "{outcome:?}");
    let refused = ground.cli(1, &DRAIN);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert_eq!(ground.edges[1].backends("web").unwrap(), ["web-01", "web-02"]);

    ground.etcd.isolate(2, false).unwrap();
    ground.await_backends(1, &["web-01", "web-02", "web-03"]);
    ground.await_alert(1, "store-unreachable", false);
    ground.await_together().unwrap();
    flawless(loads);
}
