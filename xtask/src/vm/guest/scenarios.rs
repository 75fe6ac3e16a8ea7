//! What is tried on every kernel.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::topology::Family::{self, V4, V6};

use super::{
    balancer::{Balancer, Service},
    decap::Decapsulators,
    stage::{NAT_PORT, SERVICE_PORT, Stage},
    traffic,
    tunnel::{FarEnds, Tunnel},
    vlan::{Tags, Vlans},
};

/// Something to try. What it returns is worth a note.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) play: fn(&Stage) -> Result<String>,
}

/// Without it the others need not be tried.
pub(super) const LOAD: &str = "load and attach";

/// In the order they are played.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: LOAD, play: load },
    Scenario { name: "nat, IPv4", play: |stage| nat(stage, V4) },
    Scenario { name: "nat, IPv6", play: |stage| nat(stage, V6) },
    Scenario { name: "dsr, IPv4", play: |stage| dsr(stage, V4) },
    Scenario { name: "dsr, IPv6", play: |stage| dsr(stage, V6) },
    Scenario { name: "ipip, 4 in 4", play: |stage| ipip(stage, V4, V4) },
    Scenario { name: "ipip, 6 in 6", play: |stage| ipip(stage, V6, V6) },
    Scenario { name: "ipip, 4 in 6", play: |stage| ipip(stage, V4, V6) },
    Scenario { name: "ipip, 6 in 4", play: |stage| ipip(stage, V6, V4) },
    Scenario { name: "gue, 4 in 4", play: |stage| gue(stage, V4, V4) },
    Scenario { name: "gue, 6 in 6", play: |stage| gue(stage, V6, V6) },
    Scenario { name: "gue, 4 in 6", play: |stage| gue(stage, V4, V6) },
    Scenario { name: "gue, 6 in 4", play: |stage| gue(stage, V6, V4) },
    Scenario { name: "decap, ipip, 4 in 4", play: |stage| decap(stage, "ipip", V4, V4) },
    Scenario { name: "decap, ipip, 6 in 6", play: |stage| decap(stage, "ipip", V6, V6) },
    Scenario { name: "decap, gue, 4 in 6", play: |stage| decap(stage, "gue", V4, V6) },
    Scenario { name: "decap, gue, 6 in 4", play: |stage| decap(stage, "gue", V6, V4) },
    Scenario { name: "vlan, nat, IPv4", play: |stage| vlan_nat(stage, V4, Tags::One) },
    Scenario { name: "vlan, nat, IPv6", play: |stage| vlan_nat(stage, V6, Tags::One) },
    Scenario { name: "vlan, ipip, 4 in 4", play: |stage| vlan_ipip(stage, V4) },
    Scenario { name: "vlan, ipip, 6 in 6", play: |stage| vlan_ipip(stage, V6) },
    Scenario { name: "two vlans, nat, IPv4", play: |stage| vlan_nat(stage, V4, Tags::Two) },
    Scenario { name: "two vlans, nat, IPv6", play: |stage| vlan_nat(stage, V6, Tags::Two) },
    Scenario { name: "queues", play: queues },
];

/// Small connections, and bytes over one big one. An echo of this size has many full frames, both
/// ways, and more than a congestion window of them.
const CONNECTIONS: u64 = 40;
const BULK: usize = 300_000;
const DATAGRAMS: u64 = 20;
const DATAGRAM: usize = 1000;

/// The kernel's verifier takes the programs, and the edge's drivers run them.
fn load(stage: &Stage) -> Result<String> {
    let start = Instant::now();
    let _balancer = Balancer::start(stage, &[])?;
    Ok(format!("native on virtio, {:.1} s", start.elapsed().as_secs_f64()))
}

fn nat(stage: &Stage, family: Family) -> Result<String> {
    translated(stage, family, &addresses(stage, family))
}

fn dsr(stage: &Stage, family: Family) -> Result<String> {
    // The backends have the service's address themselves; its port stays too.
    balanced(stage, "dsr", family, SERVICE_PORT, &addresses(stage, family))
}

fn ipip(stage: &Stage, inner: Family, outer: Family) -> Result<String> {
    tunnelled(stage, Tunnel { outer, inner, gue: false }, &addresses(stage, outer))
}

fn gue(stage: &Stage, inner: Family, outer: Family) -> Result<String> {
    tunnelled(stage, Tunnel { outer, inner, gue: true }, &addresses(stage, outer))
}

/// No device of the kernel's takes the tunnels' packets here: what arrives, our program has unwrapped.
fn decap(stage: &Stage, forwarding: &'static str, inner: Family, outer: Family) -> Result<String> {
    let _decapsulators = Decapsulators::start(stage)?;
    balanced(stage, forwarding, inner, SERVICE_PORT, &addresses(stage, outer))
}

fn vlan_nat(stage: &Stage, family: Family, tags: Tags) -> Result<String> {
    let vlans = Vlans::make(stage, tags)?;
    translated(stage, family, &vlans.addresses(family))
}

fn vlan_ipip(stage: &Stage, family: Family) -> Result<String> {
    let vlans = Vlans::make(stage, Tags::One)?;
    let tunnel = Tunnel { outer: family, inner: family, gue: false };
    tunnelled(stage, tunnel, &vlans.addresses(family))
}

fn addresses(stage: &Stage, family: Family) -> Vec<IpAddr> {
    stage.backends.iter().map(|backend| backend.address(family)).collect()
}

fn translated(stage: &Stage, family: Family, backends: &[IpAddr]) -> Result<String> {
    balanced(stage, "nat", family, NAT_PORT, backends)
}

fn tunnelled(stage: &Stage, tunnel: Tunnel, backends: &[IpAddr]) -> Result<String> {
    let ends = FarEnds::make(stage, tunnel, backends)?;
    let forwarding = if tunnel.gue { "gue" } else { "ipip" };
    let passed = balanced(stage, forwarding, tunnel.inner, SERVICE_PORT, backends)?;
    Ok(format!("{passed}, {} packets in tunnels", ends.ensure_used()?))
}

/// Starts a balancer with one service, whose backends have these addresses, and has traffic pass.
fn balanced(
    stage: &Stage,
    forwarding: &'static str,
    family: Family,
    port: u16,
    backends: &[IpAddr],
) -> Result<String> {
    let backends = backends.iter().map(|&address| SocketAddr::new(address, port)).collect();
    let services = [Service { family, forwarding, backends }];
    let balancer = Balancer::start(stage, &services)?;
    let passed = pass(stage, &services[0], &balancer);
    if passed.is_err() {
        println!("{}", balancer.describe());
    }
    passed
}

/// Everything that the client sends is served, by each backend alike, and counted.
fn pass(stage: &Stage, service: &Service, balancer: &Balancer<'_>) -> Result<String> {
    let address = service.family.service(SERVICE_PORT);
    let tcp = traffic::tcp(&stage.client, address, CONNECTIONS, 100)?;
    let udp = traffic::udp(&stage.client, address, DATAGRAMS, DATAGRAM)?;
    let backends = u64::try_from(stage.backends.len())?;
    for (protocol, shares, total) in [("tcp", &tcp, CONNECTIONS), ("udp", &udp, DATAGRAMS)] {
        let served: Vec<u64> = stage
            .backends
            .iter()
            .map(|backend| shares.get(&backend.name).copied().unwrap_or_default())
            .collect();
        let fair = vec![total / backends; stage.backends.len()];
        ensure!(served == fair, "{protocol}: the backends served {served:?}, not {fair:?}");
        let counted = balancer.connections(service, protocol)?;
        ensure!(counted == served, "{protocol}: counted {counted:?}, served {served:?}");
    }
    traffic::tcp(&stage.client, address, backends, BULK).context("a big transfer")?;
    let drops = balancer.drops()?;
    ensure!(drops.is_empty(), "packets were dropped: {drops:?}");
    Ok(format!("{CONNECTIONS} connections, {DATAGRAMS} datagrams, {BULK} bytes echoed"))
}

/// More than one receive queue of the edge's cards has had packets, and the driver gave XDP queues of
/// its own. Plays after the traffic.
fn queues(stage: &Stage) -> Result<String> {
    let interrupts = fs::read_to_string("/proc/interrupts").context("read /proc/interrupts")?;
    let front = &stage.devices[0];
    let used = interrupts
        .lines()
        .filter(|line| line.contains(&format!("{front}-input.")))
        .filter(|line| {
            let counts = line.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok());
            counts.sum::<u64>() > 0
        })
        .count();
    ensure!(used > 1, "packets came by {used} receive queue of {front}:\n{interrupts}");
    let output = std::process::Command::new("dmesg").output().context("run dmesg")?;
    let kernel = String::from_utf8_lossy(&output.stdout);
    let complaint = kernel.lines().find(|line| line.contains("virtio") && line.contains("XDP"));
    ensure!(complaint.is_none(), "the kernel says: {}", complaint.unwrap_or_default());
    Ok(format!("packets came by {used} receive queues"))
}
