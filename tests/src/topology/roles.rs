//! What hosts need in order to answer clients themselves: the virtual address on the backends'
//! loopback, and a way to the client that does not pass the edge.

use std::net::IpAddr;

use anyhow::{Context as _, Result};

use super::{Host, Lab, Wiring, backend4, backend6, mac, plug};
use crate::{
    netns::{Namespace, cable, succeeded},
    pages::follow_forwarding,
    xdp_pass,
};

impl Host {
    /// Puts the virtual addresses on the loopback, for DSR and tunnels, as the documentation says. Nobody is told of it: the
    /// host answers no ARP for them and asks none with them (IPv6 answers only for addresses of
    /// the interface that is asked).
    pub fn hold_virtual_addresses(&self) -> Result<()> {
        follow_forwarding(self, "service-address")
    }

    /// What path-MTU discovery has taught this host about the way to `destination`, if it has.
    pub fn learnt_mtu(&self, destination: IpAddr) -> Result<Option<u32>> {
        let mut command = self.namespace.command("ip");
        command.args(["-oneline", "route", "get", &destination.to_string()]);
        let route = succeeded("ip route get", command.output().context("run ip")?)?;
        let mut words = route.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
        let mtu = words.next().map(str::parse).transpose();
        mtu.with_context(|| format!("the MTU of {route}"))
    }

    /// Forgets what path-MTU discovery has taught.
    pub fn forget_mtus(&self) -> Result<()> {
        for family in ["-4", "-6"] {
            let mut command = self.namespace.command("ip");
            command.args([family, "route", "flush", "cache"]);
            succeeded("ip route flush cache", command.output().context("run ip")?)?;
        }
        Ok(())
    }
}

impl Lab {
    /// Has every backend hold the virtual addresses and answer the client directly. A lab wired
    /// as [`Wiring::Switched`] gets a cable from the client to the backends' switch for that; with
    /// one NIC everybody is on the switch, and a routed lab has its own way.
    pub fn answer_directly(&self) -> Result<()> {
        if self.wiring == Wiring::Switched {
            self.add_shortcut()?;
        }
        self.backends.iter().try_for_each(Host::hold_virtual_addresses)
    }

    /// Has the far ends of the edge's cables take frames that the edge sends back where they came
    /// from, such as a "packet too big" or a reset. A veth needs a program there for it, which
    /// costs time; a real NIC needs nothing. With one NIC it is so from the start.
    pub fn take_turned_frames(&self) -> Result<()> {
        let client = (&self.client.namespace, "eth0");
        match (self.wiring, &self.switch, &self.routers) {
            (Wiring::Switched, Some(switch), _) => attach(&[client, (switch, "edge")]),
            (Wiring::Routed, _, Some(routers)) => attach(&routers.towards_the_edge()),
            (Wiring::Direct, ..) => {
                let backends = self.backends.iter().map(|host| (&host.namespace, "eth0"));
                attach(&std::iter::once(client).chain(backends).collect::<Vec<_>>())
            }
            _ => Ok(()),
        }
    }

    fn add_shortcut(&self) -> Result<()> {
        let switch = self.switch.as_ref().context("this lab has no switch")?;
        let client = &self.client.namespace;
        let (near4, near6) = (backend4(0, 100), backend6(0, 100));
        cable((client, "direct", &mac(0, 101)), (switch, "client", &mac(0, 0x83)))?;
        plug(switch, "client")?;
        client.ip(&format!(
            "address add {near4}/24 dev direct\naddress add {near6}/64 dev direct nodad"
        ))?;
        let (far4, far6) = (self.client.v4, self.client.v6);
        self.backends.iter().try_for_each(|host| {
            host.namespace
                .ip(&format!("route add {far4} via {near4}\nroute add {far6} via {near6}"))
        })
    }
}

fn attach(ends: &[(&Namespace, &str)]) -> Result<()> {
    ends.iter().try_for_each(|(namespace, device)| xdp_pass::attach(namespace, device))
}
