//! A real browser in a namespace: Chromium without a window, driven by `dashboard/test/driver.js`. It reaches
//! what the namespace reaches, and nothing else.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{
    netns::Namespace,
    wait::{PATIENCE, eventually},
};

/// A browser with one page. Dropping it ends it.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    /// `None` while it is being ended.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// What axe-core says of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accessibility {
    /// How many of its rules applied and were met.
    pub passed: u64,
    /// What it calls serious or critical, with the elements.
    pub serious: Vec<String>,
}

impl Browser {
    /// Starts one in `namespace`.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        let driver = dashboard().join("test/driver.js");
        ensure!(
            dashboard().join("node_modules/playwright-core").is_dir(),
            "no playwright-core in {}: run `cargo xtask setup`",
            dashboard().display()
        );
        let mut command = namespace.command("node");
        command.arg(driver).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut driver =
            command.spawn().context("start the browser's driver: is node installed?")?;
        let commands = driver.stdin.take();
        let answers = BufReader::new(driver.stdout.take().context("the driver says nothing")?);
        Ok(Self { driver, commands, answers })
    }

    /// Opens a page. Returns the HTTP status and the headers, by their names in lower case.
    pub fn open(&mut self, url: &str) -> Result<(u64, Value)> {
        let mut answer = self.ask(&json!(["open", url]))?;
        Ok((answer["status"].as_u64().context("no status")?, answer["headers"].take()))
    }

    /// What a JavaScript expression is in the page.
    pub fn evaluate(&mut self, script: &str) -> Result<Value> {
        self.ask(&json!(["evaluate", script]))
    }

    /// The text of the first element that a selector finds, as it is seen.
    pub fn text(&mut self, selector: &str) -> Result<String> {
        let script = format!("document.querySelector({selector:?})?.innerText ?? null");
        let text = self.evaluate(&script)?;
        Ok(text.as_str().with_context(|| format!("the page has no {selector}"))?.to_owned())
    }

    /// Waits until an expression is true in the page, which nobody loads again.
    pub fn until(&mut self, what: &str, script: &str) -> Result<()> {
        eventually(what, PATIENCE, || {
            let found = self.evaluate(script)?;
            ensure!(found == true, "{script} is {found}");
            Ok(())
        })
    }

    /// Clicks the first element that a selector finds.
    pub fn click(&mut self, selector: &str) -> Result<()> {
        self.ask(&json!(["click", selector])).map(drop)
    }

    /// Fills in a field.
    pub fn fill(&mut self, selector: &str, text: &str) -> Result<()> {
        self.ask(&json!(["fill", selector, text])).map(drop)
    }

    /// Chooses from a list.
    pub fn select(&mut self, selector: &str, value: &str) -> Result<()> {
        self.ask(&json!(["select", selector, value])).map(drop)
    }

    /// Presses a key, such as `Tab` or `Shift+Tab`.
    pub fn press(&mut self, key: &str) -> Result<()> {
        self.ask(&json!(["press", key])).map(drop)
    }

    /// Makes the window as large as this, in CSS pixels.
    pub fn resize(&mut self, width: u32, height: u32) -> Result<()> {
        self.ask(&json!(["size", width, height])).map(drop)
    }

    /// Has the system prefer `light` or `dark` colours, and no motion.
    pub fn prefer(&mut self, colours: &str) -> Result<()> {
        self.ask(&json!(["media", colours, "reduce"])).map(drop)
    }

    /// Writes a picture of the window, `NAME.png` in `screenshots` of the target directory, for people.
    pub fn picture(&mut self, name: &str) -> Result<()> {
        let own = std::env::current_exe().context("find this executable")?;
        let target = own.ancestors().nth(3).context("no target directory")?;
        let path = target.join("screenshots").join(format!("{name}.png"));
        self.ask(&json!(["screenshot", path])).map(drop)
    }

    /// Every address that the page has asked for.
    pub fn requests(&mut self) -> Result<Vec<String>> {
        strings(&self.ask(&json!(["requests"]))?)
    }

    /// What the page has complained of: exceptions, and errors on the console.
    pub fn errors(&mut self) -> Result<Vec<String>> {
        strings(&self.ask(&json!(["errors"]))?)
    }

    /// Examines the page as it is now.
    pub fn accessibility(&mut self) -> Result<Accessibility> {
        let found = self.ask(&json!(["accessibility"]))?;
        let passed = found["passed"].as_u64().context("axe-core tells nothing")?;
        Ok(Accessibility { passed, serious: strings(&found["serious"])? })
    }

    fn ask(&mut self, command: &Value) -> Result<Value> {
        let commands = self.commands.as_mut().context("the browser has ended")?;
        writeln!(commands, "{command}").context("tell the browser's driver")?;
        let mut line = String::new();
        if self.answers.read_line(&mut line).context("hear the browser's driver")? == 0 {
            bail!("the browser's driver ended; its last words are above");
        }
        let mut answer: Value = serde_json::from_str(&line).context("read the driver's answer")?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{command}: {error}");
        }
        Ok(answer["ok"].take())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // At the end of its input the driver ends the browser, and then itself.
        self.commands = None;
        let ended = eventually("the browser ends", PATIENCE, || {
            ensure!(self.driver.try_wait()?.is_some(), "it still runs");
            Ok(())
        });
        if ended.is_err() {
            let _ = self.driver.kill();
            let _ = self.driver.wait();
        }
    }
}

/// The directory of the dashboard's sources.
#[must_use]
pub fn dashboard() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboard")
}

fn strings(list: &Value) -> Result<Vec<String>> {
    let list = list.as_array().with_context(|| format!("no list: {list}"))?;
    Ok(list.iter().map(|text| text.as_str().unwrap_or_default().to_owned()).collect())
}
