//! What was measured of several contenders: as tables for people, and as JSON with every round.
//! The first contender is what all are compared with, round by round.

use std::{fmt, time::Duration};

use evenkeel_tests::{latency::Times, wrk::Summary};
use serde_json::{Value, json};

use crate::report::{Spread, ns};

/// Requests per second, and the time of one.
pub struct Requests {
    /// Names, and versions of those that are not ours.
    pub contenders: Vec<(&'static str, Option<String>)>,
    /// Connections at once where throughput was measured.
    pub connections: u32,
    /// The length of a contender's turn there.
    pub load: Duration,
    /// One for each way to use connections.
    pub throughput: Vec<Run<Summary>>,
    /// Requests at once where time was measured.
    pub askers: usize,
    /// The length of a contender's turn there.
    pub sample: Duration,
    /// One for each way to use connections.
    pub latency: Vec<Run<Times>>,
}

/// Everything of one way to use connections.
pub struct Run<T> {
    /// Which way.
    pub name: &'static str,
    /// The share of the first contender's value that DESIGN.md asks of ours.
    pub target: Option<f64>,
    /// Round by round, what each contender showed.
    pub rounds: Vec<Vec<T>>,
}

/// A contender's value, and how it stands to the first contender's of the same round.
struct Standing {
    value: Spread,
    ratio: Spread,
    added: Spread,
}

impl<T> Run<T> {
    fn standing(&self, contender: usize, value: impl Fn(&T) -> f64) -> Standing {
        let pairs = || self.rounds.iter().map(|round| (value(&round[0]), value(&round[contender])));
        Standing {
            value: Spread::of(pairs().map(|(_, own)| own)),
            ratio: Spread::of(pairs().map(|(first, own)| own / first)),
            added: Spread::of(pairs().map(|(first, own)| own - first)),
        }
    }

    fn total(&self, contender: usize, count: impl Fn(&T) -> u64) -> u64 {
        self.rounds.iter().map(|round| count(&round[contender])).sum()
    }
}

fn per_second(summary: &Summary) -> f64 {
    summary.per_second
}

fn wrk_errors(summary: &Summary) -> u64 {
    let Summary { bad_status, connect_errors, read_errors, write_errors, timeouts, .. } = summary;
    bad_status + connect_errors + read_errors + write_errors + timeouts
}

/// How one of a run's times is told.
type Percentile = fn(&Times) -> Duration;

/// The ones that are told.
const PERCENTILES: [(&str, Percentile); 2] =
    [("p50", |times| times.median), ("p99", |times| times.percentile_99)];

impl Requests {
    /// As JSON. Times in nanoseconds.
    pub fn json(&self) -> Value {
        let contenders: Vec<_> = self
            .contenders
            .iter()
            .map(|(name, version)| json!({ "name": name, "version": version }))
            .collect();
        let throughput: Vec<_> = self.throughput.iter().map(|run| self.rates(run)).collect();
        let latency: Vec<_> = self.latency.iter().map(|run| self.times(run)).collect();
        json!({
            "contenders": contenders,
            "throughput": {
                "connections": self.connections,
                "seconds": self.load.as_secs_f64(),
                "runs": throughput,
            },
            "latency": {
                "at_once": self.askers,
                "seconds": self.sample.as_secs_f64(),
                "runs": latency,
            },
        })
    }

    fn rates(&self, run: &Run<Summary>) -> Value {
        let results = self.each(|contender, name| {
            let Standing { value, ratio, .. } = run.standing(contender, per_second);
            json!({ "contender": name, "per_second": value.json(), "ratio": ratio.json() })
        });
        let rounds = rounds(run, |summary| {
            json!({
                "per_second": summary.per_second,
                "median_ns": ns(summary.median),
                "percentile_99_ns": ns(summary.percentile_99),
                "requests": summary.requests,
                "bad_status": summary.bad_status,
                "connect_errors": summary.connect_errors,
                "read_errors": summary.read_errors,
                "write_errors": summary.write_errors,
                "timeouts": summary.timeouts,
            })
        });
        json!({ "name": run.name, "target": run.target, "results": results, "rounds": rounds })
    }

    fn times(&self, run: &Run<Times>) -> Value {
        let results = self.each(|contender, name| {
            let percentiles = PERCENTILES.map(|(percentile, time)| {
                let Standing { value, ratio, added } =
                    run.standing(contender, |times| ns(time(times)));
                let told = json!({
                    "ns": value.json(), "ratio": ratio.json(), "added_ns": added.json(),
                });
                (percentile.to_owned(), told)
            });
            json!({ "contender": name, "percentiles": Value::from_iter(percentiles) })
        });
        let rounds = rounds(run, |times| {
            json!({
                "median_ns": ns(times.median),
                "percentile_99_ns": ns(times.percentile_99),
                "requests": times.requests,
                "failed": times.failed,
            })
        });
        json!({ "name": run.name, "results": results, "rounds": rounds })
    }

    fn each(&self, result: impl Fn(usize, &str) -> Value) -> Vec<Value> {
        let contenders = self.contenders.iter().enumerate();
        contenders.map(|(contender, (name, _))| result(contender, name)).collect()
    }

    /// The lines of one comparison; the first contender has a value and nothing beside it.
    fn lines(
        &self,
        f: &mut fmt::Formatter<'_>,
        title: &str,
        line: impl Fn(usize) -> Line,
    ) -> fmt::Result {
        for (contender, (name, _)) in self.contenders.iter().enumerate() {
            let title = if contender == 0 { title } else { "" };
            let Line { value, ratio, fourth, failed } = line(contender);
            write!(f, "\n{title:29} {name:12} {value:>11}")?;
            if contender > 0 {
                let Spread { median, least, most } = ratio;
                let spread = format!("{least:.2}-{most:.2}");
                write!(f, " {median:>6.2} {fourth:>7}  {spread:>11}")?;
            }
            if failed > 0 {
                write!(f, "  {failed} failed")?;
            }
        }
        Ok(())
    }
}

fn rounds<T>(run: &Run<T>, one: impl Fn(&T) -> Value) -> Vec<Vec<Value>> {
    run.rounds.iter().map(|round| round.iter().map(&one).collect()).collect()
}

/// What stands beside a contender's name.
struct Line {
    value: String,
    ratio: Spread,
    fourth: String,
    failed: u64,
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "requests per second, {} connections at once; no balancer: the edge's kernel forwards",
            self.connections
        )?;
        let header = |f: &mut fmt::Formatter<'_>, value, fourth| {
            write!(
                f,
                "{:29} {:12} {value:>11} {:>6} {fourth:>7}  {:>11}",
                "requests", "through", "ratio", "spread"
            )
        };
        header(f, "per second", "target")?;
        for run in &self.throughput {
            self.lines(f, run.name, |contender| {
                let Standing { value, ratio, .. } = run.standing(contender, per_second);
                // The second contender is ours.
                let target = run.target.filter(|_| contender == 1);
                Line {
                    value: format!("{:.0}", value.median),
                    ratio,
                    fourth: target.map(|target| format!("{target:.2}")).unwrap_or_default(),
                    failed: run.total(contender, wrk_errors),
                }
            })?;
        }

        let askers = self.askers;
        writeln!(f, "\n\ntime of a request in microseconds, {askers} at once")?;
        header(f, "us", "added")?;
        for run in &self.latency {
            for (percentile, time) in PERCENTILES {
                self.lines(f, &format!("{}, {percentile}", run.name), |contender| {
                    let Standing { value, ratio, added } =
                        run.standing(contender, |times| ns(time(times)) / 1e3);
                    Line {
                        value: format!("{:.1}", value.median),
                        ratio,
                        fourth: format!("{:+.1}", added.median),
                        failed: run.total(contender, |times| times.failed),
                    }
                })?;
            }
        }

        let versions = self
            .contenders
            .iter()
            .filter_map(|(name, version)| version.as_ref().map(|version| (name, version)));
        for (index, (name, version)) in versions.enumerate() {
            let gap = if index == 0 { "\n\n" } else { "\n" };
            write!(f, "{gap}{name}: {version}")?;
        }
        Ok(())
    }
}
