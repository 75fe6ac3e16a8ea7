//! Two routers on either side of the edge, and a link between them that can be made narrower than
//! all others: the place where path-MTU discovery has to happen, out of both ends' sight.
//!
//! ```text
//! client -- access -- transit -- edge -- core -- leaf -- backends
//!                        \----------------/
//! ```
//!
//! What is addressed to the client takes the way from `core` to `transit` directly, as the
//! answers of backends that answer the client themselves do in a real network.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};

use super::{GATEWAY4, GATEWAY6, Host, Lab, add_bridge, backend4, backend6, end_host, mac};
use crate::netns::{Namespace, cable};

/// The edge's address towards the client.
pub(super) const EDGE4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 18);
/// The same over IPv6.
pub(super) const EDGE6: Ipv6Addr = net6(1, 18);

/// The subnet between the edge and the routers towards the backends.
pub(super) const CORE: u8 = 254;

/// A side of the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Between the client and the edge.
    Front,
    /// Between the edge and the backends.
    Back,
}

/// The routers of a routed lab.
#[derive(Debug)]
pub(super) struct Routers {
    access: Namespace,
    transit: Namespace,
    core: Namespace,
    leaf: Namespace,
}

/// One end of a cable: where, the device's name, and its addresses.
struct End<'a>(&'a Namespace, &'a str, Ipv4Addr, Ipv6Addr);

impl Routers {
    /// Makes the routers and wires client and edge to them. The edge's device towards the
    /// backends is `back`.
    pub(super) fn between(client: &Host, edge: &Host) -> Result<Self> {
        let [access, transit, core, leaf] = ["access", "transit", "core", "leaf"].map(router);
        let (access, transit, core, leaf) = (access?, transit?, core?, leaf?);
        let host = &client.namespace;
        cable((host, "eth0", &mac(0, 100)), (&access, "client", &mac(0x30, 1)))?;
        access.ip(&format!(
            "address add {GATEWAY4}/24 dev client\naddress add {GATEWAY6}/64 dev client nodad"
        ))?;
        end_host(client, GATEWAY4, GATEWAY6)?;
        let edge = &edge.namespace;
        join(
            2,
            End(&access, "transit", net4(1), net6(0, 1)),
            End(&transit, "access", net4(2), net6(0, 2)),
        )?;
        join(4, End(&transit, "edge", net4(17), net6(1, 17)), End(edge, "front", EDGE4, EDGE6))?;
        join(
            6,
            End(edge, "back", backend4(CORE, 1), backend6(CORE, 1)),
            End(&core, "edge", backend4(CORE, 2), backend6(CORE, 2)),
        )?;
        join(
            8,
            End(&core, "leaf", backend4(253, 1), backend6(253, 1)),
            End(&leaf, "core", backend4(253, 2), backend6(253, 2)),
        )?;
        join(
            10,
            End(&transit, "core", net4(33), net6(2, 33)),
            End(&core, "transit", net4(34), net6(2, 34)),
        )?;
        // The ends of the edge's cables take what is redirected to them.
        transit.offloads("edge", &["gro", "on"])?;
        core.offloads("edge", &["gro", "on"])?;
        add_bridge(&leaf)?;
        leaf.ip(&format!(
            "address add {}/24 dev bridge\naddress add {}/64 dev bridge nodad",
            backend4(0, 1),
            backend6(0, 1),
        ))?;

        let (clients4, clients6) = ("198.51.100.0/24", "2001:db8:1::/64");
        let (backends4, backends6) = ("10.0.0.0/24", "fd00::/64");
        let routes = [
            (&access, "default", net4(2), "default", net6(0, 2)),
            (&transit, "default", EDGE4, "default", EDGE6),
            (&transit, clients4, net4(1), clients6, net6(0, 1)),
            (edge, "default", net4(17), "default", net6(1, 17)),
            (edge, backends4, backend4(CORE, 2), backends6, backend6(CORE, 2)),
            (&core, "default", backend4(CORE, 1), "default", backend6(CORE, 1)),
            (&core, clients4, net4(33), clients6, net6(2, 33)),
            (&core, backends4, backend4(253, 2), backends6, backend6(253, 2)),
            (&leaf, "default", backend4(253, 1), "default", backend6(253, 1)),
        ];
        for (router, to4, via4, to6, via6) in routes {
            router.ip(&format!("route add {to4} via {via4}\nroute add {to6} via {via6}"))?;
        }
        Ok(Self { access, transit, core, leaf })
    }

    /// The router that the backends are plugged into.
    pub(super) fn leaf(&self) -> &Namespace {
        &self.leaf
    }

    /// The far ends of the edge's two cables.
    pub(super) fn towards_the_edge(&self) -> [(&Namespace, &str); 2] {
        [(&self.transit, "edge"), (&self.core, "edge")]
    }
}

impl Lab {
    /// Sets the MTU of the link between the two routers on one side of a lab wired as
    /// [`super::Wiring::Routed`]. Neither its ends' neighbours nor the edge see it.
    pub fn narrow(&self, side: Side, mtu: u16) -> Result<()> {
        let routers = self.routers.as_ref().context("this lab has no routers")?;
        let ends = match side {
            Side::Front => [(&routers.access, "transit"), (&routers.transit, "access")],
            Side::Back => [(&routers.core, "leaf"), (&routers.leaf, "core")],
        };
        ends.iter()
            .try_for_each(|(router, device)| router.ip(&format!("link set {device} mtu {mtu}")))
    }
}

fn router(name: &str) -> Result<Namespace> {
    let router = Namespace::new(name)?;
    router.sysctl("net/ipv4/ip_forward", "1")?;
    router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    // Every packet that does not fit is told of, however fast they come.
    router.sysctl("net/ipv4/icmp_ratelimit", "0")?;
    Ok(router)
}

/// Joins two ends by a cable and gives them their addresses; `number` makes the MAC addresses.
fn join(number: u8, left: End<'_>, right: End<'_>) -> Result<()> {
    let (left_mac, right_mac) = (mac(0x30, number), mac(0x30, number + 1));
    cable((left.0, left.1, &left_mac), (right.0, right.1, &right_mac))?;
    for End(namespace, device, v4, v6) in [left, right] {
        let bits = if v4.octets()[0] == 10 { 24 } else { 28 };
        namespace.ip(&format!(
            "address add {v4}/{bits} dev {device}\naddress add {v6}/64 dev {device} nodad"
        ))?;
    }
    Ok(())
}

/// Routers' addresses, in nets of sixteen.
const fn net4(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, host)
}

const fn net6(net: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 2, net, 0, 0, 0, host)
}
