//! Looking through the connection table for people: every connection once, a few at a time, as plain data
//! of either family; and ending those that somebody picks, by the `expire` program.
//!
//! A walk shares the machine: the kernel locks a bucket of the table at a time, and after each batch the
//! walk rests as long as the batch took.

use std::{
    cmp::Reverse,
    net::SocketAddr,
    ops::ControlFlow,
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya::{maps::MapData, programs::Xdp};
use clap::ValueEnum;
use lb_common::{
    clock,
    connection::{self, Flow, state},
    expire::{Candidate, ExpireHeader, MAX_CANDIDATES, ask},
    net::{Addr4, Addr6, Address, Be16},
    service::forwarding,
};
use serde::{Deserialize, Serialize};

use super::{
    ConnectionTable,
    connections::{ask, end, jiffies_per_second},
};
use crate::{
    bpf,
    config::{Forwarding, Protocol},
    plan::{BackendId, ServiceId},
};

/// Entries read by one system call. Fewer than the sweep reads: a reader may stop at any of them.
const BATCH: usize = 1024;

/// The longest rest after a batch: it may have waited for a slow reader.
const LONGEST_REST: Duration = Duration::from_millis(5);

/// How far a connection is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The client has not yet shown that it got the backend's answer.
    Opening,
    /// Both ends are there.
    Established,
    /// One end sent its FIN.
    Closing,
    /// Over: it lingers for late packets.
    Closed,
}

impl Stage {
    /// All, in the order in which a connection goes through them.
    pub const ALL: [Self; 4] = [Self::Opening, Self::Established, Self::Closing, Self::Closed];

    /// Of a forward entry with these bits of [`state`].
    #[must_use]
    pub const fn of(bits: u32) -> Self {
        if bits & state::CLOSED != 0 {
            Self::Closed
        } else if bits & state::BOTH_FINS != 0 {
            Self::Closing
        } else if bits & state::ESTABLISHED != 0 {
            Self::Established
        } else {
            Self::Opening
        }
    }
}

/// A connection, as its forward entry has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The service's id.
    pub service: ServiceId,
    /// The backend's id.
    pub backend: BackendId,
    /// Its protocol.
    pub protocol: Protocol,
    /// The client's end.
    pub client: SocketAddr,
    /// The end that the client talks to: the service's.
    pub destination: SocketAddr,
    /// The end that the backend talks to, under NAT.
    pub source: Option<SocketAddr>,
    /// The backend's end, under NAT.
    pub server: Option<SocketAddr>,
    /// How its packets are forwarded.
    pub forwarding: Forwarding,
    /// How far it is.
    pub stage: Stage,
    /// Time since the client's last packet, to a tick of [`clock`].
    pub idle: Duration,
}

impl Connection {
    /// Of a forward entry under its key, at the tick `now`; `None` of a reverse entry.
    fn of<A: Address>(
        flow: &Flow<A>,
        entry: &connection::Connection<A>,
        (now, hz): (u32, u32),
    ) -> Option<Self> {
        if entry.is_reverse() {
            return None;
        }
        let end = |address: A, port: Be16| SocketAddr::new(address.ip(), port.get());
        let rewrite = &entry.rewrite;
        let nat = entry.forwarding() == forwarding::NAT;
        let jiffies = u64::from(clock::age(now, entry.last_seen)) << clock::TICK_SHIFT;
        Some(Self {
            service: ServiceId(entry.service),
            backend: BackendId(entry.backend),
            protocol: Protocol::from_number(flow.protocol())?,
            client: end(flow.source, flow.ports.source()),
            destination: end(flow.destination, flow.ports.destination()),
            source: nat.then(|| end(rewrite.source, rewrite.ports.source())),
            server: nat.then(|| end(rewrite.destination, rewrite.ports.destination())),
            forwarding: match entry.forwarding() {
                forwarding::DSR => Forwarding::Dsr,
                forwarding::IPIP => Forwarding::Ipip,
                forwarding::GUE => Forwarding::Gue,
                _ => Forwarding::Nat,
            },
            stage: Stage::of(entry.state),
            idle: Duration::from_millis(jiffies * 1000 / u64::from(hz.max(1))),
        })
    }

    /// One of a test's own, with the client as given.
    #[cfg(test)]
    pub(crate) fn example(client: SocketAddr) -> Self {
        Self {
            service: ServiceId(0),
            backend: BackendId(0),
            protocol: Protocol::Tcp,
            client,
            destination: SocketAddr::new([192, 0, 2, 10].into(), 80),
            source: None,
            server: None,
            forwarding: Forwarding::Nat,
            stage: Stage::Established,
            idle: Duration::ZERO,
        }
    }
}

impl ConnectionTable {
    /// Shows every connection to `each`, IPv4 first, until it breaks off. The table lives on meanwhile: a
    /// connection that comes or goes may be shown or not, one that stays is shown once.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn browse(
        &self,
        expire: &Xdp,
        mut each: impl FnMut(&Connection) -> ControlFlow<()>,
    ) -> Result<()> {
        let clock = clock_of(expire)?;
        let of = |family| format!("read the IPv{family} connection table");
        if browse_family::<Addr4>(&self.v4, clock, &mut each).with_context(|| of(4))? {
            browse_family::<Addr6>(&self.v6, clock, &mut each).with_context(|| of(6))?;
        }
        Ok(())
    }

    /// Ends every connection that `picks` picks, now. Returns how many.
    ///
    /// # Errors
    ///
    /// What the kernel answered; connections may be ended then.
    pub fn end_picked(
        &self,
        expire: &Xdp,
        mut picks: impl FnMut(&Connection) -> bool,
    ) -> Result<u64> {
        let clock = clock_of(expire)?;
        let v4 = end_family::<Addr4>(&self.v4, 4, clock, expire, &mut picks)?;
        Ok(v4 + end_family::<Addr6>(&self.v6, 6, clock, expire, &mut picks)?)
    }
}

/// The tick now, and jiffies a second.
fn clock_of(expire: &Xdp) -> Result<(u32, u32)> {
    let hz = u32::try_from(jiffies_per_second(expire)?)?;
    Ok((ask(expire, ask::TICK)?, hz))
}

/// Rests as long as was worked since `since`.
fn rest(since: &mut Instant) {
    thread::sleep(since.elapsed().min(LONGEST_REST));
    *since = Instant::now();
}

/// Tells whether all were shown.
fn browse_family<A: Address>(
    map: &MapData,
    clock: (u32, u32),
    each: &mut impl FnMut(&Connection) -> ControlFlow<()>,
) -> Result<bool> {
    let (mut began, mut all) = (Instant::now(), true);
    bpf::read_while::<Flow<A>, connection::Connection<A>>(
        map.fd().as_fd(),
        BATCH,
        |keys, values| {
            let found =
                keys.iter().zip(values).filter_map(|(flow, e)| Connection::of(flow, e, clock));
            for connection in found {
                if each(&connection).is_break() {
                    all = false;
                    return ControlFlow::Break(());
                }
            }
            rest(&mut began);
            ControlFlow::Continue(())
        },
    )?;
    Ok(all)
}

fn end_family<A: Address>(
    map: &MapData,
    family: u32,
    clock: (u32, u32),
    expire: &Xdp,
    picks: &mut impl FnMut(&Connection) -> bool,
) -> Result<u64> {
    let order = ExpireHeader { family, ..ExpireHeader::default() };
    let (mut ended, mut failure, mut began) = (0, None, Instant::now());
    let mut picked: Vec<(u32, Candidate<A>)> = Vec::new();
    bpf::read_while::<Flow<A>, connection::Connection<A>>(
        map.fd().as_fd(),
        BATCH,
        |keys, values| {
            let found = keys.iter().zip(values).filter(|(flow, entry)| {
                Connection::of(flow, entry, clock).is_some_and(|connection| picks(&connection))
            });
            // Named by their forward entries alone, so that each is counted once.
            picked.extend(
                found.map(|(flow, e)| (e.opened, Candidate { flow: *flow, idle_ticks: 0 })),
            );
            // The youngest first, as the sweep does.
            picked.sort_unstable_by_key(|(opened, _)| Reverse(*opened));
            for some in picked.chunks(MAX_CANDIDATES) {
                let candidates: Vec<_> = some.iter().map(|(_, candidate)| *candidate).collect();
                match end(expire, order, &candidates) {
                    Ok(count) => ended += u64::from(count),
                    Err(error) => {
                        failure = Some(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            picked.clear();
            rest(&mut began);
            ControlFlow::Continue(())
        },
    )
    .with_context(|| format!("read the IPv{family} connection table"))?;
    failure.map_or(Ok(ended), Err)
}

#[cfg(test)]
mod tests {
    use lb_common::{
        connection::Rewrite,
        net::{Ports, TCP},
    };

    use super::*;

    #[test]
    fn an_entry_is_a_connection() {
        let v4 = |bytes| Addr4::from_wire(bytes);
        let client = (v4([198, 51, 100, 7]), Be16::new(40_000));
        let flow = Flow::new(client, (v4([192, 0, 2, 10]), Be16::new(80)), TCP);
        let entry = connection::Connection {
            rewrite: Rewrite {
                source: v4([10, 0, 0, 2]),
                destination: v4([10, 0, 0, 11]),
                ports: Ports::new(Be16::new(1024), Be16::new(8080)),
            },
            backend: 3,
            service: 2,
            last_seen: 90,
            state: state::ANSWERED | state::ESTABLISHED,
            ..connection::Connection::default()
        };
        let seen = Connection::of(&flow, &entry, (100, 256)).unwrap();
        assert_eq!((seen.service, seen.backend), (ServiceId(2), BackendId(3)));
        assert_eq!(seen.client, "198.51.100.7:40000".parse().unwrap());
        assert_eq!(seen.destination, "192.0.2.10:80".parse().unwrap());
        assert_eq!(seen.source, Some("10.0.0.2:1024".parse().unwrap()));
        assert_eq!(seen.server, Some("10.0.0.11:8080".parse().unwrap()));
        assert_eq!((seen.stage, seen.idle), (Stage::Established, Duration::from_secs(10)));

        let reverse = connection::Connection { state: entry.state | state::REVERSE, ..entry };
        assert_eq!(Connection::of(&flow, &reverse, (100, 256)), None);
        let gue = forwarding::GUE << state::FORWARDING_SHIFT;
        let tunnelled = connection::Connection { state: gue, ..entry };
        let seen = Connection::of(&flow, &tunnelled, (100, 256)).unwrap();
        assert_eq!((seen.forwarding, seen.source, seen.server), (Forwarding::Gue, None, None));
    }

    #[test]
    fn stages_follow_each_other() {
        let bits = [
            state::ANSWERED,
            state::ANSWERED | state::ESTABLISHED,
            state::ESTABLISHED | state::BACKEND_FIN,
            state::ESTABLISHED | state::BOTH_FINS | state::CLOSED,
        ];
        assert_eq!(bits.map(Stage::of), Stage::ALL);
        assert_eq!(Stage::of(state::CLOSED), Stage::Closed, "refused before it was established");
    }
}
