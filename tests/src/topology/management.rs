//! A network beside the traffic, by which machines are managed: a switch, and hosts that can be cut off from it or from one
//! another while clients and backends notice nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};

use super::{Host, mac, new_switch, plug};
use crate::netns::{Namespace, cable, succeeded};

/// What an interface to this network is called.
const DEVICE: &str = "manage";
/// A MAC address that nobody has.
const NOBODY: &str = "02:00:00:00:ff:ff";

/// The network. Dropping it leaves its hosts without it.
#[derive(Debug)]
pub struct Management {
    switch: Namespace,
}

impl Management {
    /// Makes the network without hosts.
    pub fn new() -> Result<Self> {
        Ok(Self { switch: new_switch("manage")? })
    }

    /// Makes a host that is on this network alone.
    pub fn host(&self, name: &str, number: u8) -> Result<Host> {
        let host = Host::new(name, address4(number), address6(number))?;
        self.join(&host.namespace, name, number)?;
        Ok(host)
    }

    /// Gives a host that is elsewhere an interface here, too, and tells its address.
    pub fn join(&self, host: &Namespace, name: &str, number: u8) -> Result<IpAddr> {
        let (near, far) = (mac(0x70, number), mac(0x71, number));
        cable((host, DEVICE, &near), (&self.switch, name, &far))?;
        plug(&self.switch, name)?;
        let (v4, v6) = (address4(number), address6(number));
        host.ip(&format!(
            "address add {v4}/24 dev {DEVICE}\naddress add {v6}/64 dev {DEVICE} nodad"
        ))?;
        Ok(v4.into())
    }

    /// Cuts a host's cable at the switch, or mends it. The host itself sees its link go.
    pub fn link(&self, name: &str, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.switch.ip(&format!("link set {name} {state}"))
    }

    /// Has the hosts of these numbers lose whatever they send one another, and see nothing of it; or mends it.
    pub fn sever(&self, ends: [(&Namespace, u8); 2], severed: bool) -> Result<()> {
        let [left, right] = ends;
        for ((host, _), (_, other)) in [(left, right), (right, left)] {
            lose(host, DEVICE, address4(other).into(), severed)?;
        }
        Ok(())
    }
}

/// Has a host lose what it sends to a neighbour by a device, or mends it: its frames go to nobody.
pub(super) fn lose(host: &Namespace, device: &str, neighbour: IpAddr, lost: bool) -> Result<()> {
    let mut command = host.command("ip");
    let neighbour = neighbour.to_string();
    if lost {
        command.args(["neigh", "replace", &neighbour, "lladdr", NOBODY, "dev", device]);
        command.args(["nud", "permanent"]);
    } else {
        command.args(["neigh", "del", &neighbour, "dev", device]);
    }
    succeeded("ip neigh", command.output().context("run ip")?).map(drop)
}

fn address4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, number)
}

fn address6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, u16::from(number))
}
