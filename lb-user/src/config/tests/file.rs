//! The file on disk.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use crate::config::write_atomically;

#[test]
fn keeps_the_mode_and_leaves_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("evenkeel.toml");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let before = fs::metadata(&path).unwrap();
    write_atomically(&path, "new").unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(after.mode(), before.mode());
    assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
    assert_ne!(after.ino(), before.ino());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn writes_through_a_symbolic_link() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("real.toml");
    let link = directory.path().join("evenkeel.toml");
    fs::write(&target, "old").unwrap();
    symlink(&target, &link).unwrap();
    write_atomically(&link, "new").unwrap();
    assert!(link.is_symlink());
    assert_eq!(fs::read_to_string(&target).unwrap(), "new");
}

#[test]
fn makes_a_new_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("evenkeel.toml");
    write_atomically(&path, "new").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o600, 0o600);
}

#[test]
fn failures_name_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none/evenkeel.toml");
    let error = format!("{:#}", write_atomically(&path, "new").unwrap_err());
    assert!(error.contains("none/evenkeel.toml") && error.contains("create a file"), "{error}");
    let link = directory.path().join("dangling");
    symlink(directory.path().join("missing/file"), &link).unwrap();
    assert!(write_atomically(&link, "new").is_err());
    assert!(link.is_symlink());
}
