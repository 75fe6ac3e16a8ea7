//! A list of steps that all run, whatever fails, and a summary at the end.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Error, Result, bail};

/// How a step that did not fail ended.
pub(crate) enum Outcome {
    /// It passed.
    Passed,
    /// It passed, and there is something to know about it.
    Note(String),
}

/// The steps that ran so far.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(&'static str, Duration, Result<Outcome>)>,
}

impl Steps {
    /// Announces and runs one step; its failure stops no other step.
    pub(crate) fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<Outcome>) {
        eprintln!("\n==> {name}");
        let start = Instant::now();
        let outcome = step();
        let taken = start.elapsed();
        if let Err(error) = &outcome {
            eprintln!("error: {}", chain(error));
        }
        self.done.push((name, taken, outcome));
    }

    /// Prints the summary.
    ///
    /// # Errors
    /// When a step failed.
    pub(crate) fn finish(self) -> Result<()> {
        eprintln!("\n{}", self.summary());
        let failed: Vec<_> = self
            .done
            .iter()
            .filter(|(_, _, outcome)| outcome.is_err())
            .map(|(name, ..)| *name)
            .collect();
        if !failed.is_empty() {
            bail!("{} of {} steps failed: {}", failed.len(), self.done.len(), failed.join(", "));
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let width = self.done.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, taken, outcome) in &self.done {
            let (word, note) = match outcome {
                Ok(Outcome::Passed) => ("ok", ""),
                Ok(Outcome::Note(note)) => ("ok", note.as_str()),
                Err(_) => ("FAILED", ""),
            };
            let seconds = taken.as_secs_f64();
            let line = format!("{name:width$}  {seconds:6.1} s  {word:6}  {note}");
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

/// An error and its causes, a line each. A backtrace would say nothing of the command that failed.
pub(crate) fn chain(error: &Error) -> String {
    let lines: Vec<_> = error.chain().map(ToString::to_string).collect();
    lines.join("\n  because: ")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::{Outcome, Steps};

    #[test]
    fn every_step_runs_and_the_failed_one_is_named() {
        let mut steps = Steps::default();
        steps.run("first", || Err(anyhow!("broken")));
        steps.run("second", || Ok(Outcome::Note("by the way".to_owned())));
        steps.run("third", || Ok(Outcome::Passed));
        assert_eq!(steps.summary().lines().count(), 3);
        assert!(steps.summary().contains("by the way"));
        let error = steps.finish().unwrap_err().to_string();
        assert_eq!(error, "1 of 3 steps failed: first");
    }

    #[test]
    fn all_passed_is_no_error() {
        let mut steps = Steps::default();
        steps.run("only", || Ok(Outcome::Passed));
        assert!(steps.finish().is_ok());
    }
}
