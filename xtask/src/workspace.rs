//! Where the workspace is, and how its commands are started.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use xshell::{Cmd, Shell, cmd};

/// The root of the workspace.
pub(crate) fn root() -> Result<PathBuf> {
    // Asked of cargo at run time: a binary may outlive a move of its tree.
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = package.parent().context("xtask stands inside the workspace")?;
    Ok(root.to_owned())
}

/// A shell that stands at the root of the workspace.
pub(crate) fn shell() -> Result<Shell> {
    let shell = Shell::new()?;
    shell.change_dir(root()?);
    Ok(shell)
}

/// The cargo that started this program.
pub(crate) fn cargo(shell: &Shell) -> Cmd<'_> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    cmd!(shell, "{cargo}")
}

/// Whether cargo has the subcommand `name` (`cargo-name` on PATH or in cargo's home).
pub(crate) fn has_subcommand(shell: &Shell, name: &str) -> bool {
    cargo(shell).args([name, "--version"]).quiet().ignore_stderr().read().is_ok()
}

/// The directory that cargo builds in.
pub(crate) fn target_directory(shell: &Shell) -> Result<PathBuf> {
    let metadata = cargo(shell)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .quiet()
        .read()
        .context("ask cargo where it builds")?;
    let metadata: Value = serde_json::from_str(&metadata).context("read cargo's metadata")?;
    let directory = metadata["target_directory"].as_str().context("cargo names no directory")?;
    Ok(Path::new(directory).to_owned())
}
