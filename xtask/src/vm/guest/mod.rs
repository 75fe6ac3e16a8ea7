//! What runs inside the virtual machine: the stage is built once, then every scenario has its turn.
//!
//! Results go to the second serial port, a line each; everything else is for the console.

mod balancer;
mod decap;
mod scenarios;
mod stage;
mod traffic;
mod tunnel;
mod vlan;

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    time::Instant,
};

use anyhow::{Context as _, Result};

use self::{
    scenarios::{LOAD, SCENARIOS, Scenario},
    stage::Stage,
};
use super::report::{self, END};
use crate::steps;

const RESULTS: &str = "/dev/ttyS1";

/// Runs the scenarios whose name contains one of `filters`, or all of them. A failure is told and
/// stops no other scenario, unless the programs do not load.
pub(crate) fn run(filters: &[String]) -> Result<()> {
    let mut results = OpenOptions::new()
        .write(true)
        .open(RESULTS)
        .with_context(|| format!("open {RESULTS}: this verb is for the inside of `vm`"))?;
    let start = Instant::now();
    let stage = Stage::build();
    let ready = stage.as_ref().map(|stage| stage.summary.clone());
    let ready = ready.map_err(|error| anyhow::anyhow!("{}", steps::chain(error)));
    tell(&mut results, "boot and wiring", start, &ready)?;
    let Ok(stage) = stage else { return Ok(()) };

    let wanted = |scenario: &&Scenario| {
        scenario.name == LOAD
            || filters.is_empty()
            || filters.iter().any(|filter| scenario.name.contains(filter.as_str()))
    };
    for scenario in SCENARIOS.iter().filter(wanted) {
        println!("--- {}", scenario.name);
        let start = Instant::now();
        let outcome = (scenario.play)(&stage);
        tell(&mut results, scenario.name, start, &outcome)?;
        if scenario.name == LOAD && outcome.is_err() {
            return Ok(());
        }
    }
    writeln!(results, "{END}").context("write the results")
}

fn tell(results: &mut File, name: &str, start: Instant, outcome: &Result<String>) -> Result<()> {
    let scenario = report::Scenario::new(name, start.elapsed(), outcome);
    println!("{}", scenario.tell());
    writeln!(results, "{}", scenario.line()).context("write the results")
}
