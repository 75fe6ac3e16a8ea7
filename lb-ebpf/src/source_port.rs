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
//! only when a few in a row are taken, one whose connection is over but lingers.

use lb_common::{
    backend::{Backend, MAX_SOURCES},
    connection::{Flow, state},
    net::{Address as _, Be16},
    verdict::Verdict,
};
use lb_ebpf::nat;

use crate::maps::{self, InsertError, Scratch, Tables};

/// Ports that are tried before a connection is refused. Each costs an insertion; with half of all
/// ports in long use, one connection in 2^32 is refused.
const TRIES: u32 = 32;

/// Ports that are tried before one is taken whose connection is over but lingers.
const UNRESTED: u32 = 8;

/// Takes a source port towards `backend` by inserting the scratch room's connection, a reverse
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
            u64::from(flow.source.fold32()) + u64::from(flow.source_port.get())
        } else {
            maps::next_source(id).ok_or(Verdict::DROP_INTERNAL)?
        };
        #[expect(clippy::cast_possible_truncation, reason = "less than `ports`, a u16")]
        let port = backend.first_port.wrapping_add((turn % ports) as u16);
        #[expect(clippy::cast_possible_truncation, reason = "less than `sources`, a u16")]
        let source = ((turn / ports) % sources) as usize & (MAX_SOURCES - 1);
        scratch.key = Flow::new(
            (backend.address, backend.port),
            (backend.sources[source], Be16::new(port)),
            flow.protocol(),
        );
        let connection = &mut scratch.connection;
        (connection.network_delta, connection.transport_delta) =
            nat::deltas(&scratch.key, &connection.rewrite);
        match maps::insert::<F>(&scratch.key, connection, false) {
            Ok(()) => return Ok(()),
            Err(InsertError::Full) => return Err(Verdict::DROP_TABLE_FULL),
            Err(InsertError::Exists) => {}
        }
        if attempt >= UNRESTED
            && reclaim::<F>(scratch)
            && maps::insert::<F>(&scratch.key, &scratch.connection, false).is_ok()
        {
            return Ok(());
        }
    }
    Err(Verdict::DROP_NO_SOURCE_PORT)
}

/// Frees the port of a connection that is closed and only lingers for late packets.
#[inline(always)]
fn reclaim<F: Tables>(scratch: &mut Scratch<F::Address>) -> bool {
    let Some(entry) = maps::find::<F>(&scratch.key) else { return true };
    if entry.state() & state::CLOSED == 0 {
        return false;
    }
    maps::remove_pair::<F>(entry, &scratch.key, &mut scratch.other);
    true
}
