//! Edges that share their configuration by etcd: a real cluster of three members, in namespaces beside the fleet's.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

mod certificates;
mod cluster;
mod ground;
mod outage;
mod poison;
mod secure;
mod shared;
mod view;
