//! `evenkeel doctor`, printed: the worst first, each with its way out, and a line that sums up.

use std::fmt::Write as _;

use anyhow::Result;

use super::{Output, output};
use crate::{
    daemon::Paths,
    doctor::{self, Finding, Level, Report},
};

/// Examines the host, prints what was found, and fails where there is a problem.
pub async fn show(paths: &Paths, format: Output) -> Result<()> {
    let report = doctor::examine(paths).await?;
    match format {
        Output::Json => output::json(&report)?,
        Output::Table | Output::Wide => {
            output::print(&shown(&report, format == Output::Wide, output::coloured()))?;
        }
    }
    Ok(report.verdict()?)
}

/// The findings as text; a short one leaves the checks that passed to the sum.
fn shown(report: &Report, all: bool, colour: bool) -> String {
    let mut text = String::new();
    let listed = report.findings.iter().filter(|finding| all || finding.level != Level::Ok);
    for finding in listed {
        text.push_str(&line(finding, colour));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    let Report { problems, warnings, notes, unseen, ok, .. } = report;
    let mut parts = vec![
        output::counted(*problems, "problem"),
        output::counted(*warnings, "warning"),
        output::counted(*notes, "note"),
    ];
    if *unseen > 0 {
        parts.push(format!("{unseen} not seen"));
    }
    let hint = if all { "" } else { " (-o wide lists them)" };
    let _ = writeln!(text, "{}, {ok} ok{hint}", parts.join(", "));
    text
}

fn line(finding: &Finding, colour: bool) -> String {
    let (word, tint) = match finding.level {
        Level::Problem => ("problem", "\u{1b}[31m"),
        Level::Warning => ("warning", "\u{1b}[33m"),
        Level::Unseen => ("unseen", "\u{1b}[33m"),
        Level::Note => ("note", "\u{1b}[36m"),
        Level::Ok => ("ok", "\u{1b}[32m"),
    };
    let padded = format!("{word:7}");
    let word = if colour { format!("{tint}{padded}\u{1b}[0m") } else { padded };
    let subject =
        if finding.subject.is_empty() { String::new() } else { format!(" {}", finding.subject) };
    let mut text = format!("{word}  {}{subject}: {}\n", finding.check, finding.message);
    if let Some(remedy) = &finding.remedy {
        let _ = writeln!(text, "           {remedy}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let finding = |level, check, subject: &str, remedy: Option<&str>| Finding {
            level,
            check,
            subject: subject.to_owned(),
            message: "found".to_owned(),
            remedy: remedy.map(str::to_owned),
        };
        Report::new(vec![
            finding(Level::Ok, "kernel", "", None),
            finding(Level::Problem, "interface", "eth0", Some("ip link set eth0 up")),
        ])
    }

    #[test]
    fn what_passed_is_only_counted() {
        assert_eq!(
            shown(&report(), false, false),
            "problem  interface eth0: found\n           ip link set eth0 up\n\n\
             1 problem, 0 warnings, 0 notes, 1 ok (-o wide lists them)\n"
        );
        assert!(shown(&report(), true, false).contains("ok       kernel: found\n"));
    }

    #[test]
    fn colours_are_for_terminals() {
        assert!(shown(&report(), true, true).contains("\u{1b}[31mproblem\u{1b}[0m"));
        assert!(!shown(&report(), true, false).contains('\u{1b}'));
    }
}
