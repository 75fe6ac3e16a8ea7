//! `evenkeel verify`: arguments, progress, and the report for people.

use std::{
    cmp::Reverse,
    fmt::Write as _,
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use comfy_table::Cell;

use super::output;
use crate::{
    config::{Config, Decimal, NotAValue, Verify},
    verify::{self, Failed, Failure, Options, Progress, Report, ServiceReport, Split},
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
    /// Fewer connections and fewer backends down: well below a second
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
            output::print(&shown(&report, file, args.output == Output::Wide)?)?;
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

fn shown(report: &Report, file: &Path, wide: bool) -> Result<String> {
    let mut text = String::new();
    for service in &report.services {
        show_service(&mut text, service, wide)?;
    }
    for problem in &report.problems {
        writeln!(text, "{}: {}\n", bad("problem"), problem.message)?;
    }
    if wide {
        for note in &report.notes {
            writeln!(text, "note: {note}")?;
        }
        writeln!(text, "seed {}\n", report.seed)?;
    }
    let splits = report.services.iter().flat_map(|service| {
        let failures = service.failures.iter().map(|failure| &failure.split);
        std::iter::once(&service.balance).chain(failures)
    });
    let connections = splits.map(|split| split.connections).sum();
    let problems = report.problems().count();
    let verdict = if report.passed {
        good("passed")
    } else {
        format!("{}: {}", bad("failed"), output::counted(problems, "problem"))
    };
    writeln!(
        text,
        "{}: {verdict} ({}, {} connections, {}.{} s)",
        file.display(),
        output::counted(report.services.len(), "service"),
        output::count(connections),
        report.milliseconds / 1_000,
        report.milliseconds % 1_000 / 100
    )?;
    Ok(text)
}

fn show_service(text: &mut String, service: &ServiceReport, wide: bool) -> Result<()> {
    let split = &service.balance;
    writeln!(
        text,
        "{}  {}/{}  {}, {}: {} connections from {} clients",
        service.name,
        service.address,
        service.protocol,
        service.scheduler,
        service.forwarding,
        output::count(split.connections),
        output::count(split.clients)
    )?;
    if !split.backends.is_empty() {
        indent(text, &backends(split));
        writeln!(
            text,
            "  largest share over fair {:.3}, variation {:.4}, chi-square p {:.3}{}",
            split.max_over_fair,
            split.variation,
            split.p,
            carries(service, split)
        )?;
    }
    if !service.failures.is_empty() {
        text.push('\n');
        indent(text, &failures(service, wide));
    }
    if service.failures_left_out > 0 {
        writeln!(
            text,
            "  {} more were not tried down; see --failures",
            output::count(service.failures_left_out)
        )?;
    }
    let own = service.problems.iter().map(|problem| (String::new(), problem));
    let others = service.failures.iter().flat_map(|failure| {
        let place = format!("without {}, ", failure.backend);
        failure.problems.iter().map(move |problem| (place.clone(), problem))
    });
    for (place, problem) in own.chain(others) {
        writeln!(text, "  {}: {place}{}", bad("problem"), problem.message)?;
    }
    for warning in &service.warnings {
        writeln!(text, "  warning: {warning}")?;
    }
    text.push('\n');
    Ok(())
}

/// What a service carries, where that is known.
fn carries(service: &ServiceReport, split: &Split) -> String {
    match (split.can_carry, service.expected_connections) {
        (Some(most), Some(expected)) => format!(
            "; carries {} of {} expected connections",
            output::count(most),
            output::count(expected.into())
        ),
        (Some(most), None) => format!("; carries {} connections", output::count(most)),
        (None, _) => String::new(),
    }
}

/// The backends of a split, one a line.
fn backends(split: &Split) -> String {
    let loaded = split.backends.iter().any(|backend| backend.load.is_some());
    let mut heads = vec!["BACKEND", ">WEIGHT", ">CONNECTIONS", ">EXPECTED", ">SHARE", ">OVER FAIR"];
    let guarded = split.backends.iter().any(|backend| backend.max_connections.is_some());
    if loaded {
        heads.push(">LOAD");
        heads.extend(guarded.then_some(">MAX"));
        heads.push(">CARRIES");
    }
    let mut table = output::table(&heads);
    for backend in &split.backends {
        let mut row = vec![
            Cell::new(&backend.name),
            Cell::new(backend.weight),
            Cell::new(output::count(backend.connections)),
            Cell::new(percent(backend.expected_share)),
            Cell::new(percent(backend.share)),
            Cell::new(format_args!("{:.3}", backend.over_fair)),
        ];
        if loaded {
            let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), output::count);
            row.push(Cell::new(number(backend.load)));
            if guarded {
                row.push(Cell::new(number(backend.max_connections.map(u64::from))));
            }
            row.push(Cell::new(number(backend.limit.map(|limit| limit.connections))));
        }
        table.add_row(row);
    }
    output::rendered(&table)
}

/// What becomes of a service without each of its backends, one a line.
fn failures(service: &ServiceReport, wide: bool) -> String {
    let limited = service.failures.iter().any(|failure| failure.split.can_carry.is_some());
    let mut heads = vec!["WITHOUT", "RESULT", ">OVER FAIR"];
    if limited {
        heads.push(">CARRIES");
    }
    heads.push("WHO TAKES ITS SHARE");
    let mut table = output::table(&heads);
    for failure in &service.failures {
        let lone = failure.split.backends.is_empty();
        let verdict = if failure.passed { "pass" } else { "fail" };
        let over = format!("{:.3}", failure.split.max_over_fair);
        let mut row = vec![
            Cell::new(&failure.backend),
            output::tinted(verdict, failure.passed),
            Cell::new(if lone { "-" } else { &over }),
        ];
        if limited {
            let most = failure.split.can_carry;
            row.push(Cell::new(most.map_or_else(|| "-".to_owned(), output::count)));
        }
        row.push(Cell::new(heirs(failure, wide)));
        table.add_row(row);
    }
    output::rendered(&table)
}

/// Who gets what the failed backend had, most first.
fn heirs(failure: &Failure, wide: bool) -> String {
    const SHOWN: usize = 4;
    if failure.split.backends.is_empty() {
        return "nobody".to_owned();
    }
    let mut heirs: Vec<_> = failure.split.backends.iter().collect();
    #[expect(clippy::cast_possible_truncation, reason = "a share in millionths")]
    heirs.sort_by_key(|heir| Reverse((heir.gained.unwrap_or(0.0) * 1e6) as i64));
    let shown = if wide { heirs.len() } else { SHOWN };
    let mut names: Vec<_> = heirs
        .iter()
        .take(shown)
        .map(|heir| format!("{} {:+.1}%", heir.name, heir.gained.unwrap_or(0.0) * 100.0))
        .collect();
    if heirs.len() > shown {
        names.push(format!("and {} more", heirs.len() - shown));
    }
    names.join(", ")
}

fn percent(part: f64) -> String {
    format!("{:.2}%", part * 100.0)
}

fn indent(text: &mut String, table: &str) {
    text.extend(table.lines().flat_map(|line| ["  ", line, "\n"]));
}

fn bad(text: &str) -> String {
    if output::coloured() { format!("\x1b[31m{text}\x1b[39m") } else { text.to_owned() }
}

fn good(text: &str) -> String {
    if output::coloured() { format!("\x1b[32m{text}\x1b[39m") } else { text.to_owned() }
}
