//! Deliveries: a task a target, with a queue of its own, so that none waits for another and the controller
//! waits for none. What fails is tried again, later and later; what has no room is dropped and counted.

mod alertmanager;
mod exec;
mod http;
mod queue;
mod webhook;

use std::{
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
pub(super) struct Deliveries(Vec<Running>);

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
    state: Delivery,
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
    /// Makes the targets those of the configuration; unchanged ones go on undisturbed, new ones are told
    /// what is `raised`.
    pub(super) fn set(&mut self, config: &Alerts, raised: &[Alert]) {
        let webhooks = config.webhooks.iter().cloned().map(Target::Webhook);
        let managers = config.alertmanagers.iter().cloned().map(Target::Alertmanager);
        let programs = config.programs.iter().cloned().map(Target::Exec);
        let mut before = std::mem::take(&mut self.0);
        for target in webhooks.chain(managers).chain(programs) {
            let known = before.iter().position(|running| running.target == target);
            self.0.push(match known {
                Some(index) => before.swap_remove(index),
                None => Running::start(target, raised),
            });
        }
    }

    /// Tells every target of an alert that rose or cleared.
    pub(super) fn tell(&self, alert: &Alert) {
        if self.0.is_empty() {
            return;
        }
        let alert = Arc::new(alert.clone());
        for running in &self.0 {
            running.desk.put(Arc::clone(&alert));
        }
    }

    /// How they go.
    pub(super) fn state(&self) -> Vec<Delivery> {
        let state = |running: &Running| {
            let held = running.desk.lock();
            Delivery { waiting: held.queue.len() as u64, ..held.state.clone() }
        };
        self.0.iter().map(state).collect()
    }
}

impl Running {
    fn start(target: Target, raised: &[Alert]) -> Self {
        let name = target.name();
        info!(target = name, "alerts are delivered there");
        let state = Delivery { target: name, ..Delivery::default() };
        let held = Mutex::new(Held { queue: Queue::new(ROOM), state });
        let desk = Arc::new(Desk { held, wake: Notify::new() });
        for alert in raised {
            desk.put(Arc::new(alert.clone()));
        }
        let task = tokio::spawn(run(target.clone(), Arc::clone(&desk))).abort_handle();
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
    /// What is behind the lock is whole between statements, so a panic elsewhere leaves nothing
    /// half-written.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, alert: Arc<Alert>) {
        let mut held = self.lock();
        held.state.dropped += held.queue.put(alert);
        drop(held);
        self.wake.notify_one();
    }

    /// Waits for alerts, but not past `until`; there are none then.
    async fn take(&self, most: usize, until: Option<Instant>) -> Vec<Arc<Alert>> {
        loop {
            let taken = self.lock().queue.take(most);
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
        let Held { queue, state } = &mut *held;
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
async fn run(target: Target, desk: Arc<Desk>) {
    let (batch, mut manager) = (target.batch(), Manager::default());
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
mod tests;
