//! Debian packages that are unpacked below `target/vm` and installed nowhere: the machine's own
//! packages stay as they are.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use xshell::{Shell, cmd};

use crate::host;

/// Emulates the machine.
const QEMU: &str = "qemu-system-x86_64";
const QEMU_PACKAGE: &str = "qemu-system-x86";
/// The small tools inside it.
const BUSYBOX_PACKAGE: &str = "busybox-static";
/// What is called on this machine, and the packages that bring it.
const PROGRAMS: [(&str, &str); 3] =
    [("xz", "xz-utils"), ("strip", "binutils"), ("setpriv", "util-linux")];
/// Where Debian's packages keep shared libraries, relative to the root they are unpacked in.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// The programs that it takes.
pub(super) struct Tools {
    /// QEMU's binary.
    pub(super) qemu: PathBuf,
    /// Where QEMU was unpacked, unless it is installed.
    qemu_root: Option<PathBuf>,
    /// A busybox that needs no libraries.
    pub(super) busybox: PathBuf,
}

impl Tools {
    /// What QEMU needs in its environment to find its libraries and modules.
    pub(super) fn qemu_environment(&self) -> Vec<(&'static str, String)> {
        let Some(root) = &self.qemu_root else { return Vec::new() };
        let libraries = LIBRARIES.map(|directory| root.join(directory).display().to_string());
        let modules = format!("{}/qemu", libraries[0]);
        vec![("LD_LIBRARY_PATH", libraries.join(":")), ("QEMU_MODULE_DIR", modules)]
    }

    /// What QEMU needs to be told to find its firmware.
    pub(super) fn qemu_arguments(&self) -> Vec<String> {
        let Some(root) = &self.qemu_root else { return Vec::new() };
        let directories = ["usr/share/seabios", "usr/share/qemu"];
        directories
            .iter()
            .flat_map(|directory| ["-L".to_owned(), root.join(directory).display().to_string()])
            .collect()
    }
}

/// Finds QEMU and busybox, or unpacks them below `directory`.
pub(super) fn ensure_tools(shell: &Shell, directory: &Path) -> Result<Tools> {
    for (program, package) in PROGRAMS {
        if !host::has_program(program) {
            ensure!(
                host::can_install(),
                "the virtual machines cannot be made without {program} (package {package})"
            );
            eprintln!("installing for the virtual machines: {package}");
            host::install(shell, &[package])?;
        }
    }
    let (qemu, qemu_root) = if let Some(installed) = host::find_program(QEMU) {
        (installed, None)
    } else {
        let root = directory.join("qemu");
        if !root.is_dir() {
            // Everything that an installation would bring: its libraries, its firmware.
            let packages = would_install(shell, QEMU_PACKAGE)?;
            eprintln!("unpacking {QEMU_PACKAGE} into {}", root.display());
            unpack(shell, &packages, &root)?;
        }
        (root.join("usr/bin").join(QEMU), Some(root))
    };
    let root = directory.join("busybox");
    if !root.is_dir() {
        eprintln!("unpacking {BUSYBOX_PACKAGE} into {}", root.display());
        unpack(shell, &[BUSYBOX_PACKAGE.to_owned()], &root)?;
    }
    let busybox = ["bin/busybox", "usr/bin/busybox"].map(|path| root.join(path));
    let busybox = busybox.into_iter().find(|path| path.is_file());
    let busybox = busybox.with_context(|| format!("{BUSYBOX_PACKAGE} brought no busybox"))?;
    Ok(Tools { qemu, qemu_root, busybox })
}

/// Downloads packages and unpacks them all into the new directory `root`.
pub(super) fn unpack(shell: &Shell, packages: &[String], root: &Path) -> Result<()> {
    // Under another name until it is complete.
    let partial = root.with_extension("partial");
    let archives = partial.join("archives");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("remove {}", partial.display()))?;
    }
    fs::create_dir_all(&archives)
        .with_context(|| format!("make directory {}", archives.display()))?;
    let download = || {
        let _there = shell.push_dir(&archives);
        // As root it would drop its rights, and then could not write here.
        cmd!(shell, "apt-get -qq -o APT::Sandbox::User=root download {packages...}").run()
    };
    if download().is_err() {
        // Lists that are older than the archive name files that are gone.
        host::update_lists(shell)?;
        download().with_context(|| format!("download {}", packages.join(", ")))?;
    }
    for archive in shell.read_dir(&archives)? {
        cmd!(shell, "dpkg-deb --extract {archive} {partial}")
            .quiet()
            .run()
            .with_context(|| format!("unpack {}", archive.display()))?;
    }
    fs::remove_dir_all(&archives).with_context(|| format!("remove {}", archives.display()))?;
    fs::rename(&partial, root).with_context(|| format!("complete {}", root.display()))
}

/// The packages that can be had whose names begin with `prefix`.
pub(super) fn named(shell: &Shell, prefix: &str) -> Result<Vec<String>> {
    ensure!(
        host::has_program("apt-get"),
        "the virtual machines run Debian's kernels, and there is no apt-get here to fetch them"
    );
    host::ensure_lists(shell)?;
    let found = cmd!(shell, "apt-cache pkgnames {prefix}").quiet().read();
    let found = found.context("ask for the packages there are")?;
    Ok(found.lines().map(str::to_owned).collect())
}

fn would_install(shell: &Shell, package: &str) -> Result<Vec<String>> {
    ensure!(
        host::has_program("apt-get"),
        "there is no {QEMU} on PATH and no apt-get to fetch it; install QEMU for x86-64"
    );
    host::ensure_lists(shell)?;
    let plan = cmd!(shell, "apt-get install --simulate --no-install-recommends {package}")
        .quiet()
        .ignore_stderr()
        .read()
        .with_context(|| format!("ask what {package} needs"))?;
    let names: Vec<_> = plan
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    if names.is_empty() {
        bail!("apt-get knows no way to install {package}");
    }
    Ok(names)
}
