//! `--keep`: the stage stays up, with commands that work when they are pasted.

use std::{fs, path::PathBuf, thread, time::Duration};

use anyhow::{Context as _, Result};
use evenkeel_tests::{
    frame::Frame,
    servers::PORT,
    topology::{Family, Host},
};

use super::{
    interrupt::Interrupt,
    screen::Screen,
    stage::{SERVICE, Stage},
};
use crate::host;

const PAUSE: Duration = Duration::from_millis(100);

/// Says how to look around, and waits for Ctrl-C.
pub(super) fn keep(stage: &Stage, screen: &mut Screen, interrupt: &Interrupt) -> Result<()> {
    let frame = syn_path(stage);
    // The defaults are a SYN of the lab's client; only the service is to be named.
    let syn = Frame::tcp4().to(Family::V4.vip(), 80).build();
    fs::write(&frame, syn).with_context(|| format!("write {}", frame.display()))?;

    screen.line("\nIt stays up. In another terminal, as root:")?;
    for (what, command) in commands(stage) {
        if !what.is_empty() {
            screen.line(&format!("\n  # {what}"))?;
        }
        screen.line(&format!("  {command}"))?;
    }
    screen.line("\nThe daemon's files (configuration, log) are in")?;
    screen.line(&format!("  {}", stage.balancer.scratch().display()))?;
    screen.line("\nCtrl-C here takes everything down.")?;
    while !interrupt.came() {
        thread::sleep(PAUSE);
    }
    screen.line("")
}

/// What each is for, and the command; one without a purpose goes on with the one before.
fn commands(stage: &Stage) -> Vec<(String, String)> {
    let balancer = &stage.balancer;
    let evenkeel = format!(
        "{} --socket {}",
        balancer.binary_path().display(),
        balancer.socket_path().display()
    );
    let inside = |host: &Host| format!("nsenter --net={}", host.namespace.path().display());
    let (client, edge) = (inside(&stage.lab.client), inside(&stage.lab.edge));
    let web_02 = &stage.lab.backends[1];
    let (cable, address) = (inside(web_02), web_02.address(Family::V4, PORT));
    let vip = Family::V4.vip();
    let program = balancer.bpffs_path().join("program");
    let bpftool = if host::has_program("bpftool") { "" } else { " (package bpftool)" };

    let ask = "ask as the client; ask again, and the other server answers";
    let look = "services, backends, health, share";
    let watch = "the counters, every second";
    let remove = "take a server out for good, and put it back";
    let pull = "pull web-02's cable, and plug it in again; the probes see it";
    let run = format!("what the program does with a client's SYN; 4 is: redirect{bpftool}");
    vec![
        (ask.to_owned(), format!("{client} curl http://{vip}/")),
        (look.to_owned(), format!("{evenkeel} status")),
        (watch.to_owned(), format!("{evenkeel} counters --watch")),
        (remove.to_owned(), format!("{evenkeel} backend remove {SERVICE} web-02")),
        (String::new(), format!("{evenkeel} backend add {SERVICE} web-02 {address}")),
        (pull.to_owned(), format!("{cable} ip link set eth0 down")),
        (String::new(), format!("{cable} ip link set eth0 up")),
        (
            run,
            format!(
                "{edge} bpftool prog run pinned {} data_in {} repeat 1",
                program.display(),
                syn_path(stage).display()
            ),
        ),
    ]
}

/// The frame for `bpftool`.
fn syn_path(stage: &Stage) -> PathBuf {
    stage.balancer.scratch().join("syn.bin")
}
