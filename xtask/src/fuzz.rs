//! `cargo xtask fuzz`: the storm of broken frames and the random sequences, more of them than
//! `cargo xtask test` has time for. For the night.

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{host, setup, workspace};

/// How much, and which.
#[derive(Args)]
pub(crate) struct Options {
    /// Broken frames.
    #[arg(long, default_value_t = 10_000_000)]
    frames: u64,
    /// Random sequences of packets and changes.
    #[arg(long, default_value_t = 20_000)]
    sequences: u64,
    /// What the random numbers begin with; the same seed sends the same frames.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    host::require_root("the fuzzer", "fuzz")?;
    setup::ensure()?;
    let shell = workspace::shell()?;
    host::ensure_bpffs(&shell)?;
    let Options { frames, sequences, seed } = options;
    // Optimised: most of the time is the model's and the generator's.
    workspace::cargo(&shell)
        .args(["test", "--release", "--package", "evenkeel-tests", "--test", "reference"])
        .args(["--", "--nocapture", "--test-threads", "1"])
        .env("EVENKEEL_FRAMES", frames.to_string())
        .env("EVENKEEL_SEQUENCES", sequences.to_string())
        .env("EVENKEEL_SEED", seed.to_string())
        .run()
        .with_context(|| format!("seed {seed} found something; the frame or the case is above"))
}
