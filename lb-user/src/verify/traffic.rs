//! Synthetic clients, and the packets by which they open connections.
//!
//! They come as real ones do: from networks here and there, a few clients in each, a few connections by
//! each client from ports that follow each other. Whom the configuration keeps out is not among them.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::{Result, bail};
use etherparse::PacketBuilder;

use crate::config::{Prefix, PrefixLists, Protocol};

/// Connections that a client opens.
const CONNECTIONS: u32 = 4;
/// Clients of one network, at the most.
const CLIENTS: u32 = 16;
/// Bits of a network's address.
const NETWORK_V4: u8 = 24;
const NETWORK_V6: u8 = 64;
/// The ports that Linux gives its own connections.
const PORTS: std::ops::Range<u16> = 32_768..60_999;
/// Draws before it is taken that there is no further client.
const TRIES: u32 = 10_000;

/// Clients of one family, one connection after the other.
pub struct Clients<'a> {
    random: fastrand::Rng,
    /// Whom the node and the service let in.
    lists: [&'a PrefixLists; 2],
    /// Where clients may come from.
    origins: Vec<Prefix>,
    network: Prefix,
    left_of_network: u32,
    client: SocketAddr,
    left_of_client: u32,
    taken: HashSet<SocketAddr>,
    addresses: HashSet<IpAddr>,
}

impl<'a> Clients<'a> {
    /// The clients that `seed` makes, of the family of `service`, of those that both lists let in.
    pub fn new(service: SocketAddr, lists: [&'a PrefixLists; 2], seed: u64) -> Self {
        let everywhere = if service.is_ipv4() {
            Prefix { address: Ipv4Addr::UNSPECIFIED.into(), length: 0 }
        } else {
            // Global unicast addresses (RFC 4291, 2.4).
            Prefix { address: Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0).into(), length: 3 }
        };
        let own = |prefix: &&Prefix| prefix.address.is_ipv4() == service.is_ipv4();
        let mut origins: Vec<Prefix> =
            lists.iter().flat_map(|list| &list.allow).filter(own).copied().collect();
        if lists.iter().all(|list| list.allow.is_empty()) {
            origins.push(everywhere);
        }
        Self {
            random: fastrand::Rng::with_seed(seed),
            lists,
            origins,
            network: everywhere,
            left_of_network: 0,
            client: SocketAddr::new(everywhere.address, 0),
            left_of_client: 0,
            taken: HashSet::new(),
            addresses: HashSet::new(),
        }
    }

    /// The client's end of the next connection, none twice; `None` where all that are let in have been.
    pub fn next(&mut self) -> Option<SocketAddr> {
        for _ in 0..TRIES {
            if self.left_of_client == 0 && !self.move_on()? {
                continue;
            }
            self.left_of_client -= 1;
            let next = self.client.port() + 1;
            self.client.set_port(if PORTS.contains(&next) { next } else { PORTS.start });
            if self.taken.insert(self.client) {
                self.addresses.insert(self.client.ip());
                return Some(self.client);
            }
            self.left_of_client = 0;
        }
        None
    }

    /// Forgets which connections there were: they may come again.
    pub fn forget(&mut self) {
        self.taken.clear();
    }

    /// How many addresses the connections came from.
    pub fn addresses(&self) -> u64 {
        self.addresses.len() as u64
    }

    /// Draws another client; false where that one is not let in. `None`: nobody is.
    fn move_on(&mut self) -> Option<bool> {
        if self.left_of_network == 0 {
            let origin = *self.random.choice(&self.origins)?;
            let whole = if origin.address.is_ipv4() { NETWORK_V4 } else { NETWORK_V6 };
            let address = within(&mut self.random, origin);
            self.network = Prefix::cut(address, whole.max(origin.length));
            self.left_of_network = self.random.u32(1..=CLIENTS);
        }
        self.left_of_network -= 1;
        let address = within(&mut self.random, self.network);
        if !is_unicast(address) || !self.lists.iter().all(|list| admits(list, address)) {
            return Some(false);
        }
        self.client = SocketAddr::new(address, self.random.u16(PORTS));
        self.left_of_client = CONNECTIONS;
        Some(true)
    }
}

/// A random address of a prefix.
fn within(random: &mut fastrand::Rng, prefix: Prefix) -> IpAddr {
    match prefix.address {
        IpAddr::V4(first) => {
            let host = u32::MAX.checked_shr(prefix.length.into()).unwrap_or(0);
            Ipv4Addr::from_bits(first.to_bits() | random.u32(..) & host).into()
        }
        IpAddr::V6(first) => {
            let host = u128::MAX.checked_shr(prefix.length.into()).unwrap_or(0);
            Ipv6Addr::from_bits(first.to_bits() | random.u128(..) & host).into()
        }
    }
}

/// Whether a packet may come from `address`.
fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => (1..224).contains(&v4.octets()[0]) && !v4.is_loopback(),
        IpAddr::V6(v6) => !(v6.is_multicast() || v6.is_unspecified() || v6.is_loopback()),
    }
}

/// Whether a list lets `address` in, as the program decides: by the longest prefix.
fn admits(list: &PrefixLists, address: IpAddr) -> bool {
    if list.is_empty() {
        return true;
    }
    let longest = |prefixes: &[Prefix]| {
        let lengths = (0..=Prefix::bits(address)).rev();
        lengths.map(|length| Prefix::cut(address, length)).find_map(|prefix| {
            // Lists are sorted.
            prefixes.binary_search(&prefix).is_ok().then_some(prefix.length)
        })
    };
    match (longest(&list.allow), longest(&list.deny)) {
        (Some(allowed), denied) => denied.is_none_or(|denied| denied < allowed),
        (None, denied) => denied.is_none() && list.allow.is_empty(),
    }
}

/// Makes `frame` the packet by which `client` opens a connection to `service`: a SYN, or a datagram.
///
/// # Errors
///
/// Where the two are of different families.
pub fn opening(
    frame: &mut Vec<u8>,
    client: SocketAddr,
    service: SocketAddr,
    protocol: Protocol,
) -> Result<()> {
    const TTL: u8 = 64;
    const WINDOW: u16 = 64_240;
    // Locally administered: no card has them.
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let packet = match (client.ip(), service.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), TTL),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), TTL),
        (from, to) => bail!("{from} and {to} are of different families"),
    };
    frame.clear();
    let (from, to) = (client.port(), service.port());
    match protocol {
        Protocol::Tcp => {
            let number = u32::from(from).wrapping_mul(0x9e37_79b1);
            packet.tcp(from, to, number, WINDOW).syn().write(frame, &[])?;
        }
        Protocol::Udp => packet.udp(from, to).write(frame, b"evenkeel verify")?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    use super::*;

    fn lists(allow: &[&str], deny: &[&str]) -> PrefixLists {
        let read = |list: &[&str]| {
            let mut list: Vec<Prefix> = list.iter().map(|text| text.parse().unwrap()).collect();
            list.sort_unstable();
            list
        };
        PrefixLists { allow: read(allow), deny: read(deny) }
    }

    fn some(service: &str, lists: [&PrefixLists; 2], seed: u64, count: usize) -> Vec<SocketAddr> {
        let mut clients = Clients::new(service.parse().unwrap(), lists, seed);
        std::iter::from_fn(|| clients.next()).take(count).collect()
    }

    #[test]
    fn a_seed_makes_the_same_clients_and_none_twice() {
        let all = PrefixLists::default();
        for service in ["192.0.2.10:80", "[2001:db8::10]:80"] {
            let first = some(service, [&all, &all], 1, 10_000);
            assert_eq!(first, some(service, [&all, &all], 1, 10_000));
            assert_ne!(first, some(service, [&all, &all], 2, 10_000));
            let distinct: HashSet<_> = first.iter().collect();
            let addresses: HashSet<_> = first.iter().map(SocketAddr::ip).collect();
            assert_eq!(distinct.len(), first.len());
            assert!((2_400..=2_600).contains(&addresses.len()), "{}", addresses.len());
        }
    }

    #[test]
    fn only_whom_both_lists_let_in() {
        let node = lists(&["10.0.0.0/8", "192.0.2.0/24"], &["10.1.0.0/16"]);
        let service = lists(&["10.0.0.0/15"], &["10.0.128.0/17", "10.0.200.0/24"]);
        let clients = some("192.0.2.10:80", [&node, &service], 1, 5_000);
        assert_eq!(clients.len(), 5_000);
        for client in clients {
            let IpAddr::V4(ip) = client.ip() else { panic!("{client}") };
            assert!(ip.octets()[..2] == [10, 0] && ip.octets()[2] < 128, "{ip}");
        }
        let nobody = lists(&["192.0.2.0/24"], &[]);
        assert_eq!(some("192.0.2.10:80", [&nobody, &service], 1, 1), []);
        // A list of the other family lets none of this one in.
        let other = lists(&["2001:db8::/32"], &[]);
        assert_eq!(some("192.0.2.10:80", [&other, &PrefixLists::default()], 1, 1), []);
    }

    #[test]
    fn one_client_has_as_many_connections_as_ports() {
        let (lone, all) = (lists(&["192.0.2.7/32"], &[]), PrefixLists::default());
        let mut clients = Clients::new("192.0.2.10:80".parse().unwrap(), [&lone, &all], 1);
        let count = std::iter::from_fn(|| clients.next()).count();
        assert!(count > 20_000 && count <= PORTS.len(), "{count}");
        assert_eq!(clients.addresses(), 1);
        clients.forget();
        assert!(clients.next().is_some());
    }

    proptest! {
        #[test]
        fn a_packet_says_who_and_whom(v6: bool, udp: bool, seed: u64) {
            let service: SocketAddr =
                if v6 { "[2001:db8::10]:443" } else { "192.0.2.10:443" }.parse().unwrap();
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let all = PrefixLists::default();
            let client = Clients::new(service, [&all, &all], seed).next().unwrap();
            let mut frame = vec![1; 3];
            opening(&mut frame, client, service, protocol).unwrap();
            let packet = SlicedPacket::from_ethernet(&frame).unwrap();
            let ends = match packet.net.unwrap() {
                NetSlice::Ipv4(ip) => (
                    IpAddr::from(ip.header().source()),
                    IpAddr::from(ip.header().destination()),
                ),
                NetSlice::Ipv6(ip) => (
                    IpAddr::from(ip.header().source()),
                    IpAddr::from(ip.header().destination()),
                ),
                NetSlice::Arp(arp) => panic!("{arp:?}"),
            };
            prop_assert_eq!(ends, (client.ip(), service.ip()));
            let ports = match packet.transport.unwrap() {
                TransportSlice::Tcp(tcp) => {
                    prop_assert!(tcp.syn() && !tcp.ack() && !udp);
                    (tcp.source_port(), tcp.destination_port())
                }
                TransportSlice::Udp(datagram) => {
                    prop_assert!(udp);
                    (datagram.source_port(), datagram.destination_port())
                }
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(ports, (client.port(), 443));
        }
    }
}
