//! What looking on costs the data path: requests a second through the balancer, alone and while it is scraped,
//! watched in a browser's place and in a terminal, and its connections are listed, all at once.
//!
//! Turns are taken there and back in every round. Those who look on run on the machine's processors, too, beside
//! client, edge and servers: what they take from these is counted against them. Because a few per cent drown in the
//! noise of such a machine, the processor time of the edge's processes is told, too: of the controller alone, and of it
//! with those who look on.

use std::{
    fmt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{
    evenkeel::binary,
    process::Process,
    settings::Settings,
    stage::Stage,
    topology::{Family, Wiring},
    wait::eventually,
    wrk::{Summary, Wrk},
};
use serde_json::{Value, json};

use crate::report::Spread;

/// Connections at once.
const CONNECTIONS: u32 = 64;
/// What part of the requests a second there shall be at the least while all look on.
const TARGET: f64 = 0.98;
/// Time between two scrapes and between two listings: Prometheus' own default is a minute.
const PAUSES: [(&str, f32); 2] = [("scrape", 5.0), ("list", 5.0)];
const KINDS: [(&str, bool); 2] = [("keep-alive", true), ("a connection per request", false)];
const START: Duration = Duration::from_secs(15);

/// What was measured.
pub struct Observers {
    load: Duration,
    runs: Vec<Run>,
}

/// One way to use connections: a turn alone and one looked on, round by round.
struct Run {
    name: &'static str,
    rounds: Vec<(Turn, Turn)>,
}

/// What a turn came to.
#[derive(Clone, Copy)]
struct Turn {
    /// Requests a second.
    requests: f64,
    /// Processor time of the edge's processes, in seconds a second.
    edge: f64,
}

/// Those who look on; they end when this is dropped.
struct Crowd {
    _others: Vec<Process>,
    terminal: Terminal,
}

/// `evenkeel top` in a terminal of its own.
struct Terminal {
    socket: std::path::PathBuf,
}

/// Measures.
pub fn measure(quick: bool) -> Result<Observers> {
    let (rounds, seconds) = if quick { (4, 6) } else { (9, 10) };
    let load = Duration::from_secs(seconds);
    let stage = Stage::new(Wiring::Direct, 2, Settings::web).context("start the balancer")?;
    let mut runs = Vec::new();
    for (name, keep_alive) in KINDS {
        let wrk = Wrk { connections: CONNECTIONS, duration: load, keep_alive };
        let mut all = Vec::new();
        // The first round only warms up.
        for round in 0..=rounds {
            let pair = if round % 2 == 0 {
                let alone = ask(&stage, wrk)?;
                (alone, watched(&stage, wrk)?)
            } else {
                let watched = watched(&stage, wrk)?;
                (ask(&stage, wrk)?, watched)
            };
            all.push(pair);
            eprintln!("requests looked on, {name}: round {round} of {rounds}");
        }
        all.remove(0);
        runs.push(Run { name, rounds: all });
    }
    Ok(Observers { load, runs })
}

fn ask(stage: &Stage, wrk: Wrk) -> Result<Turn> {
    let edge = &stage.lab.edge.namespace;
    let (before, began) = (edge.processor_time()?, Instant::now());
    let summary: Summary = wrk.run(stage.client(), Family::V4.service(80))?;
    let took = edge.processor_time()?.saturating_sub(before);
    summary.flawless()?;
    stage.nginx.iter().try_for_each(evenkeel_tests::servers::Nginx::forget)?;
    let edge = took.as_secs_f64() / began.elapsed().as_secs_f64();
    Ok(Turn { requests: summary.per_second, edge })
}

fn watched(stage: &Stage, wrk: Wrk) -> Result<Turn> {
    let crowd = Crowd::gather(stage)?;
    let seen = ask(stage, wrk)?;
    crowd.is_there()?;
    Ok(seen)
}

impl Crowd {
    fn gather(stage: &Stage) -> Result<Self> {
        let directory = stage.scratch();
        let socket = stage.balancer.socket_path();
        let evenkeel = format!("{} --socket {}", binary()?.display(), socket.display());
        let listener = "http://127.0.0.1:9650";
        let [scrape, list] = PAUSES.map(|(_, pause)| pause);
        let scripts = [
            ("scrape", format!("while :; do curl -s {listener}/metrics; sleep {scrape}; done")),
            ("dashboard", format!("exec curl -s -N {listener}/v1/stream")),
            ("list", format!("while :; do {evenkeel} connections list; sleep {list}; done")),
        ];
        let start = |(name, script): &(&str, String)| {
            let mut command = stage.lab.edge.namespace.command("sh");
            command.args(["-c", &format!("({script}) >/dev/null")]);
            Process::start(name, command, directory)
        };
        let others = scripts.iter().map(start).collect::<Result<Vec<_>>>()?;
        let terminal = Terminal::open(stage, &format!("{evenkeel} top"), directory)?;
        Ok(Self { _others: others, terminal })
    }

    /// Makes sure that they did look on.
    fn is_there(&self) -> Result<()> {
        let screen = self.terminal.screen()?;
        ensure!(screen.contains("web-01"), "top shows {screen}");
        Ok(())
    }
}

impl Terminal {
    fn open(stage: &Stage, command: &str, directory: &Path) -> Result<Self> {
        let terminal = Self { socket: directory.join("tmux") };
        let mut server = stage.lab.edge.namespace.command("tmux");
        server.arg("-S").arg(&terminal.socket);
        let size = ["new-session", "-d", "-x", "120", "-y", "40", command];
        let status = server.args(size).stdin(Stdio::null()).status().context("run tmux")?;
        ensure!(status.success(), "tmux: {status}");
        eventually("top shows the backends", START, || {
            let screen = terminal.screen()?;
            ensure!(screen.contains("web-01"), "{screen}");
            Ok(())
        })?;
        Ok(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("tmux");
        let output = command.arg("-S").arg(&self.socket).args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}

impl Run {
    fn ratio(&self) -> Spread {
        Spread::of(self.rounds.iter().map(|(alone, watched)| watched.requests / alone.requests))
    }

    /// The median of something over the turns alone, and over those looked on.
    fn medians(&self, of: impl Fn(&Turn) -> f64) -> (f64, f64) {
        let alone = Spread::of(self.rounds.iter().map(|(alone, _)| of(alone))).median;
        (alone, Spread::of(self.rounds.iter().map(|(_, watched)| of(watched))).median)
    }
}

impl Observers {
    /// As JSON.
    pub fn json(&self) -> Value {
        let run = |run: &Run| {
            let turn = |turn: &Turn| json!({ "requests": turn.requests, "edge": turn.edge });
            let rounds = run.rounds.iter().map(|(alone, watched)| [turn(alone), turn(watched)]);
            let rounds: Vec<_> = rounds.collect();
            json!({ "name": run.name, "ratio": run.ratio().json(), "rounds": rounds })
        };
        json!({
            "target": TARGET, "seconds": self.load.as_secs_f64(),
            "runs": self.runs.iter().map(run).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "requests per second while scraped and listed every {:.0} s and watched in a browser's place and in \
             a terminal, to those without; {} s a turn, target {TARGET:.2}",
            PAUSES[0].1,
            self.load.as_secs()
        )?;
        for run in &self.runs {
            let Spread { median, least, most } = run.ratio();
            let (alone, watched) = run.medians(|turn| turn.requests);
            let (daemon, crowd) = run.medians(|turn| turn.edge * 100.0);
            write!(
                f,
                "\n{:26} {alone:>8.0} alone {watched:>8.0} looked on, ratio {median:.3} ({least:.3}-{most:.3}); \
                 the edge's processes {daemon:.1} % of a core alone, {crowd:.1} % looked on",
                run.name
            )?;
        }
        Ok(())
    }
}
