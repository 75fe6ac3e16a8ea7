//! What was measured: as tables for people, and as JSON with every round.

use std::{fmt, fs, thread, time::Duration, time::SystemTime};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{comparison::Requests, observers::Observers, scale::Scale, scenarios::Scenario};

/// The machine and the moment.
pub struct Machine {
    kernel: String,
    processor: String,
    cores: usize,
    load: String,
    date: String,
}

impl Machine {
    /// Reads them.
    pub fn read() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("read {path}"));
        let processors = read("/proc/cpuinfo")?;
        let named = processors.lines().find_map(|line| line.strip_prefix("model name"));
        let load = read("/proc/loadavg")?;
        Ok(Self {
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            processor: named.unwrap_or("unknown").trim_start_matches([' ', '\t', ':']).to_owned(),
            cores: thread::available_parallelism()?.get(),
            load: load.split_whitespace().next().unwrap_or_default().to_owned(),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, processor, cores, load, date } = self;
        write!(f, "Linux {kernel}, {processor}, {cores} cores, load {load} at the start, {date}")
    }
}

/// Everything.
pub struct Report {
    /// Where and when.
    pub machine: Machine,
    /// The cost of packets, if it was measured.
    pub packets: Option<Packets>,
    /// Requests per second and their times, if they were measured.
    pub requests: Option<Requests>,
    /// What the controller takes for many services, if it was measured.
    pub scale: Option<Scale>,
    /// What looking on costs, if it was measured.
    pub observers: Option<Observers>,
}

impl Report {
    /// As JSON. Times in nanoseconds where nothing else is said.
    pub fn json(&self) -> Value {
        let Machine { kernel, processor, cores, load, date } = &self.machine;
        json!({
            "machine": {
                "kernel": kernel, "processor": processor, "cores": cores, "load": load, "date": date,
            },
            "packets": self.packets.as_ref().map(Packets::json),
            "requests": self.requests.as_ref().map(Requests::json),
            "scale": self.scale.as_ref().map(Scale::json),
            "observers": self.observers.as_ref().map(Observers::json),
        })
    }
}

/// The cost of packets.
pub struct Packets {
    /// Connections that the tables had room for.
    pub connections: u32,
    /// One for each scenario.
    pub costs: Vec<Cost>,
}

/// The cost of one kind of packet.
pub struct Cost {
    name: String,
    target: Option<u32>,
    trial: Option<u32>,
    repeat: u32,
    /// A packet's times, round by round.
    pub rounds: Vec<Times>,
}

/// A packet's time with each program, in one round.
#[derive(Clone, Copy)]
pub struct Times {
    /// With the one that does nothing.
    pub empty: Duration,
    /// With the trial, where it knows such packets.
    pub trial: Option<Duration>,
    /// With the balancer.
    pub balancer: Duration,
}

impl Cost {
    /// Not measured yet.
    pub fn new(scenario: &Scenario) -> Self {
        let Scenario { name, target, trial, repeat, .. } = scenario;
        let (target, trial, repeat) = (*target, *trial, *repeat);
        Self { name: name.clone(), target, trial, repeat, rounds: Vec::new() }
    }

    fn net(&self) -> Spread {
        Spread::of(self.rounds.iter().map(|times| ns(times.balancer) - ns(times.empty)))
    }

    /// The trial's net time.
    fn net_trial(&self) -> Option<Spread> {
        let net = |times: &Times| times.trial.map(|trial| ns(trial) - ns(times.empty));
        self.trial.map(|_| Spread::of(self.rounds.iter().filter_map(net)))
    }

    fn json(&self) -> Value {
        let round = |times: &Times| {
            let Times { empty, trial, balancer } = *times;
            json!({ "empty": ns(empty), "trial": trial.map(ns), "balancer": ns(balancer) })
        };
        let rounds: Vec<_> = self.rounds.iter().map(round).collect();
        json!({
            "name": self.name, "target": self.target, "net": self.net().json(),
            "trial": self.net_trial().as_ref().map(Spread::json), "packets_a_round": self.repeat,
            "rounds": rounds,
        })
    }
}

impl Packets {
    fn json(&self) -> Value {
        let costs: Vec<_> = self.costs.iter().map(Cost::json).collect();
        json!({ "connections": self.connections, "costs": costs })
    }
}

impl fmt::Display for Packets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "ns per packet, net of an empty program; tables for {} connections",
            self.connections
        )?;
        writeln!(
            f,
            "x trial: in units of a bare hot path measured beside it, and what the target is in them"
        )?;
        write!(
            f,
            "{:40} {:>6} {:>11} {:>7} {:>6} {:>6} {:>8} {:>6}",
            "packet", "ours", "spread", "target", "ratio", "trial", "x trial", "target"
        )?;
        for cost in &self.costs {
            let Spread { median, least, most } = cost.net();
            let (target, ratio) = cost.target.map_or_else(Default::default, |target| {
                (format!("{target}"), format!("{:.2}", median / f64::from(target)))
            });
            let spread = format!("{least:.0}-{most:.0}");
            write!(f, "\n{:40} {median:>6.0} {spread:>11} {target:>7} {ratio:>6}", cost.name)?;
            let (Some(trial), Some(theirs)) = (cost.net_trial(), cost.trial) else { continue };
            write!(f, " {:>6.0} {:>8.2}", trial.median, median / trial.median)?;
            if let Some(target) = cost.target {
                write!(f, " {:>6.2}", f64::from(target) / f64::from(theirs))?;
            }
        }
        Ok(())
    }
}

/// The middle and the ends of some numbers.
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    /// Of some numbers; none has no spread.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<_> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let last = sorted.len().saturating_sub(1);
        // Of an even number of rounds, between the two in the middle.
        let median = f64::midpoint(at(last / 2), at(last.div_ceil(2)));
        Self { median, least: at(0), most: at(last) }
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({ "median": self.median, "least": self.least, "most": self.most })
    }
}

/// In nanoseconds.
pub fn ns(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}
