//! The edge's interfaces go down, are renamed, are deleted and made again, and lose their program.

use std::process::Command;

use anyhow::ensure;
use evenkeel_tests::{
    http::Connection,
    loads::Loads,
    netns::succeeded,
    settings::Settings,
    stage::Stage,
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};
use serde_json::Value;

fn stage(wiring: Wiring) -> Stage {
    let lab = Lab::new(wiring, 2).unwrap();
    // An interface that goes down would lose its IPv6 addresses, and nobody would give them back.
    lab.edge.namespace.sysctl("net/ipv6/conf/all/keep_addr_on_down", "1").unwrap();
    lab.client.namespace.sysctl("net/ipv6/conf/all/keep_addr_on_down", "1").unwrap();
    let settings = Settings::web(&lab);
    Stage::on(lab, &settings).unwrap()
}

/// What the status says of an interface.
fn interface(stage: &Stage, name: &str) -> Value {
    let status = stage.balancer.status().unwrap();
    let interfaces = status["daemon"]["interfaces"].as_array().unwrap();
    interfaces.iter().find(|interface| interface["name"] == name).unwrap().clone()
}

fn await_problem(stage: &Stage, name: &str, problem: &str) {
    eventually(&format!("the status says {problem:?} of {name}"), PATIENCE, || {
        let found = interface(stage, name);
        let said = found["problem"].as_str().unwrap_or_default();
        ensure!(said.contains(problem), "it says {found}");
        Ok(())
    })
    .unwrap();
}

fn await_order(stage: &Stage, name: &str) {
    eventually(&format!("interface {name} is in order"), PATIENCE, || {
        let found = interface(stage, name);
        ensure!(found["problem"].is_null() && found["mode"] == "native", "it is {found}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_interface_goes_down_and_up() {
    let stage = stage(Wiring::Switched);
    let loads = Loads::start(&stage).unwrap();
    let edge = &stage.lab.edge.namespace;
    for device in ["back", "front"] {
        edge.ip(&format!("link set {device} down")).unwrap();
        loads.stall().unwrap();
        edge.ip(&format!("link set {device} up")).unwrap();
        loads.proceed().unwrap();
    }
    loads.flawless(&stage).unwrap();
}

#[test]
fn an_interface_is_deleted_and_made_again() {
    // One interface to both sides, so that the way back to clients is another one, too.
    let mut stage = stage(Wiring::OneNic);
    let loads = Loads::start(&stage).unwrap();
    stage.lab.delete_switched().unwrap();
    await_problem(&stage, "eth0", "does not exist any more");
    // Its absence is no mistake in the configuration.
    stage.balancer.cli(&["backend", "weight", "web", "web-02", "2"]).unwrap().success().unwrap();
    let screen = stage.balancer.cli(&["status"]).unwrap().success().unwrap();
    assert!(screen.contains("interface eth0 does not exist any more"), "{screen}");
    stage.lab.recreate_switched().unwrap();
    await_order(&stage, "eth0");
    loads.proceed().unwrap();
    let log = stage.balancer.log();
    assert!(log.contains("is there again, as a new device; attached"), "{log}");
    loads.flawless(&stage).unwrap();

    // Nor does a daemon refuse to start meanwhile; that takes longer than a client waits.
    stage.balancer.terminate().unwrap();
    stage.lab.delete_switched().unwrap();
    stage.balancer.run().unwrap();
    await_problem(&stage, "eth0", "does not exist any more");
    stage.lab.recreate_switched().unwrap();
    await_order(&stage, "eth0");
    stage.ask(Family::V4, 20).unwrap().flawless().unwrap();
    stage.ask(Family::V6, 20).unwrap().flawless().unwrap();
}

/// A client that only listens sends no packet that would tell the way back to it.
#[test]
fn a_download_goes_on_when_its_interface_is_made_again() {
    const SIZE: usize = 4 << 20;
    let stage = stage(Wiring::OneNic);
    std::fs::write(stage.files().join("large"), vec![b'x'; SIZE]).unwrap();
    for family in Family::BOTH {
        let (mut download, mut buffer) = stage
            .client()
            .run(|| Ok((Connection::open(family.service(80))?, vec![0; 1 << 16])))
            .unwrap();
        let length = download.begin("/slow/large").unwrap();
        assert_eq!(length, SIZE);
        let mut received = download.read(&mut buffer).unwrap();
        stage.lab.delete_switched().unwrap();
        await_problem(&stage, "eth0", "does not exist any more");
        stage.lab.recreate_switched().unwrap();
        await_order(&stage, "eth0");
        loop {
            let more = download.read(&mut buffer).unwrap();
            received += more;
            if more == 0 {
                break;
            }
        }
        assert_eq!(received, SIZE, "the download broke off");
    }
}

#[test]
fn an_interface_is_renamed() {
    let mut stage = stage(Wiring::Switched);
    let loads = Loads::start(&stage).unwrap();
    let edge = &stage.lab.edge.namespace;
    // Older kernels rename only what is down.
    let rename = |from: &str, to: &str| {
        edge.ip(&format!("link set {from} down\nlink set {from} name {to}\nlink set {to} up"))
            .unwrap();
    };
    rename("front", "uplink");
    await_problem(&stage, "front", "is called uplink now; its traffic is balanced as before");
    assert_eq!(interface(&stage, "front")["mode"], "native");
    loads.proceed().unwrap();
    rename("uplink", "front");
    await_order(&stage, "front");
    loads.proceed().unwrap();
    // It keeps its new name, and the configuration follows with a restart.
    rename("front", "uplink");
    await_problem(&stage, "front", "is called uplink now");
    let text = stage.balancer.configuration().unwrap().replace("\"front\"", "\"uplink\"");
    stage.balancer.configure(&text).unwrap();
    stage.balancer.terminate().unwrap();
    stage.balancer.run().unwrap();
    await_order(&stage, "uplink");
    assert!(!stage.balancer.bpffs_path().join("links/front").exists());
    loads.proceed().unwrap();
    loads.flawless(&stage).unwrap();
}

#[test]
fn the_name_of_a_renamed_interface_goes_to_another_one() {
    let stage = stage(Wiring::Switched);
    let edge = &stage.lab.edge.namespace;
    edge.ip("link set back down\nlink set back name old\nlink set old up").unwrap();
    await_problem(&stage, "back", "is called old now");
    edge.ip("link add back type veth peer name far").unwrap();
    await_order(&stage, "back");
    let mut links = edge.command("ip");
    let text = links.args(["link", "show", "dev", "old"]).output().unwrap();
    let text = succeeded("ip link", text).unwrap();
    assert!(!text.contains("xdp"), "the configuration does not name it: {text}");
    edge.ip("link del back\nlink set old down\nlink set old name back\nlink set back up").unwrap();
    await_order(&stage, "back");
    stage.ask(Family::V4, 20).unwrap().flawless().unwrap();
}

#[test]
fn a_program_that_somebody_detached_is_attached_again() {
    let stage = stage(Wiring::Switched);
    stage.ask(Family::V4, 20).unwrap().flawless().unwrap();
    let mut command = Command::new("bpftool");
    command.args(["link", "detach", "pinned"]).arg(stage.balancer.bpffs_path().join("links/front"));
    succeeded("bpftool", command.output().unwrap()).unwrap();
    eventually("the log tells of it", PATIENCE, || {
        let log = stage.balancer.log();
        ensure!(log.contains("somebody detached the program; it is attached again"), "{log}");
        Ok(())
    })
    .unwrap();
    await_order(&stage, "front");
    stage.ask(Family::V4, 20).unwrap().flawless().unwrap();
}
