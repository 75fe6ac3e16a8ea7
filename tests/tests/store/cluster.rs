//! That the cluster which the other tests stand on is one: it elects, survives the loss of a member, and asks who one is.

use anyhow::ensure;
use evenkeel_tests::{
    servers::Etcd,
    wait::{PATIENCE, eventually},
};

use crate::certificates::{PREFIX, security};

#[test]
fn a_cluster_survives_one_member_and_not_two() {
    let mut etcd = Etcd::start().unwrap();
    etcd.put("/a", "one\ntwo").unwrap();
    assert_eq!(etcd.get("/a").unwrap().as_deref(), Some("one\ntwo"));

    let first = etcd.leader().unwrap();
    etcd.kill(first).unwrap();
    let next = eventually("another one leads", PATIENCE, || etcd.leader()).unwrap();
    assert_ne!(next, first);
    etcd.put("/a", "three").unwrap();
    etcd.compact().unwrap();

    etcd.kill(next).unwrap();
    assert!(etcd.put("/a", "four").is_err());
    etcd.restart(next).unwrap();
    etcd.restart(first).unwrap();
    assert_eq!(etcd.get("/a").unwrap().as_deref(), Some("three"));

    // Cut from the others a member leads nobody any more, and is still reached.
    let leader = etcd.leader().unwrap();
    etcd.isolate(leader, true).unwrap();
    eventually("another one leads", PATIENCE, || {
        let now = etcd.leader()?;
        ensure!(now != leader, "the same one does");
        Ok(())
    })
    .unwrap();
    etcd.isolate(leader, false).unwrap();
    etcd.delete("/a").unwrap();
    assert_eq!(etcd.get("/a").unwrap(), None);
}

#[test]
fn a_secure_cluster_asks_for_certificate_and_password() {
    let directory = tempfile::tempdir().unwrap();
    let security = security(directory.path()).unwrap();
    let etcd = Etcd::start_secure(security).unwrap();
    etcd.put(&format!("{PREFIX}/a"), "one").unwrap();
    assert_eq!(etcd.keys(PREFIX).unwrap(), [format!("{PREFIX}/a")]);
    let stranger = etcd.control(&["--user", "edges:wrong", "get", "x"]).unwrap_err();
    assert!(format!("{stranger:#}").contains("authentication failed"), "{stranger:#}");
    let beyond = etcd.control(&["--user", "edges:keel and mast", "get", "x"]).unwrap_err();
    assert!(format!("{beyond:#}").contains("permission denied"), "{beyond:#}");
    let own = ["--user", "edges:keel and mast", "get", &format!("{PREFIX}/a")];
    assert!(etcd.control(&own).unwrap().contains("one"));
}
