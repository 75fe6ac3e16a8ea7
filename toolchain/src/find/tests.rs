//! Searches in made-up directories: what is found, what is missing, what is preferred.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use super::{Surroundings, parse_minor};
use crate::{Piece, Road};

/// A directory of its own for each test, removed at its end.
struct Machine(PathBuf);

impl Machine {
    fn with(files: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir()
            .join(format!("evenkeel-toolchain-{}-{number}", std::process::id()));
        for file in files {
            let file = root.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        Self(root)
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings {
            road: None,
            usr: self.0.join("usr"),
            path: vec![self.0.join("path")],
            cargo_home: self.0.join("cargo"),
            rustup_home: self.0.join("rustup"),
            minor_version: |_: &Path| Some(96),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A machine without files was never made.
        let _ = fs::remove_dir_all(&self.0);
    }
}

const DEBIAN: [&str; 3] = [
    "usr/bin/rustc",
    "usr/bin/cargo",
    "usr/lib/rustlib/bpfel-unknown-none/lib/libcore-26cf2a22d7b31f71.rlib",
];
const RUSTUP: [&str; 2] = [
    "cargo/bin/rustup",
    "rustup/toolchains/nightly-x86_64-unknown-linux-gnu/lib/rustlib/src/rust/library/core/lib.rs",
];

#[test]
fn debian_is_preferred_and_the_linker_is_found_in_cargo_home() {
    let machine = Machine::with(&[&DEBIAN[..], &RUSTUP, &["cargo/bin/bpf-linker"]].concat());
    let found = machine.surroundings().find().unwrap();
    assert_eq!(found.road, Road::Debian);
    assert_eq!(found.linker, machine.0.join("cargo/bin/bpf-linker"));
    assert!(!found.lints_for_bpf());
}

#[test]
fn the_linker_on_path_comes_first() {
    let files = [&DEBIAN[..], &["cargo/bin/bpf-linker", "path/bpf-linker"]].concat();
    let machine = Machine::with(&files);
    assert_eq!(machine.surroundings().find().unwrap().linker, machine.0.join("path/bpf-linker"));
}

#[test]
fn clippy_needs_its_driver() {
    let files = [&DEBIAN[..], &["path/bpf-linker", "usr/bin/cargo-clippy"]].concat();
    assert!(!Machine::with(&files).surroundings().find().unwrap().lints_for_bpf());
    let files = [&files[..], &["usr/bin/clippy-driver"]].concat();
    assert!(Machine::with(&files).surroundings().find().unwrap().lints_for_bpf());
}

#[test]
fn rustup_serves_where_debian_has_no_core() {
    let machine = Machine::with(&[&DEBIAN[..2], &RUSTUP, &["path/bpf-linker"]].concat());
    assert_eq!(machine.surroundings().find().unwrap().road, Road::Rustup);
}

#[test]
fn an_old_compiler_of_debian_does_not_serve() {
    let machine = Machine::with(&[&DEBIAN[..], &RUSTUP, &["path/bpf-linker"]].concat());
    let old = Surroundings { minor_version: |_| Some(85), ..machine.surroundings() };
    assert_eq!(old.find().unwrap().road, Road::Rustup);
}

#[test]
fn the_variable_restricts_the_search() {
    let machine = Machine::with(&[&DEBIAN[..], &RUSTUP, &["path/bpf-linker"]].concat());
    let on = |road: &str| Surroundings { road: Some(road.to_owned()), ..machine.surroundings() };
    assert_eq!(on("rustup").find().unwrap().road, Road::Rustup);
    assert_eq!(on("debian").find().unwrap().road, Road::Debian);
    let refused = on("gentoo").find().unwrap_err();
    assert_eq!(refused.unknown_road(), Some("gentoo"));
    assert!(refused.to_string().contains("`gentoo`"));
}

#[test]
fn an_empty_machine_lacks_everything_on_both_roads() {
    let missing = Machine::with(&[]).surroundings().find().unwrap_err();
    assert_eq!(
        missing.on(Road::Debian),
        [Piece::DebianCompiler, Piece::DebianCargo, Piece::DebianCore, Piece::Linker]
    );
    assert_eq!(missing.on(Road::Rustup), [Piece::Rustup, Piece::Nightly, Piece::Linker]);
    assert_eq!(missing.only_road(), None);
    let text = missing.to_string();
    assert!(text.contains("apt-get install libstd-rust-web-dev-bpf"), "{text}");
    assert!(text.contains("rustup toolchain install nightly --component rust-src"), "{text}");
}

#[test]
fn a_dated_nightly_is_not_nightly_and_sources_are_asked_for() {
    let dated = "rustup/toolchains/nightly-2026-01-01-x86_64-unknown-linux-gnu/bin/rustc";
    let machine = Machine::with(&["path/rustup", "path/bpf-linker", dated]);
    let missing = machine.surroundings().find().unwrap_err();
    assert_eq!(missing.on(Road::Rustup), [Piece::Nightly]);

    let bare = "rustup/toolchains/nightly-x86_64-unknown-linux-gnu/bin/rustc";
    let machine = Machine::with(&["path/rustup", "path/bpf-linker", bare]);
    let missing = machine.surroundings().find().unwrap_err();
    assert_eq!(missing.on(Road::Rustup), [Piece::RustSource]);
    let text = missing.to_string();
    assert!(text.contains("rustup component add rust-src --toolchain nightly"), "{text}");
    assert!(!text.contains("toolchain install"), "an installed nightly is left as it is: {text}");
}

#[test]
fn versions_are_read() {
    assert_eq!(parse_minor("1.96.0 (ac68faa20 2026-05-25)"), Some(96));
    assert_eq!(parse_minor("1.92"), Some(92));
    assert_eq!(parse_minor("2.0"), None);
}
