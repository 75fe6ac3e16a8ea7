//! Debian's cloud kernels: which one, and what it is made of.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use xshell::Shell;

use super::packages;
use crate::host;

const SUFFIX: &str = "-cloud-amd64";

/// A line of kernels that is maintained for years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Series {
    /// Debian 12's.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's, and Debian 12's newer one.
    #[value(name = "6.12")]
    V6_12,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        })
    }
}

/// An unpacked kernel.
pub(super) struct Kernel {
    /// What `uname -r` says in it.
    pub(super) release: String,
    /// The compressed image.
    pub(super) image: PathBuf,
    /// The directory of its modules.
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// Finds the newest kernel of a series below `directory`, or fetches the newest there is.
    pub(super) fn ensure(shell: &Shell, series: Series, directory: &Path) -> Result<Self> {
        let home = directory.join(format!("kernel-{series}"));
        if !home.is_dir() {
            let prefix = format!("linux-image-{series}.");
            let mut newest = newest(shell, &prefix)?;
            if newest.is_none() {
                // Lists that are older than the kernel do not know it.
                host::update_lists(shell)?;
                newest = self::newest(shell, &prefix)?;
            }
            let newest = newest.with_context(|| {
                format!(
                    "no package {prefix}*{SUFFIX} to be had; Debian 12 has it (with its \
                     backports), so run this there, or in a container of it"
                )
            })?;
            eprintln!("unpacking {newest} into {}", home.display());
            packages::unpack(shell, &[newest], &home)?;
        }
        Self::at(&home).with_context(|| {
            format!(
                "{} is not a kernel's package: remove the directory, and it is fetched anew",
                home.display()
            )
        })
    }

    fn at(home: &Path) -> Result<Self> {
        let roots = ["lib/modules", "usr/lib/modules"].map(|path| home.join(path));
        let modules = roots.into_iter().find(|path| path.is_dir()).context("it has no modules")?;
        let mut releases = fs::read_dir(&modules)?;
        let modules = releases.next().context("it has no modules")??.path();
        let release = modules.file_name().context("a nameless release")?;
        let release = release.to_str().context("the release is not text")?.to_owned();
        let image = home.join(format!("boot/vmlinuz-{release}"));
        Ok(Self { release, image, modules })
    }
}

/// The newest kernel that can be had of those whose packages' names begin with `prefix`.
fn newest(shell: &Shell, prefix: &str) -> Result<Option<String>> {
    let mut found = packages::named(shell, prefix)?;
    found.retain(|name| name.ends_with(SUFFIX));
    found.sort_by_key(|name| numbers(name));
    // A name may be known that nothing stands behind any more.
    Ok(found.into_iter().rfind(|name| host::is_available(shell, name)))
}

/// The numbers in a name, for comparing: `6.1.0-9` is older than `6.1.0-56`.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn the_newest_kernel_has_the_highest_numbers() {
        let names = ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64"];
        assert!(numbers(names[0]) < numbers(names[1]));
        assert!(numbers("linux-image-6.12.9+deb12") < numbers("linux-image-6.12.117+deb12"));
    }
}
