//! Requests per second from a client through the edge to two web servers: with the balancer, and
//! with nothing but the edge's kernel, which forwards.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use evenkeel_tests::{
    servers::{Nginx, PORT},
    settings::Settings,
    stage::Stage,
    topology::{Family, Lab, Wiring},
    wrk::{Summary, Wrk},
};
use tempfile::TempDir;

use crate::report::{Requests, Throughput};

/// Connections at once.
const CONNECTIONS: u32 = 64;

/// How the hosts hang together: nothing between the edge and either server.
const WIRING: Wiring = Wiring::Direct;

/// Runs with and without the balancer, one after the other, for some rounds.
pub fn measure(quick: bool) -> Result<Requests> {
    let (rounds, seconds) = if quick { (3, 2) } else { (7, 5) };
    let bare = Bare::new()?;
    let stage = Stage::new(WIRING, 2, Settings::web).context("start the balancer")?;
    let mut runs = Vec::new();
    for (name, target, keep_alive) in
        [("keep-alive", 0.95, true), ("a connection per request", 1.0, false)]
    {
        let wrk =
            Wrk { connections: CONNECTIONS, duration: Duration::from_secs(seconds), keep_alive };
        let mut run = Throughput { name, target, rounds: Vec::new() };
        for round in 0..=rounds {
            let without = bare.run(wrk)?;
            let with = balanced(&stage, wrk)?;
            // The first round only warms up.
            if round > 0 {
                run.rounds.push((without, with));
            }
            eprintln!("requests, {name}: round {round} of {rounds}");
        }
        runs.push(run);
    }
    Ok(Requests { connections: CONNECTIONS, seconds, runs })
}

fn balanced(stage: &Stage, wrk: Wrk) -> Result<Summary> {
    let summary = wrk.run(stage.client(), Family::V4.service(80))?;
    summary.flawless().context("with the balancer")?;
    stage.nginx.iter().try_for_each(Nginx::forget)?;
    Ok(summary)
}

/// The same lab without a balancer.
struct Bare {
    nginx: Vec<Nginx>,
    lab: Lab,
    _directory: TempDir,
}

impl Bare {
    fn new() -> Result<Self> {
        let lab = Lab::new(WIRING, 2)?;
        let directory = tempfile::Builder::new().prefix("evenkeel-bench-").tempdir()?;
        let files: &Path = directory.path();
        let nginx = lab
            .backends
            .iter()
            .map(|host| Nginx::start(host, files, files))
            .collect::<Result<_>>()?;
        Ok(Self { nginx, lab, _directory: directory })
    }

    fn run(&self, wrk: Wrk) -> Result<Summary> {
        let [first, second] = &*self.lab.backends else { unreachable!("the lab has two backends") };
        let servers = [first, second].map(|host| host.address(Family::V4, PORT));
        let summary = wrk.run_split(&self.lab.client.namespace, servers)?;
        summary.flawless().context("without a balancer")?;
        self.nginx.iter().try_for_each(Nginx::forget)?;
        Ok(summary)
    }
}
