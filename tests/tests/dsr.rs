//! Direct server return: the backend gets the client's own packet and answers without the edge.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use evenkeel_tests::{
    modes::{Ground, Mode},
    servers::{PORT, ask, client_socket},
    topology::{Family, Wiring},
    transfer::{download, same, upload},
    wait::{PATIENCE, eventually},
};

const CONNECTIONS: u64 = 100;
const FLOWS: u64 = 20;

fn answers_pass_the_edge_by(wiring: Wiring) {
    let ground = Ground::new(wiring, 2, Mode::Dsr).unwrap();
    let stage = &ground.stage;
    for (family, web, dns) in [(Family::V4, "web", "dns"), (Family::V6, "web6", "dns6")] {
        let report = stage.ask_at(family.service(PORT), CONNECTIONS).unwrap();
        report.flawless().unwrap();
        let client = stage.lab.client.address(family, 0).ip().to_string();
        for (host, nginx) in stage.lab.backends.iter().zip(&stage.nginx) {
            assert_eq!(report.by_backend[&host.name], CONNECTIONS / 2, "{family:?}");
            eventually("nginx has logged", PATIENCE, || {
                let accesses = nginx.accesses()?;
                let known = accesses.iter().filter(|access| access.client == client).count();
                anyhow::ensure!(known as u64 == CONNECTIONS / 2, "{known} from {client}");
                Ok(())
            })
            .unwrap();
            let counters = stage.balancer.counters(web, &host.name).unwrap();
            assert_eq!(counters.connections, CONNECTIONS / 2, "{family:?}");
            // SYN, ACK, request, the answer's ACK: at least.
            assert!(counters.packets_in >= 4 * CONNECTIONS / 2, "{counters:?}");
            assert_eq!((counters.packets_out, counters.bytes_out), (0, 0), "{family:?}");
        }

        let open = || client_socket(family, family.service(PORT));
        // All at once, so that no two have the same port.
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
            assert_eq!((counters.packets_in, counters.packets_out), (2 * FLOWS, 0), "{family:?}");
        }
    }
}

#[test]
fn on_one_switch() {
    answers_pass_the_edge_by(Wiring::OneNic);
}

#[test]
fn with_a_way_of_their_own() {
    answers_pass_the_edge_by(Wiring::Switched);
}

#[test]
fn large_files_pass_both_ways() {
    let ground = Ground::new(Wiring::Switched, 1, Mode::Dsr).unwrap();
    let stage = &ground.stage;
    let (original, copy) = (stage.files().join("big"), stage.scratch().join("copy"));
    evenkeel_tests::servers::big_file(&original, 20).unwrap();
    for family in Family::BOTH {
        let server = family.service(PORT);
        download(stage.client(), server, "/files/big", &copy).unwrap();
        same(&original, &copy).unwrap();
        upload(stage.client(), server, &original, "big").unwrap();
        same(&original, &stage.nginx[0].uploaded("big")).unwrap();
    }
}
