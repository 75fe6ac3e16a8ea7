//! Connections: following their packets, and counting their beginnings and ends. `open` makes them.

mod open;
mod source_port;
mod unconfirmed;

use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_ns};
use lb_common::{
    clock,
    connection::{Flow, state},
    net::{Address, Be16, Hop, TCP},
    service::{ServiceKey, forwarding},
    verdict::Verdict,
};
use lb_ebpf::{parse::Transport, tracking};

pub use self::{
    open::{claim, open},
    unconfirmed::vacate,
};
use crate::{
    maps::{self, Entry, Key, Room, Tables, asks},
    schedule, stats,
    step::{Next, Step},
};

/// The clock's tick now.
#[inline(always)]
pub fn now() -> u32 {
    // SAFETY: the helper has no preconditions.
    clock::tick(unsafe { bpf_jiffies64() })
}

/// Nanoseconds of `CLOCK_MONOTONIC` now.
#[inline(always)]
pub fn nanoseconds() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Seconds of `CLOCK_MONOTONIC` now.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "wraps after a century of uptime")]
pub fn seconds() -> u32 {
    (nanoseconds() / 1_000_000_000) as u32
}

/// Microseconds now, of which a connection's opening is noted.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "wraps after 71 minutes, as its reader knows")]
pub fn microseconds() -> u32 {
    (nanoseconds() / 1000) as u32
}

/// The service at a flow's destination: that of its port, else that of every port.
#[inline(always)]
pub fn service_of<F: Tables>(flow: &Flow<F::Address>) -> Option<u32> {
    let Key(key) =
        &mut Key(ServiceKey::new(flow.destination, flow.ports.destination(), flow.protocol()));
    maps::service::<F>(key).or_else(|| {
        key.port = Be16::new(0);
        maps::service::<F>(key)
    })
}

/// Notes what a packet is that may open a connection, for `open`. `known`: it meets one that there is.
#[inline(always)]
pub fn ask<F: Tables>(
    flow: &Flow<F::Address>,
    transport: &Transport<'_>,
    client: Hop,
    known: bool,
) -> Result<Step, Verdict> {
    let scratch = F::scratch(Room::Packet).ok_or(Verdict::DROP_INTERNAL)?;
    scratch.flow = *flow;
    scratch.client = client;
    scratch.known = u32::from(known);
    scratch.asks = if transport.protocol == TCP && !tracking::asks(transport.flags) {
        asks::BELONGS | tracking::goes_on(transport.flags) << asks::MOVED_SHIFT
    } else if !transport.is_there {
        asks::FOLLOWS
    } else {
        asks::OPENS
    };
    Ok(Step::next(Next::OPEN))
}

/// Follows a client's packet: when the connection was last seen, how far it is, and by which way
/// its client is reached. Nothing but a comparison or two for all but a few packets.
#[inline(always)]
pub fn follow_client<F: Tables>(
    entry: Entry<F::Address>,
    flow: &Flow<F::Address>,
    transport: &Transport<'_>,
    client: Hop,
) -> Result<(), Verdict> {
    entry.touch(now());
    let before = entry.state();
    let moved = entry.get().client != client;
    if before & state::ESTABLISHED != 0 && transport.flags.are_quiet() && !moved {
        return Ok(());
    }
    if entry.get().forwarding() > forwarding::NAT {
        let bits = tracking::advance_one_way(before, transport.flags);
        if bits & state::ESTABLISHED != 0 {
            vacate::<F>(entry.get().place, flow);
        }
        return if bits == 0 { Ok(()) } else { advance::<F>(entry, None, bits) };
    }
    let proved = before & state::ESTABLISHED == 0
        && (transport.protocol != TCP
            || (transport.flags.ack()
                && tracking::acknowledges(transport.number, entry.get().answer)));
    let bits = tracking::advance_client(before, transport.flags, proved);
    if bits == 0 && !moved {
        return Ok(());
    }
    if bits & state::ESTABLISHED != 0 {
        vacate::<F>(entry.get().place, flow);
    }
    let scratch = F::scratch(Room::Packet).ok_or(Verdict::DROP_INTERNAL)?;
    let partner = maps::partner::<F>(entry, flow, &mut scratch.key);
    if moved {
        entry.set_client(client);
        if let Some(partner) = partner {
            partner.set_client(client);
        }
    }
    if bits == 0 { Ok(()) } else { advance::<F>(entry, partner, bits) }
}

/// Follows a backend's packet.
#[inline(always)]
pub fn follow_backend<F: Tables>(
    entry: Entry<F::Address>,
    flow: &Flow<F::Address>,
    transport: &Transport<'_>,
) -> Result<(), Verdict> {
    entry.touch(now());
    let flags = transport.flags;
    let before = entry.state();
    if before & state::ANSWERED != 0 && flags.are_quiet() {
        return Ok(());
    }
    let answers = transport.protocol != TCP || (flags.syn() && flags.ack());
    let bits = tracking::advance_backend(before, flags, answers);
    // A SYN-ACK sent again may have another number: of cookies, or of a server that started anew.
    let numbered = flags.syn() && before & state::ESTABLISHED == 0;
    if bits == 0 && !numbered {
        return Ok(());
    }
    let scratch = F::scratch(Room::Packet).ok_or(Verdict::DROP_INTERNAL)?;
    let Some(forward) = maps::partner::<F>(entry, flow, &mut scratch.key) else {
        entry.set_state(bits);
        return if numbered { Err(Verdict::DROP_GIVEN_UP) } else { Ok(()) };
    };
    if numbered {
        // The attempt may be given up at this moment, and its entry's memory be that of the next one. A
        // client that got the answer then would acknowledge it to another backend, and be reset.
        let seen = forward.state();
        let attempt = state::ATTEMPTS_MASK << state::ATTEMPTS_SHIFT;
        let lives = seen & state::GIVEN_UP == 0 && (seen ^ before) & attempt == 0;
        if !lives || !forward.set_state_if(seen, bits & state::ANSWERED) {
            return Err(Verdict::DROP_GIVEN_UP);
        }
        forward.set_answer(u32::from_be(transport.number).wrapping_add(1).to_be());
    }
    let backend = entry.get().backend;
    if flags.rst() && before & (state::ANSWERED | state::CLOSED) == 0 {
        return refused::<F>(entry, forward, bits);
    }
    if bits & state::ANSWERED != 0 && transport.protocol == TCP {
        stats::handshake(backend, microseconds().wrapping_sub(entry.get().opened));
    }
    if bits & state::CLOSED != 0 && flags.rst() && before & state::ESTABLISHED != 0 {
        stats::reset(backend);
    }
    advance::<F>(forward, Some(entry), bits)
}

/// A backend answered a new connection with a RST. Where another backend can be tried, the client is
/// not told: its own retransmission finds the other one.
#[inline(always)]
fn refused<F: Tables>(
    reverse: Entry<F::Address>,
    forward: Entry<F::Address>,
    bits: u32,
) -> Result<(), Verdict> {
    let connection = reverse.get();
    if reverse.state() & state::REFUSED == 0 {
        stats::refused(connection.backend);
    }
    let again = tracking::again(
        forward.state() | state::REFUSED,
        0,
        schedule::has_other::<F>(connection.service, connection.backend),
    );
    if again == tracking::Again::Redispatch {
        reverse.set_state(state::REFUSED);
        forward.set_state(state::REFUSED);
        return Err(Verdict::DROP_REFUSED);
    }
    advance::<F>(forward, Some(reverse), bits)
}

/// Sets bits of a connection's state in both its entries, and counts its confirmation and its end
/// once.
#[inline(always)]
fn advance<F: Tables>(
    forward: Entry<F::Address>,
    reverse: Option<Entry<F::Address>>,
    mut bits: u32,
) -> Result<(), Verdict> {
    let backend = forward.get().backend;
    let before = forward.set_state(bits);
    if before & state::GIVEN_UP != 0 {
        // A packet that found the entry just before it was removed.
        return Err(Verdict::DROP_GIVEN_UP);
    }
    let all = before | bits;
    let mut full = false;
    if bits & !before & state::ESTABLISHED != 0 && before & state::CLOSED == 0 {
        full = schedule::confirmed::<F>(backend);
    }
    let crossed = all & state::BOTH_FINS == state::BOTH_FINS && all & state::CLOSED == 0;
    if bits & !before & state::CLOSED != 0 {
        stats::closed(backend, all & state::ESTABLISHED != 0);
    } else if crossed || full {
        // Two FINs that crossed on two CPUs, of which the later one sees both; or a handshake that
        // came in after the backend's last room was taken.
        bits |= state::CLOSED;
        if forward.set_state(state::CLOSED) & state::CLOSED == 0 {
            stats::closed(backend, all & state::ESTABLISHED != 0);
        }
    }
    if let Some(reverse) = reverse {
        reverse.set_state(bits);
    }
    if full { Err(Verdict::DROP_OVERLOAD) } else { Ok(()) }
}

/// Gives up a connection that nobody did more to than `seen`; tells whether that was so.
#[inline(always)]
pub fn give_up_if<A: Address>(forward: Entry<A>, seen: u32) -> bool {
    let closes = forward.set_state_if(seen, state::CLOSED | state::GIVEN_UP);
    if closes && seen & state::CLOSED == 0 {
        stats::closed(forward.get().backend, seen & state::ESTABLISHED != 0);
    }
    closes
}

/// Closes a connection; its end is counted once.
#[inline(always)]
pub fn close<A: Address>(forward: Entry<A>) {
    let before = forward.set_state(state::CLOSED);
    if before & state::CLOSED == 0 {
        stats::closed(forward.get().backend, before & state::ESTABLISHED != 0);
    }
}
