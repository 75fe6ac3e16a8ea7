//! `evenkeel verify`: arguments and progress.

mod table;

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use super::output;
use crate::{
    config::{Config, Decimal, NotAValue, Verify},
    verify::{self, Failed, Options, Progress},
};

#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// File to verify instead of --config's
    file: Option<PathBuf>,
    /// Connections to each service [default: of [verify], 100000]
    #[arg(long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(100..=i64::from(Verify::MOST_CONNECTIONS)))]
    connections: Option<u32>,
    /// A share over its fair share, at the most [default: of [verify], 1.1]
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    max_over_fair: Option<Decimal>,
    /// Coefficient of variation of the shares over the fair ones, at the most [default: of [verify], any]
    #[arg(long, value_name = "RATIO")]
    max_variation: Option<Decimal>,
    /// The chi-square test's p, at the least [default: of [verify], any]
    #[arg(long, value_name = "PROBABILITY")]
    min_p: Option<Decimal>,
    /// How many backends may fail without the others being overloaded: 0 or 1 [default: of [verify], 1]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(0..=1))]
    survive: Option<u8>,
    /// Try at most so many backends of a service down, the heaviest
    #[arg(long, value_name = "COUNT", default_value_t = Options::FAILURES)]
    failures: u32,
    /// Seed of the clients: the same one makes the same clients
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Fewer connections and fewer backends down: half a second beside loading the program
    #[arg(long)]
    quick: bool,
    /// Write the result to a file as JUnit XML, too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table
    #[default]
    Table,
    /// A table that leaves nothing out
    Wide,
    /// JSON
    Json,
    /// JUnit XML
    Junit,
}

/// A ratio from 1 on.
fn ratio(text: &str) -> Result<Decimal, String> {
    let number: Decimal = text.parse().map_err(|error: NotAValue| error.to_string())?;
    if number.get() < 1.0 {
        return Err("a share over its fair share is 1 or more for somebody".to_owned());
    }
    Ok(number)
}

/// Verifies a file, prints what was found, and fails where the file does.
pub fn verify(args: &VerifyArgs, configured: &Path) -> Result<()> {
    let file = args.file.as_deref().unwrap_or(configured);
    let config = Config::load(file)?.config;
    for service in verify::unknown(&config) {
        let sources: Vec<_> = service.discover.iter().map(ToString::to_string).collect();
        eprintln!(
            "service {:?} is left out: its backends come from {}, and none is known here; the daemon verifies it \
             with those that it knows at `evenkeel apply` and `reload`",
            service.name,
            sources.join(", ")
        );
    }
    let options = options(args, &config);
    let mut line = Line::new();
    let report = verify::run(&config, &options, |progress| line.show(&progress));
    line.clear();
    let report = report.with_context(|| format!("verify {}", file.display()))?;
    if let Some(path) = &args.junit {
        fs::write(path, verify::junit(&report)?)
            .with_context(|| format!("write {}", path.display()))?;
    }
    match args.output {
        Output::Json => output::json(&report)?,
        Output::Junit => output::print(&verify::junit(&report)?)?,
        Output::Table | Output::Wide => {
            output::print(&table::shown(&report, file, args.output == Output::Wide)?)?;
        }
    }
    let problems = report.problems().count();
    if report.passed { Ok(()) } else { Err(Failed { problems }.into()) }
}

fn options(args: &VerifyArgs, config: &Config) -> Options {
    let mut options = Options { failures: args.failures, seed: args.seed, ..Options::of(config) };
    if args.quick {
        options = options.quick(config);
    }
    let verify = &mut options.verify;
    verify.connections = args.connections.unwrap_or(verify.connections);
    verify.max_over_fair = args.max_over_fair.unwrap_or(verify.max_over_fair);
    verify.max_variation = args.max_variation.or(verify.max_variation);
    verify.min_p = args.min_p.or(verify.min_p);
    verify.survive = args.survive.unwrap_or(verify.survive);
    options
}

/// A line on a terminal that tells how far the verification is; nothing where nobody looks.
struct Line {
    shown: Option<Instant>,
    wanted: bool,
}

impl Line {
    /// Time from one text to the next: a person reads no faster.
    const PAUSE: Duration = Duration::from_millis(100);

    fn new() -> Self {
        Self { shown: None, wanted: io::stderr().is_terminal() }
    }

    fn show(&mut self, progress: &Progress<'_>) {
        let soon = self.shown.is_some_and(|shown| shown.elapsed() < Self::PAUSE);
        if !self.wanted || soon {
            return;
        }
        self.shown = Some(Instant::now());
        let percent = progress.done * 100 / progress.total.max(1);
        let without = progress.without.map_or_else(String::new, |name| format!(" without {name}"));
        // The whole line is written anew; that it cannot be is no reason to fail.
        let _ =
            write!(io::stderr(), "\r\x1b[Kverifying: {percent}%, {}{without}", progress.service);
    }

    fn clear(&self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
