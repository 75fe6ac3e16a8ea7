//! NAT's source ports: each backend has a cursor that walks its addresses and ports in turn, so a
//! port is used again only when all the others were.
//!
//! A port is taken by inserting the reverse entry under it: the table itself is the allocator, and
//! two CPUs cannot take the same one.

use lb_common::{
    backend::{Backend, MAX_SOURCES},
    connection::{Flow, state},
    net::Be16,
    verdict::Verdict,
};
use lb_ebpf::nat;

use crate::maps::{self, InsertError, Scratch, Tables};

/// Ports that are tried before a connection is refused. Each costs an insertion; with half of all
/// ports in long use, one connection in 2^32 is refused.
const TRIES: u32 = 32;

/// Takes a source port towards `backend` by inserting the scratch room's connection, a reverse
/// entry, under it. Leaves the entry's key in the scratch room; sets the entry's deltas, which
/// depend on the port.
#[inline(always)]
pub fn take<F: Tables>(
    id: u32,
    backend: &Backend<F::Address>,
    protocol: u8,
    scratch: &mut Scratch<F::Address>,
) -> Result<(), Verdict> {
    let ports = u64::from(backend.port_count);
    let sources = u64::from(backend.source_count);
    if ports == 0 || sources == 0 {
        return Err(Verdict::DROP_NO_SOURCE_PORT);
    }
    for _ in 0..TRIES {
        let turn = maps::next_source(id).ok_or(Verdict::DROP_INTERNAL)?;
        #[expect(clippy::cast_possible_truncation, reason = "less than `ports`, a u16")]
        let port = backend.first_port.wrapping_add((turn % ports) as u16);
        #[expect(clippy::cast_possible_truncation, reason = "less than `sources`, a u16")]
        let source = ((turn / ports) % sources) as usize & (MAX_SOURCES - 1);
        scratch.key = Flow::new(
            (backend.address, backend.port),
            (backend.sources[source], Be16::new(port)),
            protocol,
        );
        let connection = &mut scratch.connection;
        (connection.network_delta, connection.transport_delta) =
            nat::deltas(&scratch.key, &connection.rewrite);
        match maps::insert::<F>(&scratch.key, connection, false) {
            Ok(()) => return Ok(()),
            Err(InsertError::Full) => return Err(Verdict::DROP_TABLE_FULL),
            Err(InsertError::Exists) => {}
        }
        if reclaim::<F>(scratch)
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
