//! `cargo xtask bench`: what a packet costs.

use anyhow::{Result, bail};

pub(crate) fn run() -> Result<()> {
    bail!("the benchmark is not built yet")
}
