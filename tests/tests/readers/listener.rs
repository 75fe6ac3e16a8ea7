//! Where the listener is, and what it lets nobody do.

use std::net::TcpListener;

use anyhow::ensure;
use evenkeel_tests::{
    stage::Stage,
    topology::Family,
    wait::{PATIENCE, eventually},
};
use rustix::process::Signal;
use serde_json::Value;

use crate::{LISTENER, curl, get, get_at, json, stage};

fn await_answer(stage: &Stage, address: &str) {
    eventually(&format!("{address} answers"), PATIENCE, || {
        let answer = get_at(stage, address, "/healthz")?;
        ensure!((answer.status, &*answer.text()) == (200, "ok"), "{answer:?}");
        Ok(())
    })
    .unwrap();
}

fn await_silence(stage: &Stage, address: &str) {
    eventually(&format!("nobody is at {address}"), PATIENCE, || {
        ensure!(get_at(stage, address, "/healthz").is_err(), "somebody answers");
        Ok(())
    })
    .unwrap();
}

/// Takes up another configuration: the stage's own, with these lines of `[http]`.
fn reload(stage: &Stage, text: &str, lines: &str) {
    stage.balancer.configure(&format!("{text}\n[http]\n{lines}\n")).unwrap();
    stage.balancer.signal(Signal::HUP).unwrap();
}

#[test]
fn it_answers_readers_and_changes_nothing() {
    let stage = stage();
    await_answer(&stage, LISTENER);
    assert_eq!(get(&stage, "/readyz").unwrap().status, 200);
    let status = json(&stage, "/v1/status");
    assert_eq!(status["daemon"]["http"], format!("http://{LISTENER}/"));
    assert_eq!(status["services"][0]["name"], "web");
    assert_eq!(json(&stage, "/v1/counters")["services"][0]["backends"][0]["name"], "web-01");
    assert_eq!(get(&stage, "/v1/fleet").unwrap().status, 404, "it shares with nobody");
    let missing = get(&stage, "/nothing").unwrap();
    assert_eq!(missing.status, 404, "{missing:?}");

    let before = stage.balancer.configuration().unwrap();
    let url = |path: &str| format!("http://{LISTENER}{path}");
    for (method, path) in [
        ("DELETE", "/v1/services/web/backends/web-01"),
        ("PUT", "/v1/admin"),
        ("POST", "/v1/configuration"),
        ("POST", "/metrics"),
    ] {
        let written = ["--write-out", "\n%{http_code}", "--request", method, &url(path)];
        let answer = curl(&stage, &written).unwrap();
        assert!(answer.ends_with("\n405"), "{method} {path}: {answer}");
        assert!(answer.contains("nothing can be changed here"), "{answer}");
    }
    assert_eq!(stage.balancer.configuration().unwrap(), before);
    assert_eq!(stage.balancer.backends("web").unwrap().len(), 2);
}

#[test]
fn it_moves_with_the_configuration_and_waits_for_its_address() {
    let stage = stage();
    await_answer(&stage, LISTENER);
    let text = stage.balancer.configuration().unwrap();
    let other = "127.0.0.1:9651";
    reload(&stage, &text, "listen = \"127.0.0.1:9651\"");
    await_answer(&stage, other);
    await_silence(&stage, LISTENER);
    reload(&stage, &text, "listen = \"off\"");
    await_silence(&stage, other);

    // Somebody else is there: the balancer goes on, and says so until the address is free.
    let edge = &stage.lab.edge.namespace;
    let taken = edge.run(|| Ok(TcpListener::bind(other)?)).unwrap();
    reload(&stage, &text, "listen = \"127.0.0.1:9651\"");
    let trouble = |told: bool| {
        eventually("the trouble is told while there is one", PATIENCE, || {
            let troubles = stage.balancer.status()?["daemon"]["troubles"].to_string();
            ensure!(troubles.contains("cannot listen on 127.0.0.1:9651") == told, "{troubles}");
            Ok(())
        })
        .unwrap();
    };
    trouble(true);
    stage.ask(Family::V4, 20).unwrap().flawless().unwrap();
    drop(taken);
    await_answer(&stage, other);
    trouble(false);
}

#[test]
fn a_missing_interface_is_not_ready() {
    let stage = stage();
    await_answer(&stage, LISTENER);
    stage.lab.delete_switched().unwrap();
    let answer = eventually("it is not ready", PATIENCE, || {
        let answer = get(&stage, "/readyz")?;
        ensure!(answer.status == 503, "{answer:?}");
        Ok(answer)
    })
    .unwrap();
    assert!(answer.text().contains(stage.lab.switched()), "{answer:?}");
    assert_eq!(get(&stage, "/healthz").unwrap().status, 200, "the daemon itself is well");
}

#[test]
fn what_happens_is_streamed() {
    let stage = stage();
    await_answer(&stage, LISTENER);
    // Ends by itself once both have come, or by curl's time.
    let script = format!(
        "curl --silent --no-buffer --max-time 20 http://{LISTENER}/v1/stream | grep -m 4 --line-buffered -A1 \
         -E '^event: (status|rates)$'"
    );
    let mut command = stage.lab.edge.namespace.command("sh");
    let output = command.args(["-c", &script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let data = |name: &str| -> Value {
        let (_, rest) = text.split_once(&format!("event: {name}\n")).unwrap();
        let line = rest.lines().next().and_then(|line| line.strip_prefix("data: ")).unwrap();
        serde_json::from_str(line).unwrap()
    };
    assert_eq!(data("status")["services"][0]["backends"][1]["name"], "web-02");
    let rates = data("rates");
    assert!(rates["seconds"].as_f64().unwrap() > 0.9, "{rates}");
    assert_eq!(rates["services"]["web"]["web-01"]["connections"], 0.0);
}
