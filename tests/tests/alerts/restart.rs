//! The daemon is killed and started again: what is raised goes on, and what is over is told.

use std::{fs, time::Duration};

use anyhow::ensure;
use evenkeel_tests::{
    evenkeel::Balancer,
    settings::{HTTP_PROBE, Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
    wait::eventually,
};
use serde_json::Value;

use super::{
    FAST, LONG, alerts, cleared,
    hook::{Answer, Received, serve, told},
    raised,
};

const TARGET: &str = "webhook http://127.0.0.1:8099/";
/// One whose cause goes on, one that only probes can see again, and two that end.
const DRAINED: &str = "out-of-service/shop/web-01";
const STAYS_DOWN: &str = "backend-down/web/web-03";
const RETURNS: &str = "backend-down/web/web-02";
const ALONE: &str = "lone-survivor/web";

fn target(port: u16) -> String {
    format!("[[alerts.webhook]]\nurl = \"http://127.0.0.1:{port}/\"\n")
}

fn since(balancer: &Balancer, id: &str) -> String {
    raised(balancer, id)["since"].as_str().unwrap().to_owned()
}

/// Whatever was told by now, with its status and since.
fn all(received: &Received) -> Vec<String> {
    let documents = received.try_iter().map(|(_, document)| document);
    let alerts = documents.flat_map(|document| document["alerts"].as_array().unwrap().clone());
    let word = |alert: &Value, name: &str| alert[name].as_str().unwrap().to_owned();
    alerts.map(|alert| ["status", "id", "since"].map(|name| word(&alert, name)).join(" ")).collect()
}

/// Waits until it is on disk that the target knows all of these.
fn stored(balancer: &Balancer, ids: &[&str]) {
    eventually("what was told is stored", LONG, || {
        let text = fs::read_to_string(balancer.state_path().join("alerts.json"))?;
        let document: Value = serde_json::from_str(&text)?;
        let raised = document["raised"].as_array().unwrap();
        let has = |id: &&str| raised.iter().any(|alert| alert["id"] == *id);
        ensure!(ids.iter().all(has), "raised are {raised:?}");
        ensure!(document["targets"][TARGET] == Value::Array(vec![]), "it is {document}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_restart_is_no_news() {
    let lab = Lab::new(Wiring::Switched, 3).unwrap();
    let web = Service::web("web", Family::V4).backends(&lab).probed(HTTP_PROBE);
    let shop = Service::web("shop", Family::V4).at_port(81).backends(&lab);
    let text = format!("{}{FAST}{}", Settings::new(&lab).with(web).with(shop), target(8099));
    let mut stage = Stage::on_text(lab, &text).unwrap();
    let received = serve(&stage.lab.edge.namespace, 8099, &[Answer::Take]);
    let balancer = &stage.balancer;
    balancer.await_active("web", "web-03", true).unwrap();

    let drain = "backend drain shop/web-01 --for forever --reason test";
    balancer.cli(&drain.split(' ').collect::<Vec<_>>()).unwrap().success().unwrap();
    for nginx in &mut stage.nginx[1..] {
        nginx.crash().unwrap();
    }
    let ids = [DRAINED, STAYS_DOWN, RETURNS, ALONE];
    let before = ids.map(|id| since(balancer, id));
    stored(balancer, &ids);
    let first = all(&received);
    for (id, since) in ids.iter().zip(&before) {
        assert!(first.contains(&format!("raised {id} {since}")), "{first:?}");
    }

    stage.balancer.kill().unwrap();
    stage.nginx[1].launch(&stage.lab.backends[1]).unwrap();
    // Somebody who is new, and has to hear what is raised.
    let newcomer = serve(&stage.lab.edge.namespace, 8098, &[Answer::Take]);
    let text = stage.balancer.configuration().unwrap();
    stage.balancer.configure(&format!("{text}{}", target(8098))).unwrap();
    stage.balancer.run().unwrap();
    let balancer = &stage.balancer;
    let now = alerts(balancer).unwrap();
    for (id, since) in ids.iter().zip(&before) {
        let alert = now.iter().find(|alert| alert["id"] == *id);
        assert_eq!(alert.unwrap_or_else(|| panic!("no {id} in {now:?}"))["since"], **since);
    }
    told(&newcomer, DRAINED, "raised");
    cleared(balancer, RETURNS);
    cleared(balancer, ALONE);
    let mut news = Vec::new();
    for (id, since) in [(RETURNS, &before[2]), (ALONE, &before[3])] {
        eventually(&format!("{id} is told to be over"), LONG, || {
            news.extend(all(&received));
            ensure!(news.contains(&format!("cleared {id} {since}")), "told was {news:?}");
            Ok(())
        })
        .unwrap();
    }
    // Probes have judged it anew, and nothing is news of it.
    eventually("it is judged", LONG, || {
        let status = balancer.backend_status("web", "web-03")?;
        ensure!(status["health"] == "down", "it is {status}");
        Ok(())
    })
    .unwrap();
    eventually("a look came after that", Duration::from_secs(30), || {
        let alert = raised(balancer, STAYS_DOWN);
        let reason = alert["evidence"]["reason"].as_str().unwrap().to_owned();
        ensure!(reason.contains("refused"), "{alert}");
        Ok(())
    })
    .unwrap();
    assert_eq!(since(balancer, STAYS_DOWN), before[1]);
    assert_eq!(since(balancer, DRAINED), before[0]);
    news.extend(all(&received));
    assert_eq!(news.len(), 2, "nothing else is news: {news:?}");

    // A file that is broken is put aside, and keeps nothing from starting.
    stage.balancer.kill().unwrap();
    fs::write(stage.balancer.state_path().join("alerts.json"), "{").unwrap();
    stage.balancer.run().unwrap();
    let balancer = &stage.balancer;
    told(&received, DRAINED, "raised");
    assert!(balancer.state_path().join("alerts.json.unreadable").exists());
    let events = balancer.api("GET", "/v1/events?kind=trouble&limit=9", None).unwrap().body;
    assert!(events.to_string().contains("alerts.json is not a list of alerts"), "{events}");
}
