//! `--keep`: the stage stays up, with commands that work when they are pasted.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result};
use evenkeel_tests::{frame::Frame, topology::Family};

use super::{interrupt::Interrupt, screen::Screen, stage::Stage};
use crate::host;

const PAUSE: Duration = Duration::from_millis(100);

/// Says how to look around, and waits for Ctrl-C.
pub(super) fn keep(stage: &Stage, screen: &mut Screen, interrupt: &Interrupt) -> Result<()> {
    let frame = stage.balancer.scratch().join("syn.bin");
    // The defaults are a SYN of the lab's client; only the service is to be named.
    let syn = Frame::tcp4().to(Family::V4.vip(), 80).build();
    fs::write(&frame, syn).with_context(|| format!("write {}", frame.display()))?;

    screen.line("\nIt stays up. In another terminal, as root:")?;
    for (what, command) in commands(stage) {
        screen.line(&format!("\n  # {what}\n  {command}"))?;
    }
    screen.line("\nThe daemon's files (configuration, log) are in")?;
    screen.line(&format!("  {}", stage.balancer.scratch().display()))?;
    screen.line("\nCtrl-C here takes everything down.")?;
    while !interrupt.came() {
        thread::sleep(PAUSE);
    }
    screen.line("")
}

fn commands(stage: &Stage) -> Vec<(String, String)> {
    let balancer = &stage.balancer;
    let evenkeel = format!(
        "{} --socket {}",
        balancer.binary_path().display(),
        balancer.socket_path().display()
    );
    let enter = |path: std::path::PathBuf| format!("nsenter --net={}", path.display());
    let client = enter(stage.lab.client.namespace.path());
    let web_02 = &stage.lab.backends[1];
    let inside = enter(web_02.namespace.path());
    let address = web_02.address(Family::V4, evenkeel_tests::servers::PORT);
    let edge = enter(stage.lab.edge.namespace.path());
    let pins = balancer.bpffs_path().display();
    let frame = balancer.scratch().join("syn.bin");
    let bpftool = if host::has_program("bpftool") { "" } else { " (package bpftool)" };
    [
        ("ask as the client; again, and the other server answers", format!("{client} curl http://{}/", Family::V4.vip())),
        ("services, backends, health, share", format!("{evenkeel} status")),
        ("the counters, every second", format!("{evenkeel} counters --watch")),
        ("take a server out for good, and put it back", format!("{evenkeel} backend remove web web-02\n  {evenkeel} backend add web web-02 {address}")),
        ("pull web-02's cable and plug it in again; the probes see it", format!("{inside} ip link set eth0 down\n  {inside} ip link set eth0 up")),
        (
            &*format!("what would the kernel do with a client's SYN? 4 is: redirect{bpftool}"),
            format!("{edge} bpftool prog run pinned {pins}/program data_in {} repeat 1", frame.display()),
        ),
    ]
    .map(|(what, command)| (what.to_owned(), command))
    .into()
}
