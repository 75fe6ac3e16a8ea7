//! `cargo xtask build`: everything, with the program embedded.

use anyhow::{Context as _, Result};
use xshell::Shell;

use crate::{setup, workspace};

pub(crate) fn run(release: bool) -> Result<()> {
    setup::ensure()?;
    workspace_members(&workspace::shell()?, release)
}

/// Builds every member of the workspace.
pub(crate) fn workspace_members(shell: &Shell, release: bool) -> Result<()> {
    let profile = release.then_some("--release");
    workspace::cargo(shell)
        .args(["build", "--workspace"])
        .args(profile)
        .run()
        .context("build the workspace")
}

/// Builds `evenkeel-next` beside `evenkeel`: the same source with the maps' next layout, which tests
/// upgrade to. What it depends on is built already, as long as the whole workspace is selected.
pub(crate) fn next_version(shell: &Shell) -> Result<()> {
    workspace::cargo(shell)
        .args(["build", "--workspace", "--bin", "evenkeel-next"])
        .args(["--features", "lb-user/next-layout"])
        .run()
        .context("build the version that upgrades are tested with")
}
