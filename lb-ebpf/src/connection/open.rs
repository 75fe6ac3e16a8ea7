//! Opening a connection: guard → schedule → take a place and a source port → enter it.

use lb_common::{
    connection::{Connection, Flow, Rewrite, state},
    hash,
    net::Address,
    service::{ServiceSettings, flags::KEEP_SOURCE, forwarding},
    verdict::Verdict,
};
use lb_ebpf::{
    nat,
    tracking::{self, Again},
};

use super::{give_up_if, microseconds, now, service_of, source_port, unconfirmed};
use crate::{
    guard,
    maps::{self, InsertError, Room, Scratch, Tables, asks},
    schedule::{self, Packet},
    stats,
    step::{Next, Step},
};

/// Decides whether a packet that opens nothing goes on here, in the place of an edge that knows its
/// connection: where every edge chooses the same backend for a flow.
#[inline(always)]
pub fn claim<F: Tables>() -> Step {
    let Some(scratch) = F::scratch(Room::Packet) else { return Verdict::DROP_INTERNAL.into() };
    scratch.connection.backend = schedule::NOBODY;
    if scratch.asks == asks::BELONGS | asks::MOVED
        && let Some(service) = service_of::<F>(&scratch.flow)
        && let Some(settings) = maps::settings(service)
        && schedule::is_alike_everywhere(settings)
    {
        scratch.asks = asks::OPENS | asks::MOVED;
        scratch.connection.backend = schedule::former::<F>(service, settings, &scratch.flow);
    }
    Step::next(Next::OPEN)
}

/// Opens a connection for the packet that the scratch room tells of: it is in none, or its
/// connection came to nothing. The packet is then sent on by the entry that is left in the scratch room,
/// or followed where its connection goes on.
#[inline(always)]
pub fn open<F: Tables>() -> Result<Step, Verdict> {
    let scratch = F::scratch(Room::Packet).ok_or(Verdict::DROP_INTERNAL)?;
    let mut attempt = Attempt { number: 0, before: schedule::NOBODY };
    if scratch.known != 0
        && let Some(entry) = maps::find::<F>(&scratch.flow)
    {
        let seen = entry.state();
        let connection = entry.get();
        let nat = connection.forwarding() == forwarding::NAT;
        let age = microseconds().wrapping_sub(connection.opened);
        let redispatch = nat && schedule::has_other::<F>(connection.service, connection.backend);
        match tracking::again(seen, age, redispatch) {
            Again::Follow => return Ok(Step::next(Next::GOES_ON)),
            Again::Reopen => {}
            Again::Redispatch => {
                if !give_up_if(entry, seen) {
                    return Ok(Step::next(Next::GOES_ON));
                }
                let number = seen >> state::ATTEMPTS_SHIFT & state::ATTEMPTS_MASK;
                attempt = Attempt { number: number + 1, before: connection.backend };
                stats::redispatched(connection.backend, seen & state::REFUSED == 0);
            }
        }
        let Scratch { flow, key, .. } = scratch;
        maps::remove_pair::<F>(entry, flow, key);
    }

    // Asked before the flags are: a port without a service is the host's own.
    let service = service_of::<F>(&scratch.flow).ok_or(Verdict::PASS_NO_SERVICE)?;
    match scratch.asks & !asks::MOVED {
        asks::OPENS => {}
        asks::FOLLOWS => return Err(Verdict::DROP_FRAGMENT),
        _ => return Err(Verdict::PASS_NO_CONNECTION),
    }
    let settings = maps::settings(service).ok_or(Verdict::DROP_INTERNAL)?;
    if attempt.number == 0 {
        guard::admit::<F, true>(service, settings, &scratch.flow.source)?;
    }
    let backend = match scratch.connection.backend {
        schedule::NOBODY => {
            schedule::pick::<F, _>(&mut Packet, service, settings, &scratch.flow, attempt.before)
        }
        // As `claim` found it.
        former => Ok(former),
    };
    let backend = match backend {
        Err(reason @ (Verdict::DROP_OVERLOAD | Verdict::DROP_NO_BACKEND)) => {
            return Ok(Step::with(Next::REJECT, reason.index()));
        }
        backend => backend?,
    };
    // Before the entries: an atomic instruction waits until everything written before it has reached the
    // cache, and they are written to cold memory.
    maps::add_open(backend, 1);
    let entered = enter::<F>(service, settings, backend, &attempt, scratch);
    if entered != Ok(true) {
        maps::add_open(backend, -1);
    }
    let entered = entered?;
    // Taken meanwhile: another CPU got a copy of the same packet, its connection counts. One that another
    // edge opened is followed in any case: its packet may be its last.
    let moved = scratch.asks >> asks::MOVED_SHIFT & 1;
    Ok(Step::next(if entered { Next::opened(moved) } else { Next::GOES_ON }))
}

/// Which attempt to connect this is, and who had the one before.
struct Attempt {
    number: u32,
    before: u32,
}

/// Enters a connection of `scratch.flow` into the table, in both directions where both pass here; tells
/// whether it is the one that is there now. Leaves the forward entry in the scratch room.
#[inline(always)]
fn enter<F: Tables>(
    service: u32,
    settings: &ServiceSettings,
    backend: u32,
    attempt: &Attempt,
    scratch: &mut Scratch<F::Address>,
) -> Result<bool, Verdict> {
    let flow = scratch.flow;
    let place = unconfirmed::take::<F>(&flow, scratch)?;
    let nat = settings.forwarding == forwarding::NAT;
    // Where answers do not pass here, the first packet counts as answered; that of a connection that another
    // edge opened is followed yet, which says so.
    let moved = scratch.asks >> asks::MOVED_SHIFT & 1;
    let answered = if nat { 0 } else { (moved ^ 1) * state::ANSWERED };
    let bits = settings.forwarding << state::FORWARDING_SHIFT
        | attempt.number << state::ATTEMPTS_SHIFT
        | answered;
    scratch.connection = Connection {
        rewrite: back(&flow),
        client: scratch.client,
        backend,
        service,
        network_delta: 0,
        transport_delta: 0,
        last_seen: now(),
        state: bits | state::REVERSE,
        opened: microseconds(),
        place,
        answer: 0,
    };
    if nat {
        let address = F::backends().get(backend).ok_or(Verdict::DROP_INTERNAL)?;
        if settings.flags & KEEP_SOURCE != 0 {
            source_port::keep::<F>(address, &flow, scratch)?;
        } else {
            source_port::take::<F>(backend, address, &flow, scratch)?;
        }
        let Scratch { connection, key, .. } = scratch;
        connection.rewrite = back(key);
        (connection.network_delta, connection.transport_delta) =
            nat::deltas(&flow, &connection.rewrite);
    } else {
        // Nobody answers here: the tunnel wants the flow's hash in its place.
        scratch.connection.answer = hash::flow(&flow);
    }
    scratch.connection.state = bits;
    match maps::insert::<F>(&flow, &scratch.connection, false) {
        Ok(()) => {
            stats::opened(backend);
            schedule::remember::<F>(service, settings, &flow.source, backend);
            Ok(true)
        }
        Err(error) => {
            if nat {
                maps::remove::<F>(&scratch.key);
            }
            if error == InsertError::Full { Err(Verdict::DROP_TABLE_FULL) } else { Ok(false) }
        }
    }
}

/// What a packet of the other direction becomes.
#[inline(always)]
fn back<A: Address>(flow: &Flow<A>) -> Rewrite<A> {
    Rewrite { source: flow.destination, destination: flow.source, ports: flow.ports.turned() }
}
