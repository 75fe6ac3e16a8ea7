//! Verification: a configuration on the real program, beside whatever runs, with synthetic connections.
//!
//! The program is loaded with tables of its own and attached nowhere; the kernel's test-run gives it the
//! clients' packets (`traffic`) and transmits nothing (`engine`). What it did is judged by pure functions:
//! the crate's `statistics` on the shares, `load` on what backends carry, both put together by `judge`. Nothing
//! here knows the daemon, or asks the host for routes: every backend counts as up and reachable.

mod candidate;
mod engine;
mod judge;
mod junit;
mod load;
mod report;
mod traffic;

use std::{net::SocketAddr, time::Instant};

use anyhow::{Context as _, Result};

pub(crate) use self::load::{Carrier, is_carried, most};
use self::{
    candidate::{UP, facts, lenient, unlimited},
    engine::{Engine, Run},
    judge::Judge,
    traffic::Clients,
};
pub use self::{
    junit::junit,
    load::{Limit, LimitedBy},
    report::{Failure, Problem, ProblemKind, Report, ServiceReport, Share, Split},
};
use crate::{
    config::{Config, Scheduler, Service, Verify},
    plan::{self, BackendId, Facts, ServiceEntry, ServiceId, Standing, Tables},
};

/// Connections that the tables hold at once; then they are emptied and the next ones come.
const ROOM: u32 = 16_384;
/// The same where a scheduler goes by the open connections.
const MOST_ROOM: u32 = 1 << 20;
/// What is left out, and what stands for it.
const NOTES: [&str; 2] = [
    "limits of new connections, and the sizes of tables, are left out of the runs",
    "clients complete no handshake, so max_connections turns nobody away in the runs; \
     expected_connections is compared with it, with capacity and with NAT's source ports instead",
];

/// How a verification goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Connections and thresholds.
    pub verify: Verify,
    /// Backends of a service that are tried down, at the most: the heaviest.
    pub failures: u32,
    /// Makes the clients.
    pub seed: u64,
}

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The service at hand.
    pub service: &'a str,
    /// Its backend that is down.
    pub without: Option<&'a str>,
    /// Connections so far.
    pub done: u64,
    /// Connections in all.
    pub total: u64,
}

/// A configuration that did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("verification failed: {problems} problem{}", if *problems == 1 { "" } else { "s" })]
pub struct Failed {
    /// How many problems there are.
    pub problems: usize,
}

impl Options {
    /// Backends tried down where nothing else is said.
    pub const FAILURES: u32 = 64;

    /// What the configuration asks for.
    #[must_use]
    pub const fn of(config: &Config) -> Self {
        Self { verify: config.verify, failures: Self::FAILURES, seed: 1 }
    }

    /// Fewer connections and fewer backends down: for a usual configuration well below a second, beside the
    /// time that the kernel takes to check the program.
    #[must_use]
    pub fn quick(mut self, config: &Config) -> Self {
        const BUDGET: usize = 100_000;
        const SERVICES: usize = 20;
        let each = BUDGET / config.services.len().max(1);
        let each = u32::try_from(each).unwrap_or(u32::MAX).clamp(500, 10_000);
        self.verify.connections = self.verify.connections.min(each);
        self.failures = self.failures.min(if config.services.len() > SERVICES { 1 } else { 8 });
        self
    }

    /// Connections to a service while one of its backends is down: in all not many times as many as
    /// while all are up.
    fn with_one_down(&self, backends: usize) -> u32 {
        let all = self.verify.connections;
        let each = u64::from(all) * 2 / backends.max(1) as u64;
        u32::try_from(each).unwrap_or(u32::MAX).clamp(all / 10, all)
    }
}

/// The services that cannot be verified yet: their backends are discovered, and none is known.
pub fn unknown(config: &Config) -> impl Iterator<Item = &Service> {
    config.services.iter().filter(|service| is_unknown(service))
}

fn is_unknown(service: &Service) -> bool {
    service.backends.is_empty() && !service.discover.is_empty()
}

/// Verifies a configuration, but for what is [`unknown`]. Needs the privileges to load programs; leaves nothing behind.
///
/// # Errors
///
/// Where the program cannot be run. A configuration that fails is not an error but [`Report::passed`].
pub fn run(
    config: &Config,
    options: &Options,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Report> {
    let began = Instant::now();
    let mut known = config.clone();
    known.services.retain(|service| !is_unknown(service));
    let config = &known;
    let trial = Trial::new(config, options)?;
    let sizes = Engine::sizes(config, trial.room());
    let mut engine = Engine::load(&sizes, &trial.tables).map_err(explain)?;
    let mut services = Vec::new();
    let mut done = 0;
    for service in &config.services {
        services.push(trial.verify(service, &mut engine, &mut |service, without, run| {
            progress(Progress { service, without, done: done + run, total: trial.total });
        })?);
        done += trial.cost(service);
    }
    let problems = judge::host(config);
    let passed = problems.is_empty() && services.iter().all(|service| service.passed);
    Ok(Report {
        passed,
        seed: options.seed,
        thresholds: options.verify,
        services,
        problems,
        notes: NOTES.map(str::to_owned).to_vec(),
        milliseconds: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// Says what to do where privileges are lacking.
fn explain(error: anyhow::Error) -> anyhow::Error {
    let denied = |cause: &(dyn std::error::Error + 'static)| {
        let code = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        matches!(code, Some(libc::EPERM | libc::EACCES))
    };
    if !rustix::process::geteuid().is_root() || error.chain().any(denied) {
        return error.context(
            "the kernel does not let the program be loaded; run it as root, with sudo for one (it needs \
             CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)",
        );
    }
    error.context("load the program on trial")
}

/// A configuration on trial.
struct Trial<'a> {
    config: &'a Config,
    options: &'a Options,
    /// The configuration on trial, without its services.
    empty: Config,
    tables: Tables,
    total: u64,
}

/// Told of the service at hand, its backend that is down, and the connections to it so far.
type Watch<'a> = &'a mut dyn FnMut(&str, Option<&str>, u64);

impl<'a> Trial<'a> {
    fn new(config: &'a Config, options: &'a Options) -> Result<Self> {
        let mut lenient = lenient(config);
        let tables = plan::build(&lenient, &facts(config), &Tables::default())?;
        lenient.services.clear();
        let mut trial = Self { config, options, empty: lenient, tables, total: 0 };
        trial.total = config.services.iter().map(|service| trial.cost(service)).sum();
        Ok(trial)
    }

    /// Connections that the tables have to hold at once, a power of two.
    fn room(&self) -> u32 {
        let counts_open = |s: &Service| s.scheduler == Scheduler::LeastConnections;
        if self.config.services.iter().any(counts_open) {
            self.options.verify.connections.next_power_of_two().min(MOST_ROOM)
        } else {
            ROOM
        }
    }

    /// Connections to a service in all.
    fn cost(&self, service: &Service) -> u64 {
        let down = service.backends.len().min(self.options.failures as usize) as u64;
        let each = self.options.with_one_down(service.backends.len());
        u64::from(self.options.verify.connections) + down * u64::from(each)
    }

    fn verify(
        &self,
        service: &Service,
        engine: &mut Engine,
        watch: Watch<'_>,
    ) -> Result<ServiceReport> {
        let (id, entry) = self
            .tables
            .service(&service.name)
            .with_context(|| format!("service {:?} is in no table", service.name))?;
        let judge = Judge { config: self.config, service, verify: &self.options.verify };
        let whole = self.part(id, entry);
        let all = self.options.verify.connections;
        let run = self.run(service, &whole, engine, (0, all), &mut |sent| {
            watch(&service.name, None, sent.into());
        })?;
        let mut done = u64::from(all);
        let members: Vec<_> = members(&self.tables, entry).collect();
        let mut report = judge.balance(&members, &run);
        let mut down = members;
        // Who serves most is missed most.
        down.sort_by_key(|(_, backend)| std::cmp::Reverse(backend.weight));
        let tried = down.len().min(self.options.failures as usize);
        report.failures_left_out = (down.len() - tried) as u64;
        let count = self.options.with_one_down(service.backends.len());
        let (alone, mut facts) = self.alone(service);
        for (turn, (_, gone)) in (1..).zip(&down[..tried]) {
            // The same ids, and one backend less.
            let key = (service.name.clone(), gone.name.clone());
            facts.standings.insert(key.clone(), Standing::default());
            let without = plan::build(&alone, &facts, &whole)?;
            facts.standings.insert(key, UP);
            let (_, entry) = without.service(&service.name).context("the service is gone")?;
            engine.swap(id, entry, &without)?;
            let run = if entry.ring.is_empty() {
                Run::default()
            } else {
                self.run(service, &whole, engine, (turn, count), &mut |sent| {
                    watch(&service.name, Some(&gone.name), done + u64::from(sent));
                })?
            };
            done += u64::from(count);
            let survivors: Vec<_> = self::members(&without, entry).collect();
            report.failures.push(judge.failure(&gone.name, &survivors, &run, &report.balance));
        }
        engine.swap(id, entry, &whole)?;
        Ok(judge::conclude(report))
    }

    /// A service alone, and what is known of its backends.
    fn alone(&self, service: &Service) -> (Config, Facts) {
        let mut alone = self.empty.clone();
        alone.services.push(unlimited(service));
        let facts = facts(&alone);
        (alone, facts)
    }

    /// The tables' part of a service.
    fn part(&self, id: ServiceId, entry: &ServiceEntry) -> Tables {
        let own = self.tables.backends.iter().filter(|(_, backend)| backend.service_id == id);
        Tables {
            services: [(id, entry.clone())].into(),
            backends: own.map(|(id, backend)| (*id, backend.clone())).collect(),
            node: None,
        }
    }

    /// The `turn`-th run: opens `count` connections to a service, whose part of the tables is `whole`.
    fn run(
        &self,
        service: &Service,
        whole: &Tables,
        engine: &mut Engine,
        (turn, count): (u64, u32),
        watch: &mut dyn FnMut(u32),
    ) -> Result<Run> {
        let backends: Vec<BackendId> = whole.backends.keys().copied().collect();
        let address = self.reached(service);
        let lists = [&self.config.node.prefixes, &service.prefixes];
        // Others in each run: nobody is remembered as sticky from the one before.
        let seed = self.options.seed ^ (turn << 32);
        let mut clients = Clients::new(address, lists, seed);
        engine.run((address, service.protocol), &backends, &mut clients, count, watch)
    }

    /// An address and port that the service is reached at: of one on every port, a port that no other
    /// service has.
    fn reached(&self, service: &Service) -> SocketAddr {
        let mut address = service.address;
        if address.port() == 0 {
            let taken = |port| {
                self.config.services.iter().any(|other| {
                    other.protocol == service.protocol
                        && other.address == SocketAddr::new(service.address.ip(), port)
                })
            };
            address.set_port((1024..=u16::MAX).find(|port| !taken(*port)).unwrap_or(1024));
        }
        address
    }
}

/// The backends that take part in a service, in the order of their ids.
fn members<'t>(
    tables: &'t Tables,
    service: &'t ServiceEntry,
) -> impl Iterator<Item = (BackendId, &'t plan::BackendEntry)> {
    let mut ids = service.ring.members.clone();
    ids.sort_unstable();
    ids.into_iter().filter_map(|id| tables.backends.get(&id).map(|backend| (id, backend)))
}
