//! `status --fleet`: what every edge finds, side by side.

use anyhow::ensure;
use evenkeel_tests::{http::Connection, servers::Etcd, settings::HTTP_PROBE, topology::Family};
use serde_json::{Value, json};

use crate::{
    ground::{Ground, patiently},
    shared::edge,
};

#[test]
fn every_edges_findings_stand_side_by_side() {
    let mut ground = Ground::prepare(Etcd::start().unwrap(), 2, 2).unwrap();
    let web = ground.web().probed(HTTP_PROBE);
    ground.start_all(&web).unwrap();
    let revision = ground.await_together().unwrap();
    for balancer in &ground.edges {
        for backend in ["web-01", "web-02"] {
            balancer.await_active("web", backend, true).unwrap();
        }
    }
    for edge in 0..2 {
        ground.shares(edge, 20);
    }
    for from in 0..2 {
        let own = &ground.fleet.edges[from].name;
        patiently("all is well, as everybody sees", || {
            let view = ground.view(from)?;
            ensure!(view["disagreements"] == json!([]), "{view:#}");
            for name in ["edge-1", "edge-2"] {
                let edge = edge(&view, name);
                ensure!(edge["revision"] == revision && edge["alive"] == true, "{view:#}");
                let service = &edge["services"][0];
                ensure!(service["active"] == 2 && service["backends"] == 2, "{view:#}");
                ensure!(service["down"] == json!([]), "{view:#}");
                // Shares of others are told once a minute.
                ensure!(name != own || service["shares"]["web-01"] == 0.5, "{view:#}");
            }
            Ok(())
        })
        .unwrap();
    }

    // One edge loses its way to a backend that the other one reaches.
    let backend = ground.fleet.backends[0].address(Family::V4, 0).ip();
    ground.fleet.lose(1, backend, true).unwrap();
    ground.edges[1].await_active("web", "web-01", false).unwrap();
    assert_eq!(ground.shares(1, 10), [("web-02".to_owned(), 10)]);
    assert_eq!(ground.shares(0, 10).len(), 2, "health is each edge's own finding");
    for from in 0..2 {
        patiently("the disagreement is seen from everywhere", || {
            let view = ground.view(from)?;
            let found = &view["disagreements"][0];
            ensure!(found["service"] == "web" && found["backend"] == "web-01", "{view:#}");
            let (up, down) = (json!(["edge-1"]), json!(["edge-2"]));
            ensure!(found["up"] == up && found["down"] == down, "{view:#}");
            let there = edge(&view, "edge-2");
            ensure!(there["services"][0]["down"] == json!(["web-01"]), "{view:#}");
            ensure!(there["services"][0]["shares"]["web-02"].is_number(), "{view:#}");
            let alerts = there["alerts"].to_string();
            ensure!(alerts.contains("backend-down/web/web-01"), "{view:#}");
            Ok(())
        })
        .unwrap();
        let text = ground.done(from, &["status", "--fleet"]);
        assert!(text.contains("web/web-01 is down for edge-2 and not for edge-1\n"), "{text}");
        assert!(text.contains("edge-2: warning: backend web/web-01 is down: timed out"), "{text}");
        let answer = ground.edges[from].api("GET", "/v1/fleet", None).unwrap();
        assert_eq!(answer.body["disagreements"][0]["backend"], "web-01", "{answer:?}");
        let listener = "127.0.0.1:9650".parse().unwrap();
        let asked = || Connection::open(listener)?.get("/v1/fleet");
        let read = ground.fleet.edges[from].namespace.run(asked).unwrap();
        let read: Value = serde_json::from_slice(&read.body).unwrap();
        assert_eq!(read["disagreements"], answer.body["disagreements"]);
    }
    let here = ground.view(1).unwrap();
    assert_eq!(
        (&edge(&here, "edge-2")["here"], &edge(&here, "edge-1")["here"]),
        (&json!(true), &json!(false))
    );
    ground.fleet.lose(1, backend, false).unwrap();
    ground.edges[1].await_active("web", "web-01", true).unwrap();
    patiently("they agree again", || {
        let view = ground.view(0)?;
        ensure!(view["disagreements"] == json!([]), "{view:#}");
        Ok(())
    })
    .unwrap();

    // One that is gone for good is missed until somebody says that it is not to be.
    ground.edges[1].kill().unwrap();
    ground.await_alert(0, "edge-lost", true);
    let view = ground.view(0).unwrap();
    assert_eq!(edge(&view, "edge-2")["alive"], false, "{view:#}");
    ground.done(0, &["store", "forget", "edge-2"]);
    ground.await_alert(0, "edge-lost", false);
    let view = ground.view(0).unwrap();
    assert!(edge(&view, "edge-2").is_null(), "{view:#}");
    let told = ground.done(0, &["backend", "weight", "web", "web-01", "3"]);
    assert!(told.contains("applied by edge-1"), "{told}");
}
