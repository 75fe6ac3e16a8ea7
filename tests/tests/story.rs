//! The post-mortem's outage, played by `cargo xtask demo --story outage`: every claim on its screen is checked
//! by itself, so what is left to ask is whether it was told to the end, and nothing stayed behind.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::{path::PathBuf, process::Command};

/// `xtask`, which `cargo build` puts beside the binary under test.
fn xtask() -> PathBuf {
    let path = evenkeel_tests::evenkeel::binary().unwrap().with_file_name("xtask");
    assert!(path.is_file(), "no {}: run `cargo build --workspace --bins`", path.display());
    path
}

#[test]
fn the_outage_is_played_once_and_not_again() {
    let told = Command::new(xtask()).args(["demo", "--story", "outage"]).output().unwrap();
    let screen = String::from_utf8(told.stdout).unwrap();
    let errors = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{screen}\n{errors}");
    for says in [
        "every request returns 500",
        "refused (exit code 4), before anything changed",
        "a drain has to say for how long, and why",
        "nobody put it back: it returned by itself",
        "the same visitors, the same servers: the outage is not played twice",
        "nothing is left behind",
    ] {
        assert!(screen.contains(says), "it does not say {says:?}:\n{screen}");
    }
    assert!(!screen.contains("WRONG"), "{screen}");
}
