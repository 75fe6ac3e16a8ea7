//! `cargo xtask check`: everything that can be said about the tree without running it.

use anyhow::{Context as _, Result};
use evenkeel_toolchain::Toolchain;
use xshell::Shell;

use crate::{
    setup,
    steps::{
        Outcome::{self, Note, Passed},
        Steps,
    },
    workspace,
};

pub(crate) fn run() -> Result<()> {
    let toolchain = setup::ensure()?;
    let shell = workspace::shell()?;
    let cargo = || workspace::cargo(&shell);

    let mut steps = Steps::default();
    steps.run("format", || {
        cargo().args(["fmt", "--all", "--check"]).run().context("run `cargo fmt --all`")?;
        Ok(Passed)
    });
    steps.run("clippy", || {
        cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).run()?;
        Ok(Passed)
    });
    steps.run("clippy of the XDP program", || lint_program(&shell, &toolchain));
    steps.run("documentation", || {
        cargo()
            .args(["doc", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings")
            .run()?;
        Ok(Passed)
    });
    steps.run("licences, bans and sources", || {
        if !workspace::has_subcommand(&shell, "deny") {
            cargo()
                .args(["install", "cargo-deny", "--locked"])
                .run()
                .context("install cargo-deny")?;
        }
        cargo().args(["deny", "check", "licenses", "bans", "sources"]).run()?;
        Ok(Passed)
    });
    steps.run("advisories", || advisories(&shell));
    steps.finish()
}

fn lint_program(shell: &Shell, toolchain: &Toolchain) -> Result<Outcome> {
    // The same as lb-user's build script builds in, for the dependencies that both compile.
    let target = workspace::target_directory(shell)?.join("bpf");
    let linted = toolchain.clippy(&workspace::root()?, &target)?;
    Ok(Note(format!("linted {linted}")))
}

/// Fetching the database and reading it are apart, so that a missing network fails nothing.
fn advisories(shell: &Shell) -> Result<Outcome> {
    let deny = || workspace::cargo(shell).arg("deny");
    if deny().args(["fetch", "db"]).run().is_err() {
        return Ok(Note("NOT CHECKED: the advisory database cannot be fetched here".to_owned()));
    }
    deny().args(["check", "--disable-fetch", "advisories"]).run()?;
    Ok(Passed)
}
