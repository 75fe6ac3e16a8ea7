//! What the scenarios came to: the lines that the guest writes, and the table for people.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::steps;

/// How the guest says that it has run everything.
pub(super) const END: &str = "end";

/// How one scenario ended in the guest.
#[derive(Debug, PartialEq)]
pub(super) struct Scenario {
    pub(super) name: String,
    seconds: f64,
    /// What there is to know, or what went wrong.
    outcome: Result<String, String>,
}

impl Scenario {
    pub(super) fn new(name: &str, taken: Duration, outcome: &Result<String>) -> Self {
        let outcome = match outcome {
            Ok(note) => Ok(note.clone()),
            Err(error) => Err(steps::chain(error)),
        };
        Self { name: name.to_owned(), seconds: taken.as_secs_f64(), outcome }
    }

    /// The line that tells of it, for [`Scenario::read`].
    pub(super) fn line(&self) -> String {
        let (note, error) = (self.outcome.as_ref().ok(), self.outcome.as_ref().err());
        json!({ "name": self.name, "seconds": self.seconds, "note": note, "error": error })
            .to_string()
    }

    /// Reads a line of results; other lines are no scenario.
    pub(super) fn read(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        let outcome = text("error").map_or_else(|| text("note").map(Ok), |error| Some(Err(error)));
        Some(Self { name: text("name")?, seconds: value["seconds"].as_f64()?, outcome: outcome? })
    }

    /// A line for people, as it ends.
    pub(super) fn tell(&self) -> String {
        let Self { name, seconds, outcome } = self;
        match outcome {
            Ok(note) => format!("  {name:WIDTH$} {seconds:5.1} s  ok  {note}"),
            Err(error) => format!("  {name:WIDTH$} {seconds:5.1} s  FAILED: {error}"),
        }
    }

    fn passed(&self) -> bool {
        self.outcome.is_ok()
    }
}

/// The column of names.
const WIDTH: usize = 24;

/// What ran on one kernel.
pub(super) struct Machine {
    /// The kernel's release.
    pub(super) release: String,
    pub(super) scenarios: Vec<Scenario>,
    /// How the machine itself ended.
    pub(super) ended: Result<()>,
}

impl Machine {
    fn failures(&self) -> Vec<String> {
        let mut failures: Vec<_> = self
            .scenarios
            .iter()
            .filter(|scenario| !scenario.passed())
            .map(|scenario| format!("Linux {}: {}", self.release, scenario.name))
            .collect();
        if let Err(error) = &self.ended {
            failures.push(format!("Linux {}: {}", self.release, steps::chain(error)));
        } else if self.scenarios.is_empty() {
            failures.push(format!("Linux {}: no scenario ran", self.release));
        }
        failures
    }

    /// Whether everything passed that had to run.
    pub(super) fn passed(&self) -> bool {
        self.failures().is_empty()
    }
}

/// A row for each scenario, a column for each kernel.
pub(super) fn table(machines: &[Machine]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for scenario in machines.iter().flat_map(|machine| &machine.scenarios) {
        if !names.contains(&&*scenario.name) {
            names.push(&scenario.name);
        }
    }
    let mut text = format!("{:WIDTH$}", "scenario");
    // Writing to a String cannot fail.
    for machine in machines {
        let _ = write!(text, "  {}", machine.release);
    }
    for name in names {
        let _ = write!(text, "\n{name:WIDTH$}");
        for machine in machines {
            let found = machine.scenarios.iter().find(|scenario| scenario.name == name);
            let word = match found {
                Some(scenario) if scenario.passed() => format!("ok {:.1} s", scenario.seconds),
                Some(_) => "FAILED".to_owned(),
                None => "did not run".to_owned(),
            };
            let _ = write!(text, "  {word:width$}", width = machine.release.len());
        }
        text.truncate(text.trim_end().len());
    }
    text
}

/// Fails if something did, and says what.
///
/// # Errors
/// Where a scenario or a machine failed.
pub(super) fn verdict(machines: &[Machine]) -> Result<()> {
    let failures: Vec<_> = machines.iter().flat_map(Machine::failures).collect();
    if failures.is_empty() {
        return Ok(());
    }
    bail!("not everything passed:\n  {}", failures.join("\n  "));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::{Result, anyhow};

    use super::{Machine, Scenario, table, verdict};

    fn scenario(name: &str, outcome: &Result<String>) -> Scenario {
        Scenario::new(name, Duration::from_millis(1500), outcome)
    }

    fn machine(outcome: &Result<String>, ended: Result<()>) -> Machine {
        Machine { release: "6.1.0".to_owned(), scenarios: vec![scenario("nat", outcome)], ended }
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        for outcome in [Ok("fine".to_owned()), Err(anyhow!("broken\n\"in two\""))] {
            let told = scenario("nat", &outcome);
            assert_eq!(Scenario::read(&told.line()), Some(told));
        }
        assert_eq!(Scenario::read("end"), None);
    }

    #[test]
    fn everything_that_fails_is_in_the_verdict() {
        let (fine, broken) = (Ok(String::new()), Err(anyhow!("broken")));
        assert!(verdict(&[machine(&fine, Ok(()))]).is_ok());
        let failed = verdict(&[machine(&fine, Ok(())), machine(&broken, Ok(()))]).unwrap_err();
        assert!(failed.to_string().ends_with("Linux 6.1.0: nat"));
        let hung = verdict(&[machine(&fine, Err(anyhow!("it hung")))]).unwrap_err();
        assert!(hung.to_string().contains("it hung"));
        let empty = Machine { release: String::new(), scenarios: Vec::new(), ended: Ok(()) };
        assert!(verdict(&[empty]).is_err());
    }

    #[test]
    fn the_table_has_a_column_for_each_kernel() {
        let mut newer = machine(&Err(anyhow!("broken")), Ok(()));
        newer.release = "6.12".to_owned();
        newer.scenarios.push(scenario("vlan", &Ok(String::new())));
        let text = table(&[machine(&Ok(String::new()), Ok(())), newer]);
        let rows: Vec<Vec<_>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["scenario", "6.1.0", "6.12"]);
        assert_eq!(rows[1], ["nat", "ok", "1.5", "s", "FAILED"]);
        assert_eq!(rows[2], ["vlan", "did", "not", "run", "ok", "1.5", "s"]);
    }
}
