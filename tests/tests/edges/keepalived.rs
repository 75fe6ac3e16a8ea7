//! Two edges on one wire with the client, one of which has the address: keepalived, which asks
//! `evenkeel healthcheck`.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{
    modes::Mode,
    netns::succeeded,
    servers::PORT,
    topology::{Family, Fleet},
    wait::{PATIENCE, eventually},
};

use crate::{
    downloads::Downloads,
    faults::visitors,
    ground::{Ground, documented},
};

const SCRIPT: &str = "/usr/bin/evenkeel healthcheck";

fn keepalived(ground: &mut Ground, edge: usize) -> Result<()> {
    let (host, balancer) = (&ground.fleet.edges[edge], &ground.balancers[edge]);
    let directory = ground.directory().to_owned();
    let at = |name: &str| directory.join(format!("{}-{name}", host.name)).display().to_string();
    let text = fs::read_to_string(documented("keepalived.conf"))?;
    ensure!(text.contains(SCRIPT), "no {SCRIPT} in the documented file");
    let (binary, socket) = (balancer.binary_path().display(), balancer.socket_path());
    let script = format!("{binary} --socket {} healthcheck", socket.display());
    fs::write(at("keepalived.conf"), text.replace(SCRIPT, &script))?;
    let (file, pid, vrrp) = (at("keepalived.conf"), at("pid"), at("vrrp.pid"));
    let arguments = ["--dont-fork", "--log-console", "-P", "-f", &file, "-p", &pid, "-r", &vrrp];
    let speaker = Fleet::start(host, "keepalived", &arguments, &directory)?;
    ground.speakers.push(speaker);
    Ok(())
}

/// The edges that have the address.
fn masters(ground: &Ground) -> Result<Vec<usize>> {
    let mut found = Vec::new();
    for (number, edge) in ground.fleet.edges.iter().enumerate() {
        let mut command = edge.namespace.command("ip");
        command.args(["-brief", "address", "show", "dev", "front"]);
        let text = succeeded("ip address", command.output().context("run ip")?)?;
        if text.contains("192.0.2.10/32") {
            found.push(number);
        }
    }
    Ok(found)
}

#[test]
fn the_address_moves_when_its_edge_is_drained_or_dies_and_no_flow_breaks() {
    let fleet = Fleet::without_router(3).unwrap();
    let mut ground = Ground::new(fleet, Mode::Dsr, "").unwrap();
    keepalived(&mut ground, 0).unwrap();
    keepalived(&mut ground, 1).unwrap();
    let settle = |ground: &Ground, not: Option<usize>| {
        eventually("one edge has the address", PATIENCE, || {
            let masters = masters(ground)?;
            ensure!(masters.len() == 1 && not != masters.first().copied(), "{masters:?}");
            Ok(masters[0])
        })
        .unwrap()
    };
    let master = settle(&ground, None);
    let server = Family::V4.service(PORT);
    let client = &ground.fleet.client.namespace;
    let downloads = Downloads::begin(client, server, 12).unwrap();
    let visitors = visitors(&ground);

    let healthcheck = |edge: usize| ground.balancers[edge].cli(&["healthcheck", "web"]).unwrap();
    assert_eq!(healthcheck(master).code, 0);
    let drain = ["node", "drain", "--for", "10m", "--reason", "new kernel"];
    let told = ground.balancers[master].cli(&drain).unwrap();
    assert!(told.stderr.contains("keepalived"), "{told:?}");
    assert!(told.success().unwrap().contains("traffic has left"));
    let refused = healthcheck(master);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(refused.stderr.contains("drained: new kernel"), "{refused:?}");
    let other = settle(&ground, Some(master));
    downloads.proceed().unwrap();

    ground.balancers[master].cli(&["node", "resume"]).unwrap().success().unwrap();
    let back = || {
        let log = ground.speakers[master].output();
        ensure!(log.matches("Entering BACKUP STATE").count() >= 2, "{log}");
        Ok(())
    };
    eventually("the drained one stands by again", PATIENCE, back).unwrap();
    ground.fleet.kill(other).unwrap();
    eventually("it takes over", PATIENCE, || {
        ensure!(masters(&ground)?.contains(&master), "not yet");
        Ok(())
    })
    .unwrap();
    downloads.proceed().unwrap();
    visitors.proceed(50).unwrap();
    visitors.stop().unwrap().flawless().unwrap();
    assert_eq!(downloads.finish().unwrap(), [] as [String; 0]);
}
