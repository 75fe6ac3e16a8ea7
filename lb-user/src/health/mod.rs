//! Health probes: attempts against backends, and the verdict that a run of attempts adds up to.
//!
//! This module knows targets and their probes. It must not know kernel maps, the configuration
//! file or services: a caller gives each probe a key of its own and receives changes under that key.

mod monitor;
mod probe;
mod spec;
mod verdict;

#[cfg(test)]
mod testing;

pub use monitor::{Change, Monitor, ProbeState, Reader};
pub use probe::{BODY_LIMIT, ProbeFailure, Stage, attempt};
pub(crate) use spec::number_range;
pub use spec::{HttpProbe, InvalidStatusSet, ProbeKind, ProbeSpec, StatusSet, Timing};
pub use verdict::{Health, Verdict};
