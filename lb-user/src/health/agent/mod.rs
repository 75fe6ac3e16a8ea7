//! Agents: a line that a backend says for itself, beside what probes see of it.
//!
//! [`report`] reads such a line; this file asks for it again and again. Neither knows what a word
//! brings about: that is the controller's.

mod report;

use std::{fmt, hash::Hash, io, net::SocketAddr, time::Duration};

use serde::{Serialize, Serializer};
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};

pub use self::report::{AgentReport, NotAReport, Wants};
use crate::tasks::TaskSet;

/// Bytes of the longest line.
const LONGEST_LINE: usize = 256;
/// The first questions to all agents are spread over at most this time.
const START_SPREAD: Duration = Duration::from_millis(100);

/// How the agents of a service are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AgentCheck {
    /// The TCP port of the agent, at the backend's address.
    pub port: u16,
    /// From one question to the next.
    #[serde(serialize_with = "human")]
    pub interval: Duration,
    /// How long an agent may take.
    #[serde(serialize_with = "human")]
    pub timeout: Duration,
    /// For how long the last word stands when the agent says nothing any more.
    #[serde(serialize_with = "human")]
    pub keep: Duration,
}

/// An agent that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentSpec {
    /// Where it listens.
    pub target: SocketAddr,
    /// How it is asked.
    pub check: AgentCheck,
}

/// What is known of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentState {
    /// What stands: its last report, unless that is too long ago.
    pub report: Option<AgentReport>,
    /// Why it could not be asked, or not be understood, the last time.
    pub trouble: Option<String>,
}

/// An agent said something else, or fell silent, or its word was forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentChange<K> {
    /// The caller's key of the agent.
    pub key: K,
    /// What is known of it now.
    pub state: AgentState,
}

/// Why an agent gave no report.
#[derive(Debug, thiserror::Error)]
enum Silent {
    #[error("it did not answer within {}ms", .0.as_millis())]
    Timeout(Duration),
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("the connection broke: {0}")]
    Read(#[source] io::Error),
    #[error("its line is longer than {LONGEST_LINE} bytes")]
    TooLong,
    #[error(transparent)]
    Words(#[from] NotAReport),
}

/// Asks a changing set of agents. Dropping it ends that.
pub struct Agents<K> {
    running: TaskSet<K, AgentSpec>,
    changes: mpsc::Sender<AgentChange<K>>,
}

impl<K: Clone + Eq + Hash + Send + 'static> Agents<K> {
    /// Asks nobody yet, and reports to `changes`. A change may still be in the channel when its agent
    /// is not asked any more: the receiver passes over keys that it no longer knows.
    #[must_use]
    pub fn new(changes: mpsc::Sender<AgentChange<K>>) -> Self {
        Self { running: TaskSet::new(), changes }
    }

    /// Makes the agents that are asked those of `wanted`, within a tokio runtime. What is unchanged
    /// goes on undisturbed; what changed begins anew, and its first result is reported in any case.
    pub fn set(&mut self, wanted: impl IntoIterator<Item = (K, AgentSpec)>) {
        let changes = &self.changes;
        self.running.set(wanted, |key, spec| ask_on(key.clone(), *spec, changes.clone()));
    }
}

impl fmt::Display for AgentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.report, &self.trouble) {
            (Some(report), None) => report.fmt(f),
            (Some(report), Some(trouble)) => write!(f, "{report}; silent since: {trouble}"),
            (None, Some(trouble)) => write!(f, "silent: {trouble}"),
            (None, None) => f.write_str("not heard yet"),
        }
    }
}

/// Asks one agent until the task is aborted or nobody listens.
async fn ask_on<K: Clone>(key: K, spec: AgentSpec, changes: mpsc::Sender<AgentChange<K>>) {
    let AgentCheck { interval, keep, .. } = spec.check;
    let (mut told, mut heard) = (None::<AgentState>, Instant::now());
    sleep(interval.min(START_SPREAD).mul_f64(fastrand::f64())).await;
    loop {
        let started = Instant::now();
        let state = match ask(spec).await {
            Ok(report) => {
                heard = Instant::now();
                AgentState { report: Some(report), trouble: None }
            }
            Err(error) => {
                let known = told.as_ref().and_then(|told| told.report.clone());
                let report = known.filter(|_| heard.elapsed() < keep);
                AgentState { report, trouble: Some(error.to_string()) }
            }
        };
        let news = told.as_ref().is_none_or(|told| {
            // The words of an error may differ each time; that is no news.
            told.report != state.report || told.trouble.is_some() != state.trouble.is_some()
        });
        if news {
            told = Some(state.clone());
            if changes.send(AgentChange { key: key.clone(), state }).await.is_err() {
                return;
            }
        }
        sleep_until(started + interval.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
    }
}

/// Connects and reads a line.
async fn ask(spec: AgentSpec) -> Result<AgentReport, Silent> {
    let conversation = async {
        let mut stream = TcpStream::connect(spec.target).await.map_err(Silent::Connect)?;
        let mut line = Vec::with_capacity(LONGEST_LINE);
        let mut buffer = [0; LONGEST_LINE];
        loop {
            let read = stream.read(&mut buffer).await.map_err(Silent::Read)?;
            line.extend_from_slice(&buffer[..read]);
            let end = line.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let whole = end.unwrap_or(line.len());
            if whole > LONGEST_LINE {
                return Err(Silent::TooLong);
            }
            if end.is_some() || read == 0 {
                return Ok(String::from_utf8_lossy(&line[..whole]).parse()?);
            }
        }
    };
    let limit = spec.check.timeout;
    timeout(limit, conversation).await.unwrap_or(Err(Silent::Timeout(limit)))
}

fn human<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

#[cfg(test)]
mod tests;
