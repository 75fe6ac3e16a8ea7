//! The time of a request, for a few that ask one after the other.
//!
//! `wrk` starts its clock when the connection stands, which hides the handshake of a connection
//! per request, or half of it behind a proxy. Here the clock runs from before the connect.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};

use crate::{
    http::{self, Connection},
    netns::Namespace,
};

/// How requests are made and timed.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// How many ask at once, each waiting for its answer.
    pub askers: usize,
    /// For how long.
    pub duration: Duration,
    /// Whether connections are kept from request to request. If so, making them is not timed;
    /// else the time ends with the server's end of the connection.
    pub keep_alive: bool,
}

/// The times of requests that were answered with 200, and how many were not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Requests answered.
    pub requests: u64,
    /// Requests that failed, or were answered with another status.
    pub failed: u64,
    /// The median time of a request.
    pub median: Duration,
    /// The time that 99 of 100 requests stayed below.
    pub percentile_99: Duration,
}

impl Times {
    /// Fails if a single request failed, or if none was made.
    pub fn flawless(&self) -> Result<()> {
        ensure!(self.requests > 0, "no request was answered");
        ensure!(self.failed == 0, "{} requests failed beside {}", self.failed, self.requests);
        Ok(())
    }

    fn of(mut times: Vec<Duration>, failed: u64) -> Self {
        times.sort_unstable();
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100);
            times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        let (median, percentile_99) = (at(50), at(99));
        Self { requests: times.len() as u64, failed, median, percentile_99 }
    }
}

impl Sampling {
    /// Asks for `/` from inside `client`; the askers take `servers` in turn.
    pub fn run(self, client: &Namespace, servers: &[SocketAddr]) -> Result<Times> {
        ensure!(!servers.is_empty(), "no server to ask");
        client.run(|| {
            // A thread inherits the namespace of the thread that starts it.
            let start = |&server| thread::spawn(move || self.ask(server));
            let askers: Vec<_> = servers.iter().cycle().take(self.askers).map(start).collect();
            let (mut times, mut failed) = (Vec::new(), 0);
            for asker in askers {
                let (more, bad) = asker.join().map_err(|_| anyhow!("an asker panicked"))?;
                times.extend(more);
                failed += bad;
            }
            Ok(Times::of(times, failed))
        })
    }

    fn ask(self, server: SocketAddr) -> (Vec<Duration>, u64) {
        let (mut times, mut failed) = (Vec::new(), 0);
        let mut kept = None;
        let end = Instant::now() + self.duration;
        while Instant::now() < end {
            let outcome = if self.keep_alive { again(server, &mut kept) } else { once(server) };
            match outcome {
                Ok(time) => times.push(time),
                Err(_) => failed += 1,
            }
        }
        (times, failed)
    }
}

fn once(server: SocketAddr) -> Result<Duration> {
    let start = Instant::now();
    let response = http::get(server, "/")?;
    let time = start.elapsed();
    good(&response).map(|()| time)
}

fn again(server: SocketAddr, kept: &mut Option<Connection>) -> Result<Duration> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Connection::open(server)?,
    };
    let start = Instant::now();
    let response = connection.get("/")?;
    let time = start.elapsed();
    *kept = Some(connection);
    good(&response).map(|()| time)
}

fn good(response: &http::Response) -> Result<()> {
    ensure!(response.status == 200, "status {}", response.status);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Times;

    fn milliseconds(times: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        times.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_times_that_were_seen() {
        let times = Times::of(milliseconds((1..=200).rev()), 0);
        assert_eq!(times.median, Duration::from_millis(100));
        assert_eq!(times.percentile_99, Duration::from_millis(198));
        assert_eq!(times.requests, 200);
        times.flawless().unwrap();
    }

    #[test]
    fn one_time_is_every_percentile() {
        let times = Times::of(milliseconds([7]), 0);
        assert_eq!((times.median, times.percentile_99), (times.median, times.median));
        assert_eq!(times.median, Duration::from_millis(7));
    }

    #[test]
    fn failures_and_silence_are_flaws() {
        assert!(Times::of(milliseconds([7]), 1).flawless().is_err());
        assert!(Times::of(Vec::new(), 0).flawless().is_err());
    }
}
