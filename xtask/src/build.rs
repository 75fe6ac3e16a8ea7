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
