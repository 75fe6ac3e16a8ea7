//! Next hops: by which interface, and to which hardware address, a backend's packets leave.
//!
//! The kernel's routes and neighbours are the truth; this module asks for them by netlink, keeps
//! asking, and reports what changed. It must not know backends, services or maps: a target is an
//! IP address.

mod link;
mod neighbour;
mod netlink;
mod resolver;
mod route;
mod watch;

use std::{fmt, net::IpAddr};

pub use resolver::Resolver;

/// How to send a packet on its first step to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The interface that the packet leaves by.
    pub ifindex: u32,
    /// That interface's own hardware address.
    pub source_mac: [u8; 6],
    /// The neighbour's hardware address.
    pub destination_mac: [u8; 6],
    /// The neighbour: the gateway, or the target itself when it is on the link. It may be of the
    /// other family (an IPv4 route by an IPv6 gateway).
    pub gateway: IpAddr,
    /// The address that this host would send from.
    pub preferred_source: Option<IpAddr>,
    /// Bytes of the largest IP packet on this way: the route's MTU, else the interface's. Zero: not
    /// known.
    pub mtu: u32,
}

/// The next hop of a target is known, known anew, or lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The address that was asked about.
    pub target: IpAddr,
    /// Its next hop, or why there is none.
    pub next_hop: Result<NextHop, Unresolved>,
}

/// A neighbour, whatever it is to us, has another hardware address than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The interface that its frames come in by.
    pub interface: u32,
    /// The address that it had.
    pub from: [u8; 6],
    /// The one that it has.
    pub to: [u8; 6],
}

/// Why a target has no next hop, with what to do about it: a sentence of its own about the target, "it".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// The target is an address of this host.
    #[error("it is an address of this host; give the backend an address of another host")]
    Local,
    /// No route leads to the target.
    #[error("no route leads to it ({0}); add a route or bring its interface up")]
    NoRoute(String),
    /// The route is there to turn packets away, or leads to a group of hosts.
    #[error("its route is of type {0}, which delivers to no single host; correct the route")]
    NotUnicast(String),
    /// The route goes through a tunnel that the kernel would add.
    #[error("its route needs an encapsulation ({0}), which only the kernel can add")]
    Encapsulated(String),
    /// The route's interface does not exist any more.
    #[error("interface {0} of its route does not exist any more")]
    InterfaceGone(u32),
    /// The interface is down.
    #[error("interface {0} is down; bring it up")]
    InterfaceDown(String),
    /// The interface has no Ethernet addresses to send from and to.
    #[error("interface {0} is not an Ethernet interface; reach the backend by another")]
    NotEthernet(String),
    /// The neighbour's hardware address is not known.
    #[error(
        "{gateway} does not answer on {interface} (ARP or neighbour discovery); check that it is up and on that link"
    )]
    NoNeighbour {
        /// The neighbour that is asked.
        gateway: IpAddr,
        /// The interface that it is asked on.
        interface: String,
    },
    /// The kernel gave no usable answer.
    #[error("the kernel did not tell its {what}: {error}")]
    Netlink {
        /// What was asked for.
        what: &'static str,
        /// What came instead.
        error: String,
    },
}

/// A hardware address as people write it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mac = Mac(self.destination_mac);
        write!(f, "{} ({mac}) by interface {}", self.gateway, self.ifindex)
    }
}

#[cfg(test)]
mod tests;
