//! A terminal of a given size, in which programs are typed at and looked at: a tmux server of its own, with a
//! shell in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::{netns::succeeded, wait::eventually};

/// How long a screen may take to show something; a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal. Dropping it ends what runs in it.
#[derive(Debug)]
pub struct Tmux {
    directory: TempDir,
}

impl Tmux {
    /// A terminal of so many columns and rows, whose locale is of UTF-8.
    pub fn new(width: u16, height: u16) -> Result<Self> {
        let tmux = Self { directory: tempfile::Builder::new().prefix("evenkeel-tmux-").tempdir()? };
        let (width, height) = (width.to_string(), height.to_string());
        let size = ["-x", &width, "-y", &height];
        tmux.run(
            &[&["-f", "/dev/null", "new-session", "-d"][..], &size, &["env PS1='$ ' sh"]].concat(),
        )?;
        // What is typed before the shell reads is mixed up with its first prompt.
        tmux.await_text("$")?;
        Ok(tmux)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-u", "-S"]).arg(self.directory.path().join("socket")).args(arguments);
        // Whoever runs the tests may do so inside another one.
        command.env_remove("TMUX").env_remove("NO_COLOR");
        command.env("LC_ALL", "C.UTF-8").env("SHELL", "/bin/sh").env("TERM", "xterm-256color");
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output().context("run tmux")?;
        succeeded(&format!("tmux {}", arguments.join(" ")), output)
    }

    /// Types text as it is.
    pub fn text(&self, text: &str) -> Result<()> {
        self.run(&["send-keys", "-l", text]).map(drop)
    }

    /// Presses a key by tmux's name for it, such as `Enter` or `Down`.
    pub fn key(&self, key: &str) -> Result<()> {
        self.run(&["send-keys", key]).map(drop)
    }

    /// Types a line for the shell.
    pub fn line(&self, text: &str) -> Result<()> {
        self.text(text)?;
        self.key("Enter")
    }

    /// What is on the screen.
    pub fn screen(&self) -> Result<String> {
        self.run(&["capture-pane", "-p"])
    }

    /// The same with the sequences that set colours.
    pub fn coloured_screen(&self) -> Result<String> {
        self.run(&["capture-pane", "-p", "-e"])
    }

    /// Waits until the screen is as `is` wants it, and returns it.
    pub fn await_screen(&self, what: &str, is: impl Fn(&str) -> bool) -> Result<String> {
        eventually(what, PATIENCE, || {
            let screen = self.screen()?;
            ensure!(is(&screen), "the screen is\n{screen}");
            Ok(screen)
        })
    }

    /// Waits until text is on the screen.
    pub fn await_text(&self, text: &str) -> Result<String> {
        self.await_screen(&format!("{text:?} is shown"), |screen| screen.contains(text))
    }

    /// Gives the terminal another size.
    pub fn resize(&self, width: u16, height: u16) -> Result<()> {
        let (width, height) = (width.to_string(), height.to_string());
        self.run(&["resize-window", "-x", &width, "-y", &height]).map(drop)
    }

    /// One of tmux's variables, such as `cursor_flag`.
    pub fn variable(&self, name: &str) -> Result<String> {
        let value = self.run(&["display-message", "-p", &format!("#{{{name}}}")])?;
        Ok(value.trim_end().to_owned())
    }

    /// From now on, keeps every byte that programs write.
    pub fn record(&self) -> Result<PathBuf> {
        let path = self.directory.path().join("bytes");
        fs::write(&path, "")?;
        self.run(&["pipe-pane", &format!("cat >> {}", path.display())])?;
        Ok(path)
    }

    /// A directory that is gone with the terminal.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the screen ---\n{}---", self.screen().unwrap_or_default());
        }
        let _ = self.command(&["kill-server"]).output();
    }
}
