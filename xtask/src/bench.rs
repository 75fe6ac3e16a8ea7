//! `cargo xtask bench`: what a packet costs, how many requests a second go through, and what the
//! controller takes for many services.
//!
//! The measuring itself is a bench target of the tests' package, which knows the loader. What is
//! here builds all that it takes, optimised, and starts it.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use evenkeel_toolchain::Object;
use xshell::{Shell, cmd};

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
    /// Of the packets only those whose name contains this, like `NAT` or `new connection`.
    #[arg(long)]
    filter: Option<String>,
    /// Measure requests through haproxy, nginx stream and nftables too, in the same rounds.
    #[arg(long)]
    peers: bool,
}

/// What the peers need, by the file that shows that it is there, and the package that brings it.
const PEERS: [(&str, &str); 3] = [
    ("haproxy", "haproxy"),
    ("nft", "nftables"),
    // Debian's nginx balances connections by a module of its own.
    ("/usr/lib/nginx/modules/ngx_stream_module.so", "libnginx-mod-stream"),
];

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Packets,
    Requests,
    Scale,
    Observers,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Requests => "requests",
            Self::Scale => "scale",
            Self::Observers => "observers",
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    host::require_root("the measurements", "bench")?;
    let toolchain = setup::ensure()?;
    let shell = workspace::shell()?;
    test::ensure_programs(&shell)?;
    if options.peers {
        ensure_peers(&shell)?;
    }
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
    if let Some(part) = &options.filter {
        bench = bench.args(["--filter", part]);
    }
    if options.peers {
        bench = bench.arg("--peers");
    }
    if let Some(part) = options.only {
        bench = bench.args(["--only", part.name()]);
    }
    bench.run().context("measure")
}

/// Installs the peers that are missing, or says which packages to install.
fn ensure_peers(shell: &Shell) -> Result<()> {
    // A whole path is looked up as it is.
    let missing: Vec<_> = PEERS
        .iter()
        .filter(|(file, _)| !host::has_program(file))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !host::can_install() {
        bail!("the peers cannot run without packages to be installed: {}", missing.join(", "));
    }
    host::ensure_lists(shell)?;
    eprintln!("installing for the peers: {}", missing.join(" "));
    host::install(shell, &missing)?;
    if missing.contains(&"haproxy") && Path::new("/run/systemd/system").is_dir() {
        // Its package starts it; the bench starts its own.
        cmd!(shell, "systemctl disable --now haproxy")
            .run()
            .context("stop the balancer that its package started")?;
    }
    Ok(())
}
