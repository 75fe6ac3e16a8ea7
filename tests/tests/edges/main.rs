//! Several edges that announce one address: routers and routing daemons are real, their configurations those of
//! `docs/announce/`.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

mod bird;
mod downloads;
mod exabgp;
mod faults;
mod frr;
mod ground;
mod keepalived;
mod node;
