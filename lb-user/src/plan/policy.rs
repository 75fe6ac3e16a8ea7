//! What the tables say of a service and of the node beside its backends.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use lb_common::service::{self, ServiceSettings, flags};

use crate::config::{Config, Forwarding, Overload, PrefixLists, Rate, Scheduler, Service};

/// How a service schedules, forwards, and guards itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The program's settings but for the number of backends, which is the ring's.
    pub settings: ServiceSettings,
    /// Whom it lets in.
    pub prefixes: PrefixLists,
}

/// What the whole node does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePolicy {
    /// Whom every service lets in.
    pub prefixes: PrefixLists,
    /// Bytes of the largest IP packet that every interface takes; zero: not known.
    pub least_mtu: u32,
    /// Services' addresses that the host has itself.
    pub host_addresses: BTreeSet<IpAddr>,
}

/// A tunnel to a backend, whose address is its far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The near end; of a prefix, its first address.
    pub source: IpAddr,
    /// Bits of the near end that do not vary with the flow.
    pub source_bits: u8,
    /// UDP port of the far end, for GUE.
    pub gue_port: Option<u16>,
}

impl Policy {
    /// What a configured service says; `awaits`: one of its backends may be up in a moment.
    #[must_use]
    pub fn of(service: &Service, awaits: bool) -> Self {
        let mut flags = 0;
        let mut set = |condition: bool, flag: u32| flags |= if condition { flag } else { 0 };
        set(!service.snat, flags::KEEP_SOURCE);
        set(service.overload == Overload::Reject, flags::REJECT);
        // A client that is told gives up; one that is not asks again, and may find it up.
        set(!awaits, flags::REJECT_NO_BACKEND);
        set(!service.prefixes.is_empty(), flags::HAS_PREFIXES);
        set(!service.prefixes.allow.is_empty(), flags::DENY_OTHERS);
        let seconds = service.sticky.map_or(0, |sticky| sticky.as_secs().max(1));
        let settings = ServiceSettings {
            scheduler: scheduler(service.scheduler),
            forwarding: forwarding(service.forwarding),
            flags,
            members: 0,
            sticky: u32::try_from(seconds).unwrap_or(u32::MAX),
            client_prefix: u32::from(service.limits.client_prefix(&service.address)),
            limit: limit(service.limits.service),
            client_limit: limit(service.limits.client),
        };
        Self { settings, prefixes: service.prefixes.clone() }
    }
}

impl Tunnel {
    /// The tunnel that a service has to a backend. GUE's flows differ by their ports, so its outer
    /// source is `own`, the host's address towards the backend, where that is known; IPIP's is of
    /// the prefix that is set aside for it.
    #[must_use]
    pub fn of(
        config: &Config,
        service: &Service,
        backend: SocketAddr,
        own: Option<IpAddr>,
    ) -> Option<Self> {
        let prefix =
            if backend.is_ipv4() { config.tunnel.source_v4 } else { config.tunnel.source_v6 };
        let ipip = Self { source: prefix.address, source_bits: prefix.length, gue_port: None };
        match service.forwarding {
            Forwarding::Nat | Forwarding::Dsr => None,
            Forwarding::Ipip => Some(ipip),
            Forwarding::Gue => {
                let own = own.filter(|own| own.is_ipv4() == backend.is_ipv4());
                let tunnel = own.map_or(ipip, |source| Self { source, source_bits: 128, ..ipip });
                Some(Self { gue_port: Some(service.gue_port), ..tunnel })
            }
        }
    }
}

fn limit(rate: Option<Rate>) -> service::Limit {
    const SECOND: u64 = 1_000_000_000;
    rate.map_or_else(service::Limit::default, |rate| {
        let interval = (SECOND / u64::from(rate.per_second)).max(1);
        service::Limit { interval, tolerance: interval * u64::from(rate.burst.saturating_sub(1)) }
    })
}

const fn scheduler(scheduler: Scheduler) -> u32 {
    match scheduler {
        Scheduler::RoundRobin => service::scheduler::ROUND_ROBIN,
        Scheduler::LeastConnections => service::scheduler::LEAST_CONNECTIONS,
        Scheduler::Maglev => service::scheduler::MAGLEV,
        Scheduler::SourceHash => service::scheduler::SOURCE_HASH,
        Scheduler::Random => service::scheduler::RANDOM,
    }
}

const fn forwarding(forwarding: Forwarding) -> u32 {
    match forwarding {
        Forwarding::Nat => service::forwarding::NAT,
        Forwarding::Dsr => service::forwarding::DSR,
        Forwarding::Ipip => service::forwarding::IPIP,
        Forwarding::Gue => service::forwarding::GUE,
    }
}
