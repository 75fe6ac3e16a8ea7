//! NAT's source ports: which address and port a connection has towards its backend.
//!
//! A port is taken by inserting the reverse entry under it: the table itself is the allocator, and
//! two CPUs cannot take the same one.
//!
//! A backend that closed first keeps the port in TIME-WAIT for a minute, and takes a new SYN from it
//! only where sequence number or timestamp went on (RFC 6191): so it does for the same client's
//! port, and for another client's every other time; then the client waits a second for its
//! retransmission. Hence the order: first the port that belongs to the client's own address and
//! port, which that client alone reuses as it would without us; if another client's connection is
//! there, or still lingers, a cursor that walks all ports, so that one rests as long as it can; and
//! only when a few in a row are taken, one whose connection is over but lingers, or whose client has
//! not shown yet that it exists: a flood of spoofed SYNs turns over ports as it does places.

use lb_common::{
    backend::{Backend, MAX_SOURCES},
    connection::{Flow, state},
    net::{Address as _, Be16},
    verdict::Verdict,
};
use lb_ebpf::nat;

use super::give_up_if;
use crate::{
    maps::{self, InsertError, Scratch, Tables},
    stats,
};

/// Ports that are tried before a connection is refused. Each costs an insertion; with half of all
/// ports in long use, one connection in 2^24 is refused.
const TRIES: u32 = 24;

/// Ports that are tried before one is taken whose connection is over but lingers, or unconfirmed.
const UNRESTED: u32 = 6;

/// The step from one of the cursor's ports to the next: a prime, and more than there are ports, so
/// that it goes round all of them. A busy client's ports stand next to each other; one after the
/// other, a whole run of tries would find nothing but them.
const STRIDE: u64 = 2_654_435_761;

/// Takes a source port towards `backend`, by inserting the scratch room's connection, a reverse
/// entry, under it. Leaves the entry's key in the scratch room; sets the entry's deltas, which
/// depend on the port.
#[inline(always)]
pub fn take<F: Tables>(
    id: u32,
    backend: &Backend<F::Address>,
    flow: &Flow<F::Address>,
    scratch: &mut Scratch<F::Address>,
) -> Result<(), Verdict> {
    let ports = u64::from(backend.port_count);
    let sources = u64::from(backend.source_count);
    if ports == 0 || sources == 0 {
        return Err(Verdict::DROP_NO_SOURCE_PORT);
    }
    for attempt in 0..TRIES {
        let turn = if attempt == 0 {
            u64::from(flow.source.fold32()) + u64::from(flow.ports.source().get())
        } else {
            let turn = maps::next_source(id).ok_or(Verdict::DROP_INTERNAL)?;
            turn % (ports * sources) * STRIDE % (ports * sources)
        };
        #[expect(clippy::cast_possible_truncation, reason = "less than `ports`, a u16")]
        let port = backend.first_port.wrapping_add((turn % ports) as u16);
        #[expect(clippy::cast_possible_truncation, reason = "less than `sources`, a u16")]
        let source = ((turn / ports) % sources) as usize & (MAX_SOURCES - 1);
        scratch.key = Flow::new(
            (backend.address, target(backend, flow)),
            (backend.sources[source], Be16::new(port)),
            flow.protocol(),
        );
        if enter::<F>(scratch, attempt >= UNRESTED)? {
            return Ok(());
        }
    }
    Err(Verdict::DROP_NO_SOURCE_PORT)
}

/// Keeps the client's own address and port towards `backend`, as [`take`] does with NAT's.
#[inline(always)]
pub fn keep<F: Tables>(
    backend: &Backend<F::Address>,
    flow: &Flow<F::Address>,
    scratch: &mut Scratch<F::Address>,
) -> Result<(), Verdict> {
    scratch.key = Flow::new(
        (backend.address, target(backend, flow)),
        (flow.source, flow.ports.source()),
        flow.protocol(),
    );
    if enter::<F>(scratch, true)? { Ok(()) } else { Err(Verdict::DROP_NO_SOURCE_PORT) }
}

/// The backend's port for a client's.
#[inline(always)]
fn target<A>(backend: &Backend<A>, flow: &Flow<A>) -> Be16 {
    if backend.port == Be16::new(0) { flow.ports.destination() } else { backend.port }
}

/// Inserts the reverse entry under the scratch room's key; false where the port is taken. `press`
/// frees a port that lingers or whose connection is unconfirmed.
#[inline(always)]
fn enter<F: Tables>(scratch: &mut Scratch<F::Address>, press: bool) -> Result<bool, Verdict> {
    let connection = &mut scratch.connection;
    (connection.network_delta, connection.transport_delta) =
        nat::deltas(&scratch.key, &connection.rewrite);
    match maps::insert::<F>(&scratch.key, connection, false) {
        Ok(()) => return Ok(true),
        Err(InsertError::Full) => return Err(Verdict::DROP_TABLE_FULL),
        Err(InsertError::Exists) => {}
    }
    Ok(press
        && reclaim::<F>(scratch)
        && maps::insert::<F>(&scratch.key, &scratch.connection, false).is_ok())
}

/// Frees the port of a connection that is closed and only lingers for late packets, or that is
/// unconfirmed.
#[inline(always)]
fn reclaim<F: Tables>(scratch: &mut Scratch<F::Address>) -> bool {
    let Scratch { key, other, .. } = scratch;
    let Some(reverse) = maps::find::<F>(key) else { return true };
    let Some(forward) = maps::partner::<F>(reverse, key, other) else {
        // Left behind, or being made by another CPU at this moment.
        if reverse.state() & state::CLOSED != 0 {
            maps::remove::<F>(key);
        }
        return reverse.state() & state::CLOSED != 0;
    };
    let seen = forward.state();
    if seen & state::CLOSED == 0 {
        if seen & state::ESTABLISHED != 0 || !give_up_if(forward, seen) {
            return false;
        }
        stats::evicted(forward.get().backend);
    }
    maps::remove::<F>(other);
    maps::remove::<F>(key);
    true
}
