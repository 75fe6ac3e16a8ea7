//! Finds a compiler for the BPF target and builds the XDP program with it.
//!
//! Two roads lead to such a compiler: Debian's packages, which carry a ready-made `core` for BPF, and
//! rustup's nightly with `rust-src`, which builds `core` itself. `lb-user`'s build script and
//! `cargo xtask` both come here, so that a program is built the same way by either. This crate
//! installs nothing (that is `cargo xtask setup`) and knows nothing of what the program does.

mod compile;
mod environment;
mod find;
mod missing;

use std::{fmt, path::PathBuf};

pub use compile::{Linted, Object};
pub use environment::scrub;
pub use find::{ROAD_VARIABLE, Surroundings};
pub use missing::{Missing, Piece};

/// The target triple that the program is compiled for.
pub const TARGET: &str = "bpfel-unknown-none";

/// Where a BPF compiler comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// Debian's `rustc-web`, with `core` for BPF as a package.
    Debian,
    /// rustup's nightly toolchain, which builds `core` from `rust-src`.
    Rustup,
}

impl fmt::Display for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debian => "Debian's packages",
            Self::Rustup => "rustup's nightly",
        })
    }
}

/// A complete set of tools that compiles for BPF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    road: Road,
    /// The compiler on Debian's road, `rustup` itself on the other.
    compiler: PathBuf,
    /// Cargo on Debian's road; unused on the other, where rustup chooses it.
    cargo: PathBuf,
    linker: PathBuf,
    /// `cargo-clippy` of the same release as the compiler, when there is one.
    clippy: Option<PathBuf>,
}

impl Toolchain {
    /// Finds a toolchain on this machine.
    ///
    /// Debian's road is tried first: it needs no nightly compiler. `EVENKEEL_BPF_ROAD` (`debian` or
    /// `rustup`) restricts the search to one road.
    ///
    /// # Errors
    /// What is missing, for each road, with the command that installs it.
    pub fn find() -> Result<Self, Missing> {
        Surroundings::of_this_process().find()
    }

    /// The road that this toolchain was found by.
    #[must_use]
    pub fn road(&self) -> Road {
        self.road
    }

    /// Whether the program can be linted for the BPF target itself.
    #[must_use]
    pub fn lints_for_bpf(&self) -> bool {
        self.clippy.is_some()
    }

    /// One line for a person: the road, the compiler and the linker.
    #[must_use]
    pub fn describe(&self) -> String {
        let compiler = match self.road {
            Road::Debian => format!("{} with a ready-made core", self.compiler.display()),
            Road::Rustup => "nightly building core from rust-src".to_owned(),
        };
        format!("{} ({compiler}; {})", self.road, self.linker.display())
    }

    /// The files whose replacement (an upgrade, say) calls for a new build of the program.
    #[must_use]
    pub fn inputs(&self) -> Vec<PathBuf> {
        vec![self.compiler.clone(), self.linker.clone()]
    }
}
