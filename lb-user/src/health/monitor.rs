//! The set of running probes: one task a target, and what each has seen so far.
//!
//! Keys are the caller's; this file must not know what they stand for. A task reports a change of
//! health exactly once, also when it is restarted between making the verdict and reporting it.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};
use tracing::warn;

use super::{Damping, Health, Held, ProbeFailure, ProbeSpec, Verdict, attempt};

/// Attempts while the health is unknown are at most this far apart.
const FIRST_VERDICT_INTERVAL: Duration = Duration::from_millis(200);
/// The first attempts of all probes are spread over at most this time.
const START_SPREAD: Duration = Duration::from_millis(100);
/// No configuration makes a task spin.
const MINIMUM_INTERVAL: Duration = Duration::from_millis(10);
/// Time between two warnings of probes that could not be made.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(10);
/// Nor does one overflow the clock.
const MAXIMUM_INTERVAL: Duration = Duration::from_hours(24);

/// A backend's health changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<K> {
    /// The caller's key of the probe.
    pub key: K,
    /// The health that was last reported (or given as initial).
    pub from: Health,
    /// The health now.
    pub to: Health,
    /// What decided it, for people.
    pub reason: String,
    /// When the deciding attempt ended.
    pub at: SystemTime,
}

/// What a probe has seen so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeState {
    /// The health as of the last attempt.
    pub health: Health,
    /// Since when it has been this.
    pub since: SystemTime,
    /// The same by the monotonic clock: how long that is, however the host's clock is set meanwhile.
    pub stands: std::time::Instant,
    /// When the last attempt ended; none has yet when absent.
    pub last_attempt: Option<SystemTime>,
    /// Why the last attempt failed; absent after a pass.
    pub last_error: Option<String>,
    /// How long the last attempt that passed took.
    pub latency: Option<Duration>,
    /// Passes in a row; zero after a failure.
    pub consecutive_passes: u32,
    /// Failures in a row; zero after a pass.
    pub consecutive_failures: u32,
    /// Why the backend is down though it may pass: it flapped.
    pub held: Option<Held>,
}

impl ProbeState {
    fn new(health: Health) -> Self {
        Self {
            health,
            since: SystemTime::now(),
            stands: Instant::now().into_std(),
            last_attempt: None,
            last_error: None,
            latency: None,
            consecutive_passes: 0,
            consecutive_failures: 0,
            held: None,
        }
    }
}

/// Runs the probes of a changing set of targets. Dropping it stops them all.
pub struct Monitor<K> {
    running: HashMap<K, Running>,
    board: Arc<Board<K>>,
    changes: mpsc::Sender<Change<K>>,
    generations: u64,
}

struct Running {
    spec: ProbeSpec,
    task: AbortHandle,
}

/// Reads what a [`Monitor`]'s probes have seen, from anywhere.
pub struct Reader<K>(Arc<Board<K>>);

struct Board<K> {
    entries: Mutex<HashMap<K, Entry>>,
    /// How late an attempt began since somebody asked, at the most, in microseconds.
    late: AtomicU64,
}

struct Entry {
    /// Which task may write here: an aborted one may still be running for a moment.
    generation: u64,
    /// The health that the receiver of changes knows.
    reported: Health,
    state: ProbeState,
    damping: Damping,
}

impl<K: Clone + Eq + Hash + Send + 'static> Monitor<K> {
    /// A monitor without probes, which reports to `changes`.
    ///
    /// A change may still be in the channel when its probe is stopped: the receiver passes over
    /// keys that it no longer knows.
    #[must_use]
    pub fn new(changes: mpsc::Sender<Change<K>>) -> Self {
        let board = Arc::new(Board { entries: Mutex::default(), late: AtomicU64::new(0) });
        Self { running: HashMap::new(), board, changes, generations: 0 }
    }

    /// Makes the running probes those of `wanted`, within a tokio runtime.
    ///
    /// Probes that are not wanted stop, new ones start from their initial health, unchanged ones go
    /// on undisturbed. One whose timing or kind changed starts again and keeps its health; one whose
    /// target changed starts from the initial health.
    pub fn set(&mut self, wanted: impl IntoIterator<Item = (K, ProbeSpec, Health)>) {
        let mut kept = HashSet::new();
        for (key, spec, initial) in wanted {
            kept.insert(key.clone());
            let previous = self.running.get(&key);
            if previous.is_some_and(|running| running.spec == spec) {
                continue;
            }
            let same_target = previous.is_some_and(|running| running.spec.target == spec.target);
            self.restart(key, spec, initial, same_target);
        }
        self.running.retain(|key, running| {
            let keep = kept.contains(key);
            if !keep {
                running.task.abort();
                self.board.lock().remove(key);
            }
            keep
        });
    }

    /// A handle that reads the state of every probe.
    #[must_use]
    pub fn reader(&self) -> Reader<K> {
        Reader(Arc::clone(&self.board))
    }

    fn restart(&mut self, key: K, spec: ProbeSpec, initial: Health, same_target: bool) {
        self.generations += 1;
        let generation = self.generations;
        let longest = spec.timing.flap_damping;
        let health = {
            let mut entries = self.board.lock();
            let entry = entries
                .entry(key.clone())
                .and_modify(|entry| {
                    entry.generation = generation;
                    if !same_target {
                        entry.reported = initial;
                        entry.state = ProbeState::new(initial);
                        entry.damping = Damping::new(longest, initial);
                    }
                    entry.damping.resume(longest, entry.state.health);
                })
                .or_insert_with(|| Entry {
                    generation,
                    reported: initial,
                    state: ProbeState::new(initial),
                    damping: Damping::new(longest, initial),
                });
            entry.state.health
        };
        let task = Task {
            key: key.clone(),
            spec: spec.clone(),
            generation,
            verdict: Verdict::new(health, spec.timing.rise, spec.timing.fall),
            board: Arc::clone(&self.board),
            changes: self.changes.clone(),
        };
        let running = Running { spec, task: tokio::spawn(task.run()).abort_handle() };
        if let Some(previous) = self.running.insert(key, running) {
            previous.task.abort();
        }
    }
}

impl<K> Drop for Monitor<K> {
    fn drop(&mut self) {
        for running in self.running.values() {
            running.task.abort();
        }
    }
}

impl<K: Clone + Eq + Hash> Reader<K> {
    /// What the probe under `key` has seen; nothing when there is no such probe.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<ProbeState> {
        self.0.lock().get(key).map(|entry| entry.state.clone())
    }

    /// What every probe has seen.
    #[must_use]
    pub fn all(&self) -> HashMap<K, ProbeState> {
        self.0.lock().iter().map(|(key, entry)| (key.clone(), entry.state.clone())).collect()
    }

    /// Who is held down because it flapped.
    #[must_use]
    pub fn held(&self) -> HashSet<K> {
        let entries = self.0.lock();
        let held = entries.iter().filter(|(_, entry)| entry.state.held.is_some());
        held.map(|(key, _)| key.clone()).collect()
    }

    /// Who counts as up because it was before, and has not passed yet.
    #[must_use]
    pub fn unproven(&self) -> HashSet<K> {
        let entries = self.0.lock();
        let is_unproven =
            |state: &ProbeState| state.health == Health::Up && state.latency.is_none();
        let unproven = entries.iter().filter(|(_, entry)| is_unproven(&entry.state));
        unproven.map(|(key, _)| key.clone()).collect()
    }

    /// How much later than it was due an attempt began, at the most, since this was last asked.
    #[must_use]
    pub fn take_lateness(&self) -> Duration {
        Duration::from_micros(self.0.late.swap(0, Ordering::Relaxed))
    }
}

impl<K> Clone for Reader<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Board<K> {
    /// Entries are whole between statements, so a panic elsewhere leaves nothing half-written.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_late(&self, late: Duration) {
        let late = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        self.late.fetch_max(late, Ordering::Relaxed);
    }
}

/// One target's probe, repeated until it is aborted.
struct Task<K> {
    key: K,
    spec: ProbeSpec,
    generation: u64,
    verdict: Verdict,
    board: Arc<Board<K>>,
    changes: mpsc::Sender<Change<K>>,
}

impl<K: Clone + Eq + Hash + Send + 'static> Task<K> {
    async fn run(mut self) {
        let interval = self.spec.timing.interval.clamp(MINIMUM_INTERVAL, MAXIMUM_INTERVAL);
        sleep(interval.min(START_SPREAD).mul_f64(fastrand::f64())).await;
        loop {
            let started = Instant::now();
            let result = attempt(&self.spec).await;
            let ended = Instant::now();
            if let Ok(latency) = result {
                // Where it had to wait for its turn.
                self.board.note_late((ended - started).saturating_sub(latency));
            }
            let result = match result {
                Err(failure) if failure.is_ours() => {
                    // It says nothing of the backend, whose health stays as it is.
                    say_ours(&failure);
                    sleep_until(started + interval).await;
                    continue;
                }
                result => result.map_err(|failure| failure.to_string()),
            };
            if !self.note(result) || !self.report().await {
                return;
            }
            let pause = match self.verdict.health() {
                Health::Unknown => interval.min(FIRST_VERDICT_INTERVAL),
                Health::Up | Health::Down => interval,
            };
            // 10 % either way, so that probes that started together drift apart.
            let next = started + pause.mul_f64(0.9 + 0.2 * fastrand::f64());
            let due = self.held_until().map_or(next, |until| next.min(until));
            sleep_until(due).await;
            // An attempt that takes longer than the interval makes nothing late.
            self.board.note_late(due.max(ended).elapsed());
        }
    }

    /// Writes the result on the board; `false` when the entry is no longer this task's.
    fn note(&mut self, result: Result<Duration, String>) -> bool {
        self.verdict.record(result.is_ok());
        self.with_entry(|entry, verdict| {
            let now = SystemTime::now();
            let health = entry.damping.judge(verdict.health(), Instant::now().into_std());
            let state = &mut entry.state;
            state.held = entry.damping.held();
            if state.health != health {
                state.health = health;
                state.since = now;
                state.stands = Instant::now().into_std();
            }
            state.last_attempt = Some(now);
            state.consecutive_passes = verdict.consecutive_passes();
            state.consecutive_failures = verdict.consecutive_failures();
            match result {
                Ok(latency) => {
                    state.latency = Some(latency);
                    state.last_error = None;
                }
                Err(error) => state.last_error = Some(error),
            }
        })
        .is_some()
    }

    /// Sends the health if the receiver does not know it yet; `false` when there is no use going on.
    async fn report(&mut self) -> bool {
        let due = self.with_entry(|entry, _| entry.reported != entry.state.health);
        match due {
            None => return false,
            Some(false) => return true,
            Some(true) => {}
        }
        // Room first, then mark and send without a pause: an abort in between can neither lose
        // the change nor repeat it.
        let Ok(room) = self.changes.reserve().await else {
            return false;
        };
        self.with_entry(|entry, verdict| {
            let from = std::mem::replace(&mut entry.reported, entry.state.health);
            room.send(Change {
                key: self.key.clone(),
                from,
                to: entry.state.health,
                reason: reason(&entry.state, verdict),
                at: entry.state.since,
            });
        })
        .is_some()
    }

    /// When a backend that passes again may return: it is asked then, and not an interval later.
    fn held_until(&self) -> Option<Instant> {
        let held = self.with_entry(|entry, _| entry.state.held).flatten()?;
        (self.verdict.health() == Health::Up).then_some(held.until.into())
    }

    fn with_entry<T>(&self, act: impl FnOnce(&mut Entry, &Verdict) -> T) -> Option<T> {
        let mut entries = self.board.lock();
        let entry =
            entries.get_mut(&self.key).filter(|entry| entry.generation == self.generation)?;
        Some(act(entry, &self.verdict))
    }
}

/// Warns of probes that this host could not make, now and then: there may be thousands.
fn say_ours(failure: &ProbeFailure) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_none_or(|last| last.elapsed() >= BETWEEN_WARNINGS) {
        *last = Some(Instant::now());
        warn!(
            "this host lacks what a probe needs, so backends keep the health that they had: \
             {failure}; raise the daemon's limits (LimitNOFILE=, LimitNPROC=)"
        );
    }
}

fn reason(state: &ProbeState, verdict: &Verdict) -> String {
    let (passes, failures) = (verdict.consecutive_passes(), verdict.consecutive_failures());
    let mut reason = match &state.last_error {
        None if passes == 1 => "a probe passed".to_owned(),
        None => format!("{passes} probes in a row passed"),
        Some(error) if failures == 1 => format!("a probe failed: {error}"),
        Some(error) => format!("{failures} probes in a row failed, the last: {error}"),
    };
    if let Some(held) = &state.held {
        // Writing to a string does not fail.
        let _ = write!(reason, "; {held}");
    }
    reason
}

#[cfg(test)]
mod tests;
