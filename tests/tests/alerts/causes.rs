//! What happens to servers, what people do, and what happens to the host.

use std::fs;

use evenkeel_tests::{
    settings::{HTTP_PROBE, Service, Settings},
    topology::Family,
};
use serde_json::Value;

use super::{FAST, cleared, raised, stage};

#[test]
fn servers_that_fail() {
    let mut stage = stage(|lab| {
        let web = Service::web("web", Family::V4).backends(lab).probed(HTTP_PROBE);
        format!("{}{FAST}", Settings::new(lab).with(web)).replace("\"5s\"", "\"15s\"")
    });
    for backend in ["web-01", "web-02"] {
        stage.balancer.await_active("web", backend, true).unwrap();
    }
    let told = stage.balancer.cli(&["alerts"]).unwrap().success().unwrap();
    assert!(told.contains("no alert"), "{told}");

    stage.nginx[1].crash().unwrap();
    let alert = raised(&stage.balancer, "backend-down/web/web-02");
    assert_eq!((&alert["severity"], &alert["service"]), (&"warning".into(), &"web".into()));
    assert_eq!(alert["page"], "https://wiki.example/lb/playbook/backend-down.html");
    assert!(alert["evidence"]["reason"].as_str().unwrap().contains("refused"), "{alert}");
    let alert = raised(&stage.balancer, "lone-survivor/web");
    assert_eq!(alert["evidence"]["survivor"], "web-01");

    stage.nginx[0].crash().unwrap();
    let alert = raised(&stage.balancer, "all-down/web");
    assert_eq!(alert["evidence"]["usable"], 0, "{alert}");
    cleared(&stage.balancer, "lone-survivor/web");
    // The most severe comes first, everywhere.
    let status = stage.balancer.status().unwrap();
    assert_eq!(status["alerts"][0]["id"], "all-down/web");
    let screen = stage.balancer.cli(&["alerts"]).unwrap().success().unwrap();
    let first = screen.lines().next().unwrap();
    assert!(first.starts_with("critical") && first.contains("all-down/web"), "{screen}");
    assert!(screen.contains("usable=0") && screen.contains("/playbook/all-down.html"), "{screen}");
    let wide = stage.balancer.cli(&["alerts", "-o", "wide"]).unwrap().success().unwrap();
    assert!(wide.contains("EVIDENCE") && wide.contains("cleared within"), "{wide}");
    let answer = stage.balancer.api("GET", "/v1/alerts", None).unwrap();
    assert_eq!(answer.body["alerts"][0]["id"], "all-down/web");

    for index in 0..2 {
        stage.nginx[index].launch(&stage.lab.backends[index]).unwrap();
    }
    for id in ["all-down/web", "backend-down/web/web-01", "backend-down/web/web-02"] {
        cleared(&stage.balancer, id);
    }
    // The second fall within what is recent, and then a while of calm.
    stage.balancer.await_active("web", "web-02", true).unwrap();
    stage.nginx[1].crash().unwrap();
    let alert = raised(&stage.balancer, "flapping/web/web-02");
    assert_eq!(alert["evidence"]["falls"], 2, "{alert}");
    stage.nginx[1].launch(&stage.lab.backends[1]).unwrap();
    cleared(&stage.balancer, "flapping/web/web-02");

    let log = stage.balancer.log();
    assert!(log.contains("alert raised: service web has no healthy backend of 2"), "{log}");
    assert!(log.contains("kind=\"all-down\"") || log.contains("kind=all-down"), "{log}");
    let events = stage.balancer.api("GET", "/v1/events?after=0&limit=1000", None).unwrap().body;
    let kinds: Vec<_> = events["events"].as_array().unwrap().iter().map(|e| &e["kind"]).collect();
    for kind in ["alert-raised", "alert-cleared"] {
        assert!(kinds.contains(&&Value::from(kind)), "{kinds:?}");
    }
}

#[test]
fn what_people_do() {
    let text = |lab: &_| {
        let web = Service::web("web", Family::V4).backends(lab);
        format!("{}{FAST}reminder = \"1s\"\n", Settings::new(lab).with(web))
    };
    let stage = stage(text);
    let balancer = &stage.balancer;
    let drain =
        |span| ["backend", "drain", "web-02", "--for", span, "--reason", "a kernel upgrade"];
    for (span, until) in [("forever", "forever"), ("1h", "until 2")] {
        balancer.cli(&drain(span)).unwrap().success().unwrap();
        let alert = raised(balancer, "out-of-service/web/web-02");
        assert!(alert["evidence"]["until"].as_str().unwrap().starts_with(until), "{alert}");
        assert_eq!(alert["evidence"]["reason"], "a kernel upgrade");
        raised(balancer, "lone-survivor/web");
        balancer.cli(&["backend", "resume", "web-02"]).unwrap().success().unwrap();
        cleared(balancer, "out-of-service/web/web-02");
        cleared(balancer, "lone-survivor/web");
    }

    let edited = format!("{}\n# a note\n", balancer.configuration().unwrap());
    fs::write(balancer.config_path(), edited).unwrap();
    let alert = raised(balancer, "config-not-applied");
    assert_eq!(alert["severity"], "info");
    balancer.cli(&["reload"]).unwrap().success().unwrap();
    cleared(balancer, "config-not-applied");
}
