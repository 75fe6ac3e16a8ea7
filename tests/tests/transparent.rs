//! NAT that keeps the client's address (`snat = false`): the backends see who asks, and answer
//! through the edge, which is their gateway.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use anyhow::ensure;
use evenkeel_tests::{
    http::Connection,
    modes::{Ground, Mode},
    servers::{PORT, ask, big_file, client_socket},
    settings::{Service, Settings},
    stage::Stage,
    topology::{Family, Wiring},
    transfer::{download, same, upload},
    wait::{PATIENCE, eventually},
};

const CONNECTIONS: u64 = 100;
const FLOWS: u64 = 20;

fn backends_see_the_client(wiring: Wiring) {
    let stage = Stage::new(wiring, 2, |lab| {
        let keep = |service: Service| Mode::Transparent.service(service, lab);
        // Ports are translated all the same.
        Settings::new(lab)
            .with(keep(Service::web("web", Family::V4)))
            .with(keep(Service::web("web6", Family::V6)))
    })
    .unwrap();
    for (family, service) in Family::BOTH.into_iter().zip(["web", "web6"]) {
        let report = stage.ask(family, CONNECTIONS).unwrap();
        report.flawless().unwrap();
        for host in &stage.lab.backends {
            assert_eq!(report.by_backend[&host.name], CONNECTIONS / 2, "{family:?}");
            let counters = stage.balancer.counters(service, &host.name).unwrap();
            assert_eq!(counters.connections, CONNECTIONS / 2, "{family:?}");
            // The answers come by: SYN-ACK, answer, FIN.
            assert!(counters.packets_out >= 3 * CONNECTIONS / 2, "{counters:?}");
        }

        let mut connection = stage.client().run(|| Connection::open(family.service(80))).unwrap();
        let name = connection.get("/").unwrap().text();
        let local = connection.local().unwrap();
        let server = stage.lab.backends.iter().position(|host| host.name == name).unwrap();
        eventually("nginx has logged", PATIENCE, || {
            let accesses = stage.nginx[server].accesses()?;
            let last = accesses.last().map(|access| (access.client.clone(), access.port));
            let expected = Some((local.ip().to_string(), local.port()));
            ensure!(last == expected, "{last:?} is not {expected:?}");
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn through_a_switch() {
    backends_see_the_client(Wiring::Switched);
}

#[test]
fn with_a_nic_for_each_backend() {
    backends_see_the_client(Wiring::Direct);
}

#[test]
fn datagrams_and_large_files_pass_both_ways() {
    let ground = Ground::new(Wiring::Switched, 2, Mode::Transparent).unwrap();
    let stage = &ground.stage;
    let (original, copy) = (stage.files().join("big"), stage.scratch().join("copy"));
    big_file(&original, 20).unwrap();
    for (family, dns) in Family::BOTH.into_iter().zip(["dns", "dns6"]) {
        let server = family.service(PORT);
        // All at once, so that no two have the same port.
        let open = || client_socket(family, server);
        let sockets: Vec<_> = (0..FLOWS).map(|_| stage.client().run(open).unwrap()).collect();
        for socket in &sockets {
            let first = ask(socket, b"first").unwrap().backend;
            for payload in [&[][..], &[1], &[2; 1400]] {
                assert_eq!(ask(socket, payload).unwrap().backend, first, "{family:?}");
            }
        }
        for host in &stage.lab.backends {
            let counters = stage.balancer.counters(dns, &host.name).unwrap();
            assert_eq!(counters.connections, FLOWS / 2, "{family:?}");
            let packets = (counters.packets_in, counters.packets_out);
            assert_eq!(packets, (2 * FLOWS, 2 * FLOWS), "{family:?}");
        }
        download(stage.client(), server, "/files/big", &copy).unwrap();
        same(&original, &copy).unwrap();
        upload(stage.client(), server, &original, "big").unwrap();
        let arrived = |nginx: &evenkeel_tests::servers::Nginx| {
            same(&original, &nginx.uploaded("big")).is_ok()
        };
        assert!(stage.nginx.iter().any(arrived), "{family:?}");
        for nginx in &stage.nginx {
            let _ = std::fs::remove_file(nginx.uploaded("big"));
        }
    }
}
