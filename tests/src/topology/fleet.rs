//! A fleet: a router, edges that share its traffic, and backends. The addresses are those of
//! docs/announce.md and of the files beside it.
//!
//! ```text
//! client -- router -- front switch -- edge-1, edge-2 -- back switch -- backends
//!              \-------------------------------------------/
//! ```
//!
//! The router's way to the backends' switch is for their answers, where they answer clients themselves.
//! Without the router (`Fleet::without_router`) the client is on the front switch; `Fleet::visitor` puts further clients
//! there, each with the one edge that it goes by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};

use super::{
    Family, GATEWAY4, GATEWAY6, Host, backend4, backend6, end_host, mac, management::lose,
    new_switch, plug,
};
use crate::{
    netns::{Namespace, cable},
    process::Process,
    xdp_pass,
};

/// How many edges there are where nothing is said of it.
const EDGES: u8 = 2;
/// The router's number among the backends' neighbours.
const ROUTER: u8 = 254;

/// The fleet. Dropping it removes all of it.
#[derive(Debug)]
pub struct Fleet {
    /// Where the requests come from.
    pub client: Host,
    /// The router; without one, a host that nothing leads to.
    pub router: Host,
    /// `edge-1`, `edge-2`, …, with their addresses on `front`.
    pub edges: Vec<Host>,
    /// `web-01`, `web-02`, …
    pub backends: Vec<Host>,
    front: Namespace,
    back: Namespace,
}

impl Fleet {
    /// Builds a fleet whose edges are reached by a router.
    pub fn new(backends: usize) -> Result<Self> {
        let client = Host::new(
            "client",
            Ipv4Addr::new(198, 51, 100, 2),
            Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2),
        )?;
        let fleet = Self::build(client, EDGES, backends)?;
        let (router, client) = (&fleet.router.namespace, &fleet.client.namespace);
        cable((client, "eth0", &mac(0, 100)), (router, "client", &mac(0x40, 1)))?;
        router.ip(&format!(
            "address add {GATEWAY4}/24 dev client\naddress add {GATEWAY6}/64 dev client nodad"
        ))?;
        end_host(&fleet.client, GATEWAY4, GATEWAY6)?;
        for edge in &fleet.edges {
            let (v4, v6) = (fleet.router.v4, fleet.router.v6);
            edge.namespace
                .ip(&format!("route add default via {v4}\nroute add default via {v6}"))?;
        }
        Ok(fleet)
    }

    /// Builds one whose client is the edges' neighbour.
    pub fn without_router(backends: usize) -> Result<Self> {
        Self::side_by_side(EDGES, backends)
    }

    /// The same with another number of edges, fewer than 16.
    pub fn side_by_side(edges: u8, backends: usize) -> Result<Self> {
        let client = Host::new("client", front4(100), front6(100))?;
        let fleet = Self::build(client, edges, backends)?;
        let front = (&fleet.front, "client", &*mac(0x40, 2));
        cable((&fleet.client.namespace, "eth0", &mac(0, 100)), front)?;
        plug(&fleet.front, "client")?;
        end_host(&fleet.client, front4(1), front6(1))?;
        // The service's address is nobody's neighbour's, so its subnet is on this wire.
        fleet.client.namespace.ip("route add 192.0.2.0/24 dev eth0")?;
        fleet.client.namespace.ip("route add 2001:db8:ffff::/64 dev eth0")?;
        Ok(fleet)
    }

    fn build(client: Host, edges: u8, backends: usize) -> Result<Self> {
        let router = Host::new("router", front4(1), front6(1))?;
        let mut fleet = Self {
            client,
            router,
            edges: Vec::new(),
            backends: Vec::new(),
            front: new_switch("front")?,
            back: new_switch("back")?,
        };
        fleet.wire_router()?;
        for number in 1..=edges {
            fleet.add_edge(number)?;
        }
        for _ in 0..backends {
            fleet.add_backend()?;
        }
        Ok(fleet)
    }

    fn wire_router(&self) -> Result<()> {
        let router = &self.router.namespace;
        router.sysctl("net/ipv4/ip_forward", "1")?;
        router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        // Backends' answers come from an address that is reached another way.
        router.sysctl("net/ipv4/conf/all/rp_filter", "0")?;
        router.sysctl("net/ipv4/conf/default/rp_filter", "0")?;
        // As docs/announce.md has it: by ports, too.
        router.sysctl("net/ipv4/fib_multipath_hash_policy", "1")?;
        router.sysctl("net/ipv6/fib_multipath_hash_policy", "1")?;
        cable((router, "edges", &mac(0x40, 3)), (&self.front, "router", &mac(0x40, 4)))?;
        cable((router, "back", &mac(0x40, 5)), (&self.back, "router", &mac(0x40, 6)))?;
        plug(&self.front, "router")?;
        plug(&self.back, "router")?;
        // What it says itself is finished before it leaves: see `end_host`.
        router.offloads("edges", &["tx", "off"])?;
        router.ip(&format!(
            "address add {}/24 dev edges\naddress add {}/64 dev edges nodad\n\
             address add {}/24 dev back\naddress add {}/64 dev back nodad",
            self.router.v4,
            self.router.v6,
            backend4(0, ROUTER),
            backend6(0, ROUTER),
        ))
    }

    fn add_edge(&mut self, number: u8) -> Result<()> {
        let name = format!("edge-{number}");
        let host = Host::new(&name, front4(10 + number), front6(0x10 + u16::from(number)))?;
        let edge = &host.namespace;
        edge.sysctl("net/ipv4/ip_forward", "1")?;
        edge.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        for (device, switch, kind) in [("front", &self.front, 0x50), ("back", &self.back, 0x60)] {
            let (near, far) = (mac(kind, number), mac(kind + 1, number));
            cable((edge, device, &near), (switch, &name, &far))?;
            plug(switch, &name)?;
            // What is redirected to it, or sent back, is taken there.
            xdp_pass::attach(switch, &name)?;
        }
        edge.ip(&format!(
            "address add {}/24 dev front\naddress add {}/64 dev front nodad\n\
             address add {}/24 dev back\naddress add {}/64 dev back nodad",
            host.v4,
            host.v6,
            backend4(0, number),
            backend6(0, number),
        ))?;
        self.edges.push(host);
        Ok(())
    }

    /// Plugs in one more backend.
    pub fn add_backend(&mut self) -> Result<&Host> {
        let id = u8::try_from(self.backends.len() + 1)?;
        let name = format!("web-{id:02}");
        let host = Host::new(&name, backend4(0, 10 + id), backend6(0, 10 + id))?;
        cable((&host.namespace, "eth0", &mac(0x10, id)), (&self.back, &name, &mac(0x20, id)))?;
        plug(&self.back, &name)?;
        end_host(&host, backend4(0, ROUTER), backend6(0, ROUTER))?;
        self.backends.push(host);
        self.backends.last().context("no backend")
    }

    /// Puts one more client on the front switch, whose way to the services is this edge.
    pub fn visitor(&self, edge: usize) -> Result<Host> {
        let number = u8::try_from(edge + 1)?;
        let name = format!("visitor-{number}");
        let host = Host::new(&name, front4(110 + number), front6(0x110 + u16::from(number)))?;
        let (near, far) = (mac(0x41, number), mac(0x42, number));
        cable((&host.namespace, "eth0", &near), (&self.front, &name, &far))?;
        plug(&self.front, &name)?;
        let edge = &self.edges[edge];
        end_host(&host, edge.v4, edge.v6)?;
        Ok(host)
    }

    /// An edge's own address towards the backends.
    #[must_use]
    pub fn inside(&self, edge: usize, family: Family) -> IpAddr {
        let number = u8::try_from(edge + 1).unwrap_or(u8::MAX);
        match family {
            Family::V4 => backend4(0, number).into(),
            Family::V6 => backend6(0, number).into(),
        }
    }

    /// Cuts an edge's cable to the front switch at the switch, or mends it: the edge itself sees its link go, as
    /// the router does not.
    pub fn link(&self, edge: usize, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.front.ip(&format!("link set edge-{} {state}", edge + 1))
    }

    /// Has an edge lose whatever it sends to this backend, or mends it. Other edges reach it.
    pub fn lose(&self, edge: usize, backend: IpAddr, lost: bool) -> Result<()> {
        lose(&self.edges[edge].namespace, "back", backend, lost)
    }

    /// Ends whatever runs on an edge with `SIGKILL`, and takes both its cables, as when its power fails.
    pub fn kill(&self, edge: usize) -> Result<()> {
        for process in self.edges[edge].namespace.processes() {
            // Some may have ended with the others.
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
        let name = format!("edge-{}", edge + 1);
        self.front.ip(&format!("link set {name} down"))?;
        self.back.ip(&format!("link set {name} down"))
    }

    /// Starts a program on a host of the fleet; its output goes to `directory`.
    pub fn start(
        host: &Host,
        program: &str,
        arguments: &[&str],
        directory: &std::path::Path,
    ) -> Result<Process> {
        let mut command = host.namespace.command(program);
        command.args(arguments);
        let name = program.rsplit('/').next().unwrap_or(program);
        Process::start(&format!("{name}-{}", host.name), command, directory)
    }
}

fn front4(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, host)
}

fn front6(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, host)
}
