//! Whether this kernel is young enough for the programs, told before the kernel has to refuse them:
//! what it would say of a missing feature names neither the feature nor the way out.
//!
//! It knows versions only. What a distribution took over from a later kernel it cannot see.

use std::{fmt, fs};

use anyhow::{Context as _, Result, bail};

const RELEASE: &str = "/proc/sys/kernel/osrelease";

/// What the programs take that not every kernel has, oldest first; the last one sets the oldest kernel.
/// Their source is the kernel's history: the titles of the commits.
const NEEDS: [(Version, &str); 4] = [
    // "bpf, xdp: Add bpf_link-based XDP attachment API", "bpf: Add support for forced LINK_DETACH command".
    (Version(5, 9), "BPF links of XDP programs, which keep a data path at work without its daemon"),
    // "bpf: Allow for map-in-map with dynamic inner array map entries".
    (
        Version(5, 10),
        "maps of arrays of any length (BPF_F_INNER_MAP), which hold the schedulers' rings",
    ),
    // "bpf: Add BPF-helper for MTU checking".
    (Version(5, 12), "the helper bpf_check_mtu, by which packets that are too big are noticed"),
    // "bpf: Add BPF_FETCH field / create atomic_fetch_add instruction" and its successors.
    (
        Version(5, 12),
        "atomic instructions that return a value, by which CPUs share a scheduler's turn",
    ),
];

/// Major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl Version {
    /// Reads a release as `uname -r` tells it: `6.1.0-56-cloud-amd64`.
    fn read(release: &str) -> Option<Self> {
        let mut numbers = release.trim().split(|letter: char| !letter.is_ascii_digit());
        Some(Self(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Refuses a kernel that is too old for the programs.
///
/// # Errors
///
/// Names what the kernel lacks, and the oldest one that has it all.
pub(super) fn ensure_supported() -> Result<()> {
    let release = fs::read_to_string(RELEASE).with_context(|| format!("read {RELEASE}"))?;
    check(release.trim())
}

/// Refuses a release, as `uname -r` tells it, that is too old for the programs.
///
/// # Errors
///
/// Names what that kernel lacks, and the oldest one that has it all.
pub fn check(release: &str) -> Result<()> {
    // A release that says nothing is left to the kernel's own judgement.
    let Some(version) = Version::read(release) else { return Ok(()) };
    let lacks: Vec<_> = NEEDS.iter().filter(|(since, _)| version < *since).collect();
    let Some((oldest, _)) = lacks.last() else { return Ok(()) };
    let lacks: Vec<_> =
        lacks.iter().map(|(since, what)| format!("\n  {what} (Linux {since})")).collect();
    bail!(
        "Linux {release} is too old for the data path; run Linux {oldest} or later. It lacks:{}",
        lacks.concat()
    );
}

#[cfg(test)]
mod tests {
    use super::{NEEDS, Version, check};

    #[test]
    fn needs_are_in_order() {
        assert!(NEEDS.is_sorted_by_key(|(since, _)| *since));
    }

    #[test]
    fn releases_are_read_as_distributions_write_them() {
        for (release, version) in [
            ("6.1.0-56-cloud-amd64", Version(6, 1)),
            ("6.12.117+deb12-cloud-amd64", Version(6, 12)),
            ("5.15.0-1051-aws", Version(5, 15)),
            ("5.15.167.4-microsoft-standard-WSL2", Version(5, 15)),
            ("6.8-rc1\n", Version(6, 8)),
        ] {
            assert_eq!(Version::read(release), Some(version), "{release}");
        }
        assert_eq!(Version::read("lfs"), None);
        assert_eq!(Version::read("6"), None);
    }

    #[test]
    fn the_oldest_kernel_is_supported_and_none_before() {
        for release in ["5.12.0", "5.15.0-91-generic", "6.1.0-56-amd64", "10.0.1", "unknown"] {
            assert!(check(release).is_ok(), "{release}");
        }
        for release in ["5.11.22", "5.10.0-33-amd64", "5.4.0-216-generic", "4.19.0-27-amd64"] {
            assert!(check(release).is_err(), "{release}");
        }
    }

    #[test]
    fn an_old_kernel_is_told_what_it_lacks() {
        let error = check("5.10.0-33-amd64").unwrap_err().to_string();
        assert!(error.starts_with("Linux 5.10.0-33-amd64 is too old"), "{error}");
        assert!(error.contains("run Linux 5.12 or later"), "{error}");
        assert!(error.contains("bpf_check_mtu") && error.contains("(Linux 5.12)"), "{error}");
        assert!(!error.contains("BPF_F_INNER_MAP"), "{error}");
        let error = check("4.19.0").unwrap_err().to_string();
        assert!(error.contains("BPF_F_INNER_MAP") && error.contains("BPF links"), "{error}");
    }
}
