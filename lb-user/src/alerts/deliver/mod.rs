//! Deliveries: a task a target, with a queue of its own, so that none waits for another and the controller
//! waits for none. What fails is tried again, later and later; what has no room is dropped and counted.

mod alertmanager;
mod exec;
mod http;
mod queue;
mod webhook;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep, timeout_at},
};
use tracing::{info, warn};

use self::{
    alertmanager::Manager,
    queue::{Queue, ROOM},
};
use crate::{
    api::model::{Alert, Delivery},
    config::alerts::{Alertmanager, Alerts, Program, Webhook},
};

/// Pause after the first failure; each one in a row doubles it up to the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The targets that alerts go to. Dropping it stops the deliveries.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    running: Vec<Running>,
    /// Of a daemon that started again, until its targets are set: what each target waited for.
    before: BTreeMap<String, Vec<Alert>>,
    /// How often targets came or went.
    changes: u64,
}

/// Where alerts go.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Webhook(Webhook),
    Alertmanager(Alertmanager),
    Exec(Program),
}

#[derive(Debug)]
struct Running {
    target: Target,
    desk: Arc<Desk>,
    task: AbortHandle,
}

/// What a target's task shares with the controller.
#[derive(Debug)]
struct Desk {
    held: Mutex<Held>,
    wake: Notify,
}

#[derive(Debug)]
struct Held {
    queue: Queue,
    /// What an attempt under way delivers.
    taken: Vec<Arc<Alert>>,
    state: Delivery,
    /// Another number when something else waits.
    revision: u64,
}

/// Why alerts did not get through.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// It may work later.
    #[error("{0}")]
    Later(String),
    /// The target will never take these.
    #[error("{0}")]
    Never(String),
}

impl Deliveries {
    /// Notes what each target waited for before a restart: it knows of everything else.
    pub(super) fn resume(&mut self, before: BTreeMap<String, Vec<Alert>>) {
        self.before = before;
    }

    /// Makes the targets those of the configuration; unchanged ones go on undisturbed, new ones are told
    /// what is `raised`.
    pub(super) fn set(&mut self, config: &Alerts, raised: &[Alert]) {
        let webhooks = config.webhooks.iter().cloned().map(Target::Webhook);
        let managers = config.alertmanagers.iter().cloned().map(Target::Alertmanager);
        let programs = config.programs.iter().cloned().map(Target::Exec);
        let mut running = std::mem::take(&mut self.running);
        let mut new = 0;
        for target in webhooks.chain(managers).chain(programs) {
            let known = running.iter().position(|running| running.target == target);
            self.running.push(if let Some(index) = known {
                running.swap_remove(index)
            } else {
                new += 1;
                match self.before.get(&target.name()) {
                    Some(waiting) => Running::start(target, waiting, raised),
                    None => Running::start(target, raised, &[]),
                }
            });
        }
        self.before.clear();
        self.changes += u64::from(new > 0 || !running.is_empty());
    }

    /// Tells every target of an alert that rose or cleared.
    pub(super) fn tell(&self, alert: &Alert) {
        if self.running.is_empty() {
            return;
        }
        let alert = Arc::new(alert.clone());
        for running in &self.running {
            running.desk.put(Arc::clone(&alert));
        }
    }

    /// How they go.
    pub(super) fn state(&self) -> Vec<Delivery> {
        let state = |running: &Running| {
            let held = running.desk.lock();
            Delivery { waiting: held.queue.len() as u64, ..held.state.clone() }
        };
        self.running.iter().map(state).collect()
    }

    /// What each target has yet to be told, the oldest first.
    pub(super) fn waiting(&self) -> BTreeMap<String, Vec<Alert>> {
        let mut waiting: BTreeMap<String, Vec<Alert>> = BTreeMap::new();
        for running in &self.running {
            let held = running.desk.lock();
            let all = held.taken.iter().chain(held.queue.iter());
            waiting.entry(running.target.name()).or_default().extend(all.map(|a| Alert::clone(a)));
        }
        waiting
    }

    /// Another number when something else waits, or for others.
    pub(super) fn revision(&self) -> u64 {
        self.changes + self.running.iter().map(|running| running.desk.lock().revision).sum::<u64>()
    }
}

impl Running {
    /// Starts to deliver what waits to a target that is taken to know what is `known`.
    fn start(target: Target, waiting: &[Alert], known: &[Alert]) -> Self {
        let name = target.name();
        info!(target = name, "alerts are delivered there");
        let state = Delivery { target: name, ..Delivery::default() };
        let desk = Arc::new(Desk::new(Queue::new(ROOM), state));
        for alert in waiting {
            desk.put(Arc::new(alert.clone()));
        }
        let manager = Manager::knowing(known);
        let task = tokio::spawn(run(target.clone(), manager, Arc::clone(&desk))).abort_handle();
        Self { target, desk, task }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Target {
    fn name(&self) -> String {
        match self {
            Self::Webhook(webhook) => format!("webhook {}", webhook.endpoint),
            Self::Alertmanager(manager) => format!("alertmanager {}", manager.endpoint),
            Self::Exec(program) => {
                format!("exec {}", program.exec.command.first().map_or("", String::as_str))
            }
        }
    }

    /// Alerts of one attempt at the most.
    const fn batch(&self) -> usize {
        match self {
            Self::Webhook(_) | Self::Alertmanager(_) => 100,
            Self::Exec(_) => 1,
        }
    }
}

impl Desk {
    fn new(queue: Queue, state: Delivery) -> Self {
        let held = Held { queue, taken: Vec::new(), state, revision: 0 };
        Self { held: Mutex::new(held), wake: Notify::new() }
    }

    /// What is behind the lock is whole between statements, so a panic elsewhere leaves nothing
    /// half-written.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, alert: Arc<Alert>) {
        let mut held = self.lock();
        held.state.dropped += held.queue.put(alert);
        held.revision += 1;
        drop(held);
        self.wake.notify_one();
    }

    /// Takes alerts for an attempt.
    fn begin(&self, most: usize) -> Vec<Arc<Alert>> {
        let mut held = self.lock();
        held.taken = held.queue.take(most);
        held.taken.clone()
    }

    /// Waits for alerts, but not past `until`; there are none then.
    async fn take(&self, most: usize, until: Option<Instant>) -> Vec<Arc<Alert>> {
        loop {
            let taken = self.begin(most);
            if !taken.is_empty() {
                return taken;
            }
            match until {
                None => self.wake.notified().await,
                Some(until) => {
                    if timeout_at(until, self.wake.notified()).await.is_err() {
                        return taken;
                    }
                }
            }
        }
    }

    /// Notes how an attempt went. Answers how long to wait until the next one.
    fn note(&self, taken: Vec<Arc<Alert>>, result: Result<(), Failure>) -> Option<Duration> {
        let count = taken.len() as u64;
        let mut held = self.lock();
        let Held { queue, taken: under_way, state, revision } = &mut *held;
        under_way.clear();
        *revision += u64::from(count > 0);
        let problem = match result {
            Ok(()) => {
                if state.failed_in_a_row > 0 {
                    info!(target = state.target, "alerts are delivered again");
                }
                (state.problem, state.failed_in_a_row) = (None, 0);
                state.delivered += count;
                return None;
            }
            Err(Failure::Later(problem)) => {
                state.dropped += queue.give_back(taken);
                problem
            }
            Err(Failure::Never(problem)) => {
                state.dropped += count;
                warn!(target = state.target, alerts = count, "alerts are refused: {problem}");
                problem
            }
        };
        if state.failed_in_a_row == 0 {
            warn!(target = state.target, "cannot deliver alerts, trying again: {problem}");
        }
        state.failed += 1;
        state.failed_in_a_row += 1;
        state.problem = Some(problem);
        Some(pause(state.failed_in_a_row))
    }
}

/// How long to wait after so many failures in a row: half of it by chance, so that the hosts of a site do not
/// all come back at once.
fn pause(failures: u64) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1).min(16)).unwrap_or(16);
    let pause = (PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE);
    pause.mul_f64(0.5 + 0.5 * fastrand::f64())
}

/// Delivers to one target until it is aborted.
async fn run(target: Target, mut manager: Manager, desk: Arc<Desk>) {
    let batch = target.batch();
    loop {
        let until = match &target {
            Target::Alertmanager(config) => manager.due(config.repeat),
            Target::Webhook(_) | Target::Exec(_) => None,
        };
        let taken = desk.take(batch, until).await;
        let result = match &target {
            Target::Webhook(config) => webhook::deliver(config, &taken).await,
            Target::Alertmanager(config) => manager.deliver(config, &taken).await,
            Target::Exec(program) => exec::deliver(program, &taken).await,
        };
        if let Some(pause) = desk.note(taken, result) {
            sleep(pause).await;
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
