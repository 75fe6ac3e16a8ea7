//! Builds the XDP programs and tells `lb-user` where the objects are, in `EVENKEEL_PROGRAM` and
//! `EVENKEEL_DECAP`; and where the dashboard's chart library is, in `EVENKEEL_UPLOT_*`.
//!
//! How a program is compiled is the toolchain crate's business; this script only says what the object
//! depends on, so that a binary never embeds a stale program.
//!
//! The library comes from npm, and nothing is fetched here: `cargo xtask` puts it into the target directory.
//! Where it is not there, as on a machine without npm, the dashboard is built without charts, and says so.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, anyhow};
use evenkeel_toolchain::{Object, ROAD_VARIABLE, Toolchain};

/// What the program is made of, relative to the workspace. Cargo looks into directories.
const SOURCES: [&str; 4] = ["Cargo.toml", "Cargo.lock", "lb-ebpf", "lb-common"];

/// What is built, the file's name, and the variable that tells where it is.
const OBJECTS: [(Object, &str, &str); 2] = [
    (Object::Program, "evenkeel-ebpf.o", "EVENKEEL_PROGRAM"),
    (Object::Decap, "evenkeel-decap.o", "EVENKEEL_DECAP"),
];

/// The chart library's files, as `cargo xtask setup` names them, and the variables that tell where they are.
const LIBRARY: [(&str, &str); 3] = [
    ("uplot.js", "EVENKEEL_UPLOT_JS"),
    ("uplot.css", "EVENKEEL_UPLOT_CSS"),
    ("uplot-licence.txt", "EVENKEEL_UPLOT_LICENCE"),
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a backtrace: what failed is a command, and it has spoken already.
            let causes: Vec<_> = error.chain().map(ToString::to_string).collect();
            eprintln!("error: {}", causes.join("\n  because: "));
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    let workspace = directory("CARGO_MANIFEST_DIR")?;
    let workspace = workspace.parent().context("lb-user stands inside the workspace")?;
    let out = directory("OUT_DIR")?;
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    println!("cargo::rerun-if-env-changed={ROAD_VARIABLE}");

    let toolchain = Toolchain::find().map_err(|missing| {
        anyhow!(
            "the XDP program cannot be built: run `cargo xtask setup`, which installs what is \
             missing.\n{missing}"
        )
    })?;
    for input in toolchain.inputs() {
        println!("cargo::rerun-if-changed={}", input.display());
    }
    // As cargo tells build scripts of a feature.
    let next = env::var_os("CARGO_FEATURE_NEXT_LAYOUT").is_some();
    for (object, name, variable) in OBJECTS {
        let object = if next && object == Object::Program { Object::NextProgram } else { object };
        let built = toolchain.build(object, workspace, &nested_target(&out))?;
        let file = out.join(name);
        copy_if_changed(&built, &file)?;
        println!("cargo::rustc-env={variable}={}", file.display());
    }
    charts(&out)
}

/// Hands on the chart library, or empty files in its place.
fn charts(out: &Path) -> Result<()> {
    let directory = outer_target(out).join("dashboard");
    // Watched as a whole, and so it has to be there: for a path that is missing cargo would build each time.
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    println!("cargo::rerun-if-changed={}", directory.display());
    let complete = LIBRARY.iter().all(|(name, _)| directory.join(name).is_file());
    if !complete {
        println!(
            "cargo::warning=the dashboard is built without charts: `cargo xtask setup` fetches their library \
             (it needs npm)"
        );
    }
    for (name, variable) in LIBRARY {
        let content = if complete { read(&directory.join(name))? } else { Vec::new() };
        let file = out.join(name);
        write_if_changed(&content, &file)?;
        println!("cargo::rustc-env={variable}={}", file.display());
    }
    Ok(())
}

/// `bpf` in the outer build's target directory, which `cargo xtask check` lints in too: what the
/// program depends on is compiled once for all profiles.
fn nested_target(out: &Path) -> PathBuf {
    outer_target(out).join("bpf")
}

/// The outer build's target directory.
fn outer_target(out: &Path) -> &Path {
    // Cargo marks its target directory with this file.
    let marked = |directory: &&Path| directory.join("CACHEDIR.TAG").is_file();
    out.ancestors().find(marked).unwrap_or(out)
}

fn directory(variable: &str) -> Result<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .with_context(|| format!("{variable} is not set: this program is run by cargo"))
}

fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    write_if_changed(&read(from)?, to)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("read {}", file.display()))
}

/// Leaves the file as it is when it holds the same bytes, so that nothing is compiled again for it.
fn write_if_changed(content: &[u8], to: &Path) -> Result<()> {
    if fs::read(to).is_ok_and(|old| old == content) {
        return Ok(());
    }
    fs::write(to, content).with_context(|| format!("write {}", to.display()))
}
