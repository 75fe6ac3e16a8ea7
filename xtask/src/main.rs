//! `cargo xtask`: the one door to building, checking, testing, showing and measuring Evenkeel.
//!
//! Arguments and exit codes are decided here; each verb has a file of its own, and CI calls the same
//! verbs as people do.

mod bench;
mod build;
mod check;
mod dashboard;
mod deb;
mod demo;
mod docs;
mod fuzz;
mod host;
mod setup;
mod simulate;
mod steps;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, checks, tests, shows and measures Evenkeel.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Find or install the compiler for the XDP program, and fetch the dashboard's charts.
    Setup,
    /// Build everything.
    Build {
        /// Optimise, as for a release.
        #[arg(long)]
        release: bool,
    },
    /// Make a Debian package.
    Deb(deb::Options),
    /// Check formatting, lints, documentation and dependencies.
    Check,
    /// Write the reference pages anew, and build the book.
    Docs(docs::Options),
    /// Run the tests; they need root.
    Test {
        /// Run only tests whose name contains one of these.
        filters: Vec<String>,
    },
    /// Show the balancer at work, in network namespaces of its own; needs root.
    Demo {
        /// Leave it running and say how to explore it.
        #[arg(long, conflicts_with = "story")]
        keep: bool,
        /// What is told.
        #[arg(long, value_enum, default_value = "crash")]
        story: demo::Tale,
    },
    /// What the story of the outage runs on each server.
    #[command(hide = true)]
    DemoShop {
        /// The server's name.
        name: String,
    },
    /// Measure the cost per packet and the requests per second; needs root.
    Bench(bench::Options),
    /// Send millions of broken frames and random sequences through the program; needs root.
    Fuzz(fuzz::Options),
    /// Simulate a fleet of edges whose edges and backends fail, and draw what breaks for the documentation.
    Simulate(simulate::Options),
    /// Boot other kernels and balance real traffic there; needs root.
    Vm(vm::Options),
    /// What `vm` runs inside the virtual machine.
    #[command(hide = true)]
    VmGuest {
        /// Run only scenarios whose name contains one of these.
        scenarios: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", steps::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(verb: &Verb) -> Result<()> {
    match verb {
        Verb::Setup => setup::run(),
        Verb::Build { release } => build::run(*release),
        Verb::Deb(options) => deb::run(options),
        Verb::Check => check::run(),
        Verb::Docs(options) => docs::run(options),
        Verb::Test { filters } => test::run(filters),
        Verb::Demo { keep, story } => demo::run(*keep, *story),
        Verb::DemoShop { name } => demo::shop(name),
        Verb::Bench(options) => bench::run(options),
        Verb::Fuzz(options) => fuzz::run(options),
        Verb::Simulate(options) => simulate::run(options),
        Verb::Vm(options) => vm::run(options),
        Verb::VmGuest { scenarios } => vm::run_guest(scenarios),
    }
}
