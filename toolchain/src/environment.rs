//! Which variables of the outer cargo a nested one must not see.
//!
//! A build script runs with its own package's variables, with the compiler that cargo chose for the
//! host and, under clippy, with a wrapper around it. Any of these would compile the BPF program with
//! the wrong compiler or the wrong flags.

use std::{env, process::Command};

/// Prefixes of variables that choose a compiler, its flags or its wrappers, or describe the build
/// that is under way. `rustup` passes `RUSTUP_TOOLCHAIN` on, and its `LD_LIBRARY_PATH` names another
/// compiler's libraries.
const FOREIGN: [&str; 6] = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "CLIPPY_", "DEP_"];
const FOREIGN_NAMES: [&str; 11] = [
    "RUSTUP_TOOLCHAIN",
    "RUST_RECURSION_COUNT",
    "LD_LIBRARY_PATH",
    "TARGET",
    "HOST",
    "OUT_DIR",
    "PROFILE",
    "OPT_LEVEL",
    "DEBUG",
    "NUM_JOBS",
    "SYSROOT",
];

/// Of cargo's variables, those that describe the user and the network rather than a build.
/// `CARGO_MAKEFLAGS` shares the outer cargo's job slots.
const KEPT: [&str; 7] = [
    "CARGO_HOME",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_HTTP_",
    "CARGO_REGISTR",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];

/// Clears from `command` what an outer cargo, rustup or clippy put into this process's environment.
///
/// Call it before setting variables of the command's own.
pub fn scrub(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_foreign) {
            command.env_remove(name);
        }
    }
}

fn is_foreign(name: &str) -> bool {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    FOREIGN_NAMES.contains(&name) || (starts(&FOREIGN) && !starts(&KEPT))
}

#[cfg(test)]
mod tests {
    use super::is_foreign;

    #[test]
    fn what_the_outer_build_sets_is_cleared() {
        for name in [
            "CARGO",
            "CARGO_MANIFEST_DIR",
            "CARGO_PKG_NAME",
            "CARGO_FEATURE_PROGRAM",
            "CARGO_CFG_TARGET_ARCH",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_TARGET_DIR",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTC_BOOTSTRAP",
            "RUSTDOC",
            "RUSTDOCFLAGS",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "CLIPPY_ARGS",
            "LD_LIBRARY_PATH",
            "TARGET",
            "OUT_DIR",
        ] {
            assert!(is_foreign(name), "{name} would leak");
        }
    }

    #[test]
    fn what_describes_the_user_stays() {
        for name in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "CARGO_MAKEFLAGS",
            "CARGO_NET_OFFLINE",
            "CARGO_HTTP_PROXY",
            "CARGO_REGISTRIES_CRATES_IO_PROTOCOL",
            "CARGO_TERM_COLOR",
            "RUSTUP_HOME",
            "RUST_BACKTRACE",
            "TARGETS_OF_MINE",
        ] {
            assert!(!is_foreign(name), "{name} would be lost");
        }
    }
}
