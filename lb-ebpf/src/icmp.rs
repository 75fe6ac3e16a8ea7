//! ICMP: errors about a connection go to the end that they concern; echo requests to a service's
//! address are answered where the host does not do it.

use aya_ebpf::bindings::xdp_md;
use lb_common::{node::address, service::forwarding, verdict::Verdict};
use lb_ebpf::{
    message::{self, Icmp, Messages, Quote},
    parse::Layers,
};

use crate::{
    forward,
    maps::{self, Entry, Room, Tables},
    pipeline,
    step::{Action, Next, Step},
    tunnel::{self, Load},
};

/// Handles an ICMP message that may be for one of our addresses. It is no packet of a connection:
/// nothing is counted for a backend, and no state moves.
#[inline(always)]
pub fn handle<F: Tables + Messages>(context: *mut xdp_md) -> Result<Step, Verdict> {
    let (layers, mut frame) = pipeline::resume::<F>(context)?;
    let whole = layers.network.payload as usize >= Icmp::LEN;
    let Some(icmp) = frame.take::<Icmp>().filter(|_| whole) else {
        return Err(leave::<F>(layers.header, Verdict::DROP_MALFORMED_TRANSPORT));
    };
    if icmp.kind == F::ECHO {
        return echo(layers, icmp);
    }
    if !F::is_error(icmp.kind) {
        return Err(leave::<F>(layers.header, Verdict::PASS_PROTOCOL));
    }
    let quote = match Quote::<F>::take(&mut frame, &layers.network) {
        Ok(quote) => quote,
        Err(verdict) if tunnel::path::learn::<F>(context).is_none() => {
            return Err(leave::<F>(layers.header, verdict));
        }
        Err(_) => return Err(Verdict::DROP_PATH_MTU),
    };
    let scratch = F::scratch(Room::Packet).ok_or(Verdict::DROP_INTERNAL)?;
    scratch.flow = quote.back();
    let Some(entry) = maps::find::<F>(&scratch.flow) else {
        if tunnel::path::learn::<F>(context).is_some() {
            return Err(Verdict::DROP_PATH_MTU);
        }
        return Err(leave::<F>(layers.header, Verdict::PASS_PROTOCOL));
    };
    if F::ttl(layers.header) <= 1 {
        return Err(Verdict::PASS_TTL);
    }
    relay(context, layers, icmp, quote, entry, &scratch.flow.source)
}

/// Sends an error to the end of its connection that it concerns: that from which the packets come
/// that go against the quoted one's flow, under `sender`, and of which the connection's entry tells.
#[inline(always)]
fn relay<F: Tables + Messages>(
    context: *mut xdp_md,
    layers: Layers<'_, F>,
    icmp: &mut Icmp,
    quote: Quote<'_, F>,
    entry: Entry<F::Address>,
    sender: &F::Address,
) -> Result<Step, Verdict> {
    let Layers { ethernet, header, network, .. } = layers;
    let connection = entry.get();
    let backend = F::backends().get(connection.backend).ok_or(Verdict::DROP_INTERNAL)?;
    let mode = connection.forwarding();
    if mode > forwarding::DSR {
        let verdict = Verdict::ICMP_TO_BACKEND;
        let load = Load { header, network, transport: None, plain: false, verdict };
        let step = tunnel::send::<F>(context, load, entry, backend)?;
        return if step.stage() == Next::TOO_BIG { Err(too_big()) } else { Ok(step) };
    }
    let to_client = connection.is_reverse();
    if !to_client && backend.mtu != 0 && network.length > backend.mtu {
        return Err(too_big());
    }
    if mode == forwarding::NAT {
        // To the client there is nobody but the service. The backend knows NAT's address and may
        // have no route to the error's sender; where it sees the client itself, it may as well see
        // that one.
        let keep = !to_client && connection.rewrite.source == *sender;
        message::translate(header, icmp, quote, connection, keep);
    }
    if to_client {
        let action = forward::send(context, ethernet, &connection.client);
        return Ok(Step::done(Verdict::ICMP_TO_CLIENT, action));
    }
    let way = forward::way_to::<F>(context, backend, header, network);
    let hop = way.ok_or(Verdict::PASS_NO_NEXT_HOP)?;
    if mode == forwarding::DSR {
        F::decrement(header);
    }
    Ok(Step::done(Verdict::ICMP_TO_BACKEND, forward::send(context, ethernet, &hop)))
}

/// The verdict on an error that does not fit: nobody is sent an error about an error (RFC 1122,
/// 3.2.2; RFC 4443, 2.4).
#[inline(always)]
const fn too_big() -> Verdict {
    Verdict::DROP_TOO_BIG
}

/// Answers an echo request to a service's address that the host has not. Not limited, as what we
/// send unasked is: a reply is as long as its request.
#[inline(always)]
fn echo<F: Tables + Messages>(layers: Layers<'_, F>, icmp: &mut Icmp) -> Result<Step, Verdict> {
    let Layers { ethernet, header, network, .. } = layers;
    // A source route would have to be turned round, too (RFC 1122, 3.2.2.6).
    let plain = network.length as usize == size_of::<F::Header>() + network.payload as usize;
    match maps::service_address::<F>(&F::destination(header)) {
        Some(bits) if bits & address::HOST == 0 && plain && icmp.code == 0 => {
            message::answer_echo::<F>(ethernet, header, icmp);
            Ok(Step::done(Verdict::REPLY_ECHO, Action::BACK))
        }
        _ => Err(leave::<F>(header, Verdict::PASS_PROTOCOL)),
    }
}

/// The verdict on a message that is none of ours. Only what is addressed to a service is dropped;
/// what neither comes from nor goes to one of our addresses was looked at for its quote alone.
#[inline(always)]
fn leave<F: Tables>(header: &F::Header, verdict: Verdict) -> Verdict {
    if verdict.is_drop() && maps::service_address::<F>(&F::destination(header)).is_some() {
        return verdict;
    }
    if pipeline::has_our_end::<F>(header) { Verdict::PASS_PROTOCOL } else { Verdict::PASS_NOT_OURS }
}
