//! The hosts inside the machine: a client, an edge and two backends, each a network namespace.
//!
//! ```text
//!            pair 0                 pair 1: web-01, pair 2: web-02
//!   client ========== front [edge] back1, back2 ========== eth0 [backend]
//!      |                                                          |
//!      +--- direct1, direct2 ------- veth ------------- direct ---+
//! ```
//!
//! The double lines are virtio network cards, so that XDP runs in their driver. The veths are the way
//! by which answers of tunnelled connections go back without passing the edge.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{
    netns::{Namespace, cable, succeeded},
    topology::Family,
};
use serde_json::Value;

use super::{
    super::machine::{PAIRS, PROCESSORS},
    traffic::Server,
};

/// What the kernel says of a program that runs in the driver (`XDP_ATTACHED_DRV`).
const IN_DRIVER: u64 = 1;
const NICS: &str = "/sys/class/net";

/// The interfaces of the edge, one for each pair of network cards.
pub(super) const EDGE_INTERFACES: [&str; PAIRS as usize] = ["front", "back1", "back2"];

pub(super) const CLIENT4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
pub(super) const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
const EDGE4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const EDGE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

/// The service's port, and the one behind address translation.
pub(super) const SERVICE_PORT: u16 = 80;
pub(super) const NAT_PORT: u16 = 8080;

/// A server behind the edge.
pub(super) struct Backend {
    pub(super) name: String,
    pub(super) namespace: Namespace,
    pub(super) v4: Ipv4Addr,
    pub(super) v6: Ipv6Addr,
    /// What answers on it, for as long as it lives.
    _server: Server,
}

impl Backend {
    pub(super) fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }
}

/// All hosts, wired.
pub(super) struct Stage {
    pub(super) client: Namespace,
    pub(super) edge: Namespace,
    pub(super) backends: Vec<Backend>,
    /// The devices behind the edge's interfaces, as interrupts are named after: `virtio1`, …
    pub(super) devices: Vec<String>,
    /// What there is to say of it.
    pub(super) summary: String,
}

impl Stage {
    pub(super) fn build() -> Result<Self> {
        let (client, edge) = (Namespace::new("client")?, Namespace::new("edge")?);
        let mut devices = Vec::new();
        let mut queues = Vec::new();
        let mut cards = Vec::new();
        for pair in 0..PAIRS {
            // The client's and the backends' ends, and the edge's.
            let (far, near) = (card(pair, u8::from(pair != 0))?, card(pair, u8::from(pair == 0))?);
            queues.push(receive_queues(&near)?);
            devices.push(device(&near)?);
            give(&near, &edge, EDGE_INTERFACES[usize::from(pair)])?;
            cards.push(far);
        }
        ensure!(
            queues.iter().all(|&count| count == usize::from(PROCESSORS)),
            "the edge's cards have {queues:?} receive queues"
        );
        edge.sysctl("net/ipv4/ip_forward", "1")?;
        edge.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        give(&cards[0], &client, "front")?;
        edge.ip(&format!(
            "address add {EDGE4}/24 dev front\naddress add {EDGE6}/64 dev front nodad\n\
             address add {}/32 dev lo\naddress add {}/128 dev lo nodad",
            Family::V4.vip(),
            Family::V6.vip()
        ))?;
        client.ip(&format!(
            "address add {CLIENT4}/24 dev front\naddress add {CLIENT6}/64 dev front nodad\n\
             route add default via {EDGE4}\nroute add default via {EDGE6}"
        ))?;
        let mut stage =
            Self { client, edge, backends: Vec::new(), devices, summary: String::new() };
        for (number, card) in (1_u8..).zip(&cards[1..]) {
            stage.add_backend(number, card)?;
        }
        let release =
            fs::read_to_string("/proc/sys/kernel/osrelease").context("read the release")?;
        stage.summary = format!("Linux {}, queues {queues:?}", release.trim());
        Ok(stage)
    }

    /// By which addresses the client is reached from a backend (from 1 on), past the edge.
    pub(super) fn client_way(number: u8) -> (Ipv4Addr, Ipv6Addr) {
        way(number, 2)
    }

    fn add_backend(&mut self, number: u8, card: &str) -> Result<()> {
        let name = format!("web-{number:02}");
        let namespace = Namespace::new(&name)?;
        give(card, &namespace, "eth0")?;
        let id = u16::from(number);
        let v4 = |host| Ipv4Addr::new(10, 0, number, host);
        let v6 = |host| Ipv6Addr::new(0xfd00, 0, 0, id, 0, 0, 0, host);
        let back = EDGE_INTERFACES[usize::from(number)];
        self.edge.ip(&format!(
            "address add {}/24 dev {back}\naddress add {}/64 dev {back} nodad",
            v4(1),
            v6(1)
        ))?;
        let direct = format!("direct{number}");
        let macs = [1, 2].map(|end| format!("02:00:00:00:{number:02x}:{end:02x}"));
        cable((&self.client, &direct, &macs[0]), (&namespace, "direct", &macs[1]))?;
        // What answers a tunnelled connection is the virtual address itself.
        let (vip4, vip6) = (Family::V4.vip(), Family::V6.vip());
        let (own_way, client_way) = (way(number, 1), way(number, 2));
        self.client.ip(&format!(
            "address add {}/24 dev {direct}\naddress add {}/64 dev {direct} nodad",
            client_way.0, client_way.1
        ))?;
        for key in ["all", "default", "eth0", "direct"] {
            namespace.sysctl(&format!("net/ipv4/conf/{key}/rp_filter"), "0")?;
        }
        let (own4, own6) = (v4(10 + number), v6(10 + id));
        namespace.ip(&format!(
            "address add {own4}/24 dev eth0\naddress add {own6}/64 dev eth0 nodad\n\
             address add {}/24 dev direct\naddress add {}/64 dev direct nodad\n\
             address add {vip4}/32 dev lo\naddress add {vip6}/128 dev lo nodad\n\
             route add {CLIENT4}/32 via {}\nroute add {CLIENT6}/128 via {}\n\
             route add default via {}\nroute add default via {}",
            own_way.0,
            own_way.1,
            client_way.0,
            client_way.1,
            v4(1),
            v6(1)
        ))?;
        let server = Server::start(&namespace, &name)?;
        self.backends.push(Backend { name, namespace, v4: own4, v6: own6, _server: server });
        Ok(())
    }
}

/// A host's addresses on the cable that passes the edge by: 1 for the backend, 2 for the client.
fn way(number: u8, host: u8) -> (Ipv4Addr, Ipv6Addr) {
    let (id, low) = (u16::from(number), u16::from(host));
    (Ipv4Addr::new(10, 9, number, host), Ipv6Addr::new(0xfd09, 0, 0, id, 0, 0, 0, low))
}

/// Fails unless an interface runs an XDP program in its driver.
pub(super) fn ensure_native(namespace: &Namespace, interface: &str) -> Result<()> {
    let mut command = namespace.command("ip");
    command.args(["-json", "link", "show", "dev", interface]);
    let output = succeeded("ip link show", command.output().context("run ip")?)?;
    let link: Value = serde_json::from_str(&output).context("read what ip says")?;
    ensure!(
        link.pointer("/0/xdp/mode").and_then(Value::as_u64) == Some(IN_DRIVER),
        "{interface} does not run XDP in its driver: {link}"
    );
    Ok(())
}

/// The name that a network card has before it is given away.
fn card(pair: u8, end: u8) -> Result<String> {
    let wanted = format!("52:54:00:00:{pair:02x}:{end:02x}");
    let entries = fs::read_dir(NICS).with_context(|| format!("list {NICS}"))?;
    for entry in entries {
        let path = entry?.path();
        if fs::read_to_string(path.join("address")).is_ok_and(|address| address.trim() == wanted) {
            return Ok(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    anyhow::bail!("there is no network card {wanted}: was its driver loaded?")
}

fn receive_queues(card: &str) -> Result<usize> {
    let path = Path::new(NICS).join(card).join("queues");
    let entries = fs::read_dir(&path).with_context(|| format!("list {}", path.display()))?;
    let names = entries.flatten().map(|entry| entry.file_name());
    Ok(names.filter(|name| name.to_string_lossy().starts_with("rx-")).count())
}

/// The virtio device of a card.
fn device(card: &str) -> Result<String> {
    let path = Path::new(NICS).join(card).join("device");
    let device = fs::read_link(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(device.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

fn give(card: &str, to: &Namespace, name: &str) -> Result<()> {
    let status = std::process::Command::new("ip")
        .args(["link", "set", "dev", card, "netns", to.name(), "name", name])
        .status()
        .context("run ip")?;
    ensure!(status.success(), "moving {card} into {} failed", to.name());
    to.ip(&format!("link set {name} up"))
}
