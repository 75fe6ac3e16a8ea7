//! Carrying out: a task that makes what is announced what it shall be, again and again, and says what it
//! could not do.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use futures_util::future::join_all;
use tokio::{
    sync::watch,
    time::{timeout, timeout_at},
};
use tracing::{info, warn};

use super::{
    address::{self, Added, bits},
    desk::Order,
    exabgp::Follower,
    record::{Made, Record},
};
use crate::{
    config::{Announce, AnnounceWay, Hook, OnStop},
    health::{Task, execute},
};

/// How often what is announced is looked at, and what failed tried again the first time.
const EVERY: Duration = Duration::from_secs(1);
/// Time between two attempts at the most.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a daemon that stops waits until all is withdrawn.
const LAST: Duration = Duration::from_secs(15);
/// How often it looks whether ExaBGP's process knows.
const LOOK: Duration = Duration::from_millis(50);

/// How far an announcement is carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Whether the address is announced.
    pub announced: bool,
    /// What went wrong; `None`: nothing.
    pub problem: Option<String>,
}

/// The task, for whoever gives it orders. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Announcer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    orders: watch::Sender<Orders>,
    carried: Mutex<BTreeMap<IpAddr, Carried>>,
    follower: Mutex<Follower>,
    left: Vec<IpAddr>,
    /// The number of the orders that were carried out last.
    done: watch::Sender<u64>,
}

#[derive(Clone, Debug, Default)]
struct Orders {
    number: u64,
    all: Vec<Order>,
    stopping: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Announcer {
    /// Starts the task, within a runtime. What a daemon before this one left announced is as it was until
    /// there are orders.
    #[must_use]
    pub fn start(state_dir: &Path) -> Self {
        let mut record = Record::read(state_dir);
        // What somebody took away meanwhile is announced no longer.
        let is_gone = |made: &Made| match &made.interface {
            Some(interface) => matches!(address::is_on(interface, made.address), Ok(false)),
            None => false,
        };
        let gone: Vec<_> = record.iter().filter(|made| is_gone(made)).cloned().collect();
        for made in &gone {
            record.remove(made);
        }
        let shared = Arc::new(Shared {
            orders: watch::Sender::new(Orders::default()),
            carried: Mutex::default(),
            follower: Mutex::default(),
            left: record.iter().map(|made| made.address).collect(),
            done: watch::Sender::new(0),
        });
        let work = Work { shared: Arc::clone(&shared), record, held: BTreeMap::new() };
        tokio::spawn(work.run(shared.orders.subscribe()));
        Self(shared)
    }

    /// The addresses that a daemon before this one left announced.
    #[must_use]
    pub fn left(&self) -> &[IpAddr] {
        &self.0.left
    }

    /// Says what is to be done from now on.
    pub fn order(&self, orders: &[Order]) {
        self.0.orders.send_if_modified(|held| {
            if held.stopping || (held.number > 0 && held.all == orders) {
                return false;
            }
            held.number += 1;
            held.all = orders.to_vec();
            true
        });
    }

    /// How far an announcement is carried out.
    #[must_use]
    pub fn carried(&self, address: IpAddr) -> Carried {
        lock(&self.0.carried).get(&address).cloned().unwrap_or_default()
    }

    /// ExaBGP's process asks what is announced.
    #[must_use]
    pub fn ask(&self) -> BTreeSet<IpAddr> {
        lock(&self.0.follower).ask(Instant::now())
    }

    /// Withdraws what is not to stay announced, and takes no more orders. Returns when that is done, or was
    /// tried for long enough.
    pub async fn stop(&self) {
        let mut number = 0;
        self.0.orders.send_modify(|orders| {
            orders.stopping = true;
            orders.number += 1;
            number = orders.number;
            for order in &mut orders.all {
                order.announced &= order.announce.on_stop == OnStop::Keep;
            }
        });
        let mut done = self.0.done.subscribe();
        let deadline = tokio::time::Instant::now() + LAST;
        let ended = async {
            let _ = done.wait_for(|done| *done >= number).await;
            while lock(&self.0.follower).problem(Instant::now()).is_none()
                && !lock(&self.0.follower).is_up_to_date()
            {
                tokio::time::sleep(LOOK).await;
            }
        };
        if timeout_at(deadline, ended).await.is_err() {
            warn!("not all addresses could be withdrawn in time; see what was said before");
        }
    }
}

/// Takes away what a daemon that is gone left on interfaces; returns the addresses.
///
/// # Errors
///
/// Where the kernel refuses.
pub async fn clean_up(state_dir: &Path) -> Result<Vec<IpAddr>> {
    let mut record = Record::read(state_dir);
    let left: Vec<_> = record.iter().cloned().collect();
    let mut gone = Vec::new();
    for made in left {
        if let Some(interface) = &made.interface {
            address::remove(interface, made.address).await?;
            gone.push(made.address);
        }
        record.remove(&made);
    }
    Ok(gone)
}

/// An attempt that failed.
#[derive(Clone, Copy)]
struct Again {
    /// Whether it was to announce.
    announced: bool,
    /// When to try again.
    at: Instant,
    /// How long that was to wait.
    pause: Duration,
}

/// What is known of an address.
struct Held {
    announce: Announce,
    services: Vec<String>,
    /// Whether it is announced; `None`: not known yet.
    is: Option<bool>,
    again: Option<Again>,
    problem: Option<String>,
}

impl Held {
    fn made(&self, address: IpAddr) -> Made {
        let on_interface = self.announce.way == AnnounceWay::Address;
        Made { address, interface: on_interface.then(|| self.announce.interface.clone()) }
    }
}

struct Work {
    shared: Arc<Shared>,
    record: Record,
    held: BTreeMap<IpAddr, Held>,
}

impl Work {
    async fn run(mut self, mut orders: watch::Receiver<Orders>) {
        loop {
            // An hour without news is no end; a daemon that is gone is.
            if let Ok(Err(_)) = timeout(EVERY, orders.changed()).await {
                return;
            }
            let Orders { number, all, .. } = orders.borrow_and_update().clone();
            if number == 0 {
                continue;
            }
            self.carry_out(&all).await;
            self.shared.done.send_replace(number);
        }
    }

    async fn carry_out(&mut self, orders: &[Order]) {
        self.leave(orders).await;
        for order in orders {
            let held = self.held.entry(order.address).or_insert_with(|| Held {
                announce: order.announce.clone(),
                services: Vec::new(),
                is: None,
                again: None,
                problem: None,
            });
            held.announce = order.announce.clone();
            held.services.clone_from(&order.services);
        }
        self.put_back();
        self.tell_follower(orders);
        let now = Instant::now();
        let mut hooks = Vec::new();
        for order in orders {
            let Some(held) = self.held.get(&order.address) else { continue };
            let waits = |again: Again| again.announced == order.announced && again.at > now;
            let waits = held.again.is_some_and(waits);
            if held.is == Some(order.announced) || waits {
                continue;
            }
            match &order.announce.way {
                AnnounceWay::Address => {
                    let done = self.on_interface(order).await;
                    self.note(order, done);
                }
                AnnounceWay::Exabgp => self.note(order, Ok(())),
                AnnounceWay::Hook => hooks.push(order),
            }
        }
        // One that hangs does not hold up the others.
        let run = hooks.iter().map(|order| hook(order));
        let done: Vec<_> = join_all(run).await;
        for (order, done) in hooks.into_iter().zip(done) {
            self.note(order, done);
        }
        self.publish();
    }

    /// Withdraws what there are no orders for any more, or in another way.
    async fn leave(&mut self, orders: &[Order]) {
        let stays = |address: &IpAddr, held: &Held| {
            let order = orders.iter().find(|order| order.address == *address);
            order.is_some_and(|order| {
                order.announce.way == held.announce.way
                    && order.announce.interface == held.announce.interface
            })
        };
        let leaving: Vec<_> =
            self.held.iter().filter(|(a, held)| !stays(a, held)).map(|(a, _)| *a).collect();
        for address in leaving {
            let Some(held) = self.held.remove(&address) else { continue };
            if held.is == Some(true) {
                let order = Order {
                    address,
                    announce: held.announce.clone(),
                    services: held.services.clone(),
                    announced: false,
                    why: "not to be announced any more".to_owned(),
                };
                let done = match held.announce.way {
                    AnnounceWay::Address => self.on_interface(&order).await,
                    AnnounceWay::Hook => hook(&order).await,
                    AnnounceWay::Exabgp => Ok(()),
                };
                if let Err(error) = done {
                    warn!("{address} stays announced: {error:#}");
                }
            }
            self.record.remove(&held.made(address));
        }
        // And what was left by a daemon that was configured otherwise.
        let recorded: Vec<_> = self.record.iter().cloned().collect();
        for made in recorded {
            let known = orders.iter().any(|order| {
                let on = order.announce.way == AnnounceWay::Address;
                order.address == made.address
                    && made.interface == on.then(|| order.announce.interface.clone())
            });
            let Some(interface) = made.interface.clone().filter(|_| !known) else { continue };
            match address::remove(&interface, made.address).await {
                Ok(()) => self.record.remove(&made),
                Err(error) => warn!("{} stays on {interface}: {error:#}", made.address),
            }
        }
    }

    /// Has addresses that somebody took off their interface put back.
    fn put_back(&mut self) {
        for (address, held) in &mut self.held {
            let ours = held.announce.way == AnnounceWay::Address && held.is == Some(true);
            let interface = &held.announce.interface;
            if ours && matches!(address::is_on(interface, *address), Ok(false)) {
                warn!("somebody took {address} off {interface}; it is put back");
                held.is = None;
            }
        }
    }

    fn tell_follower(&self, orders: &[Order]) {
        let told = orders.iter().filter(|order| order.announce.way == AnnounceWay::Exabgp);
        let told = told.filter(|order| order.announced).map(|order| order.address).collect();
        lock(&self.shared.follower).set(told, Instant::now());
    }

    async fn on_interface(&mut self, order: &Order) -> Result<()> {
        let (address, interface) = (order.address, &order.announce.interface);
        let made = Made { address, interface: Some(interface.clone()) };
        if !order.announced {
            if self.record.has(&made) {
                address::remove(interface, address).await?;
                self.record.remove(&made);
            } else if address::is_on(interface, address)? {
                bail!(
                    "{address} was on {interface} before and is not ours to take off, so it stays announced; \
                     take it out of the host's own configuration"
                );
            }
            return Ok(());
        }
        let ours = self.record.has(&made);
        self.record.add(&made)?;
        match address::add(interface, address).await {
            Ok(Added::New) => Ok(()),
            Ok(Added::Before) if ours => Ok(()),
            Ok(Added::Before) => {
                self.record.remove(&made);
                bail!(
                    "{address} is on {interface} already, put there by somebody else, and could not be \
                     withdrawn; take it out of the host's own configuration"
                );
            }
            Err(error) => {
                self.record.remove(&made);
                Err(error)
            }
        }
    }

    /// Notes how carrying out an order went.
    fn note(&mut self, order: &Order, done: Result<()>) {
        let Some(held) = self.held.get_mut(&order.address) else { return };
        let (address, by) = (order.address, &order.announce);
        match done {
            Ok(()) => {
                if held.is.is_some() || order.announced {
                    let does = if order.announced { "announced" } else { "withdrawn" };
                    info!(%address, "{does} by {by}");
                }
                held.is = Some(order.announced);
                (held.again, held.problem) = (None, None);
                let made = held.made(address);
                if order.announce.way == AnnounceWay::Address {
                    return;
                }
                if !order.announced {
                    self.record.remove(&made);
                } else if let Err(error) = self.record.add(&made) {
                    warn!("{error:#}");
                }
            }
            Err(error) => {
                let problem = format!("{error:#}");
                if held.problem.as_ref() != Some(&problem) {
                    let does = if order.announced { "announced" } else { "withdrawn" };
                    warn!(%address, "cannot be {does} by {by}: {problem}");
                }
                let before = held.again.filter(|again| again.announced == order.announced);
                let pause = before.map_or(EVERY, |again| (again.pause * 2).min(LONGEST_PAUSE));
                let (announced, at) = (order.announced, Instant::now() + pause);
                held.again = Some(Again { announced, at, pause });
                held.problem = Some(problem);
            }
        }
    }

    fn publish(&self) {
        let silent = lock(&self.shared.follower).problem(Instant::now());
        let carried = self.held.iter().map(|(address, held)| {
            let by_exabgp = held.announce.way == AnnounceWay::Exabgp;
            let problem = held.problem.clone().or_else(|| silent.clone().filter(|_| by_exabgp));
            let announced = held.is == Some(true) && (!by_exabgp || problem.is_none());
            (*address, Carried { announced, problem })
        });
        *lock(&self.shared.carried) = carried.collect();
    }
}

/// Runs the program of an order.
async fn hook(order: &Order) -> Result<()> {
    let Some(Hook { exec, timeout: span }) = &order.announce.hook else {
        bail!("there is no program to run");
    };
    let does = if order.announced { "announce" } else { "withdraw" };
    let prefix = format!("{}/{}", order.address, bits(order.address));
    let mut command = exec.command.clone();
    command.extend([does.to_owned(), prefix.clone()]);
    let environment = vec![
        ("EVENKEEL_ACTION", does.to_owned()),
        ("EVENKEEL_PREFIX", prefix),
        ("EVENKEEL_SERVICES", order.services.join(" ")),
        ("EVENKEEL_WHY", order.why.clone()),
    ];
    let task = Task { command, user: exec.user.clone(), environment, input: None };
    // Dropped at the timeout, it is killed with all that it started.
    match timeout(*span, execute(task)).await {
        Ok(done) => Ok(done?),
        Err(_) => {
            bail!("it did not end within {}, and was killed", humantime::format_duration(*span))
        }
    }
}
