//! The resolver over real links, in network namespaces of its own. Needs root.
//!
//! Each test has an edge and a host, joined by a veth pair: `tohost` on the edge's side, `toedge` on the
//! host's. The test's thread moves into the edge's namespace, where the resolver runs.

use std::{
    collections::BTreeSet,
    fs::File,
    net::IpAddr,
    os::fd::AsFd,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(8);
/// Longer than the rest between two questions for the same neighbour.
const NUDGED: Duration = Duration::from_millis(1100);
const EDGE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];

/// Two namespaces and the links between them, deleted when dropped.
struct Net {
    edge: String,
    host: String,
}

impl Net {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("nexthop-{}-{number}-{side}", std::process::id());
        let net = Self { edge: name("edge"), host: name("host") };
        for name in [&net.edge, &net.host] {
            run(&format!("netns add {name}"));
            // No duplicate address detection: addresses are usable at once.
            shell(name, "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
            shell(name, "echo 1 > /proc/sys/net/ipv4/ip_forward");
            run(&format!("-n {name} link set lo up"));
        }
        net.link();
        net
    }

    /// Makes the veth pair, with addresses: `10.1.0.1` and `fd01::1` here, `.2` and `::2` there.
    fn link(&self) {
        let (edge, host) = (&self.edge, &self.host);
        run(&format!(
            "link add tohost address {} netns {edge} type veth peer name toedge address {} netns {host}",
            Mac(EDGE_MAC),
            Mac(HOST_MAC)
        ));
        for (name, device, end) in [(edge, "tohost", 1), (host, "toedge", 2)] {
            run(&format!("-n {name} address add 10.1.0.{end}/24 dev {device}"));
            run(&format!("-n {name} address add fd01::{end}/64 dev {device} nodad"));
            run(&format!("-n {name} address add fe80::{end}/64 dev {device} nodad"));
            run(&format!("-n {name} link set {device} up"));
        }
    }

    fn edge(&self, arguments: &str) {
        run(&format!("-n {} {arguments}", self.edge));
    }

    fn host(&self, arguments: &str) {
        run(&format!("-n {} {arguments}", self.host));
    }

    /// What the edge's kernel knows of a neighbour.
    fn neighbour(&self, address: &str) -> String {
        let arguments = ["-n", &self.edge, "neigh", "show", "to", address];
        let output = Command::new("ip").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// The index of an interface of the edge.
    fn ifindex(&self, device: &str) -> u32 {
        let output = Command::new("ip")
            .args(["-n", &self.edge, "-o", "link", "show", "dev", device])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split(':').next().unwrap().parse().unwrap()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in [&self.edge, &self.host] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn run(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error} (these tests need root)");
}

fn shell(namespace: &str, command: &str) {
    let arguments = ["netns", "exec", namespace, "sh", "-c", command];
    assert!(Command::new("ip").args(arguments).status().unwrap().success(), "{command}");
}

/// Runs a test in the edge's namespace, on a thread of its own: the namespace is the thread's.
fn in_edge<F>(test: impl FnOnce(Net, Watcher) -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    let test = move || {
        let net = Net::new();
        let namespace = File::open(format!("/run/netns/{}", net.edge)).unwrap();
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (sender, updates) = mpsc::channel(64);
            let (resolver, _task) = Resolver::start(sender, mpsc::channel(1).0);
            test(net, Watcher { resolver, updates }).await;
        });
    };
    if let Err(panic) = std::thread::spawn(test).join() {
        std::panic::resume_unwind(panic);
    }
}

struct Watcher {
    resolver: Resolver,
    updates: mpsc::Receiver<Update>,
}

impl Watcher {
    fn watch(&self, targets: &[&str]) {
        self.resolver.set_targets(targets.iter().map(|target| ip(target)).collect());
    }

    /// Waits for an update of `target` that is as wanted; others may come before it.
    async fn until(
        &mut self,
        target: &str,
        wanted: impl Fn(&Result<NextHop, Unresolved>) -> bool,
    ) -> Result<NextHop, Unresolved> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while let Ok(Some(update)) = timeout_at(deadline, self.updates.recv()).await {
            if update.target == ip(target) && wanted(&update.next_hop) {
                return update.next_hop;
            }
            seen.push(update);
        }
        panic!("{target}: not in time; seen instead: {seen:#?}");
    }

    async fn until_mac(&mut self, target: &str, mac: [u8; 6]) -> NextHop {
        self.until(target, |got| got.as_ref().is_ok_and(|hop| hop.destination_mac == mac))
            .await
            .unwrap()
    }

    async fn until_lost(&mut self, target: &str) -> Unresolved {
        self.until(target, Result::is_err).await.unwrap_err()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_host_on_the_link() {
    in_edge(async |net, mut watcher| {
        for (target, source) in [("10.1.0.2", "10.1.0.1"), ("fd01::2", "fd01::1")] {
            watcher.watch(&[target]);
            let expected = NextHop {
                ifindex: net.ifindex("tohost"),
                source_mac: EDGE_MAC,
                destination_mac: HOST_MAC,
                gateway: ip(target),
                preferred_source: Some(ip(source)),
                mtu: 1500,
            };
            assert_eq!(watcher.until_mac(target, HOST_MAC).await, expected);
        }
    });
}

#[test]
fn a_host_behind_a_gateway() {
    in_edge(async |net, mut watcher| {
        net.edge("route add 10.9.0.0/24 via 10.1.0.2");
        net.edge("route add 10.8.0.0/24 via inet6 fe80::2 dev tohost");
        net.edge(
            "route add 10.7.0.0/24 nexthop via 10.1.0.2 weight 1 nexthop via 10.1.0.2 weight 1",
        );
        net.edge("-6 route add fd09::/64 via fd01::2");
        net.edge("-6 route add fd08::/64 via fe80::2 dev tohost");
        for (target, gateway) in [
            ("10.9.0.5", "10.1.0.2"),
            ("10.8.0.5", "fe80::2"),
            ("10.7.0.5", "10.1.0.2"),
            ("fd09::5", "fd01::2"),
            ("fd08::5", "fe80::2"),
        ] {
            watcher.watch(&[target]);
            assert_eq!(watcher.until_mac(target, HOST_MAC).await.gateway, ip(gateway), "{target}");
        }
    });
}

#[test]
fn a_neighbour_with_a_new_hardware_address() {
    in_edge(async |net, mut watcher| {
        let targets = ["10.1.0.2", "fd01::2"];
        watcher.watch(&targets);
        // Both first, in whichever order they come.
        let mut seen = BTreeSet::new();
        while seen.len() < targets.len() {
            let update = tokio::time::timeout(PATIENCE, watcher.updates.recv()).await;
            let update = update.unwrap().unwrap();
            if update.next_hop.is_ok() {
                seen.insert(update.target);
            }
        }
        // The host announces its new address, as one that takes over another's would.
        shell(&net.host, "echo 1 > /proc/sys/net/ipv4/conf/toedge/arp_notify");
        shell(&net.host, "echo 1 > /proc/sys/net/ipv6/conf/toedge/ndisc_notify");
        net.host(&format!("link set toedge address {}", Mac(OTHER_MAC)));
        let mut changed = BTreeSet::new();
        while changed.len() < targets.len() {
            let update = tokio::time::timeout(PATIENCE, watcher.updates.recv()).await;
            let update = update.expect("both change in time").unwrap();
            if update.next_hop.is_ok_and(|hop| hop.destination_mac == OTHER_MAC) {
                changed.insert(update.target);
            }
        }
    });
}

#[test]
fn a_forgotten_neighbour_is_found_again() {
    in_edge(async |net, mut watcher| {
        watcher.watch(&["10.1.0.2"]);
        watcher.until_mac("10.1.0.2", HOST_MAC).await;
        // Without an announcement: the edge's own question finds the new address.
        net.host(&format!("link set toedge address {}", Mac(OTHER_MAC)));
        net.edge("neigh flush dev tohost");
        watcher.until_mac("10.1.0.2", OTHER_MAC).await;
    });
}

#[test]
fn a_permanent_neighbour_stays_permanent() {
    in_edge(async |net, mut watcher| {
        net.edge(&format!(
            "neigh add 10.1.0.77 lladdr {} dev tohost nud permanent",
            Mac(OTHER_MAC)
        ));
        watcher.watch(&["10.1.0.77"]);
        watcher.until_mac("10.1.0.77", OTHER_MAC).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let output = Command::new("ip").args(["-n", &net.edge, "neigh", "show"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("10.1.0.77") && text.contains("PERMANENT"), "{text}");
    });
}

#[test]
fn a_stale_neighbour_is_validated_although_nothing_is_sent() {
    in_edge(async |net, mut watcher| {
        watcher.watch(&["10.1.0.2"]);
        watcher.until_mac("10.1.0.2", HOST_MAC).await;
        tokio::time::sleep(NUDGED).await;
        net.edge("neigh change 10.1.0.2 dev tohost nud stale");
        tokio::time::sleep(Duration::from_millis(300)).await;
        let text = net.neighbour("10.1.0.2");
        assert!(!text.contains("STALE") && text.contains(&Mac(HOST_MAC).to_string()), "{text}");
    });
}

#[test]
fn an_interface_that_is_down() {
    in_edge(async |net, mut watcher| {
        for target in ["10.1.0.2", "fd01::2"] {
            watcher.watch(&[target]);
            watcher.until_mac(target, HOST_MAC).await;
        }
        net.edge("link set tohost down");
        let lost = watcher.until_lost("fd01::2").await;
        assert!(matches!(lost, Unresolved::NoRoute(_)), "{lost:?}");
    });
}

#[test]
fn a_route_that_changes() {
    in_edge(async |net, mut watcher| {
        net.host("address add 10.1.0.3/24 dev toedge");
        for (family, target, first, second) in
            [("-4", "10.9.0.5", "10.1.0.2", "10.1.0.3"), ("-6", "fd09::5", "fd01::2", "fe80::2")]
        {
            watcher.watch(&[target]);
            assert!(matches!(watcher.until_lost(target).await, Unresolved::NoRoute(_)));
            for gateway in [first, second] {
                net.edge(&format!("{family} route replace {target} via {gateway} dev tohost"));
                let by = |got: &Result<NextHop, _>| {
                    got.as_ref().is_ok_and(|hop| hop.gateway == ip(gateway))
                };
                watcher.until(target, by).await.unwrap();
            }
            net.edge(&format!("{family} route del {target}"));
            assert!(matches!(watcher.until_lost(target).await, Unresolved::NoRoute(_)));
        }
    });
}

#[test]
fn an_interface_that_goes_and_returns() {
    in_edge(async |net, mut watcher| {
        for target in ["10.1.0.2", "fd01::2"] {
            watcher.watch(&[target]);
            let before = watcher.until_mac(target, HOST_MAC).await.ifindex;
            net.edge("link del tohost");
            let lost = watcher.until_lost(target).await;
            assert!(matches!(lost, Unresolved::NoRoute(_)), "{lost:?}");
            net.link();
            let after = watcher.until_mac(target, HOST_MAC).await.ifindex;
            assert_ne!(before, after);
        }
    });
}

#[test]
fn targets_without_a_next_hop_say_why() {
    in_edge(async |net, mut watcher| {
        net.edge("route add blackhole 10.6.0.0/24");
        net.edge("-6 route add blackhole fd06::/64");
        for (target, reason) in [
            ("10.1.0.1", "address of this host"),
            ("127.0.0.1", "address of this host"),
            ("fd01::1", "address of this host"),
            ("::1", "address of this host"),
            ("10.1.0.200", "10.1.0.200 does not answer on tohost"),
            ("fd01::200", "fd01::200 does not answer on tohost"),
            ("192.0.2.1", "no route leads to it"),
            ("2001:db8::1", "no route leads to it"),
            ("10.6.0.1", "route"),
            ("fd06::1", "route"),
            ("224.0.0.1", "route"),
        ] {
            watcher.watch(&[target]);
            let error = watcher.until_lost(target).await.to_string();
            assert!(error.contains(reason), "{target}: {error}");
        }
    });
}

#[test]
fn a_host_that_comes_late_is_found_and_nothing_is_repeated() {
    in_edge(async |net, mut watcher| {
        watcher.watch(&["10.1.0.50"]);
        watcher.until_lost("10.1.0.50").await;
        // Past a few of the kernel's failures: they are not news.
        let repeated = tokio::time::timeout(Duration::from_secs(4), watcher.updates.recv()).await;
        assert!(repeated.is_err(), "{repeated:?}");
        net.host("address add 10.1.0.50/24 dev toedge");
        watcher.until_mac("10.1.0.50", HOST_MAC).await;
    });
}

#[test]
fn many_targets_and_changes_of_the_set() {
    in_edge(async |net, mut watcher| {
        net.edge("route add 10.9.0.0/16 via 10.1.0.2");
        let targets: BTreeSet<IpAddr> =
            (0..=2).flat_map(|c| (0..100).map(move |d| IpAddr::from([10, 9, c, d]))).collect();
        watcher.resolver.set_targets(targets.clone());
        let mut resolved = BTreeSet::new();
        while resolved.len() < targets.len() {
            let update = tokio::time::timeout(PATIENCE, watcher.updates.recv()).await;
            let update = update.unwrap().unwrap();
            if update.next_hop.is_ok() {
                resolved.insert(update.target);
            }
        }
        // One that leaves and returns is told again.
        watcher.watch(&[]);
        tokio::time::sleep(Duration::from_millis(50)).await;
        watcher.watch(&["10.9.0.1"]);
        watcher.until_mac("10.9.0.1", HOST_MAC).await;
    });
}

#[test]
fn the_task_ends_with_either_end() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (sender, updates) = mpsc::channel(1);
        let (resolver, task) = Resolver::start(sender, mpsc::channel(1).0);
        drop(updates);
        tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
        drop(resolver);

        let (sender, _updates) = mpsc::channel(1);
        let (resolver, task) = Resolver::start(sender, mpsc::channel(1).0);
        drop(resolver);
        tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    });
}
