//! Neighbours get other hardware addresses, and routes lead elsewhere.

use std::net::{IpAddr, UdpSocket};

use anyhow::ensure;
use evenkeel_tests::{
    loads::Loads,
    netns::{cable, succeeded},
    settings::Settings,
    stage::Stage,
    topology::{Family, Host, Lab, Wiring},
    wait::{PATIENCE, eventually},
};

/// Gives a host another network card, and has it be heard of as such hosts do: with the first packet that
/// they send, for which they ask for their gateway's address.
fn replace_card(lab: &Lab, host: &Host, mac: &str, gateways: [IpAddr; 2]) {
    let namespace = &host.namespace;
    namespace.ip(&format!("link set eth0 address {mac}\nneigh flush dev eth0")).unwrap();
    namespace
        .run(|| {
            for (from, gateway) in [(host.v4.into(), gateways[0]), (host.v6.into(), gateways[1])] {
                let socket = UdpSocket::bind((IpAddr::clone(&from), 0))?;
                socket.send_to(b"here", (gateway, 9))?;
            }
            Ok(())
        })
        .unwrap();
    for address in [IpAddr::from(host.v4), host.v6.into()] {
        eventually(&format!("the edge knows {address} at {mac}"), PATIENCE, || {
            let mut text = lab.edge.namespace.command("ip");
            let text = text.args(["neigh", "show", &address.to_string()]).output()?;
            let text = String::from_utf8_lossy(&text.stdout).into_owned();
            ensure!(text.contains(mac), "{text}");
            Ok(())
        })
        .unwrap();
    }
}

fn await_log(stage: &Stage, line: &str) {
    eventually(&format!("the log says {line:?}"), PATIENCE, || {
        let log = stage.balancer.log();
        ensure!(log.contains(line), "{log}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn backends_and_the_client_get_other_network_cards() {
    let stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    let loads = Loads::start(&stage).unwrap();
    let lab = &stage.lab;
    let inside = Family::BOTH.map(|family| lab.inside(family));
    for (number, backend) in (1..).zip(&lab.backends) {
        let mac = format!("02:00:00:00:99:0{number}");
        replace_card(lab, backend, &mac, inside);
        await_log(&stage, &format!("reached by {} ({mac})", backend.v4));
        await_log(&stage, &format!("reached by {} ({mac})", backend.v6));
        loads.proceed().unwrap();
    }
    let outside = [lab.edge.v4.into(), lab.edge.v6.into()];
    replace_card(lab, &lab.client, "02:00:00:00:99:09", outside);
    loads.proceed().unwrap();
    loads.flawless(&stage).unwrap();
}

#[test]
fn a_backend_is_reached_by_a_gateway_and_by_another_interface() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let edge = &lab.edge.namespace;
    let switch = lab.switch().unwrap();
    cable((edge, "side", "02:00:00:00:77:01"), (switch, "side", "02:00:00:00:77:02")).unwrap();
    switch.ip("link set side master bridge").unwrap();
    switch.offloads("side", &["gro", "on"]).unwrap();
    // The second backend routes to the first one, and does not tell that there is a shorter way.
    let gateway = &lab.backends[1].namespace;
    gateway.sysctl("net/ipv4/ip_forward", "1").unwrap();
    gateway.sysctl("net/ipv4/conf/all/send_redirects", "0").unwrap();
    gateway.sysctl("net/ipv4/conf/eth0/send_redirects", "0").unwrap();
    gateway.sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
    edge.sysctl("net/ipv6/conf/back/accept_redirects", "0").unwrap();
    let mut settings = Settings::web(&lab);
    settings.interfaces.push("side".to_owned());
    let stage = Stage::on(lab, &settings).unwrap();
    let loads = Loads::start(&stage).unwrap();

    let lab = &stage.lab;
    let edge = &lab.edge.namespace;
    let (far, near) = (&lab.backends[0], &lab.backends[1]);
    let inside = Family::BOTH.map(|family| lab.inside(family));
    let via = |way4: &str, way6: &str| {
        edge.ip(&format!(
            "route replace {}/32 {way4} src {}\nroute replace {}/128 {way6} src {}",
            far.v4, inside[0], far.v6, inside[1]
        ))
        .unwrap();
    };
    via(&format!("via {} dev back", near.v4), &format!("via {} dev back", near.v6));
    let await_way = |target: IpAddr, gateway: IpAddr, interface: u32| {
        eventually(&format!("{target} is reached by {gateway}"), PATIENCE, || {
            let log = stage.balancer.log();
            let last = log.lines().rfind(|line| line.ends_with(&format!("backend={target}")));
            let last = last.unwrap_or_default();
            ensure!(last.contains(&format!("reached by {gateway} (")), "{last}");
            ensure!(last.contains(&format!("by interface {interface} ")), "{last}");
            Ok(())
        })
        .unwrap();
    };
    let index = |device: &str| -> u32 {
        let shown =
            edge.command("ip").args(["-o", "link", "show", "dev", device]).output().unwrap();
        let shown = succeeded("ip link", shown).unwrap();
        shown.split(':').next().unwrap().parse().unwrap()
    };
    let (back, side) = (index("back"), index("side"));
    await_way(far.v4.into(), near.v4.into(), back);
    await_way(far.v6.into(), near.v6.into(), back);
    loads.proceed().unwrap();
    via("dev side", "dev side");
    await_way(far.v4.into(), far.v4.into(), side);
    await_way(far.v6.into(), far.v6.into(), side);
    loads.proceed().unwrap();
    edge.ip(&format!("route del {}/32\nroute del {}/128", far.v4, far.v6)).unwrap();
    await_way(far.v4.into(), far.v4.into(), back);
    await_way(far.v6.into(), far.v6.into(), back);
    loads.proceed().unwrap();
    loads.flawless(&stage).unwrap();
}
