//! Tunnels: IPIP and GUE, services and backends of either family in every mix, taken apart by
//! `evenkeel decap`.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use evenkeel_tests::{
    modes::{Ground, Mode},
    servers::{PORT, ask, big_file, client_socket},
    topology::{Family, Host, Wiring},
    transfer::{download, same, upload},
};

const CONNECTIONS: u64 = 60;
const FLOWS: u64 = 20;

fn everything_arrives_through(mode: Mode) {
    let mut ground = Ground::new(Wiring::Switched, 2, mode).unwrap();
    let stage = &ground.stage;
    let (original, copy) = (stage.files().join("big"), stage.scratch().join("copy"));
    big_file(&original, 8).unwrap();
    for (family, web, dns) in [(Family::V4, "web", "dns"), (Family::V6, "web6", "dns6")] {
        let name = format!("{family:?} in {mode}");
        let server = family.service(PORT);
        let report = stage.ask_at(server, CONNECTIONS).unwrap();
        report.flawless().unwrap();
        let client = stage.lab.client.address(family, 0).ip().to_string();
        for (host, nginx) in stage.lab.backends.iter().zip(&stage.nginx) {
            assert_eq!(report.by_backend[&host.name], CONNECTIONS / 2, "{name}");
            let seen = nginx.accesses().unwrap();
            assert!(seen.iter().any(|access| access.client == client), "{name}: {seen:?}");
            let counters = stage.balancer.counters(web, &host.name).unwrap();
            assert_eq!(counters.connections, CONNECTIONS / 2, "{name}");
            assert!(counters.packets_in >= 4 * CONNECTIONS / 2, "{name}: {counters:?}");
            assert_eq!(counters.packets_out, 0, "{name}");
        }

        let open = || client_socket(family, server);
        // All at once, so that no two have the same port.
        let sockets: Vec<_> = (0..FLOWS).map(|_| stage.client().run(open).unwrap()).collect();
        for socket in &sockets {
            let first = ask(socket, b"first").unwrap().backend;
            for payload in [&[][..], &[1], &[2; 1400]] {
                assert_eq!(ask(socket, payload).unwrap().backend, first, "{name}");
            }
        }
        for host in &stage.lab.backends {
            let counters = stage.balancer.counters(dns, &host.name).unwrap();
            assert_eq!(counters.connections, FLOWS / 2, "{name}");
            assert_eq!((counters.packets_in, counters.packets_out), (2 * FLOWS, 0), "{name}");
        }

        download(stage.client(), server, "/files/big", &copy).unwrap();
        same(&original, &copy).unwrap();
        // The client's full packets do not fit into the tunnel, and the edge has to say so.
        assert_eq!(stage.lab.client.learnt_mtu(server.ip()).unwrap(), None, "{name}");
        upload(stage.client(), server, &original, "big").unwrap();
        let arrived = |nginx: &evenkeel_tests::servers::Nginx| {
            same(&original, &nginx.uploaded("big")).is_ok()
        };
        assert!(stage.nginx.iter().any(arrived), "{name}");
        let learnt = stage.lab.client.learnt_mtu(server.ip()).unwrap();
        assert_eq!(learnt, Some(1500 - mode.overhead()), "{name}");
        for nginx in &stage.nginx {
            let _ = std::fs::remove_file(nginx.uploaded("big"));
            nginx.forget().unwrap();
        }
    }

    let services = ["web", "web6", "dns", "dns6"];
    let sent = |host: &Host| -> u64 {
        let count = |service| stage.balancer.counters(service, &host.name).unwrap().packets_in;
        services.into_iter().map(count).sum()
    };
    let sent: Vec<u64> = stage.lab.backends.iter().map(sent).collect();
    for (decap, sent) in ground.decaps.drain(..).zip(sent) {
        let fates = decap.finish().unwrap();
        let unwrapped = match mode {
            Mode::Ipip(_) => "unwrapped-ipip",
            _ => "unwrapped-gue",
        };
        assert_eq!(fates[unwrapped], sent, "{mode}: {fates:?}");
        let dropped = fates.iter().filter(|(name, count)| name.starts_with("drop-") && **count > 0);
        assert_eq!(dropped.count(), 0, "{mode}: {fates:?}");
    }
}

#[test]
fn ipip_to_ipv4_backends() {
    everything_arrives_through(Mode::Ipip(Family::V4));
}

#[test]
fn ipip_to_ipv6_backends() {
    everything_arrives_through(Mode::Ipip(Family::V6));
}

#[test]
fn gue_to_ipv4_backends() {
    everything_arrives_through(Mode::Gue(Family::V4));
}

#[test]
fn gue_to_ipv6_backends() {
    everything_arrives_through(Mode::Gue(Family::V6));
}
