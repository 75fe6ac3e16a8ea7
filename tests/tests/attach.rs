//! Attaching: native where the driver can, generic with a reason where it cannot, and what the
//! status says of it. Then what an interface meets later: a neighbour with a new address.

use evenkeel_tests::{
    evenkeel::Balancer,
    load::{Load, Pattern},
    settings::{Service, Settings},
    stage::Stage,
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};

/// A configuration for the lab's edge that also balances `extra`, in this mode.
fn with_interface(lab: &Lab, extra: &str, mode: &str) -> String {
    let settings = Settings::new(lab).with(Service::web("web", Family::V4).backends(lab));
    let text = settings.to_string();
    let first = format!("interfaces = [{extra:?}, ");
    let text = text.replacen("interfaces = [", &first, 1);
    text.replacen("[node]\n", &format!("[node]\nxdp_mode = {mode:?}\n"), 1)
}

#[test]
fn a_driver_without_xdp_gets_the_generic_mode_and_a_warning() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    // A bridge has no XDP of its own.
    lab.edge.namespace.ip("link add plain type bridge\nlink set plain up").unwrap();
    let mut balancer = Balancer::prepare(&lab, &with_interface(&lab, "plain", "auto")).unwrap();
    balancer.run().unwrap();
    let status = balancer.status().unwrap();
    let interfaces = status["daemon"]["interfaces"].as_array().unwrap();
    let mode = |name: &str| {
        let found = interfaces.iter().find(|interface| interface["name"] == name);
        found.map(|interface| interface["mode"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(mode("plain").as_deref(), Some("generic"), "{status}");
    assert_eq!(mode("front").as_deref(), Some("native"), "{status}");
    let log = balancer.log();
    assert!(log.contains("WARN") && log.contains("generic mode"), "{log}");
    assert!(log.contains("the driver does not support it"), "it says why: {log}");
}

#[test]
fn native_alone_is_refused_where_the_driver_cannot_and_leaves_nothing() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    lab.edge.namespace.ip("link add plain type bridge\nlink set plain up").unwrap();
    let balancer = Balancer::prepare(&lab, &with_interface(&lab, "plain", "native")).unwrap();
    let refused = balancer.run_refused().unwrap();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("plain"), "{refused:?}");
    assert!(refused.stderr.contains("xdp_mode = \"auto\""), "the way out: {refused:?}");
    assert!(!balancer.bpffs_path().exists(), "pins are left");
}

#[test]
fn a_backend_that_gets_another_hardware_address_is_found_again() {
    let stage = Stage::new(Wiring::Switched, 2, Settings::web).unwrap();
    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();
    load.proceed(100).unwrap();

    // Another machine takes the address over, and says so as such machines do.
    let backend = &stage.lab.backends[0];
    let namespace = &backend.namespace;
    namespace.ip("link set eth0 address 02:00:00:00:99:99").unwrap();
    namespace.ip("neigh flush all").unwrap();
    namespace
        .run(|| {
            // Any packet will do: before it goes out, the edge is asked for its own address.
            let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
            socket.send_to(b"here", "10.0.0.1:9")?;
            Ok(())
        })
        .unwrap();
    eventually("the edge knows web-01's new address", PATIENCE, || {
        let mut text = stage.lab.edge.namespace.command("ip");
        let text = text.args(["neigh", "show", &backend.v4.to_string()]).output()?;
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        anyhow::ensure!(text.contains("02:00:00:00:99:99"), "{text}");
        Ok(())
    })
    .unwrap();
    eventually("evenkeel knows it too", PATIENCE, || {
        let log = stage.balancer.log();
        anyhow::ensure!(log.contains("02:00:00:00:99:99"), "{log}");
        Ok(())
    })
    .unwrap();
    let before = stage.balancer.counters("web", "web-01").unwrap().connections;
    load.proceed(200).unwrap();
    assert!(stage.balancer.counters("web", "web-01").unwrap().connections > before);
    // What was under way may have needed a retransmission; none was lost.
    load.stop().unwrap().flawless().unwrap();
}
