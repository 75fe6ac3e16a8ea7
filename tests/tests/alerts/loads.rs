//! Too much for who is left, too much for the tables, connections that fail, and shares that are not fair.

use evenkeel_tests::{
    http::Connection,
    netns::succeeded,
    settings::{Service, Settings},
    stage::Stage,
    topology::Family,
    wait::eventually,
};

use super::{FAST, LONG, alerts, cleared, raised, stage};

/// So many connections that stay open, as long as they are held.
fn open(stage: &Stage, count: usize) -> Vec<Connection> {
    let open = || Connection::open(Family::V4.service(80));
    let mut connections: Vec<_> = (0..count).map(|_| stage.client().run(open).unwrap()).collect();
    for connection in &mut connections {
        assert_eq!(connection.get("/").unwrap().status, 200);
    }
    connections
}

#[test]
fn who_is_left_could_not_carry_it() {
    let stage = stage(|lab| {
        let web = Service::web("web", Family::V4).backends(lab);
        let text = Settings::new(lab).with(web).to_string();
        format!("{}{FAST}", text.replace("weight = 1", "weight = 1\ncapacity = 8"))
    });
    let six = open(&stage, 6);
    assert_eq!(stage.balancer.json(&["alerts"]).unwrap()["alerts"].as_array().unwrap().len(), 0);
    let ten = open(&stage, 4);
    let alert = raised(&stage.balancer, "no-headroom/web");
    assert_eq!(
        (&alert["evidence"]["peak"], &alert["evidence"]["could_carry"]),
        (&10.into(), &8.into())
    );
    drop((six, ten));
    cleared(&stage.balancer, "no-headroom/web");
}

#[test]
fn a_table_that_fills_up() {
    let stage = stage(|lab| {
        let web = Service::web("web", Family::V4)
            .backends(lab)
            .line("[service.timeouts]\nsyn = \"1s\"\nestablished = \"1h\"\nclosing = \"1s\"");
        let text = Settings::new(lab).with(web);
        format!("{text}\n[tables]\nconnections = 16\nunconfirmed = 16\n{FAST}")
    });
    let kept = open(&stage, 15);
    let alert = raised(&stage.balancer, "table-pressure");
    assert!(alert["evidence"]["fill"].as_f64().unwrap() >= 0.8, "{alert}");
    drop(kept);
    cleared(&stage.balancer, "table-pressure");
}

#[test]
fn connections_that_fail() {
    let mut stage = stage(|lab| {
        let web = Service::web("web", Family::V4).backends(lab);
        let web = web.line("[service.passive]\nenabled = false");
        format!("{}{FAST}", Settings::new(lab).with(web))
    });
    stage.ask(Family::V4, 100).unwrap().flawless().unwrap();
    stage.nginx[1].crash().unwrap();
    // Another backend gets them: the clients see nothing of it.
    stage.ask(Family::V4, 60).unwrap().flawless().unwrap();
    let alert = raised(&stage.balancer, "connection-failures/web/web-02");
    assert!(alert["evidence"]["refused"].as_f64().unwrap() >= 5.0, "{alert}");
    assert!(alert["evidence"]["ratio"].as_f64().unwrap() > 0.05, "{alert}");
    stage.nginx[1].launch(&stage.lab.backends[1]).unwrap();
    stage.ask(Family::V4, 1_000).unwrap().flawless().unwrap();
    cleared(&stage.balancer, "connection-failures/web/web-02");
}

#[test]
fn shares_that_are_not_fair() {
    let stage = stage(|lab| {
        let web = Service::web("web", Family::V4).backends(lab).line("sticky = \"10m\"");
        format!("{}{FAST}", Settings::new(lab).with(web))
    });
    // One client, which stays where it is.
    stage.ask(Family::V4, 200).unwrap().flawless().unwrap();
    let alert = raised(&stage.balancer, "imbalance/web");
    assert!(alert["evidence"]["index"].as_f64().unwrap() > 1.9, "{alert}");
    assert!(alert["evidence"]["connections"].as_u64().unwrap() >= 100, "{alert}");
    let text = stage.balancer.configuration().unwrap().replace("sticky = \"10m\"\n", "");
    stage.balancer.configure(&text).unwrap();
    stage.balancer.cli(&["reload"]).unwrap().success().unwrap();
    stage.ask(Family::V4, 2_000).unwrap().flawless().unwrap();
    cleared(&stage.balancer, "imbalance/web");
}

#[test]
fn handshakes_that_take_long() {
    let stage = stage(|lab| {
        let web = Service::web("web", Family::V4).backends(lab);
        format!("{}{FAST}handshakes = 3\n", Settings::new(lab).with(web))
    });
    // What is usual has to be known: it takes some seconds until connections are no longer news.
    eventually("the handshakes are known", LONG, || {
        stage.ask(Family::V4, 50)?.flawless()?;
        let counters = stage.balancer.json(&["counters"])?;
        let all = counters["services"][0]["backends"][1]["connections"]["total"].as_u64();
        anyhow::ensure!(all > Some(300), "{all:?}");
        Ok(())
    })
    .unwrap();
    // A link that everything queues up for.
    let host = &stage.lab.backends[1].namespace;
    let tc = |line: &str| {
        let mut command = host.command("tc");
        succeeded("tc", command.args(line.split(' ')).output().unwrap()).unwrap();
    };
    tc("qdisc add dev eth0 root tbf rate 200kbit burst 1600 limit 100000");
    let alert = eventually("it rises", LONG, || {
        stage.ask(Family::V4, 50)?.flawless()?;
        let alerts = alerts(&stage.balancer)?;
        let found = alerts.iter().find(|alert| alert["id"] == "slow-handshakes/web/web-02");
        found.cloned().ok_or_else(|| anyhow::anyhow!("the alerts are {alerts:?}"))
    })
    .unwrap();
    let number = |name: &str| alert["evidence"][name].as_f64().unwrap();
    assert!(number("milliseconds") >= 3.0 * number("before_milliseconds"), "{alert}");
    tc("qdisc del dev eth0 root");
    stage.ask(Family::V4, 1_000).unwrap().flawless().unwrap();
    cleared(&stage.balancer, "slow-handshakes/web/web-02");
}
