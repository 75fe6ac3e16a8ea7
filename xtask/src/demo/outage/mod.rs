//! `cargo xtask demo --story outage`: the post-mortem's own incident, first as it was, then with what
//! Evenkeel does at each step. The visitors, their number and the servers' memory are the same in both.

mod stage;
mod visitors;

use std::{path::Path, time::Instant};

use anyhow::{Context as _, Result};
use evenkeel_tests::evenkeel::Outcome;

use self::{
    stage::{Stage, VISITORS},
    visitors::{Tally, Visitors},
};
use super::{
    interrupt::Interrupt,
    screen::{Screen, grouped},
    stage::SERVICE,
};
pub(crate) use stage::MEMORY;

/// How many steps it has.
pub(super) const STEPS: u32 = 9;

/// How many requests are "for a while".
const A_WHILE: u64 = 200;
/// How many answers with 500 in a row are "every request".
const EVERY: u64 = 100;
/// How many are turned away before it counts as "the others".
const TOLD: u64 = 20;

pub(super) const INTRODUCTION: &str = "\
This builds five network namespaces on this machine and joins them by virtual cables. Nothing
outside them is touched, and everything is taken down at the end.

                                          +--- web-01  nginx, shop
    client ------------ [ edge ] ---------+--- web-02  nginx, shop
    24 visitors         192.0.2.10:80     +--- web-03  nginx, shop: the spare, of part two
                        evenkeel: XDP program + daemon

It plays an outage again. Of two web servers one was taken out for a test and never put back; the
other served everything, ran out of memory, and every request returned 500.";

const THEN: &str = "  Evenkeel stands for the balancer of then: it has to be told `--for forever`, and nobody looks
  at what it says. The probe asks nginx and not the shop, as it did then.";

/// Plays it from the first cable to the last count, and takes it down; the daemon's log is kept at `log`
/// where something is not as it is told.
pub(super) fn play(screen: &mut Screen, interrupt: &Interrupt, log: &Path) -> Result<()> {
    let start = Instant::now();
    let mut stage = Stage::build(screen, interrupt)?;
    let story = Story { stage: &mut stage, screen, interrupt };
    let told = story.tell().and_then(|screen| {
        let seconds = start.elapsed().as_secs_f64();
        screen.line("")?;
        screen.good(&format!("Every claim above was checked, and is true. It took {seconds:.1} s."))
    });
    let told = told.map_err(|error| {
        if interrupt.came() { error } else { super::save_log(&stage.balancer.log(), log, error) }
    });
    let taken_down = stage.take_down(screen);
    if let (Err(_), Err(error)) = (&told, &taken_down) {
        eprintln!("error: {error:#}");
    }
    told.and(taken_down)
}

struct Story<'a, 's> {
    stage: &'s mut Stage,
    screen: &'a mut Screen,
    interrupt: &'a Interrupt,
}

impl<'a> Story<'a, '_> {
    fn tell(mut self) -> Result<&'a mut Screen> {
        for backend in ["web-01", "web-02"] {
            self.await_state(backend, "active")?;
        }
        let then = self.then()?;
        self.repair()?;
        self.refused()?;
        let test = self.taken_out_again()?;
        let worst = self.the_worst()?;
        self.count(&then, &test, &worst)?;
        Ok(self.screen)
    }

    /// What happened.
    fn then(&mut self) -> Result<Tally> {
        self.screen.step("THEN: 24 visitors, two servers, a good day")?;
        let visitors = self.visitors()?;
        self.proceed(&visitors, A_WHILE)?;
        let good = visitors.tally();
        self.show(&["status"])?;
        self.screen.claim(
            good.failed() == 0,
            &format!(
                "{} requests, and not one failed: each server has half of the visitors",
                good.pages
            ),
        )?;

        self.screen.step("THEN: web-02 is taken out for a test, with no end")?;
        self.screen.line(THEN)?;
        self.show(&[
            "backend", "drain", "web-02", "--for", "forever", "--force", "--reason", "a test",
        ])?;
        let before = visitors.tally();
        let taken = self.screen.wait(self.interrupt, "every request to fail", || {
            Ok(visitors.tally().errors_in_a_row >= EVERY)
        })?;
        let after = visitors.tally().since(&before);
        self.screen.line(&format!(
            "  {:.1} s later: web-01 alone has all 24 visitors, more than its memory can serve",
            taken.as_secs_f64()
        ))?;
        let words = self.stage.shops[0].log();
        let words = words.lines().last().unwrap_or_default().to_owned();
        self.screen.output("tail -1 shop.log    # on web-01", &words)?;
        self.screen.claim(
            after.errors >= EVERY,
            &format!(
                "{} requests got 500, the last {} in a row: every request returns 500",
                after.errors, after.errors_in_a_row
            ),
        )?;
        self.screen.line("  This is what nobody looked at:")?;
        self.show(&["status"])?;
        self.show(&["alerts"])?;
        self.stop(visitors)
    }

    fn repair(&mut self) -> Result<()> {
        self.screen.step("THEN: somebody finds it, brings web-02 back and restarts web-01")?;
        self.show(&["backend", "resume", "web-02"])?;
        self.await_state("web-02", "active")?;
        self.stage.restart_shop(0)?;
        let visitors = self.visitors()?;
        self.proceed(&visitors, A_WHILE)?;
        let tally = self.stop(visitors)?;
        self.screen.claim(
            tally.errors == 0,
            &format!("{} requests, and no error: it was never more than that", tally.pages),
        )
    }

    /// A configuration that makes a lone survivor possible does not go live.
    fn refused(&mut self) -> Result<()> {
        self.screen.step("NOW: say what a server carries, and a bad configuration stays out")?;
        let text = self.stage.text(2);
        let bad = self.stage.candidate("two-servers.toml", &text)?;
        let outcome = self.stage.evenkeel(&["apply", &bad.to_string_lossy()])?;
        self.screen.output("evenkeel apply two-servers.toml; echo $?", &said(&outcome))?;
        self.screen.claim(
            outcome.code == 4,
            "refused (exit code 4), before anything changed: one server cannot carry what two do",
        )?;

        let text = self.stage.text(3);
        let good = self.stage.candidate("with-a-spare.toml", &text)?;
        self.show(&["apply", &good.to_string_lossy()])?;
        self.screen.claim(true, "with a spare it is verified, and goes live")?;
        self.await_state("web-03", "standby")
    }

    /// The same test, the same visitors.
    fn taken_out_again(&mut self) -> Result<Tally> {
        self.screen.step("NOW: web-02 is taken out for a test again, and forgotten again")?;
        let outcome = self.stage.evenkeel(&["backend", "drain", "web-02"])?;
        self.screen.output("evenkeel backend drain web-02", &said(&outcome))?;
        self.screen.claim(outcome.code == 2, "a drain has to say for how long, and why")?;
        let visitors = self.visitors()?;
        self.proceed(&visitors, A_WHILE)?;
        self.show(&["backend", "drain", "web-02", "--for", "6s", "--reason", "a test"])?;
        let start = Instant::now();
        self.await_state("web-03", "active")?;
        self.show(&["status"])?;
        self.screen
            .claim(true, "the spare has joined; two servers share the visitors, as before")?;
        self.await_state("web-02", "active")?;
        let taken = start.elapsed().as_secs_f64();
        self.show_log("web-02", "drain is up")?;
        self.screen
            .line(&format!("  nobody put it back: it returned by itself, {taken:.1} s later"))?;
        self.await_state("web-03", "standby")?;
        let tally = self.stop(visitors)?;
        self.screen.claim(
            tally.failed() == 0,
            &format!("{} requests from the drain to the return, and not one failed", tally.pages),
        )?;
        Ok(tally)
    }

    /// A lone survivor all the same: it is said at once, and it survives.
    fn the_worst(&mut self) -> Result<Tally> {
        self.screen.step("NOW: web-02 and the spare crash, and web-01 is alone after all")?;
        let visitors = self.visitors()?;
        self.proceed(&visitors, A_WHILE / 2)?;
        for number in [1, 2] {
            self.stage.nginx[number].crash()?;
        }
        for backend in ["web-02", "web-03"] {
            self.await_state(backend, "out")?;
        }
        let before = visitors.tally();
        // Who was refused by a server as it crashed is not told: the client's own second attempt, a second
        // later, goes elsewhere.
        self.screen.wait(self.interrupt, "visitors to be turned away", || {
            let alone = visitors.tally().since(&before);
            Ok(alone.turned_away >= TOLD && alone.pages >= A_WHILE)
        })?;
        let alone = visitors.tally().since(&before);
        self.await_alert("lone-survivor")?;
        self.show(&["alerts"])?;
        self.show(&["status"])?;
        self.screen.line(&format!(
            "  while it was alone: {} pages, {} turned away at once (max_connections), {} errors",
            alone.pages, alone.turned_away, alone.errors
        ))?;
        self.screen.claim(
            alone.errors == 0 && alone.pages > 0 && alone.turned_away > 0,
            "web-01 serves as many as it can, and does not fall over; the others are told at once",
        )?;
        for number in [1, 2] {
            let host = &self.stage.lab.backends[number];
            self.stage.nginx[number].launch(host)?;
        }
        self.await_state("web-02", "active")?;
        self.screen
            .line("  web-02 and the spare are started again; nobody has to put them back")?;
        let after = visitors.tally();
        self.proceed(&visitors, A_WHILE)?;
        let back = visitors.tally().since(&after);
        let tally = self.stop(visitors)?;
        self.screen.claim(
            back.errors == 0 && tally.errors == 0,
            &format!("{} requests in this step, and not one 500", grouped(tally.requests())),
        )?;
        Ok(tally)
    }

    fn count(&mut self, then: &Tally, test: &Tally, worst: &Tally) -> Result<()> {
        self.screen.step("What it came to")?;
        self.screen.line(
            "                                        requests   pages     500   turned away   lost",
        )?;
        for (what, tally) in [
            ("then: web-02 out, and forgotten", then),
            ("now:  web-02 out, and forgotten", test),
            ("now:  web-02 and the spare crash", worst),
        ] {
            self.screen.line(&format!(
                "  {what:36} {:>8} {:>7} {:>7} {:>13} {:>6}",
                grouped(tally.requests()),
                grouped(tally.pages),
                grouped(tally.errors),
                grouped(tally.turned_away),
                grouped(tally.lost)
            ))?;
        }
        self.screen.claim(
            then.errors > 0 && test.failed() == 0 && worst.errors == 0,
            "the same visitors, the same servers: the outage is not played twice",
        )
    }

    fn visitors(&self) -> Result<Visitors> {
        Visitors::start(&self.stage.lab.client.namespace, VISITORS)
    }

    /// Waits until the visitors have asked so many times more.
    fn proceed(&mut self, visitors: &Visitors, more: u64) -> Result<()> {
        let goal = visitors.tally().requests() + more;
        let done = || Ok(visitors.tally().requests() >= goal);
        self.screen.wait(self.interrupt, "visitors", done).map(drop)
    }

    /// Sends the visitors home and tells what became of their requests.
    fn stop(&mut self, visitors: Visitors) -> Result<Tally> {
        let tally = visitors.leave();
        if tally.lost > 0 {
            self.screen.line(&format!("  lost: {}, the last: {}", tally.lost, tally.last_loss))?;
        }
        Ok(tally)
    }

    fn await_state(&mut self, backend: &str, wanted: &str) -> Result<()> {
        let stage = &*self.stage;
        let look = || Ok(stage.state(backend)? == wanted);
        self.screen.wait(self.interrupt, &format!("{backend} to be {wanted}"), look).map(drop)
    }

    fn await_alert(&mut self, kind: &str) -> Result<()> {
        let stage = &*self.stage;
        let look = || {
            let status = stage.balancer.status()?;
            let alerts = status["alerts"].as_array();
            Ok(alerts.is_some_and(|alerts| alerts.iter().any(|alert| alert["kind"] == kind)))
        };
        self.screen.wait(self.interrupt, &format!("the alert {kind}"), look).map(drop)
    }

    /// Runs a command that has to succeed, and shows what it says.
    fn show(&mut self, arguments: &[&str]) -> Result<()> {
        let outcome = self.stage.evenkeel(arguments)?;
        let words: Vec<_> = arguments.iter().map(|word| quoted(word)).collect();
        let command = format!("evenkeel {}", words.join(" "));
        let said = said(&outcome);
        outcome.success().with_context(|| command.clone())?;
        self.screen.output(&command, &said)
    }

    /// Shows the daemon's own word about a backend.
    fn show_log(&mut self, backend: &str, says: &str) -> Result<()> {
        let stage = &*self.stage;
        let find = || {
            let log = stage.balancer.log();
            let mut lines = log.lines().rev();
            lines.find(|line| line.contains(says) && line.contains(backend)).map(str::to_owned)
        };
        let mut found = None;
        self.screen.wait(self.interrupt, "the daemon's log", || {
            found = find();
            Ok(found.is_some())
        })?;
        let line = found.with_context(|| format!("no word of {SERVICE}/{backend}"))?;
        self.screen.output(&format!("grep {backend} daemon.log | tail -1"), line.trim())
    }
}

/// Both streams, as a terminal shows them.
fn said(outcome: &Outcome) -> String {
    format!("{}{}", outcome.stdout, outcome.stderr)
}

/// A word as it is typed; of a path the last part.
fn quoted(word: &str) -> String {
    let word = word.rsplit('/').next().unwrap_or(word);
    if word.contains(' ') { format!("\"{word}\"") } else { word.to_owned() }
}
