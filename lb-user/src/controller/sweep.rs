//! The sweep: a thread that walks the connection tables, ends what is idle, and counts the rest.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use lb_common::{explain::Answer, net::Hop};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::Controller;
use crate::{
    config::Protocol,
    dataplane::{Census, Connection, ConnectionTable, Correction, Drift, Lifetimes, Timing},
    explain,
    loader::{Explain, Programs},
    plan::{BackendId, ServiceId},
};

/// Time from one walk to the next at the least.
const PAUSE: Duration = Duration::from_secs(1);

/// A walk may take this part of the thread's time at the most: a large table is swept less often,
/// not with more of a CPU.
const DUTY: u32 = 20;

/// What the controller last said of the services' connections.
pub type Shared = Arc<Mutex<Wanted>>;

/// What a walk has to know of the services.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The lifetimes of each service's connections.
    pub lifetimes: HashMap<ServiceId, Lifetimes>,
    /// Services of whose new connections the clients are counted.
    pub counted: HashSet<ServiceId>,
}

/// The connection tables with the program that ends connections.
pub struct Connections {
    /// The tables.
    pub table: ConnectionTable,
    /// The programs.
    pub programs: Programs,
    /// The program that answers questions.
    pub explain: Explain,
    /// Connections that a family's table has room for.
    pub capacity: u32,
}

/// What a walk found.
pub struct Swept {
    /// When it began: what changed since may not be counted.
    pub began: Instant,
    /// What is there.
    pub census: Census,
    /// Counts that were wrong, and are right now.
    pub corrections: Vec<Correction>,
}

impl Connections {
    /// Ends every connection of a backend now.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn cut(&self, backend: BackendId) -> Result<u64> {
        Ok(self.table.cut(self.programs.expire()?, backend)?.ended)
    }

    /// Shows every connection to `each` until it breaks off.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn browse(&self, each: impl FnMut(&Connection) -> ControlFlow<()>) -> Result<()> {
        self.table.browse(self.programs.expire()?, each)
    }

    /// Asks the program what would become of a connection.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn explain(
        &self,
        client: SocketAddr,
        destination: SocketAddr,
        protocol: Protocol,
    ) -> Result<Answer> {
        self.explain.with(|program| explain::ask(program, client, destination, protocol))
    }

    /// Ends every connection that `picks` picks, now. Returns how many.
    ///
    /// # Errors
    ///
    /// What the kernel answered; connections may be ended then.
    pub fn end_picked(&self, picks: impl FnMut(&Connection) -> bool) -> Result<u64> {
        self.table.end_picked(self.programs.expire()?, picks)
    }

    /// Has clients that were reached by one way be reached by another; tells of how many entries.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn reroute(&self, from: Hop, to: Hop) -> Result<u64> {
        self.table.reroute(self.programs.expire()?, from, to)
    }
}

/// Starts the thread. It ends with the receiver of `found`.
///
/// # Errors
///
/// Where no thread can be made.
pub fn start(
    connections: Arc<Connections>,
    wanted: Shared,
    found: mpsc::Sender<Swept>,
) -> Result<()> {
    let sweep = move || {
        let mut entries = 0;
        let mut drift = Drift::default();
        loop {
            let began = Instant::now();
            let Wanted { lifetimes, counted } =
                wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let timing = Timing {
                services: lifetimes,
                others: Lifetimes::default(),
                counted,
                // Half full of what is there twice: a connection has two entries.
                pressed: entries > u64::from(connections.capacity),
            };
            let walk = |connections: &Connections, drift: &mut Drift| {
                connections.table.reconcile(connections.programs.expire()?, &timing, drift)
            };
            match walk(&connections, &mut drift) {
                Ok((census, corrections)) => {
                    entries = census.entries;
                    debug!(entries = census.entries, ended = census.ended, "swept");
                    if found.blocking_send(Swept { began, census, corrections }).is_err() {
                        return;
                    }
                }
                Err(error) => warn!("sweep of the connection tables failed: {error:#}"),
            }
            thread::sleep(PAUSE.max(began.elapsed() * DUTY));
        }
    };
    thread::Builder::new().name("sweep".into()).spawn(sweep).context("start the sweep thread")?;
    Ok(())
}

impl Controller {
    /// Tells the sweep how long each service's connections may be idle, and whose clients it shall count.
    pub(super) fn note_timing(&self) {
        let held = self.applier.held().index();
        let mut wanted = Wanted::default();
        for service in &self.loaded.config.services {
            let Some((id, _)) = held.service(&service.name) else { continue };
            wanted.lifetimes.insert(id, Lifetimes::of(&service.timeouts));
            if service.draws_clients() {
                wanted.counted.insert(id);
            }
        }
        *self.timing.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
    }
}
