//! UDP: a flow stays with its backend, and new flows are shared exactly.

use std::collections::BTreeMap;

use evenkeel_tests::{
    evenkeel::Balancer,
    servers::{UdpEcho, ask, client_socket},
    settings::{Service, Settings},
    topology::{Family, Lab, Wiring},
};

const FLOWS: u64 = 60;
const ROUNDS: u8 = 4;

#[test]
fn flows_are_shared_exactly_and_stay() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let echoes: Vec<_> = lab.backends.iter().map(|host| UdpEcho::start(host).unwrap()).collect();
    let settings = Settings::new(&lab)
        .with(Service::datagrams("dns", Family::V4).backends(&lab))
        .with(Service::datagrams("dns6", Family::V6).backends(&lab));
    let balancer = Balancer::start(&lab, &settings).unwrap();

    for (family, service) in Family::BOTH.into_iter().zip(["dns", "dns6"]) {
        let server = family.service(53);
        let mut by_backend = BTreeMap::<String, u64>::new();
        let open = || client_socket(family, server);
        let sockets: Vec<_> = (0..FLOWS).map(|_| lab.client.namespace.run(open).unwrap()).collect();
        let first: Vec<_> =
            sockets.iter().map(|socket| ask(socket, b"first").unwrap().backend).collect();
        for round in 0..ROUNDS {
            // An empty datagram, short ones, and one that fills the packet.
            let payload = vec![round; [0, 1, 77, 1400][usize::from(round % 4)]];
            for (socket, backend) in sockets.iter().zip(&first) {
                assert_eq!(&ask(socket, &payload).unwrap().backend, backend, "{family:?}");
            }
        }
        for backend in first {
            *by_backend.entry(backend).or_default() += 1;
        }
        let half = FLOWS / 2;
        let expected = [("web-01".to_owned(), half), ("web-02".to_owned(), half)];
        assert_eq!(by_backend, expected.into(), "{family:?}");
        for host in &lab.backends {
            let counters = balancer.counters(service, &host.name).unwrap();
            assert_eq!((counters.connections, counters.open), (half, half), "{counters:?}");
            let packets = half * (1 + u64::from(ROUNDS));
            assert_eq!((counters.packets_in, counters.packets_out), (packets, packets));
        }
    }
    drop(balancer);
    for echo in echoes {
        // Each flow came from a port of its own.
        assert_eq!(u64::try_from(echo.finish().unwrap()).unwrap(), FLOWS);
    }
}
