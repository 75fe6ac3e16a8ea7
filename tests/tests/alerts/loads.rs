//! Too much for who is left, too much for the tables, shares that are not fair, connections that fail or take
//! long.

use anyhow::ensure;
use evenkeel_tests::{
    http::Connection,
    load::{Load, Pattern, requests},
    netns::succeeded,
    settings::{Service, Settings},
    stage::Stage,
    topology::Family,
    wait::eventually,
};
use serde_json::Value;

use super::{FAST, LONG, alerts, cleared, raised, stage};

/// So many connections that stay open, as long as they are held, with the backend of each.
fn open(stage: &Stage, count: usize) -> Vec<(String, Connection)> {
    let open = || Connection::open(Family::V4.service(80));
    let connection = |_| {
        let mut connection = stage.client().run(open).unwrap();
        let answer = connection.get("/").unwrap();
        assert_eq!(answer.status, 200);
        (answer.text(), connection)
    };
    (0..count).map(connection).collect()
}

/// An alert's evidence as a number.
fn number(alert: &Value, name: &str) -> f64 {
    alert["evidence"][name].as_f64().unwrap_or_else(|| panic!("no {name} in {alert}"))
}

/// Waits until the evidence of an alert that is raised is so, and it stays raised all the while.
fn stays(stage: &Stage, id: &str, what: &str, fits: impl Fn(&Value) -> bool) {
    eventually(&format!("{id}, still raised, has {what}"), LONG, || {
        let alerts = alerts(&stage.balancer)?;
        let found = alerts.iter().find(|alert| alert["id"] == id);
        let alert = found.unwrap_or_else(|| panic!("{id} cleared too early: {alerts:?}"));
        ensure!(fits(alert), "it is {alert}");
        Ok(())
    })
    .unwrap();
}

fn page(kind: &str) -> String {
    format!("https://wiki.example/lb/playbook/{kind}.html")
}

#[test]
fn who_is_left_and_the_table_have_no_room() {
    let stage = stage(|lab| {
        let timeouts = "[service.timeouts]\nsyn = \"1s\"\nestablished = \"3h\"\nclosing = \"4m\"";
        let web = Service::web("web", Family::V4).backends(lab).line(timeouts);
        let text = Settings::new(lab).with(web).to_string();
        let text = text.replace("weight = 1", "weight = 1\ncapacity = 8");
        let text = format!("{text}\n[tables]\nconnections = 16\nunconfirmed = 16\n{FAST}");
        text.replace("\"5s\"", "\"2s\"")
    });
    let mut held = open(&stage, 6);
    assert_eq!(alerts(&stage.balancer).unwrap(), Vec::<Value>::new());
    held.append(&mut open(&stage, 9));
    let alert = raised(&stage.balancer, "no-headroom/web");
    assert_eq!(
        (&alert["severity"], &alert["page"]),
        (&"warning".into(), &page("no-headroom").into())
    );
    stays(&stage, "no-headroom/web", "the numbers", |alert| {
        let numbers = ["open", "peak", "could_carry", "left"].map(|name| &alert["evidence"][name]);
        numbers == [15, 15, 8, 1]
    });
    let alert = raised(&stage.balancer, "table-pressure");
    assert_eq!(
        (&alert["severity"], &alert["page"]),
        (&"warning".into(), &page("table-pressure").into())
    );
    assert_eq!((number(&alert, "threshold"), number(&alert, "room")), (0.8, 32.0), "{alert}");
    let fill = number(&alert, "entries") / 32.0;
    assert!((number(&alert, "fill") - fill).abs() < 0.001 && fill >= 0.8, "{alert}");

    // Below where they rise, and above where they clear: three quarters of the table, and as much as one
    // can just carry.
    held.truncate(12);
    stays(&stage, "table-pressure", "12 connections", |alert| alert["evidence"]["entries"] == 24);
    held.truncate(8);
    stays(&stage, "no-headroom/web", "a peak of 8", |alert| alert["evidence"]["peak"] == 8);
    cleared(&stage.balancer, "table-pressure");
    held.truncate(6);
    cleared(&stage.balancer, "no-headroom/web");
}

#[test]
fn shares_that_are_not_fair() {
    let stage = stage(|lab| {
        let web = Service::web("web", Family::V4).backends(lab);
        let shop = Service::web("shop", Family::V4).at_port(81).backends(lab);
        let services = Settings::new(lab).with(web).with(shop.line("sticky = \"10m\""));
        // The first backend of the first service.
        let text =
            services.to_string().replacen("weight = 1", "weight = 1\nmax_connections = 4", 1);
        format!("{text}{FAST}")
    });
    // One is full, so the other gets everything.
    let mut held = open(&stage, 8);
    held.retain(|(backend, _)| backend == "web-01");
    assert_eq!(held.len(), 4);
    // A sticky service's only client goes to one backend, too, by the toss of a coin.
    stage.ask_at(Family::V4.service(81), 400).unwrap().flawless().unwrap();
    stage.ask(Family::V4, 200).unwrap().flawless().unwrap();
    let alert = raised(&stage.balancer, "imbalance/web");
    assert_eq!(
        (&alert["severity"], &alert["page"]),
        (&"warning".into(), &page("imbalance").into())
    );
    stays(&stage, "imbalance/web", "all connections", |alert| {
        number(alert, "connections") >= 200.0
    });
    let alert = raised(&stage.balancer, "imbalance/web");
    assert_eq!(alert["evidence"]["most"], "web-02", "{alert}");
    let (index, variation) = (number(&alert, "index"), number(&alert, "variation"));
    assert!((1.9..=2.0).contains(&index) && (0.9..=1.0).contains(&variation), "{alert}");
    let status = stage.balancer.status().unwrap();
    let shop = status["services"].as_array().unwrap().iter().find(|s| s["name"] == "shop").unwrap();
    assert_eq!(shop["windows"][2]["index"], 2.0, "{shop}");
    let told = alerts(&stage.balancer).unwrap();
    assert!(told.iter().all(|alert| alert["id"] != "imbalance/shop"), "{told:?}");

    drop(held);
    // One after the other: of more handshakes at once than the first one takes connections, those too many are
    // refused when they are confirmed.
    let again = requests(stage.client(), Family::V4.service(80), 2_000, 1);
    again.unwrap().flawless().unwrap();
    cleared(&stage.balancer, "imbalance/web");
}

#[test]
fn connections_that_fail_or_take_long() {
    let mut stage = stage(|lab| {
        let web = Service::web("web", Family::V4).backends(lab);
        let web = web.line("[service.passive]\nenabled = false");
        let text =
            format!("{}{FAST}lately = \"2s\"\nhandshakes = 3\n", Settings::new(lab).with(web));
        text.replace("clear_after = \"0s\"", "clear_after = \"2s\"")
    });
    let pattern = Pattern { threads: 4, ..Pattern::default() };
    let load = Load::start(stage.client(), Family::V4.service(80), pattern).unwrap();
    // What is usual has to be known: connections are news at first.
    let past = |least: u64| {
        eventually("there is a past", LONG, || {
            let connections = stage.balancer.counters("web", "web-02")?.connections;
            ensure!(connections >= least, "it has {connections}");
            Ok(connections)
        })
        .unwrap()
    };
    let known = past(1_500);
    // A link that everything queues up for.
    let tc = |line: &str| {
        let mut command = stage.lab.backends[1].namespace.command("tc");
        succeeded("tc", command.args(line.split(' ')).output().unwrap()).unwrap();
    };
    tc("qdisc add dev eth0 root tbf rate 200kbit burst 1600 limit 100000");
    let id = "slow-handshakes/web/web-02";
    let alert = raised(&stage.balancer, id);
    assert_eq!(
        (&alert["severity"], &alert["page"]),
        (&"warning".into(), &page("slow-handshakes").into())
    );
    let [now, before, threshold] =
        ["milliseconds", "before_milliseconds", "threshold_milliseconds"]
            .map(|name| number(&alert, name));
    assert!(now >= threshold && (threshold - f64::max(before * 3.0, 2.0)).abs() < 0.01, "{alert}");
    assert!(number(&alert, "handshakes") >= 20.0, "{alert}");
    tc("qdisc del dev eth0 root");
    cleared(&stage.balancer, id);

    past(known + 1_000);
    load.stop().unwrap().flawless().unwrap();
    stage.nginx[1].crash().unwrap();
    // Another backend gets them: the clients see nothing of it.
    stage.ask(Family::V4, 100).unwrap().flawless().unwrap();
    let id = "connection-failures/web/web-02";
    let alert = raised(&stage.balancer, id);
    assert_eq!(
        (&alert["severity"], &alert["page"]),
        (&"warning".into(), &page("connection-failures").into())
    );
    let [ratio, before, threshold] =
        ["ratio", "before", "threshold"].map(|name| number(&alert, name));
    assert!(ratio >= threshold && threshold >= 0.05 && before < 0.01, "{alert}");
    let [refused, attempts] = ["refused", "attempts"].map(|name| number(&alert, name));
    assert!(refused >= 5.0 && refused <= attempts, "{alert}");
    stage.nginx[1].launch(&stage.lab.backends[1]).unwrap();
    stage.ask(Family::V4, 1_000).unwrap().flawless().unwrap();
    cleared(&stage.balancer, id);
}
