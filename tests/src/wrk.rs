//! The load generator `wrk`, and what it prints.

use std::{fmt::Write as _, io::Write as _, net::SocketAddr, process::Output, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::netns::{Namespace, succeeded};

/// What to let `wrk` do.
#[derive(Clone, Copy, Debug)]
pub struct Wrk {
    /// Connections at once.
    pub connections: u32,
    /// For how long.
    pub duration: Duration,
    /// Whether connections are kept from request to request.
    pub keep_alive: bool,
}

/// The summary that `wrk` prints.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Requests answered.
    pub requests: u64,
    /// Answers per second.
    pub per_second: f64,
    /// Answers with another status than 2xx or 3xx.
    pub bad_status: u64,
    /// Connections that could not be made.
    pub connect_errors: u64,
    /// Reads that failed.
    pub read_errors: u64,
    /// Writes that failed.
    pub write_errors: u64,
    /// Requests that took longer than two seconds.
    pub timeouts: u64,
    /// The median time of a request.
    pub median: Duration,
    /// The time that 99 of 100 requests stayed below.
    pub percentile_99: Duration,
}

impl Summary {
    /// Fails if anything went wrong at all.
    pub fn flawless(&self) -> Result<()> {
        ensure!(self.requests > 0, "wrk made no request");
        let errors = self.connect_errors
            + self.read_errors
            + self.write_errors
            + self.timeouts
            + self.bad_status;
        ensure!(errors == 0, "wrk saw errors: {self:#?}");
        Ok(())
    }
}

impl Wrk {
    /// Runs inside `client` against `server`.
    pub fn run(self, client: &Namespace, server: SocketAddr) -> Result<Summary> {
        self.start(client, server, &[])
    }

    /// Runs inside `client` against both of `servers`: each of the two threads has one of them.
    pub fn run_split(self, client: &Namespace, servers: [SocketAddr; 2]) -> Result<Summary> {
        let mut script = tempfile::Builder::new().suffix(".lua").tempfile()?;
        let mut lines = "local servers, nth = {}, 0\n".to_owned();
        for server in servers {
            let _ = writeln!(
                lines,
                "servers[#servers + 1] = wrk.lookup(\"{}\", \"{}\")[1]",
                server.ip(),
                server.port()
            );
        }
        lines.push_str(
            "function setup(thread)\n  thread.addr = servers[nth % #servers + 1]\n  \
             nth = nth + 1\nend\n",
        );
        script.write_all(lines.as_bytes()).context("write wrk's script")?;
        let path = script.path().display().to_string();
        self.start(client, servers[0], &["--script", &path])
    }

    fn start(self, client: &Namespace, server: SocketAddr, more: &[&str]) -> Result<Summary> {
        let mut command = client.command("wrk");
        command.args(more);
        command.args(["--latency", "--threads", "2"]);
        command.arg("--connections").arg(self.connections.to_string());
        command.arg("--duration").arg(format!("{}s", self.duration.as_secs()));
        if !self.keep_alive {
            command.args(["--header", "Connection: close"]);
        }
        let output: Output = command
            .arg(format!("http://{server}/"))
            .output()
            .context("run wrk: is it installed?")?;
        let text = succeeded("wrk", output)?;
        parse(&text).with_context(|| format!("understand what wrk printed:\n{text}"))
    }
}

fn parse(text: &str) -> Result<Summary> {
    let mut summary = Summary::default();
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words.as_slice() {
            [count, "requests", "in", ..] => summary.requests = count.parse()?,
            ["Requests/sec:", rate] => summary.per_second = rate.parse()?,
            ["50%", time] => summary.median = duration(time)?,
            ["99%", time] => summary.percentile_99 = duration(time)?,
            [
                "Socket",
                "errors:",
                "connect",
                connect,
                "read",
                read,
                "write",
                write,
                "timeout",
                timeout,
            ] => {
                summary.connect_errors = connect.trim_end_matches(',').parse()?;
                summary.read_errors = read.trim_end_matches(',').parse()?;
                summary.write_errors = write.trim_end_matches(',').parse()?;
                summary.timeouts = timeout.parse()?;
            }
            ["Non-2xx", .., count] => summary.bad_status = count.parse()?,
            _ => {}
        }
    }
    Ok(summary)
}

fn duration(text: &str) -> Result<Duration> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).context("a time without a unit")?;
    let value: f64 = text[..split].parse()?;
    let seconds = match &text[split..] {
        "us" => value / 1e6,
        "ms" => value / 1e3,
        "s" => value,
        "m" => value * 60.0,
        unit => anyhow::bail!("{unit} is no unit of time"),
    };
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::parse;

    const CLEAN: &str = "\
Running 1s test @ http://127.0.0.1:8080/
  2 threads and 256 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     6.05ms    3.01ms  31.31ms   88.85%
    Req/Sec    21.51k     2.68k   26.10k    70.00%
  Latency Distribution
     50%    5.50ms
     75%    6.64ms
     90%    8.54ms
     99%   20.90ms
  42850 requests in 1.01s, 7.03MB read
Requests/sec:  42445.46
Transfer/sec:      6.96MB
";

    #[test]
    fn a_clean_run_is_flawless() {
        let summary = parse(CLEAN).unwrap();
        assert_eq!(summary.requests, 42_850);
        assert_eq!(summary.median, Duration::from_micros(5500));
        assert!((summary.per_second - 42_445.46).abs() < 0.001);
        summary.flawless().unwrap();
    }

    #[test]
    fn errors_are_read() {
        let text = format!(
            "{CLEAN}  Socket errors: connect 1, read 2, write 3, timeout 4\n  \
             Non-2xx or 3xx responses: 5\n"
        );
        let summary = parse(&text).unwrap();
        let seen = [
            summary.connect_errors,
            summary.read_errors,
            summary.write_errors,
            summary.timeouts,
            summary.bad_status,
        ];
        assert_eq!(seen, [1, 2, 3, 4, 5]);
        assert!(summary.flawless().is_err());
    }
}
