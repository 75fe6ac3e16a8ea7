//! The connection table: reading it as it lives, and ending what has been idle too long.
//!
//! The sweep reads entries in batches and names the idle ones to the `expire` program, which looks
//! again and ends them (see `lb-ebpf/src/expire.rs`). Nothing here writes the table.

use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::{HashMap, HashSet},
    net::IpAddr,
    os::fd::AsFd as _,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    maps::{Map, MapData},
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use lb_common::{
    clock,
    connection::{Connection, Flow, state},
    expire::{Candidate, ExpireHeader, MAX_CANDIDATES, ask},
    names,
    net::{Addr4, Addr6, Address, Hop, TCP},
};

use super::{
    Maps,
    clients::Clients,
    reconcile::{Correction, Drift, Ledger},
};
use crate::{
    bpf,
    config::Timeouts,
    plan::{BackendId, ServiceId},
};

/// Entries read by one system call.
const BATCH: usize = 4096;

/// Idle entries that are put in order at once: some fifty megabytes.
const MOST_IDLE: usize = 1 << 20;

/// Connections are new for so long, where their clients are counted: as long as the windows' middle one.
const NEW: Duration = Duration::from_mins(1);

/// How long a connection may be idle in each state.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// TCP, no handshake yet.
    pub opening: Duration,
    /// TCP, open: not less than 2 hours 4 minutes (RFC 5382, REQ-5).
    pub established: Duration,
    /// TCP, one side sent its FIN: not less than 4 minutes (RFC 5382, REQ-5).
    pub closing: Duration,
    /// TCP, over: long enough for the last acknowledgements and a retransmission.
    pub closed: Duration,
    /// TCP, over, and the backend keeps it in TIME-WAIT: Linux does for a minute, and may refuse
    /// another client's connection from the same port as long.
    pub time_wait: Duration,
    /// UDP.
    pub udp: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            opening: Duration::from_mins(1),
            established: Duration::from_mins(124),
            closing: Duration::from_mins(4),
            closed: Duration::from_secs(4),
            time_wait: Duration::from_mins(1),
            udp: Duration::from_secs(30),
        }
    }
}

impl Lifetimes {
    /// The lifetimes that a service's timeouts set.
    #[must_use]
    pub fn of(timeouts: &Timeouts) -> Self {
        let Timeouts { syn, established, closing, udp } = *timeouts;
        Self { opening: syn, established, closing, udp, ..Self::default() }
    }

    /// The lifetimes for a table that fills: what is over makes room at once.
    #[must_use]
    pub fn pressed(self) -> Self {
        Self { time_wait: self.closed, ..self }
    }

    /// Ticks that an entry in this state may be idle, of a kernel that counts `hz` jiffies a second. A
    /// reverse entry follows the state of its connection, so both ways give the same answer.
    fn ticks(&self, protocol: u8, bits: u32, hz: u64) -> u32 {
        let lifetime = if protocol != TCP {
            self.udp
        } else if bits & state::CLOSED != 0 {
            let waits = bits & state::BACKEND_FIRST != 0 && bits & state::BOTH_FINS != 0;
            if waits { self.time_wait } else { self.closed }
        } else if bits & state::BOTH_FINS != 0 {
            self.closing
        } else if bits & state::ESTABLISHED != 0 {
            self.established
        } else {
            self.opening
        };
        clock::ticks(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX), hz)
    }
}

/// The lifetimes of every service's connections, and what else a sweep has to know of them.
#[derive(Clone, Debug, Default)]
pub struct Timing {
    /// Of services that say so.
    pub services: HashMap<ServiceId, Lifetimes>,
    /// Of all others.
    pub others: Lifetimes,
    /// Services of whose new connections the clients are counted.
    pub counted: HashSet<ServiceId>,
    /// Whether the table fills: what is over makes room at once.
    pub pressed: bool,
}

impl Timing {
    fn of(&self, service: ServiceId) -> Lifetimes {
        let lifetimes = *self.services.get(&service).unwrap_or(&self.others);
        if self.pressed { lifetimes.pressed() } else { lifetimes }
    }
}

/// What a walk over the table found.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Entries of each backend, lingering ones included: its id may not be reused before zero.
    pub by_backend: HashMap<BackendId, u64>,
    /// Entries of each service.
    pub by_service: HashMap<ServiceId, u64>,
    /// Connections of each backend that are open, unconfirmed ones included, and those of them that
    /// are established: what the program's own counts must be.
    pub open: HashMap<BackendId, (u64, u64)>,
    /// Entries in all.
    pub entries: u64,
    /// Connections ended.
    pub ended: u64,
    /// Of services that this is asked of and that have new connections: from how many clients these come, as
    /// far as chance is concerned (at least 1).
    pub clients: HashMap<ServiceId, f64>,
}

/// The connection tables of both families.
pub struct ConnectionTable {
    pub(super) v4: MapData,
    pub(super) v6: MapData,
    ledger: Ledger,
}

impl ConnectionTable {
    /// Takes the tables out of all, which still have to have the backends' counts: they are shared.
    ///
    /// # Errors
    ///
    /// Where one is missing.
    pub fn new(maps: &mut Maps) -> Result<Self> {
        let ledger = Ledger::new(maps)?;
        let mut table = |name: &str| match maps.take_map(name)? {
            Map::HashMap(map) => Ok(map),
            _ => Err(anyhow!("the program has no hash map {name}")),
        };
        Ok(Self { v4: table(names::CONNECTIONS_V4)?, v6: table(names::CONNECTIONS_V6)?, ledger })
    }

    /// Ends what has been idle for longer than its lifetime, and counts what is there.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn sweep(&self, expire: &Xdp, timing: &Timing) -> Result<Census> {
        let now = ask(expire, ask::TICK)?;
        let hz = jiffies_per_second(expire)?;
        let (monotonic, new) = (microseconds(), u32::try_from(NEW.as_micros())?);
        let clients: RefCell<HashMap<_, Clients>> = RefCell::default();
        let mut census = self.walk(expire, |protocol, entry| {
            if timing.counted.contains(&entry.service)
                && !entry.is_reverse
                && monotonic.wrapping_sub(entry.opened) < new
            {
                clients.borrow_mut().entry(entry.service).or_default().meet(entry.source);
            }
            let limit = timing.of(entry.service).ticks(protocol, entry.state, hz);
            (clock::age(now, entry.last_packet) >= limit).then_some(limit)
        })?;
        let clients = clients.into_inner().into_iter();
        census.clients = clients.map(|(service, met)| (service, met.number())).collect();
        Ok(census)
    }

    /// As [`Self::sweep`], and then corrects the program's counts of connections where this walk and
    /// the one before, of which `drift` knows, prove them wrong.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn reconcile(
        &self,
        expire: &Xdp,
        timing: &Timing,
        drift: &mut Drift,
    ) -> Result<(Census, Vec<Correction>)> {
        let before = self.ledger.read(drift)?;
        let census = self.sweep(expire, timing)?;
        let corrections = drift.judge(&before, &census.open, &self.ledger.read(drift)?);
        for correction in &corrections {
            correct(expire, correction)?;
        }
        Ok((census, corrections))
    }

    /// Ends every connection of a backend now.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn cut(&self, expire: &Xdp, backend: BackendId) -> Result<Census> {
        self.walk(expire, |_, entry| (entry.backend == backend.0).then_some(0))
    }

    /// Ends every connection now.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn clear(&self, expire: &Xdp) -> Result<Census> {
        self.walk(expire, |_, _| Some(0))
    }

    /// Has clients that were reached by `from`'s interface, and by its neighbour where it has one, be reached
    /// by `to`: a client that only listens sends no packet that would show the way. Returns how many entries
    /// that are, of which a connection has two.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn reroute(&self, expire: &Xdp, from: Hop, to: Hop) -> Result<u64> {
        let order = ExpireHeader { from, to, ..ExpireHeader::default() };
        let any = from.destination == [0; 6];
        let judge = |_: u8, entry: &Seen| {
            let by_it = entry.client.interface == from.interface
                && (any || entry.client.destination == from.destination);
            by_it.then_some(0)
        };
        Ok(self.walk_with(expire, order, judge)?.ended)
    }

    /// Walks both tables. `judge` gives the idle ticks for which an entry's connection is ended.
    fn walk(&self, expire: &Xdp, judge: impl Fn(u8, &Seen) -> Option<u32>) -> Result<Census> {
        self.walk_with(expire, ExpireHeader::default(), judge)
    }

    /// Walks both tables, and sends on what `judge` picks with the `order` of what to do with it.
    fn walk_with(
        &self,
        expire: &Xdp,
        order: ExpireHeader,
        judge: impl Fn(u8, &Seen) -> Option<u32>,
    ) -> Result<Census> {
        let mut census = Census::default();
        let (v4, v6) = (ExpireHeader { family: 4, ..order }, ExpireHeader { family: 6, ..order });
        walk_family::<Addr4>(&self.v4, v4, expire, &judge, &mut census)?;
        walk_family::<Addr6>(&self.v6, v6, expire, &judge, &mut census)?;
        Ok(census)
    }
}

fn walk_family<A: Address>(
    map: &MapData,
    order: ExpireHeader,
    expire: &Xdp,
    judge: &impl Fn(u8, &Seen) -> Option<u32>,
    census: &mut Census,
) -> Result<()> {
    let mut idle: Vec<(u32, Candidate<A>)> = Vec::new();
    let mut failure = None;
    bpf::read_all::<Flow<A>, Connection<A>>(map.fd().as_fd(), BATCH, |flows, entries| {
        for (flow, entry) in flows.iter().zip(entries) {
            census.entries += 1;
            *census.by_backend.entry(BackendId(entry.backend)).or_default() += 1;
            *census.by_service.entry(ServiceId(entry.service)).or_default() += 1;
            if !entry.is_reverse() && entry.state & state::CLOSED == 0 {
                let (open, established) = census.open.entry(BackendId(entry.backend)).or_default();
                *open += 1;
                *established += u64::from(entry.state & state::ESTABLISHED != 0);
            }
            let seen = Seen {
                backend: entry.backend,
                service: ServiceId(entry.service),
                state: entry.state,
                is_reverse: entry.is_reverse(),
                opened: entry.opened,
                source: flow.source.ip(),
                last_packet: entry.last_seen,
                client: entry.client,
            };
            let Some(idle_ticks) = judge(flow.protocol(), &seen) else { continue };
            idle.push((entry.opened, Candidate { flow: *flow, idle_ticks }));
            if idle.len() == MOST_IDLE {
                end_all(expire, order, &mut idle, census, &mut failure);
            }
        }
    })
    .with_context(|| format!("read the IPv{} connection table", order.family))?;
    end_all(expire, order, &mut idle, census, &mut failure);
    failure.map_or(Ok(()), Err)
}

/// Ends what is still idle, the youngest first: the kernel hands out last what was given back first, so
/// that connections which come after each other lie next to each other in memory again. In the order of
/// the walk, which is none, each new one would meet two cold pages.
fn end_all<A: Address>(
    expire: &Xdp,
    order: ExpireHeader,
    idle: &mut Vec<(u32, Candidate<A>)>,
    census: &mut Census,
    failure: &mut Option<anyhow::Error>,
) {
    idle.sort_unstable_by_key(|(opened, _)| Reverse(*opened));
    for some in idle.chunks(MAX_CANDIDATES) {
        let candidates: Vec<_> = some.iter().map(|(_, candidate)| *candidate).collect();
        match end(expire, order, &candidates) {
            Ok(ended) => census.ended += u64::from(ended),
            Err(error) => *failure = Some(error),
        }
    }
    idle.clear();
}

/// The turn to run a program that works in its CPU's scratch value for requests: `expire` keeps a key there from a
/// look-up to the removal, `explain` the flow that is asked about. Before Linux 6.11 a test-run only keeps its thread
/// on its CPU (`migrate_disable`), so that on a preemptible kernel another thread's run could come in between: the
/// sweep, a cut, a flush and a question each have one.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends one request to the `expire` program; returns how many connections it ended, or how many entries
/// it changed.
pub(super) fn end<A: Address>(
    expire: &Xdp,
    order: ExpireHeader,
    candidates: &[Candidate<A>],
) -> Result<u32> {
    let count = u32::try_from(candidates.len()).unwrap_or(u32::MAX);
    let header = ExpireHeader { count, ..order };
    let mut request = bytemuck::bytes_of(&header).to_vec();
    request.extend_from_slice(bytemuck::cast_slice(candidates));
    let _turn = turn();
    let options = TestRunOptions { data_in: Some(&request), ..TestRunOptions::new() };
    let result = expire.test_run(options).context("run the expire program")?;
    Ok(result.return_value)
}

/// The fields of an entry that a walk judges by, whatever the family.
struct Seen {
    backend: u32,
    service: ServiceId,
    state: u32,
    is_reverse: bool,
    /// When it was opened, in microseconds of `CLOCK_MONOTONIC`.
    opened: u32,
    /// Where its packets come from: of a forward entry, the client.
    source: IpAddr,
    last_packet: u32,
    client: Hop,
}

/// The monotonic clock in microseconds, as the program notes when a connection was opened.
#[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "wraps, as there")]
fn microseconds() -> u32 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (now.tv_sec as u64).wrapping_mul(1_000_000).wrapping_add(now.tv_nsec as u64 / 1_000) as u32
}

/// Has the program correct a backend's counts.
fn correct(expire: &Xdp, correction: &Correction) -> Result<()> {
    let header = ExpireHeader { family: ask::CORRECT, count: 1, ..ExpireHeader::default() };
    let Correction { backend, open, established } = *correction;
    let value =
        lb_common::expire::Correction { backend: backend.0, reserved: 0, open, established };
    let request = [bytemuck::bytes_of(&header), bytemuck::bytes_of(&value)].concat();
    let options = TestRunOptions { data_in: Some(&request), ..TestRunOptions::new() };
    expire
        .test_run(options)
        .with_context(|| format!("correct the connections counted of backend {}", backend.0))?;
    Ok(())
}

/// Asks the program one of the questions of [`ask`].
pub(super) fn ask(expire: &Xdp, question: u32) -> Result<u32> {
    let header = ExpireHeader { family: question, ..ExpireHeader::default() };
    let request = bytemuck::bytes_of(&header);
    let options = TestRunOptions { data_in: Some(request), ..TestRunOptions::new() };
    let answer = expire.test_run(options).context("ask the expire program for the time")?;
    Ok(answer.return_value)
}

/// How many jiffies the kernel counts a second, its `CONFIG_HZ`: measured, because nothing tells it.
pub(super) fn jiffies_per_second(expire: &Xdp) -> Result<u64> {
    /// What kernels are built with.
    const KNOWN: [u64; 4] = [100, 250, 300, 1000];
    /// Long enough to tell 250 from 300.
    const SAMPLE: Duration = Duration::from_millis(120);
    static MEASURED: OnceLock<u64> = OnceLock::new();
    if let Some(hz) = MEASURED.get() {
        return Ok(*hz);
    }
    let (first, began) = (ask(expire, ask::JIFFIES)?, Instant::now());
    thread::sleep(SAMPLE);
    let counted = u64::from(ask(expire, ask::JIFFIES)?.wrapping_sub(first));
    let microseconds = u64::try_from(began.elapsed().as_micros())?.max(1);
    let rate = counted * 1_000_000 / microseconds;
    let nearest = KNOWN.into_iter().min_by_key(|hz| hz.abs_diff(rate)).unwrap_or(rate);
    Ok(*MEASURED.get_or_init(|| nearest))
}
