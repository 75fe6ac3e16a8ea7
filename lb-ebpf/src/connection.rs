//! Connections: opening one, following its packets, closing it.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use lb_common::{
    clock,
    connection::{Connection, Flow, Rewrite, state},
    net::{Address, Hop, TCP},
    service::ServiceKey,
    verdict::Verdict,
};
use lb_ebpf::{
    nat,
    parse::Flags,
    tracking::{self, Direction},
};

use crate::{
    maps::{self, Entry, InsertError, Room, Scratch, Tables},
    schedule, source_port, stats,
};

/// The clock's tick now.
#[inline(always)]
pub fn now() -> u32 {
    // SAFETY: the helper has no preconditions.
    clock::tick(unsafe { bpf_ktime_get_coarse_ns() })
}

/// The connection of a packet: the known one, else a new one where the packet may open one.
#[inline(always)]
pub fn find_or_open<F: Tables>(
    flow: &Flow<F::Address>,
    flags: Flags,
    client: Hop,
) -> Result<Entry<F::Address>, Verdict> {
    match maps::find::<F>(flow) {
        // A client that reuses its port: the closed connection makes room.
        Some(entry) if tracking::reopens(entry.state(), flags) && !entry.get().is_reverse() => {
            let scratch = F::scratch(Room::Packet).ok_or(Verdict::DROP_INTERNAL)?;
            maps::remove_pair::<F>(entry, flow, &mut scratch.key);
            open::<F>(flow, client, scratch)
        }
        Some(entry) => Ok(entry),
        None => {
            // Asked before the flags are: a port without a service is the host's own.
            let key = ServiceKey::new(flow.destination, flow.destination_port, flow.protocol());
            if maps::service::<F>(&key).is_none() {
                return Err(Verdict::PASS_NO_SERVICE);
            }
            if flow.protocol() == TCP && (!flags.syn || flags.ack) {
                return Err(Verdict::PASS_NO_CONNECTION);
            }
            open::<F>(flow, client, F::scratch(Room::Packet).ok_or(Verdict::DROP_INTERNAL)?)
        }
    }
}

/// Opens a connection: schedules it, takes a source port, and enters both directions.
#[inline(always)]
fn open<F: Tables>(
    flow: &Flow<F::Address>,
    client: Hop,
    scratch: &mut Scratch<F::Address>,
) -> Result<Entry<F::Address>, Verdict> {
    let key = ServiceKey::new(flow.destination, flow.destination_port, flow.protocol());
    let service = maps::service::<F>(&key).ok_or(Verdict::PASS_NO_SERVICE)?;
    let id = schedule::next(service)?;
    let backend = F::backends().get(id).ok_or(Verdict::DROP_INTERNAL)?;

    scratch.connection = Connection {
        rewrite: Rewrite {
            source: flow.destination,
            destination: flow.source,
            source_port: flow.destination_port,
            destination_port: flow.source_port,
        },
        client,
        backend: id,
        service,
        network_delta: 0,
        transport_delta: 0,
        last_seen: now(),
        state: state::REVERSE,
    };
    source_port::take::<F>(id, backend, flow, scratch)?;

    let Scratch { connection, key: reverse, .. } = scratch;
    connection.rewrite = Rewrite {
        source: reverse.destination,
        destination: reverse.source,
        source_port: reverse.destination_port,
        destination_port: reverse.source_port,
    };
    (connection.network_delta, connection.transport_delta) = nat::deltas(flow, &connection.rewrite);
    connection.state = 0;
    match maps::insert::<F>(flow, connection, false) {
        Ok(()) => stats::opened(id),
        Err(error) => {
            maps::remove::<F>(reverse);
            // Taken meanwhile: another CPU got a copy of the same packet, its connection counts.
            if error == InsertError::Full {
                return Err(Verdict::DROP_TABLE_FULL);
            }
        }
    }
    maps::find::<F>(flow).ok_or(Verdict::DROP_INTERNAL)
}

/// Follows a packet: when the connection was last seen, how far it is, and by which way its client
/// is reached. Nothing but a comparison or two for all but a few packets.
#[inline(always)]
pub fn follow<F: Tables>(
    entry: Entry<F::Address>,
    flow: &Flow<F::Address>,
    direction: Direction,
    flags: Flags,
    client: Hop,
) {
    entry.touch(now());
    let bits = tracking::advance(entry.state(), direction, flow.protocol() == TCP, flags);
    let moved = direction == Direction::Forward && entry.get().client != client;
    if bits == 0 && !moved {
        return;
    }
    let Some(scratch) = F::scratch(Room::Packet) else { return };
    let partner = maps::partner::<F>(entry, flow, &mut scratch.key);
    if moved {
        entry.set_client(client);
        if let Some(partner) = partner {
            partner.set_client(client);
        }
    }
    if bits != 0 {
        let forward = if direction == Direction::Forward { Some(entry) } else { partner };
        let reverse = if direction == Direction::Forward { partner } else { Some(entry) };
        advance(forward, reverse, bits);
    }
}

/// Sets bits of a connection's state in both its entries, and counts its end once.
#[inline(always)]
fn advance<A: Address>(forward: Option<Entry<A>>, reverse: Option<Entry<A>>, mut bits: u32) {
    if let Some(forward) = forward {
        let before = forward.set_state(bits);
        let mut closes = before & state::CLOSED == 0 && bits & state::CLOSED != 0;
        let all = before | bits;
        if all & state::BOTH_FINS == state::BOTH_FINS && all & state::CLOSED == 0 {
            // Two FINs that crossed on two CPUs: the later one sees both.
            bits |= state::CLOSED;
            closes = forward.set_state(state::CLOSED) & state::CLOSED == 0;
        }
        if closes {
            stats::closed(forward.get().backend);
        }
    }
    if let Some(reverse) = reverse {
        reverse.set_state(bits);
    }
}
