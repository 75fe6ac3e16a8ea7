//! `cargo xtask vm`: Evenkeel on other kernels than this machine's.
//!
//! Boots Debian's cloud kernels in QEMU with an initramfs made here, and has real traffic balanced
//! inside. Here: the order of things, and what is told. What happens inside is in [`guest`], which is
//! this same program, run as the machine's only service. Nothing here knows the data path.

mod archive;
mod dependencies;
mod guest;
mod image;
mod kernel;
mod machine;
mod packages;
mod report;

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};
use clap::Args;

pub(crate) use self::guest::run as run_guest;
use self::{
    kernel::{Kernel, Series},
    machine::Machine,
};
use crate::{host, setup, test, workspace};

/// What to boot, and what to run there.
#[derive(Args)]
pub(crate) struct Options {
    /// Boot this kernel only; may be given again.
    #[arg(long, value_enum)]
    kernel: Vec<Series>,
    /// Test this binary instead of building one.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Run only scenarios whose name contains one of these.
    scenarios: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    host::require_root("the virtual machines", "vm")?;
    let shell = workspace::shell()?;
    let target = workspace::target_directory(&shell)?;
    let directory = target.join("vm");
    fs::create_dir_all(&directory)
        .with_context(|| format!("make directory {}", directory.display()))?;

    let binary = if let Some(binary) = &options.binary {
        binary.clone()
    } else {
        setup::ensure()?;
        eprintln!("==> building evenkeel");
        workspace::cargo(&shell)
            .args(["build", "--package", "lb-user", "--bin", "evenkeel"])
            .run()
            .context("build evenkeel")?;
        target.join("debug/evenkeel")
    };
    test::ensure_some(&shell, "the virtual machines", |program| program == "ip")?;
    let tools = packages::ensure_tools(&shell, &directory)?;
    let all = [Series::V6_1, Series::V6_12];
    let chosen = if options.kernel.is_empty() { &all[..] } else { &options.kernel };

    let mut machines = Vec::new();
    for &series in chosen {
        let kernel = Kernel::ensure(&shell, series, &directory)?;
        eprintln!("\n==> Linux {}", kernel.release);
        let machine = Machine {
            tools: &tools,
            kernel: &kernel,
            initramfs: directory.join(format!("initramfs-{series}.cpio")),
            log: directory.join(format!("serial-{series}.log")),
            results: directory.join(format!("results-{series}.jsonl")),
        };
        image::build(&shell, &kernel, &tools, &binary, &options.scenarios, &machine.initramfs)?;
        let start = Instant::now();
        let ran = machine.run(|scenario| eprintln!("{}", scenario.tell()));
        let log = machine.log.display();
        if !ran.passed() {
            eprintln!("--- the last lines of {log}\n{}\n---", machine.tail());
        }
        eprintln!("  {:.1} s; serial log: {log}", start.elapsed().as_secs_f64());
        machines.push(ran);
    }
    println!("\n{}", report::table(&machines));
    report::verdict(&machines)
}
