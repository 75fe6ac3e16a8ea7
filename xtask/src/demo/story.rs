//! The story, and that it is true: every number on the screen is one that was compared.

use std::time::Duration;

use anyhow::{Context as _, Result};
use evenkeel_tests::{
    evenkeel::Outcome,
    load::{Load, Pattern, Report},
    topology::Family,
};

use super::{
    interrupt::Interrupt,
    screen::{Screen, grouped},
    stage::{SERVICE, Stage},
};

const CONNECTIONS: u64 = 1000;

/// How many requests are "and traffic goes on".
const A_WHILE: u64 = 200;

/// A steady trickle, about 200 a second: failures are to be counted, not to flood.
const TRICKLE: Pattern =
    Pattern { threads: 4, keep_alive: false, pause: Duration::from_millis(20) };

const MORAL: &str = "
  In the outage of the post-mortem web-02 had been taken out by hand, and nobody put it back.
  Here a server that fails leaves and returns by its probes alone. One that is taken out by
  hand (`evenkeel backend remove`) is gone from the configuration file too, with a warning
  when only one is left: none stands there, looks configured, and is silently unused.";

/// Tells it from the first status to the last counters.
pub(super) fn tell(stage: &mut Stage, screen: &mut Screen, interrupt: &Interrupt) -> Result<()> {
    let mut story = Story { stage, screen, interrupt, answered: [0; 2], lost: 0 };
    story.begin()?;
    story.share_equally("1,000 connections, while both servers are well")?;
    story.crash()?;
    story.come_back()?;
    story.count()
}

struct Story<'a> {
    stage: &'a mut Stage,
    screen: &'a mut Screen,
    interrupt: &'a Interrupt,
    /// Connections on which the client got an answer, by backend.
    answered: [u64; 2],
    /// Those on which it got none.
    lost: u64,
}

impl Story<'_> {
    fn begin(&mut self) -> Result<()> {
        for backend in ["web-01", "web-02"] {
            self.await_active(backend, true)?;
        }
        self.show("status")?;
        self.screen.claim(true, "the probes find both servers well, and both are active")
    }

    fn share_equally(&mut self, title: &str) -> Result<()> {
        self.screen.step(title)?;
        self.shares()
    }

    /// The heart of it: exactly half and half, by everyone who counts.
    fn shares(&mut self) -> Result<()> {
        let before = self.stage.tally()?;
        let report = self.stage.ask(CONNECTIONS, self.screen, self.interrupt)?;
        self.note(&report);
        let after = self.stage.tally()?;
        let since =
            |after: [u64; 2], before: [u64; 2]| [after[0] - before[0], after[1] - before[1]];
        let answered = ["web-01", "web-02"].map(|name| answers(&report, name));
        let served = since(after.served, before.served);
        let balanced = since(after.balanced, before.balanced);

        self.screen.line("                                    web-01  web-02")?;
        for (who, [first, second]) in [
            ("answers that the client got", answered),
            ("requests that the server counted", served),
            ("connections that evenkeel counted", balanced),
        ] {
            self.screen.line(&format!("  {who:33} {first:>6}  {second:>6}"))?;
        }
        self.screen.claim(
            [answered, served, balanced] == [[CONNECTIONS / 2; 2]; 3],
            "exactly half and half, by three independent counts",
        )?;
        self.screen.claim(report.failed == 0, "not one request failed")
    }

    fn crash(&mut self) -> Result<()> {
        self.screen.step("web-02 crashes, in the middle of traffic")?;
        let load = self.trickle()?;
        self.proceed(&load, A_WHILE / 2, "traffic to flow")?;
        let (made_before, failed_before) = (load.requests(), load.failures());
        self.stage.crash_web_02();
        let taken = self.await_active("web-02", false)?;
        // What is asked before and after the ejection is counted apart; traffic never pauses.
        let next = self.trickle()?;
        let during = load.stop()?;
        self.note(&during);
        self.screen.line(&format!(
            "  web-02 was out {} ms after its crash: 3 probes in a row failed, 200 ms apart",
            taken.as_millis()
        ))?;
        self.show_log("down")?;
        self.screen.line(&format!(
            "  until then every second connection still went to it: of {} requests {} failed",
            during.ok + during.failed - made_before,
            during.failed
        ))?;
        self.screen.claim(failed_before == 0, "before the crash none had failed")?;

        self.proceed(&next, A_WHILE, "traffic to go on")?;
        let after = next.stop()?;
        self.note(&after);
        self.show("status")?;
        self.screen.claim(
            after.failed == 0 && answers(&after, "web-01") == after.ok,
            &format!("after that, web-01 answered {} requests, and none failed", after.ok),
        )
    }

    fn come_back(&mut self) -> Result<()> {
        self.screen.step("web-02 is started again; nobody has to put it back")?;
        let load = self.trickle()?;
        self.stage.restart_web_02()?;
        let taken = self.await_active("web-02", true)?;
        self.proceed(&load, A_WHILE / 2, "traffic to go on")?;
        let report = load.stop()?;
        self.note(&report);
        self.screen.line(&format!(
            "  web-02 was active {} ms after its start: 2 probes in a row succeeded",
            taken.as_millis()
        ))?;
        self.show_log("up")?;
        let made = report.ok + report.failed;
        self.screen.claim(
            report.failed == 0,
            &format!("of {made} requests around its return not one failed"),
        )?;
        self.screen.line("\n  1,000 connections once more:")?;
        self.shares()
    }

    fn count(&mut self) -> Result<()> {
        self.screen.step("The counters")?;
        self.show("counters")?;
        let tally = self.stage.tally()?;
        let counted: u64 = tally.balanced.iter().sum();
        let ([first, second], lost) = (self.answered, self.lost);
        let made = first + second + lost;
        self.screen.claim(
            counted == made,
            &format!(
                "the client made {} connections, and evenkeel counted {}",
                grouped(made),
                grouped(counted)
            ),
        )?;
        self.screen.claim(
            tally.balanced == [first, second + lost] && tally.served[0] == first,
            &format!(
                "web-01 answered {}; web-02 answered {} and lost {}, all before it was out",
                grouped(first),
                grouped(second),
                grouped(lost)
            ),
        )?;
        self.screen.line(MORAL)
    }

    fn trickle(&self) -> Result<Load> {
        Load::start(self.stage.client(), Family::V4.service(80), TRICKLE)
    }

    /// Waits until `load` has made so many requests more.
    fn proceed(&mut self, load: &Load, more: u64, what: &str) -> Result<()> {
        let goal = load.requests() + more;
        self.screen.wait(self.interrupt, what, || Ok(load.requests() >= goal)).map(drop)
    }

    fn await_active(&mut self, backend: &str, active: bool) -> Result<Duration> {
        let what = format!("{backend} to be {}", if active { "active" } else { "out" });
        let stage = &*self.stage;
        self.screen.wait(self.interrupt, &what, || Ok(stage.is_active(backend)? == active))
    }

    fn note(&mut self, report: &Report) {
        self.answered[0] += answers(report, "web-01");
        self.answered[1] += answers(report, "web-02");
        self.lost += report.failed;
    }

    /// Runs a reading command and shows what it prints.
    fn show(&mut self, command: &str) -> Result<()> {
        let outcome = self.stage.balancer.cli(&[command]).and_then(Outcome::success);
        let output = outcome.with_context(|| format!("run evenkeel {command}"))?;
        self.screen.output(&format!("evenkeel {command}"), &output)
    }

    /// Shows the daemon's own word for web-02's health.
    fn show_log(&mut self, health: &str) -> Result<()> {
        let news = format!("backend is {health}");
        let stage = &*self.stage;
        let find = || {
            let log = stage.balancer.log();
            let mut lines = log.lines().rev();
            let line = lines.find(|line| line.contains(&news) && line.contains("web-02"));
            line.map(str::to_owned)
        };
        let mut found = None;
        self.screen.wait(self.interrupt, "the daemon's log", || {
            found = find();
            Ok(found.is_some())
        })?;
        let line = found.with_context(|| format!("no news of {SERVICE}/web-02"))?;
        self.screen.output("tail -1 daemon.log", line.trim())
    }
}

fn answers(report: &Report, backend: &str) -> u64 {
    report.by_backend.get(backend).copied().unwrap_or(0)
}
