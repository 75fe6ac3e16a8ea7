//! `cargo xtask simulate`: what breaks when edges and backends of a fleet come and go, drawn anew for
//! `docs/growing.md`.
//!
//! The simulation is a package of its own, which takes the balancer's own rings; a test of it compares the plots.

use anyhow::{Context as _, Result};

use crate::{setup, workspace};

/// What is simulated.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Other clients and failures than those of the documentation; the same seed makes the same plots.
    #[arg(long)]
    seed: Option<u64>,
    /// Where the plots are written.
    #[arg(long, default_value = "docs/simulation")]
    directory: String,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure()?;
    let shell = workspace::shell()?;
    let mut simulation = workspace::cargo(&shell)
        .args(["run", "--quiet", "--package", "evenkeel-simulation", "--", "--numbers"])
        .arg(&options.directory);
    if let Some(seed) = options.seed {
        simulation = simulation.arg("--seed").arg(seed.to_string());
    }
    simulation.run().context("simulate")
}
