//! What somebody writes below the prefix by hand, good or bad: the data path stays as it is until somebody decides.

use anyhow::ensure;

use crate::ground::{Ground, flawless, patiently};

const SERVICES: &str = "/evenkeel/services";

/// A configuration, and how many there were before it.
type AtWork = (String, usize);

fn at_work(ground: &Ground, edge: usize) -> AtWork {
    let edge = &ground.edges[edge];
    let history = edge.json(&["history"]).unwrap();
    (edge.configuration().unwrap(), history["entries"].as_array().unwrap().len())
}

/// Whatever it is, both edges say so, and neither moves.
#[track_caller]
fn refused_by_both(ground: &Ground, what: &str, before: &[AtWork; 2]) {
    for (edge, before) in before.iter().enumerate() {
        ground.await_alert(edge, "store-refused", true);
        assert_eq!(ground.edges[edge].backends("web").unwrap(), ["web-01", "web-02"], "{what}");
        assert_eq!(ground.shares(edge, 20).len(), 2, "{what}");
        assert_eq!(&at_work(ground, edge), before, "{what}");
    }
    // Nor is it overwritten by a change that has nothing to do with it.
    let change = ground.cli(0, &ground.spare(2));
    assert_eq!(change.code, 2, "{what}: {change:?}");
    assert!(change.stderr.contains("evenkeel store p"), "the way out: {change:?}");
}

#[track_caller]
fn well_again(ground: &Ground) {
    for edge in 0..2 {
        ground.await_alert(edge, "store-refused", false);
    }
    ground.await_together().unwrap();
}

#[test]
fn what_is_put_by_hand_changes_nothing_until_somebody_pushes_or_pulls() {
    let mut ground = Ground::new(2, 3).unwrap();
    let good = ground.etcd.get(SERVICES).unwrap().unwrap();
    assert!(good.contains("web-02"), "{good}");
    let loads = ground.load();
    let before = [0, 1].map(|edge| at_work(&ground, edge));

    let unknown = good.replacen("address = ", "adress = ", 1);
    for bad in [&*unknown, ""] {
        ground.etcd.put(SERVICES, bad).unwrap();
        refused_by_both(&ground, bad, &before);
        // Nor does a daemon that starts take it.
        if bad.is_empty() {
            ground.edges[0].kill().unwrap();
            ground.edges[0].run().unwrap();
            refused_by_both(&ground, "after a restart", &before);
        }
        // It cannot be taken, and is overwritten by what is at work.
        assert_ne!(ground.cli(1, &["store", "pull"]).code, 0);
        ground.done(1, &["store", "push"]);
        well_again(&ground);
        assert_eq!(ground.etcd.get(SERVICES).unwrap().as_ref(), Some(&good));
    }
    // Administrative states are no better a door.
    ground.etcd.delete(SERVICES).unwrap();
    ground.etcd.put("/evenkeel/exceptions", "{\"web-01\"").unwrap();
    refused_by_both(&ground, "deleted", &before);
    ground.done(0, &["store", "push"]);
    well_again(&ground);

    // An etcd that lost all it had is no reason to lose what is at work.
    ground.etcd.kill_all().unwrap();
    ground.etcd.wipe().unwrap();
    ground.etcd.restart_all().unwrap();
    refused_by_both(&ground, "wiped", &before);
    ground.done(0, &["store", "push"]);
    well_again(&ground);
    assert_eq!(ground.etcd.get(SERVICES).unwrap().as_ref(), Some(&good));

    // It would be valid, and nobody has verified it, or said who he is: somebody has to say `pull`.
    let more =
        format!("{good}\n[[service.backend]]\nname = \"web-03\"\naddress = \"10.0.0.13:8080\"\n");
    ground.etcd.put(SERVICES, &more).unwrap();
    refused_by_both(&ground, "by hand", &before);
    let told = ground.done(1, &["store", "status"]);
    assert!(told.contains("pull"), "{told}");
    ground.done(1, &["store", "pull"]);
    well_again(&ground);
    ground.await_reached(&[0, 1], "web-03");
    for edge in 0..2 {
        assert_eq!(ground.edges[edge].backends("web").unwrap(), ["web-01", "web-02", "web-03"]);
        assert_eq!(ground.shares(edge, 30).len(), 3);
    }

    // What nobody ever said is an edge that is missed, until somebody says that it is not.
    ground.etcd.put("/evenkeel/edges/ghost", "{").unwrap();
    ground.await_alert(0, "edge-lost", true);
    ground.done(1, &["store", "forget", "ghost"]);
    ground.await_alert(0, "edge-lost", false);
    ground.done(1, &["backend", "remove", "web", "web-03"]);
    flawless(loads);
}

/// An edge that comes with other services takes nothing, and gives nothing, until somebody says which of both is right.
#[test]
fn an_edge_that_differs_asks_and_an_empty_store_is_filled() {
    let mut ground =
        Ground::prepare(evenkeel_tests::servers::Etcd::start().unwrap(), 2, 3).unwrap();
    ground.start(&ground.text(0, &ground.web())).unwrap();
    patiently("the first one fills the store", || {
        let stored = ground.etcd.get(SERVICES)?;
        ensure!(stored.is_some_and(|text| text.contains("web-02")), "it is empty");
        Ok(())
    })
    .unwrap();
    let other = ground.web().line("scheduler = \"maglev\"").backend(&ground.fleet.backends[2], 1);
    ground.start(&ground.text(1, &other)).unwrap();
    ground.await_alert(1, "store-refused", true);
    assert_eq!(ground.edges[1].backends("web").unwrap().len(), 3);
    assert_eq!(ground.edges[0].backends("web").unwrap().len(), 2);

    ground.done(1, &["store", "pull"]);
    ground.await_alert(1, "store-refused", false);
    assert_eq!(ground.edges[1].backends("web").unwrap().len(), 2);
    let revision = ground.await_together().unwrap();
    let text = ground.edges[1].configuration().unwrap();
    assert!(!text.contains("maglev") && text.contains("edge = \"edge-2\""), "{text}");
    // The file before is in its history.
    ground.done(1, &["store", "status"]);
    let history = ground.edges[1].json(&["history"]).unwrap();
    assert!(history["entries"].as_array().unwrap().len() > 1, "{history}");
    assert_eq!(ground.await_together().unwrap(), revision, "pulling writes nothing");
    // Nor does it hide behind another one's name.
    ground.edges[1].terminate().unwrap();
    let named = text.replace("edge = \"edge-2\"", "edge = \"edge-1\"");
    ground.edges[1].configure(&named).unwrap();
    ground.edges[1].run().unwrap();
    ground.await_alert(1, "store-unreachable", true);
    let status = ground.done(1, &["store", "status"]);
    assert!(status.contains("another edge is called edge-1 already"), "{status}");
    ground.await_alert(0, "store-unreachable", false);
}
