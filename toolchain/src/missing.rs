//! What a search for a toolchain did not find, and the commands that install it.
//!
//! Wording only: how things are looked for is `find`'s business.

use std::fmt;

use crate::Road;

/// Something that a road needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// `/usr/bin/rustc`, recent enough.
    DebianCompiler,
    /// `/usr/bin/cargo`.
    DebianCargo,
    /// The `core` library for BPF, in the compiler's sysroot.
    DebianCore,
    /// `rustup` itself.
    Rustup,
    /// rustup's nightly toolchain.
    Nightly,
    /// The library sources of that nightly.
    RustSource,
    /// `bpf-linker`, which turns LLVM bitcode into a BPF object.
    Linker,
}

impl Piece {
    /// What the piece is, for a person.
    fn name(self) -> &'static str {
        match self {
            Self::DebianCompiler => {
                concat!("/usr/bin/rustc, version ", env!("CARGO_PKG_RUST_VERSION"), " or later")
            }
            Self::DebianCargo => "/usr/bin/cargo",
            Self::DebianCore => "core for bpfel-unknown-none",
            Self::Rustup => "rustup",
            Self::Nightly => "rustup's nightly toolchain",
            Self::RustSource => "the rust-src component of nightly",
            Self::Linker => "bpf-linker",
        }
    }

    /// The command that installs the piece on `road`.
    fn remedy(self, road: Road) -> &'static str {
        match (self, road) {
            (Self::DebianCompiler, _) => "apt-get install rustc-web",
            (Self::DebianCargo, _) => "apt-get install cargo-web",
            (Self::DebianCore, _) => "apt-get install libstd-rust-web-dev-bpf",
            (Self::Rustup, _) => "see https://rustup.rs",
            (Self::Nightly, _) => "rustup toolchain install nightly --component rust-src",
            // Not `toolchain install`, which would replace the nightly that is there by a newer one.
            (Self::RustSource, _) => "rustup component add rust-src --toolchain nightly",
            (Self::Linker, Road::Debian) => {
                "apt-get install g++ llvm-22-dev zlib1g-dev libzstd-dev && \
                 LLVM_PREFIX=/usr/lib/llvm-22 RUSTC=/usr/bin/rustc /usr/bin/cargo install \
                 bpf-linker --locked --no-default-features --features llvm-22"
            }
            (Self::Linker, Road::Rustup) => {
                "cargo binstall bpf-linker (or unpack a release from \
                 https://github.com/aya-rs/bpf-linker/releases into ~/.cargo/bin)"
            }
        }
    }
}

/// Why no toolchain was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// A value of the road's variable that names no road.
    pub(crate) unknown_road: Option<String>,
    /// Every road that was tried, with the pieces it lacks.
    pub(crate) roads: Vec<(Road, Vec<Piece>)>,
}

impl Missing {
    /// The pieces that `road` lacks; empty when the road was not looked at.
    #[must_use]
    pub fn on(&self, road: Road) -> &[Piece] {
        self.roads.iter().find(|(of, _)| *of == road).map_or(&[], |(_, pieces)| pieces)
    }

    /// The one road that the search was restricted to, if it was.
    #[must_use]
    pub fn only_road(&self) -> Option<Road> {
        match self.roads.as_slice() {
            [(road, _)] => Some(*road),
            _ => None,
        }
    }

    /// The value of `EVENKEEL_BPF_ROAD`, when it names no road.
    #[must_use]
    pub fn unknown_road(&self) -> Option<&str> {
        self.unknown_road.as_deref()
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(value) = &self.unknown_road {
            return write!(
                f,
                "EVENKEEL_BPF_ROAD is `{value}`: set it to `debian` or `rustup`, or unset it"
            );
        }
        f.write_str("no compiler for the BPF target is complete on this machine")?;
        for (road, pieces) in &self.roads {
            write!(f, "\n  by {road}, missing:")?;
            for piece in pieces {
                write!(f, "\n    - {}: {}", piece.name(), piece.remedy(*road))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Missing {}
