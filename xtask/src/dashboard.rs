//! What the dashboard takes from npm: its chart library for the build, and the browser's driver for the tests.
//!
//! `dashboard/package-lock.json` says which releases, by the digests of their contents; no package runs anything
//! when it is installed. The build reads the library in the target directory: a plain `cargo build` needs no npm.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use xshell::{Shell, cmd};

use crate::{host, workspace};

/// What a browser gets, in the package and as the build knows it.
const LIBRARY: [(&str, &str); 3] = [
    ("dist/uPlot.iife.min.js", "uplot.js"),
    ("dist/uPlot.min.css", "uplot.css"),
    ("LICENSE", "uplot-licence.txt"),
];

/// Installs what is missing, and puts the library where the build finds it.
///
/// # Errors
/// Where npm is missing and cannot be installed, or cannot fetch the packages.
pub(crate) fn ensure() -> Result<()> {
    let shell = workspace::shell()?;
    let dashboard = workspace::root()?.join("dashboard");
    let modules = dashboard.join("node_modules");
    if !is_current(&dashboard, &modules) {
        install(&shell, &dashboard)?;
    }
    let built = workspace::target_directory(&shell)?.join("dashboard");
    fs::create_dir_all(&built).with_context(|| format!("make {}", built.display()))?;
    for (from, to) in LIBRARY {
        copy_if_changed(&modules.join("uplot").join(from), &built.join(to))?;
    }
    Ok(())
}

/// Whether npm has installed what the lock file says: it leaves a copy of it.
fn is_current(dashboard: &Path, modules: &Path) -> bool {
    let written = |path: PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
    let installed = written(modules.join(".package-lock.json"));
    installed.is_some() && installed >= written(dashboard.join("package-lock.json"))
}

fn install(shell: &Shell, dashboard: &Path) -> Result<()> {
    if !host::has_program("npm") {
        ensure!(
            host::can_install(),
            "the dashboard's charts come from npm, which is not installed: `apt-get install npm` (or from \
             https://nodejs.org), then come back"
        );
        host::ensure_lists(shell)?;
        host::install(shell, &["nodejs", "npm"])?;
    }
    eprintln!("fetching what the dashboard takes from npm");
    let _directory = shell.push_dir(dashboard);
    cmd!(shell, "npm ci --no-audit --no-fund")
        .run()
        .context("fetch the dashboard's packages; by hand: cd dashboard && npm ci")
}

/// Leaves a file as it is that holds the same, so that nothing is built again for it.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let content = fs::read(from).with_context(|| format!("read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == content) {
        return Ok(());
    }
    fs::write(to, content).with_context(|| format!("write {}", to.display()))
}
