//! The data path's tables as the controller sees them: a trait, the kernel behind it, and a fake.
//!
//! Addresses here are the standard library's; which map an address family lives in, and how a value
//! lies in memory, is the kernel side's business alone.

mod browse;
mod clients;
mod connections;
#[cfg(test)]
pub mod fake;
mod kernel;
pub mod layout;
mod maps;
mod pod;
mod reconcile;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::Result;
use lb_common::counters::BackendCounters;

pub use self::{
    browse::{Connection, Stage},
    connections::{Census, ConnectionTable, Lifetimes, Timing, turn},
    kernel::Kernel,
    maps::Maps,
    pod::Raw,
    reconcile::{Correction, Drift},
};
use crate::{
    config::PrefixLists,
    plan::{
        BackendEntry, BackendId, NodePolicy, Policy, Ring, ServiceEntry, ServiceId, ServiceKey,
        Tables,
    },
};

/// Addresses that are worth a look-up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of packets to them.
    pub destinations: BTreeSet<IpAddr>,
    /// Of packets from them, whomever they are for.
    pub sources: BTreeSet<IpAddr>,
}

/// Whose prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Every service's.
    Node,
    /// One service's.
    Service(ServiceId),
}

/// What was written to the tables; what is `None` was not.
pub struct Written<'a> {
    /// Services and backends.
    pub tables: &'a Tables,
    /// Addresses that are worth a look-up.
    pub filter: Option<&'a Filter>,
    /// Services' addresses, and whether they are the host's, too.
    pub addresses: Option<&'a BTreeMap<IpAddr, bool>>,
    /// The node's settings, and whether quotes of ICMP errors are read.
    pub node: Option<&'a (NodePolicy, bool)>,
    /// The prefixes of each scope.
    pub prefixes: &'a BTreeMap<Scope, PrefixLists>,
}

/// The tables of a data path. Every write is complete when it returns, and is seen by the next
/// packet.
pub trait Dataplane: Send + Sync {
    /// What the tables hold, by the registry kept beside them. Empty for a data path just made.
    fn read(&self) -> Result<Tables>;

    /// Sets which addresses are worth a look-up, as a destination and as a source.
    fn write_filter(&mut self, filter: &Filter) -> Result<()>;
    /// Makes an address one that has services, `Some` with whether the host has it, too; `None`: one
    /// that has none.
    fn write_address(&mut self, address: IpAddr, services: Option<bool>) -> Result<()>;
    /// Sets what the whole node does; its prefixes are those of [`Scope::Node`]. `reads_quotes`: ICMP
    /// errors to any address may be about packets of ours.
    fn write_node(&mut self, node: &NodePolicy, reads_quotes: bool) -> Result<()>;
    /// Sets the prefixes of a scope.
    fn write_prefixes(&mut self, scope: Scope, prefixes: &PrefixLists) -> Result<()>;

    /// Makes a key a service, or hands it to another id.
    fn write_service(&mut self, key: ServiceKey, id: ServiceId) -> Result<()>;
    /// Makes a key no service any more.
    fn remove_service(&mut self, key: ServiceKey) -> Result<()>;
    /// Sets how a service schedules and forwards, over `members` backends.
    fn write_policy(&mut self, id: ServiceId, policy: &Policy, members: usize) -> Result<()>;
    /// Swaps a service's ring.
    fn write_ring(&mut self, id: ServiceId, ring: &Ring) -> Result<()>;

    /// Swaps the rings of several services. Each is swapped at one instant; the kernel, which waits a while
    /// after a swap, waits once for all.
    ///
    /// # Errors
    ///
    /// What the kernel answered; some of them may be swapped then.
    fn write_rings(&mut self, rings: &[(ServiceId, &Ring)]) -> Result<()> {
        rings.iter().try_for_each(|(id, ring)| self.write_ring(*id, ring))
    }
    /// Sets a backend's address, way, tunnel and source ports.
    fn write_backend(&mut self, id: BackendId, backend: &BackendEntry) -> Result<()>;
    /// Sets a backend's counters and cursor to zero.
    fn reset_backend(&mut self, id: BackendId) -> Result<()>;

    /// Notes what a service's id stands for; `None` frees the id.
    fn write_service_record(&mut self, id: ServiceId, service: Option<&ServiceEntry>)
    -> Result<()>;
    /// Notes what a backend's id stands for; `None` frees the id.
    fn write_backend_record(&mut self, id: BackendId, backend: Option<&BackendEntry>)
    -> Result<()>;

    /// Compares the tables with what was written to them, and makes them that. Tells what differed.
    fn audit(&mut self, written: &Written<'_>) -> Result<Vec<String>>;

    /// A backend's counters, added up over all CPUs.
    fn backend_counters(&self, id: BackendId) -> Result<BackendCounters>;
    /// A backend's connections by the program's own count, shared by all CPUs: those that are open, and
    /// those of them that are established.
    fn backend_state(&self, id: BackendId) -> Result<(u64, u64)>;
    /// Packets of each verdict, added up over all CPUs, by name.
    fn verdicts(&self) -> Result<Vec<(&'static str, u64)>>;
}
