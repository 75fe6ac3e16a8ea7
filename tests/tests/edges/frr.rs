//! The same with FRR on the router and on the edges.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{
    modes::Mode,
    netns::succeeded,
    topology::{Family, Fleet, Host},
    wait::{PATIENCE, eventually},
};

use crate::{
    faults::{ANNOUNCE, downloads, drained, killed, visitors},
    ground::{Ground, documented},
};

/// Where Debian has the daemons.
const DAEMONS: &str = "/usr/lib/frr";
/// The edge that the documented configuration is of.
const FIRST: &str = "bgp router-id 203.0.113.11";

/// Starts FRR on a host, with a documented configuration. It wants directories of its own.
fn frr(ground: &mut Ground, which: Option<usize>, kind: &str) -> Result<()> {
    let host: &Host = match which {
        Some(edge) => &ground.fleet.edges[edge],
        None => &ground.fleet.router,
    };
    let directory = ground.directory().join(format!("frr-{}", host.name));
    fs::create_dir(&directory)?;
    // The daemons drop to a user of their own.
    fs::set_permissions(ground.directory(), fs::Permissions::from_mode(0o711))?;
    let owner = Command::new("chown").arg("frr:frr").arg(&directory).output();
    succeeded("chown", owner.context("run chown")?)?;
    let text = fs::read_to_string(documented(&format!("frr-{kind}.conf")))?;
    if kind == "edge" {
        ensure!(text.contains(FIRST), "no {FIRST} in the documented file");
    }
    let text = text.replace(FIRST, &format!("bgp router-id {}", host.v4));
    fs::write(directory.join("frr.conf"), text)?;
    let at = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let mut speakers = Vec::new();
    for daemon in ["zebra", "bfdd", "bgpd"] {
        let arguments = [
            "--vty_socket".to_owned(),
            at(""),
            "-z".to_owned(),
            at("zserv.api"),
            "-i".to_owned(),
            at(&format!("{daemon}.pid")),
            "-f".to_owned(),
            at(&format!("{daemon}.conf")),
            "--log".to_owned(),
            "stdout".to_owned(),
        ];
        let mut arguments: Vec<_> = arguments.to_vec();
        if daemon == "bfdd" {
            arguments.extend(["--bfdctl".to_owned(), at("bfdd.sock")]);
        }
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let program = format!("{DAEMONS}/{daemon}");
        speakers.push(Fleet::start(host, &program, &arguments, &directory)?);
        eventually(&format!("{daemon} listens"), PATIENCE, || {
            let socket = directory.join(format!("{daemon}.vty"));
            ensure!(socket.exists(), "no {}", socket.display());
            Ok(())
        })?;
    }
    let mut vtysh = Command::new("vtysh");
    vtysh.arg("--vty_socket").arg(&directory).arg("--config_dir").arg(&directory).arg("-b");
    let said = succeeded("vtysh", vtysh.output().context("run vtysh: is frr installed?")?)?;
    ensure!(!said.contains("Unknown command"), "{said}");
    ground.speakers.extend(speakers);
    Ok(())
}

#[test]
fn with_frr_no_flow_breaks_when_an_edge_is_drained_or_dies() {
    let mut ground = Ground::new(Fleet::new(3).unwrap(), Mode::Dsr, ANNOUNCE).unwrap();
    frr(&mut ground, None, "router").unwrap();
    frr(&mut ground, Some(0), "edge").unwrap();
    frr(&mut ground, Some(1), "edge").unwrap();
    ground.await_ways(Family::V4, &[0, 1]).unwrap();
    // IPv6 it sends by their link-local addresses.
    eventually("the router has two ways over IPv6", PATIENCE, || {
        let ways = ground.ways(Family::V6)?;
        ensure!(ways.len() == 2, "{ways:?}");
        Ok(())
    })
    .unwrap();
    let (downloads, visitors) = (downloads(&ground), visitors(&ground));
    drained(&ground, 0);
    downloads.proceed().unwrap();
    killed(&ground, 1);
    downloads.proceed().unwrap();
    visitors.proceed(100).unwrap();
    visitors.stop().unwrap().flawless().unwrap();
    assert_eq!(downloads.finish().unwrap(), [] as [String; 0]);
}
