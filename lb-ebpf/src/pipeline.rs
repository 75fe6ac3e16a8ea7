//! The path of a packet: parse → find the connection → else find the service and schedule →
//! rewrite → count → forward.

use aya_ebpf::bindings::xdp_md;
use lb_common::{filter, net::Hop, verdict::Verdict};
use lb_ebpf::{
    ethernet::Ethernet,
    family::{ETHER_IPV4, ETHER_IPV6, Family, Network, V4, V6},
    frame::Frame,
    nat,
    parse::Transport,
    tracking::Direction,
};

use crate::{
    connection,
    forward::{self, Action},
    log,
    maps::{self, Tables},
    stats,
};

/// Runs the program on a packet: one verdict, one count, one action.
#[inline(always)]
pub fn run(context: *mut xdp_md) -> u32 {
    let mut frame = crate::frame(context);
    let Some(ethernet) = frame.take::<Ethernet>() else { return pass(Verdict::PASS_NOT_IP) };
    match u16::from_be_bytes(ethernet.ether_type) {
        ETHER_IPV4 => ipv4(context),
        ETHER_IPV6 => ipv6(context),
        _ => pass(Verdict::PASS_NOT_IP),
    }
}

// A function each, so that neither family's stack and registers burden the other.
#[inline(never)]
extern "C" fn ipv4(context: *mut xdp_md) -> u32 {
    balance::<V4>(context)
}

#[inline(never)]
extern "C" fn ipv6(context: *mut xdp_md) -> u32 {
    balance::<V6>(context)
}

#[inline(always)]
fn pass(verdict: Verdict) -> u32 {
    stats::verdict(verdict);
    Action::PASS.0
}

#[inline(always)]
fn balance<F: Tables>(context: *mut xdp_md) -> u32 {
    let (verdict, action) = match process::<F>(context) {
        Ok(done) => done,
        Err(verdict) => {
            if verdict.is_drop() {
                log::dropped::<F>(context, verdict);
            }
            (verdict, Action::of(verdict))
        }
    };
    stats::verdict(verdict);
    action.0
}

#[inline(always)]
fn process<F: Tables>(context: *mut xdp_md) -> Result<(Verdict, Action), Verdict> {
    let mut frame = crate::frame(context);
    let ethernet = frame.take::<Ethernet>().ok_or(Verdict::PASS_NOT_IP)?;
    let header = frame.take::<F::Header>().ok_or(Verdict::PASS_NOT_IP)?;
    let destination = F::destination(header);
    if !maps::filter().is_some_and(|bitmap| filter::may_contain(bitmap, &destination)) {
        return Err(Verdict::PASS_NOT_OURS);
    }
    let (network, mut transport) =
        parse::<F>(&mut frame, header).map_err(|verdict| blame::<F>(verdict, &destination))?;
    if F::ttl(header) <= 1 {
        return Err(Verdict::PASS_TTL);
    }

    let flow = transport.flow::<F>(header);
    let came_by = Hop {
        interface: forward::ingress(context),
        source: ethernet.destination,
        destination: ethernet.source,
    };
    let entry = connection::find_or_open::<F>(&flow, transport.flags, came_by)?;
    let direction = if entry.get().is_reverse() { Direction::Reverse } else { Direction::Forward };
    connection::follow::<F>(entry, &flow, direction, transport.flags, came_by);

    nat::translate::<F>(header, &mut transport, entry.get());
    stats::packet(entry.get().backend, direction, network.length);
    Ok(match direction {
        Direction::Forward => {
            forward::to_backend::<F>(context, ethernet, header, &network, entry.get().backend)
        }
        Direction::Reverse => forward::to_client(context, ethernet, &entry.get().client),
    })
}

/// Checks the network header and parses the transport header.
#[inline(always)]
fn parse<'a, F: Family>(
    frame: &mut Frame<'a>,
    header: &F::Header,
) -> Result<(Network, Transport<'a>), Verdict> {
    let network = F::check(header, frame.remaining())?;
    Ok((network, Transport::parse(frame, &network)?))
}

/// The verdict on a packet that did not parse: only what is addressed to a service is dropped.
#[inline(always)]
fn blame<F: Tables>(verdict: Verdict, destination: &F::Address) -> Verdict {
    if verdict.is_drop() && !maps::is_service_address::<F>(destination) {
        return Verdict::PASS_NOT_OURS;
    }
    verdict
}
