//! The hot path: a packet of an open connection that changes nothing about it, as nearly every packet
//! is.
//!
//! It decides nothing that `follow` would decide otherwise, and is made of the same pieces. Whatever
//! asks for more than a look (an opening or ending connection, a way that changed or is not known, a
//! packet too big for it) goes to `follow`, untouched. So this is short enough to be a part of
//! the program itself, without a call, and the compiler keeps what it reads in registers.

use aya_ebpf::bindings::xdp_md;
use lb_common::{connection::state, service::forwarding, verdict::Verdict};
use lb_ebpf::{
    ethernet::Ethernet,
    frame::Frame,
    nat,
    parse::{self, Packet},
    tracking::Direction,
};

use crate::{
    connection, forward,
    maps::{self, Entry, Key, Tables},
    pipeline::concerns_us,
    stats,
    step::{Next, Step},
    tunnel::{self, Load},
};

/// The packet asks for more than a look.
pub const MORE: Step = Step::next(Next::FOLLOW);

/// Sends a packet of an open connection on, or says which stage it needs. `frame` goes on with the
/// family's header.
#[inline(always)]
pub fn carry<'a, F: Tables>(
    context: *mut xdp_md,
    ethernet: &'a mut Ethernet,
    mut frame: Frame<'a>,
) -> Result<Step, Verdict> {
    let concerns_us = |header: &F::Header| concerns_us::<F>(header);
    let packet = match parse::plain::<F>(ethernet, &mut frame, concerns_us) {
        Ok(packet) => packet,
        Err(Some(verdict)) => return Err(verdict),
        Err(None) => return Ok(Step::next(Next::WALK)),
    };
    if F::ttl(packet.header) <= 1 {
        return Err(Verdict::PASS_TTL);
    }
    let Key(flow) = &Key(packet.flow());
    let Some(entry) = maps::find::<F>(flow) else {
        let client = forward::way_back(context, packet.ethernet);
        return connection::ask::<F>(flow, &packet.transport, client, false);
    };
    if !packet.transport.flags.are_quiet() {
        return Ok(MORE);
    }
    entry.touch(connection::now());
    let state = entry.state();
    if state & state::REVERSE == 0 {
        to_backend::<F>(context, packet, entry, state)
    } else {
        Ok(to_client::<F>(context, packet, entry, state))
    }
}

#[inline(always)]
fn to_backend<F: Tables>(
    context: *mut xdp_md,
    mut packet: Packet<'_, F>,
    entry: Entry<F::Address>,
    state: u32,
) -> Result<Step, Verdict> {
    let connection = entry.get();
    let came_by_its_way = connection.client.interface == forward::ingress(context)
        && packet.ethernet.came_from(&connection.client);
    if state & state::ESTABLISHED == 0 || !came_by_its_way {
        return Ok(MORE);
    }
    let backend = F::backends().get(connection.backend).ok_or(Verdict::DROP_INTERNAL)?;
    let length = packet.network.length;
    if !backend.hop.is_known() || length > backend.mtu {
        return Ok(MORE);
    }
    let mode = connection.forwarding();
    if mode > forwarding::DSR {
        return tunnel::carry(context, Load::of(packet, true), connection, backend);
    }
    if mode == forwarding::NAT {
        nat::translate::<F>(packet.header, &mut packet.transport, connection);
    } else {
        F::decrement(packet.header);
    }
    stats::packet(connection.backend, Direction::Forward, length);
    Ok(Step::done(Verdict::TO_BACKEND, forward::send(context, packet.ethernet, &backend.hop)))
}

#[inline(always)]
fn to_client<F: Tables>(
    context: *mut xdp_md,
    mut packet: Packet<'_, F>,
    entry: Entry<F::Address>,
    state: u32,
) -> Step {
    let connection = entry.get();
    let length = packet.network.length;
    let least = maps::node().map_or(0, |node| node.least_mtu);
    if state & state::ANSWERED == 0 || length > least {
        return MORE;
    }
    nat::translate::<F>(packet.header, &mut packet.transport, connection);
    stats::packet(connection.backend, Direction::Reverse, length);
    Step::done(Verdict::TO_CLIENT, forward::send(context, packet.ethernet, &connection.client))
}
