//! The real program over tables of its own, attached to nothing.
//!
//! The kernel's test-run gives it one packet at a time and transmits none of them. What became of a
//! packet is read from the program's own counters.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aya::programs::{TestRun as _, TestRunOptions};
use lb_common::verdict::Verdict;

use super::traffic::{self, Clients};
use crate::{
    config::{Config, Protocol},
    controller::Applier,
    dataplane::{ConnectionTable, Dataplane},
    loader::{self, Programs, Sizes},
    plan::{BackendId, ServiceEntry, ServiceId, Tables},
};

/// Connections between two calls of whoever watches.
const STRIDE: u32 = 2_048;

/// A data path on trial.
pub struct Engine {
    programs: Programs,
    connections: ConnectionTable,
    dataplane: Box<dyn Dataplane>,
    /// Connections that the tables hold at once.
    room: u32,
    frame: Vec<u8>,
}

/// What became of connections to a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Connections that clients opened.
    pub sent: u64,
    /// Addresses that they came from.
    pub clients: u64,
    /// Those that each backend got.
    pub opened: BTreeMap<BackendId, u64>,
    /// Those that went to no backend, by verdict.
    pub refused: BTreeMap<String, u64>,
}

impl Engine {
    /// Loads the program with tables of `sizes`, all of whose connections may be unconfirmed, and fills
    /// them.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn load(sizes: &Sizes, tables: &Tables) -> Result<Self> {
        let datapath = loader::load_unpinned(sizes)?;
        let mut applier = Applier::new(Box::new(datapath.tables))?;
        applier.apply(tables)?;
        Ok(Self {
            programs: datapath.programs,
            connections: datapath.connections,
            dataplane: applier.into_dataplane(),
            room: sizes.unconfirmed,
            frame: Vec::new(),
        })
    }

    /// The sizes of tables that hold a configuration and `room` connections, a power of two.
    pub fn sizes(config: &Config, room: u32) -> Sizes {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).max(1);
        let backends = config.services.iter().map(|service| service.backends.len());
        let lists = config.services.iter().map(|service| service.prefixes.len());
        Sizes {
            // Beside the unconfirmed ones, which all are.
            connections: 1,
            unconfirmed: room,
            clients: room.min(config.tables.clients),
            fragments: 1,
            prefixes: count(config.node.prefixes.len() + lists.sum::<usize>()),
            services: count(config.services.len()),
            backends: count(backends.sum()),
        }
    }

    /// Swaps a service's backends and ring for those of `tables`, backends first.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn swap(&mut self, id: ServiceId, service: &ServiceEntry, tables: &Tables) -> Result<()> {
        for (id, backend) in &tables.backends {
            if backend.service == service.name {
                self.dataplane.write_backend(*id, backend)?;
            }
        }
        self.dataplane.write_ring(id, &service.ring)?;
        if let Some(policy) = &service.policy {
            self.dataplane.write_policy(id, policy, service.ring.members.len())?;
        }
        Ok(())
    }

    /// Opens `count` connections to a service, whose backends are `backends`, and ends them again.
    /// `watch` is told now and then how many there have been.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn run(
        &mut self,
        (service, protocol): (std::net::SocketAddr, Protocol),
        backends: &[BackendId],
        clients: &mut Clients<'_>,
        count: u32,
        mut watch: impl FnMut(u32),
    ) -> Result<Run> {
        let (opened, verdicts) = (self.opened(backends)?, self.dataplane.verdicts()?);
        let program = self.programs.balancer()?;
        watch(0);
        let mut sent = 0;
        let mut held = 0;
        while sent < count {
            let client = if held < self.room { clients.next() } else { None };
            let Some(client) = client else {
                if held == 0 {
                    break;
                }
                self.clear(clients)?;
                held = 0;
                continue;
            };
            traffic::opening(&mut self.frame, client, service, protocol)?;
            let options = TestRunOptions { data_in: Some(&self.frame), ..TestRunOptions::new() };
            program.test_run(options).context("run the program")?;
            sent += 1;
            held += 1;
            if sent.is_multiple_of(STRIDE) {
                watch(sent);
            }
        }
        self.clear(clients)?;
        watch(sent);
        let after = self.opened(backends)?;
        let opened = after.iter().map(|(id, after)| (*id, after - opened[id])).collect();
        let moved = self.dataplane.verdicts()?.into_iter().zip(verdicts);
        let refused = moved
            .map(|((name, after), (_, before))| (name.to_owned(), after - before))
            .filter(|(name, count)| *count > 0 && name != Verdict::TO_BACKEND.name())
            .collect();
        Ok(Run { sent: sent.into(), clients: clients.addresses(), opened, refused })
    }

    fn clear(&self, clients: &mut Clients<'_>) -> Result<()> {
        clients.forget();
        self.connections.clear(self.programs.expire()?).context("end the connections")?;
        Ok(())
    }

    fn opened(&self, backends: &[BackendId]) -> Result<BTreeMap<BackendId, u64>> {
        let opened = |id: &BackendId| Ok((*id, self.dataplane.backend_counters(*id)?.opened));
        backends.iter().map(opened).collect()
    }
}
