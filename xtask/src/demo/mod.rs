//! `cargo xtask demo`: the post-mortem's story, told by the real program in namespaces of its own.
//!
//! Here: what comes before the story and after it, whichever way it ends. What it shows and checks
//! is in [`story`]; nothing here knows how the balancer works inside.

mod explore;
mod interrupt;
mod outage;
mod screen;
mod stage;
mod story;

use std::{fs, path::Path, time::Instant};

use anyhow::{Context as _, Error, Result, bail};
use evenkeel_tests::servers::serve;
use xshell::Shell;

use self::{
    interrupt::Interrupt,
    screen::Screen,
    stage::{LeftBehind, Stage},
};
use crate::{build, host, setup, test, workspace};

const INTRODUCTION: &str = "\
This builds four network namespaces on this machine and joins them by virtual cables. Nothing
outside them is touched, and everything is taken down at the end.

                                          +--- web-01  10.0.1.11:8080
    client ------------ [ edge ] ---------+
    198.51.100.2        192.0.2.10:80     +--- web-02  10.0.2.12:8080
                        evenkeel: XDP program + daemon

It tells the outage that Evenkeel exists for: of two web servers one was taken out and forgotten;
the other served everything until it fell over.";

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Tale {
    /// A server crashes and comes back.
    Crash,
    /// The post-mortem's outage: as it was, and as it would be now.
    Outage,
}

/// How many steps the story of a crash has.
const STEPS: u32 = 6;

/// What `demo-shop` does: serves as a server's shop until it is killed.
pub(crate) fn shop(name: &str) -> Result<()> {
    serve(name, outage::MEMORY)
}

pub(crate) fn run(keep: bool, tale: Tale) -> Result<()> {
    host::require_root("the demo", "demo")?;
    let (introduction, steps) = match tale {
        Tale::Crash => (INTRODUCTION, STEPS),
        Tale::Outage => (outage::INTRODUCTION, outage::STEPS),
    };
    let mut screen = Screen::new(steps);
    screen.line(introduction)?;

    screen.step("Build evenkeel and what it takes")?;
    let shell = workspace::shell()?;
    let start = Instant::now();
    prepare(&shell, keep, tale)?;
    screen.line(&format!("  built in {:.1} s", start.elapsed().as_secs_f64()))?;

    let log = workspace::target_directory(&shell)?.join("demo-daemon.log");
    // From here on there is something to take down, whatever happens.
    let interrupt = Interrupt::catch()?;
    let played = match tale {
        Tale::Crash => play(&mut screen, &interrupt, keep, &log),
        Tale::Outage => outage::play(&mut screen, &interrupt, &log),
    };
    let _ = screen.clear();
    played.map_err(|error| {
        // What the signal broke off is no failure to talk about.
        if interrupt.came() && !error.is::<LeftBehind>() {
            Error::msg("interrupted before the end")
        } else {
            error
        }
    })
}

fn play(screen: &mut Screen, interrupt: &Interrupt, keep: bool, log: &Path) -> Result<()> {
    let start = Instant::now();
    let mut stage = Stage::build(screen, interrupt)?;
    let told = story::tell(&mut stage, screen, interrupt).and_then(|()| {
        let seconds = start.elapsed().as_secs_f64();
        screen.line("")?;
        screen.good(&format!(
            "Every claim above was checked, and is true. It took {seconds:.1} s."
        ))?;
        if keep { explore::keep(&stage, screen, interrupt) } else { Ok(()) }
    });
    // The daemon's log goes with the stage.
    let told = told.map_err(|error| {
        if interrupt.came() { error } else { save_log(&stage.balancer.log(), log, error) }
    });
    let taken_down = stage.take_down(screen);
    if let (Err(_), Err(error)) = (&told, &taken_down) {
        eprintln!("error: {error:#}");
    }
    told.and(taken_down)
}

/// Toolchain, packages, the binary.
fn prepare(shell: &Shell, keep: bool, tale: Tale) -> Result<()> {
    setup::ensure()?;
    // Only the commands for exploring use curl.
    let wants = |program: &str| match program {
        "ip" | "ethtool" => true,
        "nginx" => tale == Tale::Outage,
        "curl" => keep,
        _ => false,
    };
    test::ensure_some(shell, "the demo", wants)?;
    host::ensure_bpffs(shell)?;
    build::workspace_members(shell, false)
}

/// Keeps the daemon's log, and says where.
fn save_log(words: &str, path: &Path, error: Error) -> Error {
    match fs::write(path, words) {
        Ok(()) => error.context(format!("the demo failed; the daemon's log is {}", path.display())),
        Err(_) => error.context("the demo failed, and so did keeping the daemon's log"),
    }
}

/// Fails if `path` still exists.
fn ensure_gone(path: &Path) -> Result<()> {
    if fs::exists(path).with_context(|| format!("look for {}", path.display()))? {
        bail!("{} is still there", path.display());
    }
    Ok(())
}
