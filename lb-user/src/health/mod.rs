//! Health probes: attempts against backends, and the verdict that a run of attempts adds up to; and
//! what agents on the backends say for themselves.
//!
//! This module knows targets and their probes. It must not know kernel maps, the configuration
//! file or services: a caller gives each probe a key of its own and receives changes under that key.

mod agent;
mod damping;
mod monitor;
mod probe;
mod spec;
mod trust;
mod verdict;

#[cfg(test)]
mod testing;

pub use agent::{AgentChange, AgentCheck, AgentReport, AgentSpec, AgentState, Agents, Wants};
pub use damping::{Damping, Held};
pub use monitor::{Change, Monitor, ProbeState, Reader};
pub use probe::{
    BODY_LIMIT, ExecFailure, GrpcFailure, ProbeFailure, Stage, TlsFailure, UdpFailure, attempt,
};
pub(crate) use probe::{Task, execute};
pub use spec::{
    ExecProbe, GrpcProbe, HttpProbe, InvalidStatusSet, ProbeKind, ProbeSpec, StatusSet, Timing,
    TlsCheck, UdpProbe,
};
pub(crate) use spec::{is_server_name, number_range, without_port};
pub use trust::NoAuthorities;
pub(crate) use trust::{authorities, tls_client};
pub use verdict::{Health, Verdict};
