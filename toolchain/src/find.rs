//! The search for a toolchain: which files of which road are there.
//!
//! Files alone decide, so that a search takes no noticeable time; the one question to a program is
//! the version of Debian's compiler. Nothing is installed or changed here.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Missing, Piece, Road, TARGET, Toolchain};

/// The environment variable that restricts the search to one road.
pub const ROAD_VARIABLE: &str = "EVENKEEL_BPF_ROAD";

/// The places that are searched. A test makes its own.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The value of [`ROAD_VARIABLE`].
    pub road: Option<String>,
    /// The directory that holds Debian's `bin` and `lib`: `/usr`.
    pub usr: PathBuf,
    /// The directories of `PATH`.
    pub path: Vec<PathBuf>,
    /// Cargo's home, whose `bin` holds what `cargo install` installs.
    pub cargo_home: PathBuf,
    /// rustup's home, which holds its toolchains.
    pub rustup_home: PathBuf,
    /// Asks a compiler for its minor version (the 92 of 1.92).
    pub minor_version: fn(&Path) -> Option<u32>,
}

impl Surroundings {
    /// The places named by this process's environment.
    #[must_use]
    pub fn of_this_process() -> Self {
        let home = PathBuf::from(env::var_os("HOME").unwrap_or_else(|| OsString::from("/root")));
        let directory = |variable: &str, name: &str| {
            env::var_os(variable)
                .filter(|value| !value.is_empty())
                .map_or_else(|| home.join(name), PathBuf::from)
        };
        Self {
            road: env::var(ROAD_VARIABLE).ok().filter(|value| !value.is_empty()),
            usr: PathBuf::from("/usr"),
            path: env::var_os("PATH").iter().flat_map(env::split_paths).collect(),
            cargo_home: directory("CARGO_HOME", ".cargo"),
            rustup_home: directory("RUSTUP_HOME", ".rustup"),
            minor_version,
        }
    }

    /// Finds a toolchain in these places.
    ///
    /// # Errors
    /// What is missing, road by road.
    pub fn find(&self) -> Result<Toolchain, Missing> {
        let roads: &[Road] = match self.road.as_deref() {
            None => &[Road::Debian, Road::Rustup],
            Some("debian") => &[Road::Debian],
            Some("rustup") => &[Road::Rustup],
            Some(other) => {
                return Err(Missing { unknown_road: Some(other.to_owned()), roads: Vec::new() });
            }
        };
        let mut missing = Missing { unknown_road: None, roads: Vec::new() };
        for &road in roads {
            let found = match road {
                Road::Debian => self.debian(),
                Road::Rustup => self.rustup(),
            };
            match found {
                Ok(toolchain) => return Ok(toolchain),
                Err(pieces) => missing.roads.push((road, pieces)),
            }
        }
        Err(missing)
    }

    fn debian(&self) -> Result<Toolchain, Vec<Piece>> {
        let bin = self.usr.join("bin");
        let compiler = bin.join("rustc");
        let cargo = bin.join("cargo");
        let library = self.usr.join("lib/rustlib").join(TARGET).join("lib");
        let linker = self.program("bpf-linker");

        let mut missing = Vec::new();
        // Where rustup is a package, /usr/bin/rustc is its proxy and has no library for BPF beside it;
        // where the distribution's own compiler is old, a newer one has to be installed over it.
        if !compiler.is_file() || !is_recent((self.minor_version)(&compiler)) {
            missing.push(Piece::DebianCompiler);
        }
        if !cargo.is_file() {
            missing.push(Piece::DebianCargo);
        }
        if !holds(&library, "libcore-") {
            missing.push(Piece::DebianCore);
        }
        match linker {
            Some(linker) if missing.is_empty() => Ok(Toolchain {
                road: Road::Debian,
                compiler,
                cargo,
                linker,
                // Both halves must be Debian's: clippy reads libraries of its own release only.
                clippy: Some(bin.join("cargo-clippy"))
                    .filter(|clippy| clippy.is_file() && bin.join("clippy-driver").is_file()),
            }),
            Some(_) => Err(missing),
            None => {
                missing.push(Piece::Linker);
                Err(missing)
            }
        }
    }

    fn rustup(&self) -> Result<Toolchain, Vec<Piece>> {
        let rustup = self.program("rustup");
        let nightly = self.nightly();
        let linker = self.program("bpf-linker");

        let mut missing = Vec::new();
        if rustup.is_none() {
            missing.push(Piece::Rustup);
        }
        match &nightly {
            None => missing.push(Piece::Nightly),
            Some(root) if !root.join("lib/rustlib/src/rust/library/core").is_dir() => {
                missing.push(Piece::RustSource);
            }
            Some(_) => {}
        }
        match (rustup, linker) {
            (Some(rustup), Some(linker)) if missing.is_empty() => Ok(Toolchain {
                road: Road::Rustup,
                cargo: rustup.clone(),
                compiler: rustup,
                linker,
                // Nightly's clippy has lints that come and go: warnings denied would break by the day.
                clippy: None,
            }),
            (_, linker) => {
                if linker.is_none() {
                    missing.push(Piece::Linker);
                }
                Err(missing)
            }
        }
    }

    /// The toolchain that rustup calls `nightly`; a dated one has another name.
    fn nightly(&self) -> Option<PathBuf> {
        let names = fs::read_dir(self.rustup_home.join("toolchains")).ok()?;
        names.flatten().map(|entry| entry.path()).find(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_prefix("nightly-"))
                .is_some_and(|host| !host.starts_with(|c: char| c.is_ascii_digit()))
        })
    }

    /// A program on PATH, or installed by cargo. Absolute, since the build runs elsewhere.
    fn program(&self, name: &str) -> Option<PathBuf> {
        let installed = self.cargo_home.join("bin");
        self.path
            .iter()
            .chain([&installed])
            .map(|directory| directory.join(name))
            .find(|program| program.is_file())
            .and_then(|program| std::path::absolute(program).ok())
    }
}

/// Whether `directory` has a file whose name starts with `prefix`.
fn holds(directory: &Path, prefix: &str) -> bool {
    fs::read_dir(directory).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)))
    })
}

/// Whether a compiler of this minor version can build the workspace.
fn is_recent(minor: Option<u32>) -> bool {
    let needed = parse_minor(env!("CARGO_PKG_RUST_VERSION"));
    minor.is_some() && minor >= needed
}

fn minor_version(compiler: &Path) -> Option<u32> {
    let output = Command::new(compiler).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    parse_minor(text.strip_prefix("rustc ")?)
}

fn parse_minor(version: &str) -> Option<u32> {
    version.strip_prefix("1.")?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests;
