//! What the demo prints, and how: steps, claims, other programs' output, and a progress line and
//! colours where a person watches.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::interrupt::Interrupt;

/// How often a wait looks again. Each look may start a process.
const PAUSE: Duration = Duration::from_millis(20);
/// Long enough for a busy machine; a healthy run waits for a fraction of it.
const PATIENCE: Duration = Duration::from_secs(30);

const BOLD: &str = "1";
const GREEN: &str = "32";
const RED: &str = "31";
const DIM: &str = "2";

/// Back to the start of the line, and the line is empty.
const ERASE: &str = "\r\x1b[2K";

/// Standard output.
pub(super) struct Screen {
    is_terminal: bool,
    is_coloured: bool,
    start: Instant,
    step: u32,
    steps: u32,
    /// The progress line that stands there now.
    progress: String,
}

impl Screen {
    /// For a story of so many steps.
    pub(super) fn new(steps: u32) -> Self {
        let is_terminal = io::stdout().is_terminal();
        // https://no-color.org: any value that is not empty.
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            is_terminal,
            is_coloured: is_terminal && !refused,
            start: Instant::now(),
            step: 0,
            steps,
            progress: String::new(),
        }
    }

    /// A line as it is. The progress line gives way.
    pub(super) fn line(&mut self, text: &str) -> Result<()> {
        self.clear()?;
        write(&format!("{text}\n"))
    }

    /// Takes the progress line away.
    pub(super) fn clear(&mut self) -> Result<()> {
        if self.progress.is_empty() {
            return Ok(());
        }
        self.progress.clear();
        write(ERASE)
    }

    /// A line of good news.
    pub(super) fn good(&mut self, text: &str) -> Result<()> {
        let text = self.paint(GREEN, text);
        self.line(&text)
    }

    /// The next step begins.
    pub(super) fn step(&mut self, title: &str) -> Result<()> {
        self.step += 1;
        let heading = self.paint(BOLD, &format!("[{}/{}] {title}", self.step, self.steps));
        let seconds = self.start.elapsed().as_secs_f64();
        let clock = self.paint(DIM, &format!("(at {seconds:.1} s)"));
        self.line(&format!("\n{heading}  {clock}"))
    }

    /// What a program wrote, under the command that a person would have typed.
    pub(super) fn output(&mut self, command: &str, output: &str) -> Result<()> {
        let command = self.paint(DIM, &format!("$ {command}"));
        self.line(&format!("\n    {command}"))?;
        for line in output.lines() {
            let indented = format!("    {line}");
            self.line(indented.trim_end())?;
        }
        self.line("")
    }

    /// Something that the demo says is so, and whether it is.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn claim(&mut self, holds: bool, text: &str) -> Result<()> {
        if holds {
            let mark = self.paint(GREEN, "ok");
            return self.line(&format!("  {mark}  {text}"));
        }
        let mark = self.paint(RED, "WRONG");
        self.line(&format!("  {mark}  {text}"))?;
        bail!("this claim is not true: {text}")
    }

    /// Shows, on a terminal alone, what is going on.
    pub(super) fn progress(&mut self, text: &str) -> Result<()> {
        if !self.is_terminal || self.progress == text {
            return Ok(());
        }
        text.clone_into(&mut self.progress);
        write(&format!("{ERASE}  {}", self.paint(DIM, text)))
    }

    /// Waits until `attempt` says yes, and tells how long that took.
    pub(super) fn wait(
        &mut self,
        interrupt: &Interrupt,
        what: &str,
        mut attempt: impl FnMut() -> Result<bool>,
    ) -> Result<Duration> {
        let start = Instant::now();
        loop {
            interrupt.check()?;
            if attempt().with_context(|| format!("while waiting for {what}"))? {
                return Ok(start.elapsed());
            }
            ensure!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
            let seconds = start.elapsed().as_secs_f64();
            self.progress(&format!("waiting for {what}: {seconds:.1} s"))?;
            thread::sleep(PAUSE);
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.is_coloured { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn write(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to standard output")
}

/// A count with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
