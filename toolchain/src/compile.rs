//! The nested cargo runs: compiling the program for BPF, and linting it.
//!
//! Each run has a target directory of its own, so that it never waits for the lock of the cargo that
//! started it.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{Road, TARGET, Toolchain, environment::scrub};

const PACKAGE: [&str; 2] = ["--package", "lb-ebpf"];

/// An object that `lb-ebpf` compiles to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// The XDP program itself.
    Program,
    /// The same with the maps' next layout, for the build that upgrades are tested with.
    NextProgram,
    /// The backends' program, which unwraps what the edges' tunnels carry.
    Decap,
    /// The benchmark's wrapper around it.
    Bench,
}

impl Object {
    const ALL: [Self; 3] = [Self::Program, Self::Decap, Self::Bench];

    /// The name of its binary in lb-ebpf's manifest.
    const fn name(self) -> &'static str {
        match self {
            Self::Program | Self::NextProgram => "evenkeel-ebpf",
            Self::Decap => "evenkeel-decap",
            Self::Bench => "evenkeel-bench",
        }
    }
}

/// What clippy compiled the program for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linted {
    /// The BPF target: the program exactly as it is built.
    ForBpf,
    /// The host, because no clippy of the BPF compiler's own release is installed.
    ForHost,
}

impl fmt::Display for Linted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ForBpf => "for BPF",
            Self::ForHost => "for the host",
        })
    }
}

impl Toolchain {
    /// Compiles `object` of the workspace at `workspace`, in release mode, under the directory
    /// `target`, and returns the path of the file.
    ///
    /// # Errors
    /// When cargo cannot be started or fails; its own messages are on stderr.
    pub fn build(&self, object: Object, workspace: &Path, target: &Path) -> Result<PathBuf> {
        let mut command = self.cargo();
        command.arg("build");
        self.for_bpf(&mut command, &[object], workspace, target);
        run(&mut command).context(match self.road {
            Road::Debian => "build the XDP program (lb-ebpf)",
            Road::Rustup => {
                "build the XDP program (lb-ebpf); where bpf-linker says `Invalid record`, its LLVM is \
                 older than nightly's: install a newer bpf-linker, or take Debian's road"
            }
        })?;

        let file = target.join(TARGET).join("release").join(object.name());
        if !file.is_file() {
            bail!("cargo succeeded but left no XDP program at {}", file.display());
        }
        Ok(file)
    }

    /// Lints every object with warnings denied, and says what for.
    ///
    /// With a clippy of the compiler's own release that is the BPF target. Otherwise it is the host,
    /// with the `cargo` of PATH: the same source, less the code that only BPF sees.
    ///
    /// # Errors
    /// When clippy cannot be started or finds something; its own messages are on stderr.
    pub fn clippy(&self, workspace: &Path, target: &Path) -> Result<Linted> {
        let linted = if self.clippy.is_some() { Linted::ForBpf } else { Linted::ForHost };
        let mut command = match &self.clippy {
            Some(clippy) => {
                // Started directly: `cargo clippy` would find the one of rustup first.
                let mut command = Command::new(clippy);
                scrub(&mut command);
                command.arg("clippy").env("CARGO", &self.cargo);
                self.for_bpf(&mut command, &Object::ALL, workspace, target);
                command
            }
            None => host_clippy(workspace, target),
        };
        if self.road == Road::Debian && linted == Linted::ForBpf {
            self.use_debian(&mut command);
        }
        command.args(["--", "-D", "warnings"]);
        run(&mut command).with_context(|| format!("lint the XDP program (lb-ebpf) {linted}"))?;
        Ok(linted)
    }

    /// The cargo of this toolchain, in an environment that nothing leaked into.
    fn cargo(&self) -> Command {
        match self.road {
            Road::Debian => {
                let mut command = Command::new(&self.cargo);
                scrub(&mut command);
                self.use_debian(&mut command);
                command
            }
            Road::Rustup => {
                let mut command = Command::new(&self.compiler);
                scrub(&mut command);
                command.args(["run", "nightly", "cargo"]);
                command
            }
        }
    }

    /// `RUSTC_BOOTSTRAP`: aya-ebpf uses an unstable feature, and this compiler is a stable one.
    fn use_debian(&self, command: &mut Command) {
        let rustdoc = self.compiler.with_file_name("rustdoc");
        command.env("RUSTC", &self.compiler).env("RUSTDOC", rustdoc).env("RUSTC_BOOTSTRAP", "1");
    }

    fn for_bpf(&self, command: &mut Command, objects: &[Object], workspace: &Path, target: &Path) {
        select(command, objects);
        command
            .args(["--release", "--locked", "--target", TARGET])
            .arg("--target-dir")
            .arg(target)
            .current_dir(workspace)
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&self.linker));
        if self.road == Road::Rustup {
            command.args(["-Z", "build-std=core"]);
        }
    }
}

fn select(command: &mut Command, objects: &[Object]) {
    let next = objects.contains(&Object::NextProgram);
    let features = if next { "program,next-layout" } else { "program" };
    command.args(PACKAGE).args(["--features", features]);
    for object in objects {
        command.args(["--bin", object.name()]);
    }
}

fn host_clippy(workspace: &Path, target: &Path) -> Command {
    let mut command = Command::new("cargo");
    scrub(&mut command);
    command.arg("clippy");
    select(&mut command, &Object::ALL);
    command
        .arg("--locked")
        .arg("--target-dir")
        .arg(target)
        .current_dir(workspace)
        .env("RUSTC_BOOTSTRAP", "1")
        // A program without std cannot unwind, and the host's default is to unwind.
        .env("CARGO_PROFILE_DEV_PANIC", "abort");
    // Here the outer choice of a compiler is meant.
    if let Some(chosen) = env::var_os("RUSTUP_TOOLCHAIN") {
        command.env("RUSTUP_TOOLCHAIN", chosen);
    }
    command
}

/// The compiler's flags, in cargo's encoding that lets a path hold spaces.
fn rustflags(linker: &Path) -> OsString {
    let mut choice = OsString::from("linker=");
    choice.push(linker);
    let flags: [&OsStr; 10] = [
        OsStr::new("-C"),
        &choice,
        // BTF is made out of the debug information.
        OsStr::new("-C"),
        OsStr::new("debuginfo=2"),
        OsStr::new("-C"),
        OsStr::new("link-arg=--btf"),
        // Atomic operations that return the old value: kernel 5.12 and later.
        OsStr::new("-C"),
        OsStr::new("target-cpu=v3"),
        // Headers are read by whole words, which x86-64 and arm64 do at any address.
        OsStr::new("-C"),
        OsStr::new("link-arg=--cpu-features=+allows-misaligned-mem-access"),
    ];
    flags.join(OsStr::new("\u{1f}"))
}

/// Runs `command`, its output on stderr: stdout may be a build script's, which cargo reads.
fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .with_context(|| format!("start {program}"))?;
    if !status.success() {
        bail!("{program} failed ({status})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::rustflags;

    #[test]
    fn a_linker_path_may_hold_spaces() {
        let flags = rustflags(Path::new("/home/a b/bpf-linker"));
        let flags: Vec<_> = flags.to_str().unwrap().split('\u{1f}').collect();
        assert_eq!(flags[..2], ["-C", "linker=/home/a b/bpf-linker"]);
        assert_eq!(flags.len() % 2, 0);
        assert!(flags.chunks(2).all(|pair| pair[0] == "-C"));
    }
}
