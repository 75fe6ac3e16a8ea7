//! The listener for readers: what it tells is true, others understand it, and it changes nothing.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

mod listener;
mod scraped;
mod windows;

use anyhow::{Context as _, Result};
use evenkeel_tests::{
    http::{Connection, Response},
    netns::succeeded,
    settings::{Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
};
use serde_json::Value;

/// Where the listener is unless it is told otherwise.
const LISTENER: &str = "127.0.0.1:9650";

/// Two backends, not probed.
fn stage() -> Stage {
    let web = |lab: &Lab| Service::web("web", Family::V4).backends(lab);
    Stage::new(Wiring::Switched, 2, |lab| Settings::new(lab).with(web(lab))).unwrap()
}

/// What the listener answers at an address of the edge.
fn get_at(stage: &Stage, address: &str, path: &str) -> Result<Response> {
    let address = address.parse()?;
    stage.lab.edge.namespace.run(|| Connection::open(address)?.get(path))
}

fn get(stage: &Stage, path: &str) -> Result<Response> {
    get_at(stage, LISTENER, path)
}

fn json(stage: &Stage, path: &str) -> Value {
    serde_json::from_slice(&get(stage, path).unwrap().body).unwrap()
}

/// What curl prints, asked from the edge.
fn curl(stage: &Stage, arguments: &[&str]) -> Result<String> {
    let mut command = stage.lab.edge.namespace.command("curl");
    command.args(["--silent", "--show-error", "--max-time", "20"]).args(arguments);
    succeeded("curl", command.output().context("run curl")?)
}
