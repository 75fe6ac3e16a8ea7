//! The lab itself, without a balancer: the edge forwards through its kernel. A failure here is
//! the harness's, or the machine's, and not the balancer's.

use std::{fs, panic, path::Path, time::Duration};

use evenkeel_tests::{
    http,
    load::{Load, Pattern, requests},
    netns::Namespace,
    servers::{Nginx, PORT, TinyWeb, UdpEcho, ask, big_file, client_socket},
    topology::{Family, Lab, Side, Wiring},
    transfer::{download, same, upload},
    wrk::Wrk,
};
use tempfile::TempDir;

const WIRINGS: [Wiring; 4] = [Wiring::Switched, Wiring::Direct, Wiring::OneNic, Wiring::Routed];

#[test]
fn every_wiring_reaches_every_backend_over_both_families() {
    for wiring in WIRINGS {
        let lab = Lab::new(wiring, 2).unwrap();
        for host in &lab.backends {
            let web = TinyWeb::start(host).unwrap();
            let echo = UdpEcho::start(host).unwrap();
            for family in Family::BOTH {
                let server = host.address(family, PORT);
                let answer = lab.client.namespace.run(|| http::get(server, "/")).unwrap();
                assert_eq!((answer.status, answer.text()), (200, host.name.clone()), "{wiring:?}");
                let socket = lab.client.namespace.run(|| client_socket(family, server)).unwrap();
                assert_eq!(ask(&socket, b"hello").unwrap().backend, host.name, "{wiring:?}");
            }
            assert_eq!((web.requests(), web.probes(), echo.datagrams()), (2, 0, 2));
            assert_eq!(echo.finish().unwrap(), 2, "two sockets asked");
        }
    }
}

#[test]
fn nginx_serves_logs_and_crashes() {
    let lab = Lab::new(Wiring::Switched, 1).unwrap();
    let files = TempDir::new().unwrap();
    big_file(&files.path().join("big"), 3).unwrap();
    let mut nginx = Nginx::start(&lab.backends[0], files.path(), files.path()).unwrap();
    let client = &lab.client.namespace;
    let server = lab.backends[0].address(Family::V6, PORT);

    let report = requests(client, server, 100, 4).unwrap();
    report.flawless().unwrap();
    assert_eq!(report.by_backend["web-01"], 100);
    assert_eq!(nginx.served("/").unwrap(), 100);
    assert_eq!(nginx.accesses().unwrap()[0].client, lab.client.v6.to_string());

    let big = client.run(|| http::get(server, "/files/big")).unwrap();
    assert_eq!(big.body, fs::read(files.path().join("big")).unwrap());

    nginx.crash().unwrap();
    client.run(|| http::get(server, "/")).unwrap_err();
    nginx.launch(&lab.backends[0]).unwrap();
    let load = Load::start(client, server, Pattern { keep_alive: true, ..Pattern::default() });
    let load = load.unwrap();
    load.proceed(100).unwrap();
    let report = load.stop().unwrap();
    report.flawless().unwrap();
    assert!(report.ok >= 100);
}

#[test]
fn wrk_runs_without_errors_when_the_kernel_forwards() {
    let lab = Lab::new(Wiring::Direct, 1).unwrap();
    let files = TempDir::new().unwrap();
    let _nginx = Nginx::start(&lab.backends[0], files.path(), files.path()).unwrap();
    for keep_alive in [true, false] {
        let wrk = Wrk { connections: 64, duration: Duration::from_secs(2), keep_alive };
        let server = lab.backends[0].address(Family::V4, PORT);
        let summary = wrk.run(&lab.client.namespace, server).unwrap();
        summary.flawless().unwrap();
        assert!(summary.median > Duration::ZERO, "{summary:?}");
    }
}

#[test]
fn a_tiny_server_crashes_and_comes_back() {
    let lab = Lab::new(Wiring::Switched, 1).unwrap();
    let (client, host) = (&lab.client.namespace, &lab.backends[0]);
    let server = host.address(Family::V4, PORT);
    let web = TinyWeb::start(host).unwrap();
    let mut kept = client.run(|| http::Connection::open(server)).unwrap();
    assert_eq!(kept.get("/").unwrap().text(), "web-01");
    drop(web);
    kept.get("/").unwrap_err();
    client.run(|| http::get(server, "/")).unwrap_err();
    let _web = TinyWeb::start(host).unwrap();
    assert_eq!(client.run(|| http::get(server, "/")).unwrap().text(), "web-01");
}

#[test]
fn a_panic_leaves_neither_namespaces_nor_processes() {
    let mut seen = None;
    let outcome = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let namespace = Namespace::new("panic").unwrap();
        let mut child = namespace.command("sleep").arg("1000").spawn().unwrap();
        seen = Some((namespace.path(), child.id()));
        // The namespace ends the child; this reaps it, as its parent is this process.
        std::thread::spawn(move || child.wait());
        panic!("on purpose");
    }));
    outcome.unwrap_err();
    let (path, child) = seen.unwrap();
    assert!(!path.exists());
    let process = Path::new("/proc").join(child.to_string());
    evenkeel_tests::wait::eventually("the child is gone", Duration::from_secs(5), || {
        anyhow::ensure!(!process.exists(), "{} exists", process.display());
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_narrow_link_out_of_sight_is_discovered() {
    let lab = Lab::new(Wiring::Routed, 1).unwrap();
    let files = TempDir::new().unwrap();
    let big = files.path().join("big");
    big_file(&big, 2).unwrap();
    let nginx = Nginx::start(&lab.backends[0], files.path(), files.path()).unwrap();
    let (client, host) = (&lab.client.namespace, &lab.backends[0]);
    lab.narrow(Side::Front, 1400).unwrap();
    lab.narrow(Side::Back, 1300).unwrap();
    for family in Family::BOTH {
        let (server, away) = (host.address(family, PORT), lab.client.address(family, 0).ip());
        assert_eq!(host.learnt_mtu(away).unwrap(), None);
        let copy = files.path().join("copy");
        download(client, server, "/files/big", &copy).unwrap();
        same(&big, &copy).unwrap();
        assert_eq!(host.learnt_mtu(away).unwrap(), Some(1300), "{family:?}");
        // Else it would offer a smaller segment size, and there were nothing to learn.
        host.forget_mtus().unwrap();
        assert_eq!(host.learnt_mtu(away).unwrap(), None, "{family:?}");
        upload(client, server, &big, "big").unwrap();
        same(&big, &nginx.uploaded("big")).unwrap();
        assert_eq!(lab.client.learnt_mtu(server.ip()).unwrap(), Some(1300), "{family:?}");
    }
}

#[test]
fn a_backend_that_holds_the_virtual_addresses_keeps_them_to_itself() {
    for wiring in [Wiring::Switched, Wiring::OneNic, Wiring::Routed] {
        let lab = Lab::new(wiring, 1).unwrap();
        lab.answer_directly().unwrap();
        let host = &lab.backends[0];
        let web = TinyWeb::start(host).unwrap();
        for family in Family::BOTH {
            // The backend reaches itself by it, and the client still meets the edge, whose kernel
            // refuses: nobody listens there.
            let server = family.service(PORT);
            let answer = host.namespace.run(|| http::get(server, "/")).unwrap();
            assert_eq!(answer.text(), "web-01", "{wiring:?}");
            let refused = lab.client.namespace.run(|| http::get(server, "/")).unwrap_err();
            assert!(format!("{refused:#}").contains("refused"), "{wiring:?}: {refused:#}");
            // The ordinary way still works, and back it does not pass the edge.
            let server = host.address(family, PORT);
            let answer = lab.client.namespace.run(|| http::get(server, "/")).unwrap();
            assert_eq!(answer.text(), "web-01", "{wiring:?}");
        }
        assert_eq!(web.requests(), 4);
    }
}

#[test]
fn a_backend_answers_for_a_virtual_address_that_is_routed_to_it() {
    for wiring in [Wiring::Switched, Wiring::OneNic] {
        let lab = Lab::new(wiring, 1).unwrap();
        lab.answer_directly().unwrap();
        let host = &lab.backends[0];
        let _web = TinyWeb::start(host).unwrap();
        for family in Family::BOTH {
            // The edge's kernel does what a balancer would: it sends the packets on as they are.
            let (service, backend) = (family.vip(), host.address(family, 0).ip());
            let bits = if family == Family::V4 { 32 } else { 128 };
            let lines = format!(
                "address del {service}/{bits} dev {}\nroute add {service} via {backend}",
                lab.front()
            );
            lab.edge.namespace.ip(&lines).unwrap();
            let echo = UdpEcho::at(host, family.service(PORT)).unwrap();
            let server = family.service(PORT);
            let client = &lab.client.namespace;
            let answer = client.run(|| http::get(server, "/")).unwrap();
            assert_eq!(answer.text(), "web-01", "{wiring:?}");
            let socket = client.run(|| client_socket(family, server)).unwrap();
            assert_eq!(ask(&socket, &[7; 4000]).unwrap().payload, [7; 4000], "{wiring:?}");
            assert_eq!(echo.finish().unwrap(), 1);
        }
    }
}
