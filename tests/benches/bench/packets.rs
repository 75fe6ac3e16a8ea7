//! The cost of a packet: the program's time in the kernel's test-run, less that of a program that
//! does nothing.

use std::{fs, path::Path, thread};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{
    datapath::{Bench, Target},
    report::{Cost, Packets, Times},
    scenarios::{self, Scenario},
};

/// Connections that the tables have room for, where memory allows.
const CONNECTIONS: u32 = 8_000_000;

/// Bytes that a connection takes in the tables, rounded up: two entries in each family's, with
/// their keys, the kernel's own fields and the buckets.
const BYTES_A_CONNECTION: u64 = 2 * (112 + 160 + 2 * 32);

/// Runs every scenario for some rounds, and the empty program before each.
/// Of the scenarios only those whose name contains `filter`, if there is one.
pub fn measure(wrapper: &Path, quick: bool, filter: Option<&str>) -> Result<Packets> {
    let (connections, many, rounds) =
        if quick { (500_000, 10_000, 3) } else { (affordable(CONNECTIONS)?, 1_000_000, 11) };
    // On a thread of its own, which stays on one CPU.
    thread::scope(|scope| {
        let work = scope.spawn(|| {
            stay()?;
            eprintln!("making tables for {connections} connections");
            let mut bench = Bench::new(wrapper, connections)?;
            eprintln!("opening {many} connections");
            let mut scenarios = scenarios::prepare(&bench, many)?;
            scenarios.retain(|scenario| filter.is_none_or(|part| scenario.name.contains(part)));
            ensure!(
                !scenarios.is_empty(),
                "no packet's name contains `{}`; without --filter the table shows them all",
                filter.unwrap_or_default()
            );
            let costs = all(&mut bench, &scenarios, rounds, if quick { 4 } else { 1 })?;
            Ok(Packets { connections, costs })
        });
        work.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
    })
}

/// Rounds go over all scenarios in turn, so that a busy moment of the machine spreads over all.
fn all(bench: &mut Bench, scenarios: &[Scenario], rounds: u32, less: u32) -> Result<Vec<Cost>> {
    let mut costs: Vec<_> = scenarios.iter().map(Cost::new).collect();
    // The first round only warms up.
    for round in 0..=rounds {
        for (scenario, cost) in scenarios.iter().zip(&mut costs) {
            let times = once(bench, scenario, scenario.repeat / less)
                .with_context(|| scenario.name.clone())?;
            if round > 0 {
                cost.rounds.push(times);
            }
        }
        eprintln!("packets: round {round} of {rounds}");
    }
    Ok(costs)
}

/// Times the empty program, the trial where it knows such packets, and the balancer, in this order.
fn once(bench: &mut Bench, scenario: &Scenario, repeat: u32) -> Result<Times> {
    bench.prepare(&scenario.frame, scenario.clients)?;
    if let Some(first) = &scenario.before {
        bench.send(first)?;
    }
    // All programs see the same clients, unless these are to be new.
    let start = |bench: &mut Bench| if scenario.opens { Ok(()) } else { bench.rewind() };
    start(bench)?;
    let empty = bench.run(Target::Empty, repeat)?;
    let trial = match scenario.trial {
        Some(_) => {
            start(bench)?;
            Some(bench.run(Target::Trial, repeat)?)
        }
        None => None,
    };
    start(bench)?;
    let before = bench.verdicts()?;
    let balancer = bench.run(Target::Balancer, repeat)?;
    let after = bench.verdicts()?;

    let counted = after[scenario.verdict] - before[scenario.verdict];
    ensure!(
        counted == u64::from(repeat),
        "{counted} of {repeat} packets were counted as {}: {before:?}, then {after:?}",
        scenario.verdict
    );
    if scenario.opens {
        bench.clear_fresh()?;
    }
    Ok(Times { empty, trial, balancer })
}

/// As many connections as half of the free memory holds, by halves of what is wanted.
fn affordable(wanted: u32) -> Result<u32> {
    let memory = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let kilobytes: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("/proc/meminfo does not say how much memory is available")?
        .parse()?;
    let mut connections = wanted;
    while u64::from(connections) * BYTES_A_CONNECTION > kilobytes * 1024 / 2 {
        connections /= 2;
    }
    Ok(connections)
}

/// Keeps this thread on one CPU: the last, as the first takes most interrupts.
fn stay() -> Result<()> {
    let last = thread::available_parallelism()?.get() - 1;
    let mut cpus = CpuSet::new();
    cpus.set(last);
    sched_setaffinity(None, &cpus).with_context(|| format!("stay on CPU {last}"))
}
