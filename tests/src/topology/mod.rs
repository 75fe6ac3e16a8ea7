//! The lab: a client, an edge and backends, each a namespace, wired in one of four ways.
//!
//! Addresses are the same in every lab, so a lab is private by its namespaces alone. Both
//! families are always there. The edge forwards, as a router would: without a balancer the
//! client reaches every backend through its kernel.

mod fleet;
mod management;
mod roles;
mod routed;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Result, ensure};

use self::routed::Routers;
pub use self::{fleet::Fleet, management::Management, routed::Side};
use crate::{
    netns::{Namespace, cable},
    xdp_pass,
};

/// The virtual IPv4 address, owned by the edge on its side towards the client.
pub const VIP4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The virtual IPv6 address, owned by the edge likewise.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x10);

/// The client's gateway: the edge, or the first router on the way to it.
const GATEWAY4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

/// How the hosts hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// The edge has one interface to the client (`front`) and one to a switch with the backends
    /// (`back`).
    Switched,
    /// The edge has one interface to the client (`front`) and one to each backend (`back1`,
    /// `back2`, …), each with a subnet of its own.
    Direct,
    /// Client, edge and backends hang on one switch; the edge's only interface is `eth0`.
    OneNic,
    /// The edge has `front` and `back` as with [`Wiring::Switched`], and two routers on either
    /// side, whose link between them [`Lab::narrow`] makes narrower. The backends' own packets to
    /// the client do not pass the edge.
    Routed,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, for tests that do the same in each.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The virtual address of this family.
    #[must_use]
    pub fn vip(self) -> IpAddr {
        match self {
            Self::V4 => VIP4.into(),
            Self::V6 => VIP6.into(),
        }
    }

    /// The virtual address of this family with a port.
    #[must_use]
    pub fn service(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.vip(), port)
    }
}

/// A host of the lab with its addresses on `eth0` (for the edge: towards the client).
#[derive(Debug)]
pub struct Host {
    /// `client`, `edge`, `web-01`, `web-02`, …
    pub name: String,
    /// Where it lives.
    pub namespace: Namespace,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

impl Host {
    fn new(name: &str, v4: Ipv4Addr, v6: Ipv6Addr) -> Result<Self> {
        Ok(Self { name: name.to_owned(), namespace: Namespace::new(name)?, v4, v6 })
    }

    /// Its address of the given family, with a port.
    #[must_use]
    pub fn address(&self, family: Family, port: u16) -> SocketAddr {
        match family {
            Family::V4 => SocketAddr::new(self.v4.into(), port),
            Family::V6 => SocketAddr::new(self.v6.into(), port),
        }
    }
}

/// A client, an edge and backends. Dropping it removes them all.
#[derive(Debug)]
pub struct Lab {
    /// Where the requests come from.
    pub client: Host,
    /// Where the balancer runs.
    pub edge: Host,
    /// `web-01`, `web-02`, …
    pub backends: Vec<Host>,
    wiring: Wiring,
    switch: Option<Namespace>,
    routers: Option<Routers>,
}

impl Lab {
    /// Builds a lab with `backends` backends. More can be plugged in with [`Lab::add_backend`].
    pub fn new(wiring: Wiring, backends: usize) -> Result<Self> {
        let switch = match wiring {
            Wiring::Switched | Wiring::OneNic => Some(new_switch("switch")?),
            Wiring::Direct | Wiring::Routed => None,
        };
        let client = if wiring == Wiring::OneNic {
            Host::new("client", backend4(0, 100), backend6(0, 100))?
        } else {
            Host::new(
                "client",
                Ipv4Addr::new(198, 51, 100, 2),
                Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2),
            )?
        };
        let edge = match wiring {
            Wiring::OneNic => Host::new("edge", backend4(0, 1), backend6(0, 1))?,
            Wiring::Routed => Host::new("edge", routed::EDGE4, routed::EDGE6)?,
            Wiring::Switched | Wiring::Direct => Host::new("edge", GATEWAY4, GATEWAY6)?,
        };
        let mut lab = Self { client, edge, backends: Vec::new(), wiring, switch, routers: None };
        lab.wire_edge()?;
        if wiring == Wiring::Routed {
            lab.routers = Some(Routers::between(&lab.client, &lab.edge)?);
        } else {
            lab.wire_client()?;
        }
        lab.add_virtual_addresses()?;
        for _ in 0..backends {
            lab.add_backend()?;
        }
        Ok(lab)
    }

    /// The edge's interfaces, for `[node] interfaces`.
    #[must_use]
    pub fn interfaces(&self) -> Vec<String> {
        match self.wiring {
            Wiring::OneNic => vec!["eth0".to_owned()],
            Wiring::Switched | Wiring::Routed => vec!["front".to_owned(), "back".to_owned()],
            Wiring::Direct => {
                let back = (1..=self.backends.len()).map(|number| format!("back{number}"));
                std::iter::once("front".to_owned()).chain(back).collect()
            }
        }
    }

    /// The interface by which the client's packets come in.
    #[must_use]
    pub fn front(&self) -> &'static str {
        if self.wiring == Wiring::OneNic { "eth0" } else { "front" }
    }

    /// The switch, where there is one.
    #[must_use]
    pub fn switch(&self) -> Option<&Namespace> {
        self.switch.as_ref()
    }

    /// The edge's interface to the switch.
    #[must_use]
    pub fn switched(&self) -> &'static str {
        if self.wiring == Wiring::OneNic { "eth0" } else { "back" }
    }

    /// Deletes the edge's interface to the switch, with its addresses and the switch's end of the cable.
    pub fn delete_switched(&self) -> Result<()> {
        self.edge.namespace.ip(&format!("link del {}", self.switched()))
    }

    /// Makes it again as it was; the kernel gives it another index.
    pub fn recreate_switched(&self) -> Result<()> {
        self.plug_edge()?;
        if self.wiring == Wiring::OneNic {
            self.add_virtual_addresses()?;
        }
        Ok(())
    }

    /// The edge's own address towards the backends; with [`Wiring::Direct`] towards the first.
    #[must_use]
    pub fn inside(&self, family: Family) -> IpAddr {
        let subnet = match self.wiring {
            Wiring::Switched | Wiring::OneNic => 0,
            Wiring::Direct => 1,
            Wiring::Routed => routed::CORE,
        };
        match family {
            Family::V4 => backend4(subnet, 1).into(),
            Family::V6 => backend6(subnet, 1).into(),
        }
    }

    /// Packets that the cables lost so far: a veth holds 256 of them, and a burst on a busy machine is
    /// longer.
    pub fn lost(&self) -> Result<u64> {
        let hosts = [&self.client, &self.edge].into_iter().chain(&self.backends);
        let namespaces = hosts.map(|host| &host.namespace).chain(&self.switch);
        namespaces.map(Namespace::lost).sum()
    }

    /// Plugs in one more backend. With [`Wiring::Direct`] the edge gets one more interface too.
    pub fn add_backend(&mut self) -> Result<&Host> {
        let number = self.backends.len() + 1;
        ensure!(number < 80, "a lab holds fewer than 80 backends");
        let id = u8::try_from(number)?;
        let subnet = if self.wiring == Wiring::Direct { id } else { 0 };
        let name = format!("web-{number:02}");
        let host = Host::new(&name, backend4(subnet, 10 + id), backend6(subnet, 10 + id))?;
        let (mac, port_mac) = (mac(0x10, id), mac(0x20, id));
        let eth0 = (&host.namespace, "eth0", mac.as_str());
        let switch = self.switch.as_ref().or(self.routers.as_ref().map(Routers::leaf));
        if let Some(switch) = switch {
            cable(eth0, (switch, &name, &port_mac))?;
            plug(switch, &name)?;
        } else {
            let device = format!("back{number}");
            cable(eth0, (&self.edge.namespace, &device, &port_mac))?;
            self.edge.namespace.ip(&format!(
                "address add {}/24 dev {device}\naddress add {}/64 dev {device} nodad",
                backend4(subnet, 1),
                backend6(subnet, 1),
            ))?;
            host.namespace.offloads("eth0", &["gro", "on"])?;
        }
        end_host(&host, backend4(subnet, 1), backend6(subnet, 1))?;
        self.backends.push(host);
        Ok(&self.backends[number - 1])
    }

    fn wire_edge(&self) -> Result<()> {
        let edge = &self.edge.namespace;
        edge.sysctl("net/ipv4/ip_forward", "1")?;
        edge.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        self.plug_edge()?;
        Ok(())
    }

    /// Plugs the edge into the switch, where there is one.
    fn plug_edge(&self) -> Result<()> {
        let Some(switch) = &self.switch else { return Ok(()) };
        let (edge, device) = (&self.edge.namespace, self.switched());
        cable((edge, device, &mac(0, 1)), (switch, "edge", &mac(0, 0x81)))?;
        plug(switch, "edge")?;
        switch.offloads("edge", &["gro", "on"])?;
        if self.wiring == Wiring::OneNic {
            xdp_pass::attach(switch, "edge")?;
        }
        edge.ip(&format!(
            "address add {}/24 dev {device}\naddress add {}/64 dev {device} nodad",
            backend4(0, 1),
            backend6(0, 1),
        ))
    }

    fn wire_client(&self) -> Result<()> {
        let (client, edge) = (&self.client.namespace, &self.edge.namespace);
        let eth0 = (client, "eth0", &*mac(0, 100));
        if let (Wiring::OneNic, Some(switch)) = (self.wiring, &self.switch) {
            cable(eth0, (switch, "client", &mac(0, 0x82)))?;
            plug(switch, "client")?;
        } else {
            cable(eth0, (edge, "front", &mac(0, 2)))?;
            client.offloads("eth0", &["gro", "on"])?;
            edge.ip(&format!(
                "address add {}/24 dev front\naddress add {}/64 dev front nodad",
                self.edge.v4, self.edge.v6
            ))?;
        }
        end_host(&self.client, self.edge.v4, self.edge.v6)
    }

    fn add_virtual_addresses(&self) -> Result<()> {
        let front = self.front();
        self.edge.namespace.ip(&format!(
            "address add {VIP4}/32 dev {front}\naddress add {VIP6}/128 dev {front} nodad"
        ))
    }
}

/// Addresses and routes of a host with one interface. Its checksums are finished before they
/// leave: a veth would carry them unfinished, and a redirected packet would arrive broken. And each
/// flow is received by one CPU.
fn end_host(host: &Host, gateway4: Ipv4Addr, gateway6: Ipv6Addr) -> Result<()> {
    host.namespace.ip(&format!(
        "address add {}/24 dev eth0\naddress add {}/64 dev eth0 nodad\n\
         route add default via {gateway4}\nroute add default via {gateway6}",
        host.v4, host.v6
    ))?;
    host.namespace.offloads("eth0", &["tx", "off"])?;
    host.namespace.steer("eth0")
}

fn new_switch(name: &str) -> Result<Namespace> {
    let switch = Namespace::new(name)?;
    // The switch itself speaks no IP.
    switch.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
    switch.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
    add_bridge(&switch)?;
    Ok(switch)
}

fn add_bridge(namespace: &Namespace) -> Result<()> {
    namespace.ip("link add bridge type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
    namespace.ip("link set bridge up")
}

fn plug(switch: &Namespace, port: &str) -> Result<()> {
    switch.ip(&format!("link set {port} master bridge"))
}

fn backend4(subnet: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, subnet, host)
}

fn backend6(subnet: u8, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, u16::from(subnet), 0, 0, 0, u16::from(host))
}

fn mac(kind: u8, id: u8) -> String {
    format!("02:00:00:00:{kind:02x}:{id:02x}")
}
