//! What was measured: as tables for people, and as JSON with every round.

use std::{fmt, fs, thread, time::Duration, time::SystemTime};

use anyhow::{Context as _, Result};
use evenkeel_tests::wrk::Summary;
use serde_json::{Value, json};

use crate::scenarios::Scenario;

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
    /// Requests per second, if they were measured.
    pub requests: Option<Requests>,
}

impl Report {
    /// As JSON. Times in nanoseconds.
    pub fn json(&self) -> Value {
        let Machine { kernel, processor, cores, load, date } = &self.machine;
        json!({
            "machine": {
                "kernel": kernel, "processor": processor, "cores": cores, "load": load, "date": date,
            },
            "packets": self.packets.as_ref().map(Packets::json),
            "requests": self.requests.as_ref().map(Requests::json),
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
    name: &'static str,
    target: Option<u32>,
    repeat: u32,
    /// A packet's time with the empty program and with the balancer, round by round.
    pub rounds: Vec<(Duration, Duration)>,
}

impl Cost {
    /// Not measured yet.
    pub fn new(scenario: &Scenario) -> Self {
        let Scenario { name, target, repeat, .. } = *scenario;
        Self { name, target, repeat, rounds: Vec::new() }
    }

    fn net(&self) -> Spread {
        Spread::of(self.rounds.iter().map(|(empty, whole)| ns(*whole) - ns(*empty)))
    }

    fn json(&self) -> Value {
        let rounds: Vec<_> = self.rounds.iter().map(|(e, w)| [ns(*e), ns(*w)]).collect();
        json!({
            "name": self.name, "target": self.target, "net": self.net().json(),
            "packets_a_round": self.repeat, "rounds_empty_and_whole": rounds,
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
        write!(
            f,
            "{:40} {:>6} {:>7} {:>6}  {:>11}",
            "packet", "ours", "target", "ratio", "spread"
        )?;
        for cost in &self.costs {
            let Spread { median, least, most } = cost.net();
            let (target, ratio) = cost.target.map_or_else(Default::default, |target| {
                (format!("{target}"), format!("{:.2}", median / f64::from(target)))
            });
            let spread = format!("{least:.0}-{most:.0}");
            write!(f, "\n{:40} {median:>6.0} {target:>7} {ratio:>6}  {spread:>11}", cost.name)?;
        }
        Ok(())
    }
}

/// Requests per second.
pub struct Requests {
    /// Connections at once.
    pub connections: u32,
    /// A run's seconds.
    pub seconds: u64,
    /// One for each way to use connections.
    pub runs: Vec<Throughput>,
}

/// Requests per second in one way.
pub struct Throughput {
    /// Which way.
    pub name: &'static str,
    /// The share of what goes without a balancer that DESIGN.md asks for.
    pub target: f64,
    /// Without and with the balancer, round by round.
    pub rounds: Vec<(Summary, Summary)>,
}

impl Throughput {
    fn spreads(&self) -> [Spread; 3] {
        let rates = || self.rounds.iter().map(|(a, b)| (a.per_second, b.per_second));
        [
            Spread::of(rates().map(|(without, _)| without)),
            Spread::of(rates().map(|(_, with)| with)),
            Spread::of(rates().map(|(without, with)| with / without)),
        ]
    }

    fn json(&self) -> Value {
        let [without, with, ratio] = self.spreads();
        let run = |summary: &Summary| {
            json!({
                "per_second": summary.per_second,
                "median_ns": ns(summary.median),
                "percentile_99_ns": ns(summary.percentile_99),
            })
        };
        let rounds: Vec<_> = self.rounds.iter().map(|(a, b)| [run(a), run(b)]).collect();
        json!({
            "name": self.name, "target": self.target, "ratio": ratio.json(),
            "without": without.json(), "with": with.json(), "rounds_without_and_with": rounds,
        })
    }
}

impl Requests {
    fn json(&self) -> Value {
        let runs: Vec<_> = self.runs.iter().map(Throughput::json).collect();
        json!({ "connections": self.connections, "seconds": self.seconds, "runs": runs })
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "requests per second, {} connections at once; no balancer: the edge's kernel forwards",
            self.connections
        )?;
        write!(
            f,
            "{:40} {:>8} {:>11} {:>6} {:>7}  {:>11}",
            "requests", "ours", "no balancer", "ratio", "target", "spread"
        )?;
        for run in &self.runs {
            let [without, with, ratio] = run.spreads().map(|spread| spread.median);
            let [.., Spread { least, most, .. }] = run.spreads();
            let spread = format!("{least:.2}-{most:.2}");
            write!(
                f,
                "\n{:40} {with:>8.0} {without:>11.0} {ratio:>6.2} {:>7.2}  {spread:>11}",
                run.name, run.target
            )?;
        }
        Ok(())
    }
}

/// The middle and the ends of some numbers.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<_> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let last = sorted.len().saturating_sub(1);
        // Of an even number of rounds, between the two in the middle.
        let median = f64::midpoint(at(last / 2), at(last.div_ceil(2)));
        Self { median, least: at(0), most: at(last) }
    }

    fn json(&self) -> Value {
        json!({ "median": self.median, "least": self.least, "most": self.most })
    }
}

fn ns(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}
