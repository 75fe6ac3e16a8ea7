//! A cluster that asks for certificates and passwords.

use std::fs;

use anyhow::ensure;
use evenkeel_tests::servers::Etcd;

use crate::{
    certificates::{PREFIX, USER, security},
    ground::{Ground, patiently},
};

#[test]
fn edges_show_certificate_and_password_and_stay_below_their_prefix() {
    let directory = tempfile::tempdir().unwrap();
    let security = security(directory.path()).unwrap();
    let password = directory.path().join("password");
    fs::write(&password, format!("{}\n", USER.1)).unwrap();
    let wrong = directory.path().join("wrong");
    fs::write(&wrong, "guessed\n").unwrap();
    let [certificate, key] = &security.client;
    let lines = |password: &std::path::Path| {
        format!(
            "prefix = \"{PREFIX}\"\nca_file = \"{}\"\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n\
             user = \"{}\"\npassword_file = \"{}\"\n",
            security.authority.display(),
            certificate.display(),
            key.display(),
            USER.0,
            password.display(),
        )
    };
    let etcd = Etcd::start_secure(security.clone()).unwrap();
    let mut ground = Ground::prepare(etcd, 2, 4).unwrap();
    let endpoints = ground.etcd.endpoints();
    assert!(endpoints[0].starts_with("https://"));
    let text =
        |ground: &Ground, edge, lines: &str| ground.text_at(edge, &endpoints, lines, &ground.web());
    ground.start(&text(&ground, 0, &lines(&password))).unwrap();
    ground.start(&text(&ground, 1, &lines(&wrong))).unwrap();

    // Who is refused says why, and serves all the same.
    ground.await_alert(1, "store-unreachable", true);
    let view = ground.view(1).unwrap();
    let problem = view["store"]["problem"].as_str().unwrap();
    assert!(problem.contains("authentication"), "{problem}");
    assert!(!problem.contains("guessed"), "{problem}");
    assert_eq!(ground.shares(1, 20).len(), 2);
    fs::write(&wrong, format!("{}\n", USER.1)).unwrap();
    ground.await_alert(1, "store-unreachable", false);
    ground.await_together().unwrap();
    let told = ground.done(0, &ground.spare(2));
    assert!(told.contains("applied by edge-1, edge-2"), "{told}");

    // A member that restarts has forgotten who had logged in.
    ground.etcd.kill_all().unwrap();
    ground.etcd.restart_all().unwrap();
    ground.await_together().unwrap();
    patiently("a change is taken", || {
        let told = ground.cli(1, &ground.spare(3));
        ensure!(told.stdout.contains("applied by edge-1, edge-2"), "{told:?}");
        Ok(())
    })
    .unwrap();
    ground.await_reached(&[0, 1], "web-04");
    for edge in 0..2 {
        assert_eq!(ground.shares(edge, 40).len(), 4);
    }
    let keys = ground.etcd.keys("").unwrap();
    assert!(keys.iter().all(|key| key.starts_with(PREFIX)), "{keys:?}");
}
