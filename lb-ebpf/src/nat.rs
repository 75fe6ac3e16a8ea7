//! Network address and port translation: what changes in a packet, and by how much its checksums
//! move.

use lb_common::{
    connection::{Connection, Flow, Rewrite},
    net::{Address, UDP},
};

use crate::{checksum, family::Family, parse::Transport};

/// The deltas of the network and of the transport checksum for packets of `flow` that become
/// `rewrite`. They are the same for all packets of a connection.
#[inline(always)]
#[must_use]
pub fn deltas<A: Address>(flow: &Flow<A>, rewrite: &Rewrite<A>) -> (u16, u16) {
    let addresses = |source: &A, destination: &A| source.sum() + destination.sum();
    let old = addresses(&flow.source, &flow.destination);
    let new = addresses(&rewrite.source, &rewrite.destination);
    (
        checksum::delta(old + checksum::TTL_STEP, new),
        checksum::delta(old + flow.ports.sum(), new + rewrite.ports.sum()),
    )
}

/// Translates a packet as its connection says.
#[inline(always)]
pub fn translate<F: Family>(
    header: &mut F::Header,
    transport: &mut Transport<'_>,
    connection: &Connection<F::Address>,
) {
    let rewrite = &connection.rewrite;
    F::rewrite(header, &rewrite.source, &rewrite.destination, connection.network_delta);
    let fields = &mut transport.fields;
    *fields.ports = rewrite.ports.to_wire();
    if transport.protocol == UDP {
        checksum::apply_udp(fields.checksum, connection.transport_delta);
    } else {
        checksum::apply(fields.checksum, connection.transport_delta);
    }
}
