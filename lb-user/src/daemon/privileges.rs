//! What the daemon may do once it has loaded: no more than it needs (capabilities(7)).
//!
//! Capabilities are each thread's own, so they are dropped while there is one thread, from which the
//! others inherit.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, Result};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities,
};
use tracing::debug;

/// What the work needs.
const NEEDED: CapabilitySet = CapabilitySet::BPF // tables, rings, the program of a verification
    .union(CapabilitySet::PERFMON) // without it the kernel refuses that program's pointer arithmetic
    .union(CapabilitySet::NET_ADMIN) // attaching, neighbours
    .union(CapabilitySet::SETUID) // exec probes run as an unprivileged user,
    .union(CapabilitySet::SETGID) // in its groups,
    .union(CapabilitySet::KILL); // and are ended by their process group

/// What files need that are another user's: to write them, and to leave them his.
const FILES_OF_OTHERS: CapabilitySet =
    CapabilitySet::CHOWN.union(CapabilitySet::DAC_OVERRIDE).union(CapabilitySet::FOWNER);

/// Gives up every capability but what the work needs, for this thread and all that it starts. The
/// daemon writes to `files`: where one is another user's, what that takes is kept.
///
/// # Errors
///
/// Where the kernel refuses.
pub fn keep_needed(files: [&Path; 3]) -> Result<()> {
    let own = rustix::process::geteuid().as_raw();
    let is_foreign = |file: &Path| {
        let directory = file.parent().unwrap_or(Path::new("."));
        let owner = |path: &Path| fs::metadata(path).map_or(own, |metadata| metadata.uid());
        owner(file) != own || owner(directory) != own
    };
    let mut needed = NEEDED;
    if files.into_iter().any(is_foreign) {
        needed |= FILES_OF_OTHERS;
    }
    let had = capabilities(None).context("read the daemon's capabilities")?;
    let kept = had.permitted & needed;
    if had.effective.contains(CapabilitySet::SETPCAP) {
        // So that no program that root runs gets them back.
        for capability in (had.permitted - needed).iter() {
            remove_capability_from_bounding_set(capability)
                .with_context(|| format!("drop {capability:?} from the bounding set"))?;
        }
    }
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).context("drop the daemon's capabilities")?;
    debug!("capabilities that are kept: {kept:?}");
    Ok(())
}
