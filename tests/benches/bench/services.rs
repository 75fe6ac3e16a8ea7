//! The services that are measured: what the tables are filled with. Knows addresses and policies, and
//! nothing of packets.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::Result;
use evenkeel::{
    config::{PortRange, Prefix, PrefixLists, Protocol},
    dataplane::{Dataplane as _, Filter, Kernel, Scope},
    plan::{
        BackendEntry, BackendId, NodePolicy, Policy, Ring, ServiceEntry, ServiceId, ServiceKey,
        Tunnel,
    },
};
use evenkeel_tests::{
    frame::CLIENT4,
    topology::{VIP4, VIP6},
};
use lb_common::{
    net::Hop,
    service::{ServiceSettings, flags::HAS_PREFIXES, forwarding, scheduler},
};

/// Backends of each service whose connections are established before the measurement.
const BACKENDS: u8 = 16;

/// Prefixes that the guarded service denies.
pub const DENIED: u32 = 100_000;

/// Slots of the rings that a hash looks into, as `table_size` has it where nobody sets it.
const TABLE_SIZE: usize = 65_537;

/// The MTU on all ways: each packet's length is compared with it.
const MTU: u32 = 1500;

/// The kernel gives a test-run's packet to the loopback interface, in every namespace the first.
const LOOPBACK: u32 = 1;

/// A way of forwarding. Each has services of its own, at the same addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Nat,
    Ipip,
    Gue,
    Dsr,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nat, Self::Ipip, Self::Gue, Self::Dsr];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nat => "NAT",
            Self::Ipip => "IPIP",
            Self::Gue => "GUE",
            Self::Dsr => "DSR",
        }
    }

    /// The port of its services with established connections, of either family.
    pub const fn port(self, protocol: Protocol) -> u16 {
        let first = match protocol {
            Protocol::Tcp => 80,
            Protocol::Udp => 53,
        };
        first + self as u16
    }

    const fn forwarding(self) -> u32 {
        match self {
            Self::Nat => forwarding::NAT,
            Self::Ipip => forwarding::IPIP,
            Self::Gue => forwarding::GUE,
            Self::Dsr => forwarding::DSR,
        }
    }
}

/// A service whose connections are opened while time is taken.
pub struct Fresh {
    /// What is special about it.
    pub name: &'static str,
    /// Its port, over TCP and IPv4.
    pub port: u16,
    /// How it forwards.
    pub mode: Mode,
    /// The cost of a new connection that DESIGN.md asks for.
    pub target: Option<u32>,
    scheduler: u32,
    sticky: bool,
}

/// NAT's and the tunnel's, and one of each other scheduler: in a tunnel, where it shows best.
pub const FRESH: [Fresh; 7] = [
    Fresh { target: Some(800), ..fresh(Mode::Nat, "round-robin", 8080, scheduler::ROUND_ROBIN) },
    Fresh { target: Some(450), ..fresh(Mode::Ipip, "round-robin", 8081, scheduler::ROUND_ROBIN) },
    fresh(Mode::Ipip, "least-connections", 8082, scheduler::LEAST_CONNECTIONS),
    fresh(Mode::Ipip, "maglev", 8083, scheduler::MAGLEV),
    fresh(Mode::Ipip, "source-hash", 8084, scheduler::SOURCE_HASH),
    fresh(Mode::Ipip, "random", 8085, scheduler::RANDOM),
    Fresh { sticky: true, ..fresh(Mode::Ipip, "sticky", 8086, scheduler::ROUND_ROBIN) },
];

/// The port of a service that denies every client, by one of many prefixes.
pub const GUARDED_PORT: u16 = 8090;

const fn fresh(mode: Mode, name: &'static str, port: u16, scheduler: u32) -> Fresh {
    Fresh { name, port, mode, target: None, scheduler, sticky: false }
}

/// The tables in the filling.
struct Filling<'a> {
    tables: &'a mut Kernel,
    services: u32,
    backends: u32,
}

/// Fills the tables. Returns the backend of all services whose connections are always new: one,
/// because emptying the connection table takes a walk over it for each.
pub fn fill(tables: &mut Kernel) -> Result<BackendId> {
    let vips = [IpAddr::from(VIP4), IpAddr::from(VIP6)];
    let destinations: BTreeSet<_> =
        vips.into_iter().chain(sources(true)).chain(sources(false)).collect();
    tables.write_filter(&Filter { destinations, sources: BTreeSet::new() })?;
    tables.write_node(&NodePolicy { least_mtu: MTU, ..NodePolicy::default() }, false)?;
    for vip in vips {
        tables.write_address(vip, Some(false))?;
    }
    let mut filling = Filling { tables, services: 0, backends: 0 };
    for mode in Mode::ALL {
        let settings = ServiceSettings { forwarding: mode.forwarding(), ..Default::default() };
        let services = [
            (IpAddr::from(VIP4), Protocol::Tcp, BACKENDS),
            (IpAddr::from(VIP4), Protocol::Udp, 1),
            (IpAddr::from(VIP6), Protocol::Tcp, 1),
        ];
        for (address, protocol, count) in services {
            let address = SocketAddr::new(address, mode.port(protocol));
            let ring = (1..=count).map(|number| filling.backend(address, protocol, mode, number));
            let ring = ring.collect::<Result<_>>()?;
            filling.service(address, protocol, settings, &Ring::of(ring), None)?;
        }
    }
    let at = |port| SocketAddr::new(VIP4.into(), port);
    // Used by NAT and by tunnels alike.
    let backend = filling.backend(at(8080), Protocol::Tcp, Mode::Ipip, 1)?;
    for Fresh { port, mode, scheduler, sticky, .. } in FRESH {
        let settings = ServiceSettings {
            forwarding: mode.forwarding(),
            scheduler,
            sticky: if sticky { 600 } else { 0 },
            ..Default::default()
        };
        let hashes = [scheduler::MAGLEV, scheduler::SOURCE_HASH].contains(&scheduler);
        let ring = Ring::of(vec![backend; if hashes { TABLE_SIZE } else { 1 }]);
        filling.service(at(port), Protocol::Tcp, settings, &ring, None)?;
    }
    let settings = ServiceSettings { flags: HAS_PREFIXES, ..Default::default() };
    let ring = Ring::of(vec![backend]);
    filling.service(at(GUARDED_PORT), Protocol::Tcp, settings, &ring, Some(denied()))?;
    Ok(backend)
}

impl Filling<'_> {
    fn service(
        &mut self,
        address: SocketAddr,
        protocol: Protocol,
        settings: ServiceSettings,
        ring: &Ring,
        prefixes: Option<PrefixLists>,
    ) -> Result<()> {
        let id = ServiceId(self.services);
        self.services += 1;
        let key = ServiceKey { address, protocol };
        let policy = Policy { settings, prefixes: prefixes.unwrap_or_default() };
        let entry = ServiceEntry {
            name: key.to_string(),
            key,
            ring: ring.clone(),
            policy: Some(policy.clone()),
            live: true,
        };
        self.tables.write_service_record(id, Some(&entry))?;
        self.tables.write_prefixes(Scope::Service(id), &policy.prefixes)?;
        self.tables.write_policy(id, &policy, ring.members.len())?;
        self.tables.write_ring(id, ring)?;
        self.tables.write_service(key, id)
    }

    /// Makes backend `number` of the service at `address`.
    fn backend(
        &mut self,
        address: SocketAddr,
        protocol: Protocol,
        mode: Mode,
        number: u8,
    ) -> Result<BackendId> {
        let id = BackendId(self.backends);
        self.backends += 1;
        let server = SocketAddr::new(own(address.is_ipv4(), 100 + number), address.port());
        let entry = BackendEntry {
            hop: Hop {
                interface: LOOPBACK,
                source: [2, 0, 0, 0, 0, 1],
                destination: [2, 0, 0, 0, 0x10, number],
            },
            mtu: MTU,
            active: true,
            live: true,
            tunnel: tunnel(mode, address.is_ipv4()),
            sources: sources(address.is_ipv4()).collect(),
            ports: PortRange { low: 1024, high: 65_535 },
            ..BackendEntry::new(address.to_string(), format!("backend-{number}"), server, protocol)
        };
        self.tables.reset_backend(id)?;
        self.tables.write_backend(id, &entry)?;
        Ok(id)
    }
}

fn tunnel(mode: Mode, v4: bool) -> Option<Tunnel> {
    let prefix = if v4 { (Ipv4Addr::new(198, 18, 0, 0).into(), 16) } else { (DISCARD.into(), 64) };
    let (source, source_bits, gue_port) = match mode {
        Mode::Nat | Mode::Dsr => return None,
        Mode::Ipip => (prefix.0, prefix.1, None),
        Mode::Gue => (own(v4, 1), 128, Some(6080)),
    };
    Some(Tunnel { source, source_bits, gue_port })
}

/// The prefix of outer IPv6 sources: that of packets to discard (RFC 6666).
const DISCARD: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0);

/// Prefixes of all lengths that a list of bad networks has, and among them the clients'.
fn denied() -> PrefixLists {
    let [a, b, ..] = CLIENT4.octets();
    let clients = (0..=255).map(|c| Prefix::cut(Ipv4Addr::new(a, b, c, 0).into(), 24));
    let mut deny: BTreeSet<_> = clients.collect();
    for number in 0_u32.. {
        if deny.len() == DENIED as usize {
            break;
        }
        // A multiplication that leads through all addresses and has no order.
        let address = Ipv4Addr::from_bits(number.wrapping_mul(0x9e37_79b1));
        let length = 16 + u8::try_from(number % 17).unwrap_or(0);
        if address.octets()[..2] != [a, b] {
            deny.insert(Prefix::cut(address.into(), length));
        }
    }
    PrefixLists { allow: Vec::new(), deny: deny.into_iter().collect() }
}

/// NAT's source addresses.
fn sources(v4: bool) -> impl Iterator<Item = IpAddr> {
    (1..=8).map(move |n| own(v4, n))
}

/// An address of the backends' network.
fn own(v4: bool, n: u8) -> IpAddr {
    if v4 {
        Ipv4Addr::new(10, 0, 0, n).into()
    } else {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into()).into()
    }
}
