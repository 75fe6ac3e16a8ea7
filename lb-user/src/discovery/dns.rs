//! The DNS: addresses of a name (A, AAAA), or servers with ports, weights and priorities (SRV, RFC 2782).
//!
//! An answer counts for as long as its shortest TTL, and is not kept in a cache of ours: what the servers' caches do
//! is within the TTL. Where some of the hosts that SRV records name cannot be looked up, those keep the addresses
//! that they had.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    lookup::Lookup,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, RecordType, rdata::SRV},
};
use tokio::time::{Instant, sleep_until};

use super::{Answer, Found, Pauses, Reporter, Spec};
use crate::config::{Discovery, Tier};

/// An answer is asked for again no sooner, and no later: a record with a TTL of a day that is wrong shall not be
/// wrong for a day.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);
/// How long a server may take, and how often one is asked.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// Hosts of SRV records that are looked up at once.
const AT_ONCE: usize = 16;

/// What is asked.
pub(super) enum Question {
    /// The addresses of a name, which are used with this port.
    Addresses(String, u16),
    /// The servers of a service.
    Servers(String),
}

/// What was found, and for how long it counts.
type Timed = (Answer, Duration);

/// Asks again and again until nobody listens.
pub(super) async fn follow(
    question: Question,
    spec: &Spec,
    mut known: Vec<Found>,
    reporter: Reporter,
) {
    let mut pauses = Pauses::new();
    let mut resolver = None;
    loop {
        let began = Instant::now();
        let asked = ask(&mut resolver, &question, spec, &known).await;
        let pause = match &asked {
            Ok((_, ttl)) => (*ttl).clamp(SHORTEST, LONGEST),
            Err(_) => pauses.next(),
        };
        match &asked {
            Ok((answer, _)) if answer.lacks.is_none() => pauses = Pauses::new(),
            // The host's list of servers may be another one by now.
            _ => resolver = None,
        }
        if let Ok((answer, _)) = &asked {
            known.clone_from(&answer.found);
        }
        if !reporter.tell(asked.map(|(answer, _)| answer)).await {
            return;
        }
        sleep_until(began + pause).await;
    }
}

async fn ask(
    resolver: &mut Option<TokioResolver>,
    question: &Question,
    spec: &Spec,
    known: &[Found],
) -> Result<Timed, String> {
    let resolver = match resolver {
        Some(resolver) => resolver,
        none => none.insert(resolver_of(&spec.settings).map_err(|error| words(&error))?),
    };
    match question {
        Question::Addresses(name, port) => {
            let (addresses, ttl) = addresses(resolver, name, spec.families).await?;
            let found = addresses.into_iter().map(|ip| Found::at(SocketAddr::new(ip, *port)));
            Ok((Answer { found: found.collect(), lacks: None }, ttl))
        }
        Question::Servers(name) => servers(resolver, name, spec.families, known).await,
    }
}

fn resolver_of(settings: &Discovery) -> Result<TokioResolver, NetError> {
    let mut builder = if settings.dns_servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = settings.dns_servers.iter().map(|server| {
            let mut ways = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for way in &mut ways {
                way.port = server.port();
            }
            NameServerConfig::new(server.ip(), true, ways.to_vec())
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        builder
    };
    let options = builder.options_mut();
    (options.timeout, options.attempts) = (PATIENCE, ATTEMPTS);
    // A name that was missing for a moment shall not be missing for as long as its zone's SOA says.
    options.cache_size = 0;
    options.negative_max_ttl = Some(Duration::ZERO);
    // Ports of the kernel's choice are none of those that the balancer gives its connections: among these, an answer
    // could be taken for one of a connection to a backend that is this very server.
    options.os_port_selection = true;
    builder.build()
}

/// The addresses of a name, and for how long they count.
async fn addresses(
    resolver: &TokioResolver,
    name: &str,
    (v4, v6): (bool, bool),
) -> Result<(Vec<IpAddr>, Duration), String> {
    let mut found = Vec::new();
    let mut ttl = LONGEST;
    let mut missing = None;
    let types = [(v4, RecordType::A), (v6, RecordType::AAAA)];
    for (_, record_type) in types.into_iter().filter(|(wanted, _)| *wanted) {
        match resolver.lookup(name, record_type).await {
            Ok(lookup) => {
                ttl = ttl.min(shortest(&lookup));
                found.extend(lookup.answers().iter().filter_map(|record| match &record.data {
                    RData::A(address) => Some(IpAddr::V4(address.0)),
                    RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                    _ => None,
                }));
            }
            Err(error) if error.is_no_records_found() => {
                missing = Some(format!("{name} {record_type}: {}", words(&error)));
            }
            // The other family's addresses alone are half of an answer.
            Err(error) => return Err(format!("{name} {record_type}: {}", words(&error))),
        }
    }
    match missing {
        Some(missing) if found.is_empty() => Err(missing),
        _ => Ok((found, ttl)),
    }
}

/// The servers of a service, those of the lowest priority number as primaries.
async fn servers(
    resolver: &TokioResolver,
    name: &str,
    families: (bool, bool),
    known: &[Found],
) -> Result<Timed, String> {
    let lookup = resolver.lookup(name, RecordType::SRV).await;
    let lookup = lookup.map_err(|error| format!("{name} SRV: {}", words(&error)))?;
    let mut ttl = shortest(&lookup);
    let records = lookup.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(record) => Some(record.clone()),
        _ => None,
    });
    let records: Vec<SRV> = records.collect();
    // "A Target of "." means that the service is decidedly not available at this domain."
    if records.iter().all(|record| record.target.is_root()) {
        return Err(format!("{name} SRV: the zone says that there is no such service"));
    }
    let first = records.iter().map(|record| record.priority).min().unwrap_or(0);
    let hosts = stream::iter(records.into_iter().filter(|record| !record.target.is_root()))
        .map(|record| async move {
            let host = record.target.to_lowercase().to_string();
            let looked_up = addresses(resolver, &host, families).await;
            (record, host, looked_up)
        })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let mut answer = Answer::default();
    for (record, host, looked_up) in hosts {
        let addresses = match looked_up {
            Ok((addresses, counts)) => {
                ttl = ttl.min(counts);
                addresses
            }
            Err(why) => {
                ttl = SHORTEST;
                answer.lacks = Some(why);
                let same = |found: &&Found| found.host.as_ref() == Some(&host);
                known.iter().filter(same).map(|found| found.address.ip()).collect()
            }
        };
        answer.found.extend(addresses.into_iter().map(|ip| Found {
            host: Some(host.clone()),
            // A weight of 0 gets a share, if a very small one.
            weight: record.weight.max(1),
            tier: if record.priority == first { Tier::Primary } else { Tier::Backup },
            ..Found::at(SocketAddr::new(ip, record.port))
        }));
    }
    match answer.lacks.take() {
        Some(why) if answer.found.is_empty() => Err(why),
        lacks => Ok((Answer { lacks, ..answer }, ttl)),
    }
}

/// The shortest TTL of all records that led to an answer.
fn shortest(lookup: &Lookup) -> Duration {
    let ttl = lookup.answers().iter().map(|record| record.ttl).min();
    ttl.map_or(SHORTEST, |seconds| Duration::from_secs(seconds.into()))
}

/// What went wrong, as people of the DNS call it.
fn words(error: &NetError) -> String {
    match error {
        _ if error.is_nx_domain() => "there is no such name (NXDOMAIN)".to_owned(),
        _ if error.is_no_records_found() => "the name has no such record".to_owned(),
        NetError::Dns(DnsError::ResponseCode(code)) => format!("the server answered: {code}"),
        NetError::Timeout => "no server answered in time".to_owned(),
        NetError::NoConnections => "no server can be reached".to_owned(),
        error => error.to_string(),
    }
}
