//! Load from the client: threads that ask until they are stopped, and count what went wrong.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::{
    http::{self, Connection},
    netns::Namespace,
    wait::{PATIENCE, eventually},
};

/// How many error texts a report keeps.
const ERRORS_KEPT: usize = 5;

/// What the load looks like.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    /// How many ask at once.
    pub threads: usize,
    /// Whether a thread keeps its connection from request to request.
    pub keep_alive: bool,
    /// How long a thread rests after a request.
    pub pause: Duration,
}

impl Default for Pattern {
    /// Eight at once, a connection for each request, a breath in between so that two cores are
    /// enough for the client, the balancer and the servers together.
    fn default() -> Self {
        Self { threads: 8, keep_alive: false, pause: Duration::from_millis(2) }
    }
}

/// What a load has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Requests answered with 200.
    pub ok: u64,
    /// Every other request.
    pub failed: u64,
    /// The first errors' texts.
    pub errors: Vec<String>,
    /// Answers by the name in their body, which is the backend's.
    pub by_backend: BTreeMap<String, u64>,
}

impl Report {
    /// Fails if a single request failed, or if none was made.
    pub fn flawless(&self) -> Result<()> {
        ensure!(self.ok > 0, "the load made no request");
        ensure!(
            self.failed == 0,
            "{} of {} requests failed; the first errors: {:#?}",
            self.failed,
            self.ok + self.failed,
            self.errors
        );
        Ok(())
    }

    /// Adds what another load has seen.
    pub fn add(&mut self, other: Self) {
        self.ok += other.ok;
        self.failed += other.failed;
        self.errors.extend(other.errors);
        self.errors.truncate(ERRORS_KEPT);
        for (name, count) in other.by_backend {
            *self.by_backend.entry(name).or_default() += count;
        }
    }

    fn count(&mut self, outcome: Result<http::Response>) {
        match outcome {
            Ok(response) if response.status == 200 => {
                self.ok += 1;
                *self.by_backend.entry(response.text()).or_default() += 1;
            }
            Ok(response) => self.fail(format!("status {}", response.status)),
            Err(error) => self.fail(format!("{error:#}")),
        }
    }

    fn fail(&mut self, error: String) {
        self.failed += 1;
        if self.errors.len() < ERRORS_KEPT {
            self.errors.push(error);
        }
    }
}

/// A running load. Dropping it stops it.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<Report>>>,
}

impl Load {
    /// Starts asking `server` for `/` from inside `client`.
    pub fn start(client: &Namespace, server: SocketAddr, pattern: Pattern) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (done, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let threads = (0..pattern.threads).map(|_| {
            let stop = Arc::clone(&stop);
            let (done, failed) = (Arc::clone(&done), Arc::clone(&failed));
            client.spawn(move || Ok(work(server, pattern, &stop, (&done, &failed))))
        });
        let threads = threads.collect::<Result<_>>()?;
        Ok(Self { stop, done, failed, threads })
    }

    /// How many requests have been made so far, failed ones too.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// How many requests have failed so far.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Waits until `more` requests have been made from now on: the way to say "under load for a
    /// while" without a clock.
    pub fn proceed(&self, more: u64) -> Result<()> {
        let goal = self.requests() + more;
        eventually(&format!("{more} more requests are made"), PATIENCE, || {
            let requests = self.requests();
            ensure!(requests >= goal, "{requests} of {goal}");
            Ok(())
        })
    }

    /// Stops it and tells what it saw.
    pub fn stop(mut self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let mut report = Report::default();
        for thread in self.threads.drain(..) {
            report.add(thread.join().map_err(|_| anyhow!("a load thread panicked"))??);
        }
        Ok(report)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Makes exactly `count` requests from inside `client`, each on a connection of its own, spread
/// over `threads`.
pub fn requests(
    client: &Namespace,
    server: SocketAddr,
    count: u64,
    threads: u64,
) -> Result<Report> {
    client.run(|| {
        let tickets = Arc::new(AtomicU64::new(0));
        let spawn = |_| {
            let tickets = Arc::clone(&tickets);
            // A thread inherits the namespace of the thread that starts it.
            thread::spawn(move || {
                let mut report = Report::default();
                while tickets.fetch_add(1, Ordering::Relaxed) < count {
                    report.count(http::get(server, "/"));
                }
                report
            })
        };
        let workers: Vec<_> = (0..threads).map(spawn).collect();
        let mut report = Report::default();
        for worker in workers {
            report.add(worker.join().map_err(|_| anyhow!("a request thread panicked"))?);
        }
        Ok(report)
    })
}

fn work(
    server: SocketAddr,
    pattern: Pattern,
    stop: &AtomicBool,
    (done, failed): (&AtomicU64, &AtomicU64),
) -> Report {
    let mut report = Report::default();
    let mut kept = None;
    while !stop.load(Ordering::Relaxed) {
        let outcome =
            if pattern.keep_alive { ask_again(server, &mut kept) } else { http::get(server, "/") };
        let before = report.failed;
        report.count(outcome);
        failed.fetch_add(report.failed - before, Ordering::Relaxed);
        done.fetch_add(1, Ordering::Relaxed);
        thread::sleep(pattern.pause);
    }
    report
}

fn ask_again(server: SocketAddr, kept: &mut Option<Connection>) -> Result<http::Response> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Connection::open(server).context("open a connection to keep")?,
    };
    let response = connection.get("/")?;
    *kept = Some(connection);
    Ok(response)
}
