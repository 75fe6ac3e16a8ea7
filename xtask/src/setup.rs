//! `cargo xtask setup`: finds the compiler for the XDP program, or installs one, like the compiler of Protocol
//! Buffers, and has the dashboard's charts fetched.
//!
//! What a complete toolchain is, the toolchain crate knows; here is how to come by one. Debian's road
//! is taken where its packages exist and we are root, rustup's everywhere else.

use anyhow::{Context as _, Result, anyhow, bail};
use evenkeel_toolchain::{Missing, Piece, Road, Toolchain, scrub};
use xshell::{Cmd, Shell, cmd};

use crate::{dashboard, host, workspace};

/// The compiler, and what `bpf-linker` is built from.
const DEBIAN_PACKAGES: [&str; 7] = [
    "rustc-web",
    "cargo-web",
    "libstd-rust-web-dev-bpf",
    "llvm-22-dev",
    "zlib1g-dev",
    "libzstd-dev",
    "g++",
];
const DEBIAN_CLIPPY: &str = "rust-web-clippy";

/// The release of `bpf-linker` that is known to work with these compilers.
const LINKER_VERSION: &str = "0.13.0";

pub(crate) fn run() -> Result<()> {
    let shell = workspace::shell()?;
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(missing) => install(&shell, &missing)?,
    };
    let toolchain = add_clippy(&shell, toolchain);
    ensure_protoc(&shell)?;
    println!("eBPF toolchain: {}", toolchain.describe());
    if !toolchain.lints_for_bpf() {
        println!("no clippy of the same release: the XDP program is linted for the host instead");
    }
    dashboard::ensure()
}

/// The toolchain, installed first when it is missing, like what the dashboard takes from npm.
pub(crate) fn ensure() -> Result<Toolchain> {
    dashboard::ensure()?;
    let shell = workspace::shell()?;
    ensure_protoc(&shell)?;
    match Toolchain::find() {
        Ok(toolchain) => Ok(toolchain),
        Err(missing) => Ok(add_clippy(&shell, install(&shell, &missing)?)),
    }
}

/// What the client of etcd is generated with: the compiler of Protocol Buffers, and the types that come with it. Debian has
/// them in a package of their own.
fn ensure_protoc(shell: &Shell) -> Result<()> {
    const PACKAGES: [&str; 2] = ["protobuf-compiler", "libprotobuf-dev"];
    let types = ["--descriptor_set_out=/dev/null", "google/protobuf/descriptor.proto"];
    let is_whole = || cmd!(shell, "protoc {types...}").quiet().ignore_stderr().run().is_ok();
    if std::env::var_os("PROTOC").is_some() || host::has_program("protoc") && is_whole() {
        return Ok(());
    }
    if !host::can_install() {
        bail!("protoc and its types are missing: install the packages {}", PACKAGES.join(", "));
    }
    eprintln!("installing {}: the client of etcd is generated with it", PACKAGES.join(" "));
    host::ensure_lists(shell)?;
    host::install(shell, &PACKAGES)
}

fn install(shell: &Shell, missing: &Missing) -> Result<Toolchain> {
    if missing.unknown_road().is_some() {
        bail!("{missing}");
    }
    eprintln!("{missing}\n");
    let road = match missing.only_road() {
        Some(road) => road,
        None if debian_is_open(shell, missing)? => Road::Debian,
        None => Road::Rustup,
    };
    eprintln!("taking the road by {road}");
    let lacks = |piece: Piece| missing.on(road).contains(&piece);
    match road {
        Road::Debian => {
            install_debian(shell, lacks(Piece::Linker))?;
        }
        Road::Rustup => {
            if lacks(Piece::Rustup) {
                bail!("rustup is not installed: install it from https://rustup.rs, then come back");
            }
            if lacks(Piece::Nightly) {
                install_nightly(shell)?;
            }
            if lacks(Piece::RustSource) {
                add_sources(shell)?;
            }
            if lacks(Piece::Linker) {
                install_linker(shell)?;
            }
        }
    }
    Toolchain::find().map_err(|missing| {
        anyhow!("the installation went through, yet something is missing.\n{missing}")
    })
}

/// Whether Debian's road can be gone: we may install packages, and they exist.
fn debian_is_open(shell: &Shell, missing: &Missing) -> Result<bool> {
    if missing.on(Road::Debian) == [Piece::Linker] && host::has_program("llvm-config-22") {
        return Ok(true);
    }
    if !host::can_install() {
        return Ok(false);
    }
    host::are_available(shell, &DEBIAN_PACKAGES)
}

fn install_debian(shell: &Shell, linker: bool) -> Result<()> {
    if host::can_install() {
        host::ensure_lists(shell)?;
        host::install(shell, &DEBIAN_PACKAGES)?;
    } else {
        eprintln!("packages cannot be installed here (that takes root and apt-get)");
    }
    if !linker {
        return Ok(());
    }
    eprintln!("building bpf-linker; this takes a minute or two");
    let features = ["--no-default-features", "--features", "llvm-22"];
    clean(cmd!(
        shell,
        "/usr/bin/cargo install bpf-linker --version {LINKER_VERSION} --locked {features...}"
    ))
    .env("LLVM_PREFIX", "/usr/lib/llvm-22")
    .env("RUSTC", "/usr/bin/rustc")
    .run()
    .context("build bpf-linker with Debian's compiler")
}

/// Clippy is a convenience: without it the program is linted for the host.
fn add_clippy(shell: &Shell, toolchain: Toolchain) -> Toolchain {
    let wanted = toolchain.road() == Road::Debian && !toolchain.lints_for_bpf();
    if !wanted || !host::can_install() || !host::is_available(shell, DEBIAN_CLIPPY) {
        return toolchain;
    }
    if let Err(error) = host::install(shell, &[DEBIAN_CLIPPY]) {
        eprintln!("warning: {error:#}");
    }
    Toolchain::find().unwrap_or(toolchain)
}

fn install_nightly(shell: &Shell) -> Result<()> {
    let minimal = ["--profile", "minimal", "--component", "rust-src"];
    cmd!(shell, "rustup toolchain install nightly {minimal...}").run().context(
        "install nightly with rust-src; by hand: \
         rustup toolchain install nightly --component rust-src",
    )
}

/// Only the component: `toolchain install` would replace the nightly of a person who chose it.
fn add_sources(shell: &Shell) -> Result<()> {
    cmd!(shell, "rustup component add rust-src --toolchain nightly").run().context(
        "add rust-src to nightly; when that nightly is too old to get it any more, update it by \
         hand: rustup toolchain install nightly --component rust-src",
    )
}

/// By `cargo binstall`, where a person has chosen to use it; else from source, which takes an LLVM.
///
/// No archive is fetched and unpacked here: nothing would vouch for what is in it.
fn install_linker(shell: &Shell) -> Result<()> {
    if workspace::has_subcommand(shell, "binstall") {
        let package = format!("bpf-linker@{LINKER_VERSION}");
        if cmd!(shell, "cargo binstall --no-confirm {package}").run().is_ok() {
            return Ok(());
        }
        eprintln!("warning: cargo binstall failed");
    }
    eprintln!("building bpf-linker from source; this takes some minutes");
    clean(cmd!(shell, "cargo install bpf-linker --version {LINKER_VERSION} --locked"))
        .run()
        .with_context(|| {
            format!(
                "build bpf-linker (it needs LLVM's development files and a C++ compiler); by \
                 hand: `cargo binstall bpf-linker@{LINKER_VERSION}`, or put the binary of release \
                 {LINKER_VERSION} from https://github.com/aya-rs/bpf-linker/releases into \
                 ~/.cargo/bin"
            )
        })
}

/// The same command, without what the outer cargo put into the environment.
fn clean(command: Cmd<'_>) -> Cmd<'_> {
    let mut probe = std::process::Command::new("true");
    scrub(&mut probe);
    let removed: Vec<_> = probe.get_envs().map(|(name, _)| name.to_owned()).collect();
    removed.into_iter().fold(command, Cmd::env_remove)
}
