//! The backends' ends of tunnels: devices of the kernel's own, and its receiver of GUE.

use std::{fs, net::IpAddr};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{
    netns::{Namespace, succeeded},
    topology::Family,
};
use serde_json::Value;

use super::stage::{Backend, Stage};

/// GUE's port (IANA), which is the balancer's default too.
const GUE_PORT: &str = "6080";
const DEVICE: &str = "tunnel";

/// What the packets between edge and backends look like.
#[derive(Clone, Copy)]
pub(super) struct Tunnel {
    /// Family of the outer header.
    pub(super) outer: Family,
    /// Family of the packets inside.
    pub(super) inner: Family,
    /// Whether a UDP header is between both.
    pub(super) gue: bool,
}

impl Tunnel {
    /// The device that takes off the outer header, as `ip link add` knows it. It takes packets from
    /// any sender, since the balancer varies its address.
    const fn device(self) -> &'static str {
        match (self.outer, self.inner) {
            (Family::V4, Family::V4) => "type ipip",
            (Family::V4, Family::V6) => "type sit",
            (Family::V6, Family::V4) => "type ip6tnl mode ipip6",
            (Family::V6, Family::V6) => "type ip6tnl mode ip6ip6",
        }
    }
}

/// The far ends of tunnels on all backends. Dropping it removes them.
pub(super) struct FarEnds<'a> {
    tunnel: Tunnel,
    backends: &'a [Backend],
    /// Datagrams that each backend had received before.
    datagrams: Vec<u64>,
}

impl<'a> FarEnds<'a> {
    /// Makes them at the backends' addresses `locals`.
    pub(super) fn make(stage: &'a Stage, tunnel: Tunnel, locals: &[IpAddr]) -> Result<Self> {
        let mut ends = Self { tunnel, backends: &stage.backends, datagrams: Vec::new() };
        for (backend, local) in ends.backends.iter().zip(locals) {
            ends.datagrams.push(datagrams(&backend.namespace, tunnel.outer)?);
            backend.namespace.ip(&format!(
                "link add name {DEVICE} {} local {local}\nlink set dev {DEVICE} up",
                tunnel.device()
            ))?;
            if tunnel.gue {
                receiver(&backend.namespace, tunnel.outer, &["add", "port", GUE_PORT, "gue"])?;
            }
        }
        Ok(ends)
    }

    /// Fails unless every backend's device had packets, and by way of the receiver for GUE. Tells how
    /// many packets there were.
    pub(super) fn ensure_used(&self) -> Result<u64> {
        let mut total = 0;
        for (backend, before) in self.backends.iter().zip(&self.datagrams) {
            let mut command = backend.namespace.command("ip");
            command.args(["-json", "-statistics", "link", "show", "dev", DEVICE]);
            let output = succeeded("ip link show", command.output().context("run ip")?)?;
            let link: Value = serde_json::from_str(&output).context("read what ip says")?;
            let packets = link.pointer("/0/stats64/rx/packets").and_then(Value::as_u64);
            let packets = packets.with_context(|| format!("no count of packets in {link}"))?;
            ensure!(packets > 0, "{}: nothing came through its tunnel", backend.name);
            if self.tunnel.gue {
                let datagrams = datagrams(&backend.namespace, self.tunnel.outer)? - before;
                ensure!(
                    datagrams >= packets,
                    "{}: {packets} packets came, and only {datagrams} in datagrams",
                    backend.name
                );
            }
            total += packets;
        }
        Ok(total)
    }
}

impl Drop for FarEnds<'_> {
    fn drop(&mut self) {
        for backend in self.backends {
            // Made in part, it has less to remove; what is left would fail the next scenario.
            let _ = backend.namespace.ip(&format!("link delete dev {DEVICE}"));
            if self.tunnel.gue {
                let arguments = ["del", "port", GUE_PORT];
                let _ = receiver(&backend.namespace, self.tunnel.outer, &arguments);
            }
        }
    }
}

/// Adds or removes the kernel's receiver of UDP encapsulation.
fn receiver(namespace: &Namespace, family: Family, arguments: &[&str]) -> Result<()> {
    let mut command = namespace.command("ip");
    command.arg(match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    });
    command.arg("fou").args(arguments);
    succeeded("ip fou", command.output().context("run ip")?).map(drop)
}

/// Datagrams that the host's UDP has received over a family; those that it decapsulates count.
fn datagrams(namespace: &Namespace, family: Family) -> Result<u64> {
    // A thread's own view: that of the process is of the namespace that it started in.
    let (file, key) = match family {
        Family::V4 => ("/proc/thread-self/net/snmp", "InDatagrams"),
        Family::V6 => ("/proc/thread-self/net/snmp6", "Udp6InDatagrams"),
    };
    let text =
        namespace.run(|| fs::read_to_string(file).with_context(|| format!("read {file}")))?;
    match family {
        Family::V4 => count4(&text, key),
        Family::V6 => count6(&text, key),
    }
    .with_context(|| format!("no {key} in {file}"))
}

/// A line of names and a line of numbers, both begun by the protocol.
fn count4(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let position = lines.next()?.split_whitespace().position(|name| name == key)?;
    lines.next()?.split_whitespace().nth(position)?.parse().ok()
}

/// A line for each number, after its name.
fn count6(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{count4, count6};

    #[test]
    fn the_kernels_counts_are_read() {
        let snmp =
            "Tcp: A B\nTcp: 1 2\nUdp: InDatagrams NoPorts\nUdp: 17 3\nUdpLite: InDatagrams\n";
        assert_eq!(count4(snmp, "InDatagrams"), Some(17));
        assert_eq!(count4(snmp, "NoPorts"), Some(3));
        assert_eq!(count4(snmp, "Other"), None);
        let snmp6 = "Ip6InReceives     9\nUdp6InDatagrams\t\t5\n";
        assert_eq!(count6(snmp6, "Udp6InDatagrams"), Some(5));
        assert_eq!(count6(snmp6, "Other"), None);
    }
}
