//! Virtual LANs on the cables that are there: the same tags everywhere, since the balancer keeps a
//! frame's tags as they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use evenkeel_tests::{netns::Namespace, topology::Family};

use super::stage::{EDGE_INTERFACES, Stage};

/// The device of the inner tag, or of the only one; it has the addresses.
const DEVICE: &str = "inner";
/// The device of the outer tag.
const OUTER_DEVICE: &str = "outer";

/// How many tags a frame has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tags {
    /// One (IEEE 802.1Q).
    One,
    /// Two, the outer one a service tag (IEEE 802.1ad).
    Two,
}

/// Tagged interfaces on all hosts, with addresses of their own. Dropping it removes them.
pub(super) struct Vlans<'a> {
    stage: &'a Stage,
    tags: Tags,
}

impl<'a> Vlans<'a> {
    pub(super) fn make(stage: &'a Stage, tags: Tags) -> Result<Self> {
        // What is made in part is removed as well.
        let vlans = Self { stage, tags };
        for (number, interface) in (0_u8..).zip(EDGE_INTERFACES) {
            let ends = match number {
                0 => (edge_side(0), (&stage.client, "front")),
                _ => (
                    edge_side(number),
                    (&stage.backends[usize::from(number) - 1].namespace, "eth0"),
                ),
            };
            let (near, (namespace, device)) = ends;
            lay(&stage.edge, interface, tags, near, &format!("-{number}"))?;
            lay(namespace, device, tags, far_side(number), "")?;
        }
        let (vip4, vip6) = (Family::V4.vip(), Family::V6.vip());
        let (edge4, edge6) = edge_side(0);
        stage
            .client
            .ip(&format!("route add {vip4}/32 via {edge4}\nroute add {vip6}/128 via {edge6}"))?;
        let (client4, client6) = far_side(0);
        for (number, backend) in (1_u8..).zip(&stage.backends) {
            let (way4, way6) = Stage::client_way(number);
            backend.namespace.ip(&format!(
                "route add {client4}/32 via {way4}\nroute add {client6}/128 via {way6}"
            ))?;
        }
        Ok(vlans)
    }

    /// The backends' addresses in it.
    pub(super) fn addresses(&self, family: Family) -> Vec<IpAddr> {
        let numbers = (1_u8..).take(self.stage.backends.len());
        numbers
            .map(|number| match (family, far_side(number)) {
                (Family::V4, (v4, _)) => v4.into(),
                (Family::V6, (_, v6)) => v6.into(),
            })
            .collect()
    }
}

impl Drop for Vlans<'_> {
    fn drop(&mut self) {
        let (client4, client6) = far_side(0);
        for backend in &self.stage.backends {
            // Routes over the removed devices go with them; these are over another.
            let _ = backend
                .namespace
                .ip(&format!("route delete {client4}/32\nroute delete {client6}/128"));
            remove(&backend.namespace, self.tags, "");
        }
        remove(&self.stage.client, self.tags, "");
        for number in 0..EDGE_INTERFACES.len() {
            remove(&self.stage.edge, self.tags, &format!("-{number}"));
        }
    }
}

/// The edge's addresses on the cable of that number.
fn edge_side(number: u8) -> (Ipv4Addr, Ipv6Addr) {
    (Ipv4Addr::new(10, 7, number, 1), Ipv6Addr::new(0xfd07, 0, 0, u16::from(number), 0, 0, 0, 1))
}

/// The other host's.
fn far_side(number: u8) -> (Ipv4Addr, Ipv6Addr) {
    (Ipv4Addr::new(10, 7, number, 2), Ipv6Addr::new(0xfd07, 0, 0, u16::from(number), 0, 0, 0, 2))
}

fn lay(
    namespace: &Namespace,
    device: &str,
    tags: Tags,
    (v4, v6): (Ipv4Addr, Ipv6Addr),
    suffix: &str,
) -> Result<()> {
    if tags == Tags::Two {
        namespace.ip(&format!(
            "link add link {device} name {OUTER_DEVICE}{suffix} type vlan proto 802.1ad id 6\n\
             link set dev {OUTER_DEVICE}{suffix} up"
        ))?;
    }
    let outer = format!("{OUTER_DEVICE}{suffix}");
    let below = if tags == Tags::Two { &*outer } else { device };
    // Switches let frames pass that are longer by one tag, and not by two.
    let mtu = if tags == Tags::Two { 1496 } else { 1500 };
    namespace.ip(&format!(
        "link add link {below} name {DEVICE}{suffix} mtu {mtu} type vlan id 7\n\
         link set dev {DEVICE}{suffix} up\n\
         address add {v4}/24 dev {DEVICE}{suffix}\naddress add {v6}/64 dev {DEVICE}{suffix} nodad"
    ))
}

/// As much of it as there is.
fn remove(namespace: &Namespace, tags: Tags, suffix: &str) {
    let _ = namespace.ip(&format!("link delete dev {DEVICE}{suffix}"));
    if tags == Tags::Two {
        let _ = namespace.ip(&format!("link delete dev {OUTER_DEVICE}{suffix}"));
    }
}
