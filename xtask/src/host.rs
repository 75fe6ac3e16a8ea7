//! The machine that the verbs run on: whose rights we have, and what its packages are.

use std::{
    env, fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    // The owner of a process's directory in /proc is its effective user.
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Whether `program` can be started by its name.
pub(crate) fn has_program(program: &str) -> bool {
    find_program(program).is_some()
}

/// Where `program` is.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    // Administrators' tools are not on every PATH.
    let administrators = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::var_os("PATH")
        .iter()
        .flat_map(env::split_paths)
        .chain(administrators)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// Whether packages can be installed here without asking anyone.
pub(crate) fn can_install() -> bool {
    is_root() && has_program("apt-get")
}

/// Fetches the lists of packages, when this machine has none yet.
pub(crate) fn ensure_lists(shell: &Shell) -> Result<()> {
    let listed = fs::read_dir("/var/lib/apt/lists").is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    });
    if listed { Ok(()) } else { update_lists(shell) }
}

pub(crate) fn update_lists(shell: &Shell) -> Result<()> {
    cmd!(shell, "apt-get -qq update").run().context("fetch the lists of packages")
}

/// Whether the lists of packages know `package`.
pub(crate) fn is_available(shell: &Shell, package: &str) -> bool {
    let policy = cmd!(shell, "apt-cache policy {package}").quiet().ignore_stderr().read();
    policy.is_ok_and(|policy| {
        policy.lines().any(|line| {
            line.trim().strip_prefix("Candidate:").is_some_and(|version| version.trim() != "(none)")
        })
    })
}

/// Whether all of `packages` can be had. Lists that lack one may only be old: they are fetched anew
/// before it counts as not to be had.
pub(crate) fn are_available(shell: &Shell, packages: &[&str]) -> Result<bool> {
    let all = || packages.iter().all(|package| is_available(shell, package));
    ensure_lists(shell)?;
    if all() {
        return Ok(true);
    }
    if let Err(error) = update_lists(shell) {
        eprintln!("warning: {error:#}");
        return Ok(false);
    }
    Ok(all())
}

/// Installs `packages`. Nothing that is installed is removed for them: a conflict is an error.
pub(crate) fn install(shell: &Shell, packages: &[&str]) -> Result<()> {
    let attempt = || {
        cmd!(shell, "apt-get install -qq -y --no-install-recommends --no-remove {packages...}")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .run()
    };
    if attempt().is_ok() {
        return Ok(());
    }
    // Lists that are older than the archive name files that are gone.
    update_lists(shell)?;
    attempt().with_context(|| {
        format!("install packages; try by hand: apt-get install {}", packages.join(" "))
    })
}

/// Installs `packages` and has none of them start a service: they are asked for their programs.
pub(crate) fn install_without_starting(shell: &Shell, packages: &[&str]) -> Result<()> {
    let _policy = Policy::forbid_starts()?;
    install(shell, packages)
}

/// What packages ask before they start a service (policy-rc.d of Debian). Dropping it takes it away.
struct Policy {
    is_ours: bool,
}

impl Policy {
    const PATH: &str = "/usr/sbin/policy-rc.d";

    fn forbid_starts() -> Result<Self> {
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o755);
        match options.open(Self::PATH) {
            // 101: the action is not allowed.
            Ok(mut file) => {
                let policy = Self { is_ours: true };
                file.write_all(b"#!/bin/sh\nexit 101\n")
                    .with_context(|| format!("write {}", Self::PATH))?;
                Ok(policy)
            }
            // Whoever wrote it had a reason.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Self { is_ours: false }),
            Err(error) => Err(error).with_context(|| format!("write {}", Self::PATH)),
        }
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = fs::remove_file(Self::PATH)
        {
            eprintln!("warning: cannot remove {}: {error}; remove it by hand", Self::PATH);
        }
    }
}

/// Refuses to go on without root, and says how to come back with it.
///
/// `what` is what needs root, and `verb` is what to call again.
pub(crate) fn require_root(what: &str, verb: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    bail!(
        "{what} cannot run without root: it takes network namespaces and programs loaded into the \
         kernel; run \
         `sudo --preserve-env=PATH,HOME cargo xtask {verb}`"
    )
}

/// Makes sure that a BPF file system is mounted where pins go by default.
pub(crate) fn ensure_bpffs(shell: &Shell) -> Result<()> {
    const POINT: &str = "/sys/fs/bpf";
    let mounts = fs::read_to_string("/proc/mounts").context("read /proc/mounts")?;
    let mounted = mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some(POINT) && words.next() == Some("bpf")
    });
    if mounted {
        return Ok(());
    }
    cmd!(shell, "mount -t bpf bpf {POINT}")
        .run()
        .with_context(|| format!("mount a BPF file system on {POINT}"))
}
