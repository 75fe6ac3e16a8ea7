//! `cargo xtask bench`: what a packet costs, and how many requests a second go through.
//!
//! The measuring itself is a bench target of the tests' package, which knows the loader. What is
//! here builds all that it takes, optimised, and starts it.

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use evenkeel_toolchain::Object;

use crate::{host, setup, test, workspace};

/// What to measure, and how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Fewer and shorter rounds, for a look.
    #[arg(long)]
    quick: bool,
    /// Measure one part only.
    #[arg(long)]
    only: Option<Part>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Packets,
    Requests,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Requests => "requests",
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    host::require_root("the measurements", "bench")?;
    let toolchain = setup::ensure()?;
    let shell = workspace::shell()?;
    test::ensure_programs(&shell)?;
    host::ensure_bpffs(&shell)?;

    let target = workspace::target_directory(&shell)?;
    let wrapper = toolchain.build(Object::Bench, &workspace::root()?, &target.join("bpf"))?;
    let cargo = || workspace::cargo(&shell);
    let build = cargo().args(["build", "--release", "--package", "lb-user", "--bin", "evenkeel"]);
    build.run().context("build evenkeel, optimised")?;

    let mut bench = cargo()
        .args(["bench", "--package", "evenkeel-tests", "--bench", "bench", "--"])
        .arg("--json")
        .arg(target.join("bench.json"))
        .arg("--wrapper")
        .arg(wrapper)
        .env("EVENKEEL_BIN", target.join("release/evenkeel"));
    if options.quick {
        bench = bench.arg("--quick");
    }
    if let Some(part) = options.only {
        bench = bench.args(["--only", part.name()]);
    }
    bench.run().context("measure")
}
