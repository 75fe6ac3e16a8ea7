//! A verification's report for people.

use std::{cmp::Reverse, fmt::Write as _, path::Path};

use anyhow::Result;
use comfy_table::Cell;

use crate::{
    cli::output,
    verify::{Failure, Report, ServiceReport, Split},
};

/// A report: services with their backends, failures and problems, and the verdict.
pub fn shown(report: &Report, file: &Path, wide: bool) -> Result<String> {
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
        "{}  {}/{}  {}, {}: {} connections from {} client{}",
        service.name,
        service.address,
        service.protocol,
        service.scheduler,
        service.forwarding,
        output::count(split.connections),
        output::count(split.clients),
        if split.clients == 1 { "" } else { "s" }
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
