//! Forwarding: rewriting a packet for its next hop, the Ethernet header, and the interface that it
//! leaves by. Tunnels are next door.

use aya_ebpf::{
    bindings::{bpf_fib_lookup, xdp_md},
    helpers::{bpf_check_mtu, bpf_fib_lookup as fib_lookup, bpf_redirect},
    programs::XdpContext,
};
use lb_common::{
    backend::Backend,
    net::{Address as _, Hop},
    service::forwarding,
    verdict::Verdict,
};
use lb_ebpf::{
    ethernet::Ethernet,
    family::{Family, Network},
    frame::put_ethernet,
    nat,
    parse::Packet,
    tracking::Direction,
};

use crate::{
    maps::{self, Entry, Tables},
    stats,
    step::{Action, Next, Step},
    tunnel::{self, Load},
};

/// Bytes of a question to the kernel's FIB.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "64 bytes")]
const QUERY_SIZE: i32 = size_of::<bpf_fib_lookup>() as i32;

/// The interface that a packet came in on.
#[inline(always)]
pub fn ingress(context: *mut xdp_md) -> u32 {
    // An interface index is a u32 that the context's accessor widens.
    #[expect(clippy::cast_possible_truncation, reason = "widened from a u32")]
    let interface = XdpContext::new(context).ingress_ifindex() as u32;
    interface
}

/// The way back to where a frame came from.
#[inline(always)]
pub fn way_back(context: *mut xdp_md, ethernet: &Ethernet) -> Hop {
    Hop { interface: ingress(context), source: ethernet.destination, destination: ethernet.source }
}

/// Sends a client's packet to its connection's backend.
#[inline(always)]
pub fn to_backend<F: Tables>(
    context: *mut xdp_md,
    mut packet: Packet<'_, F>,
    entry: Entry<F::Address>,
    plain: bool,
) -> Result<Step, Verdict> {
    let connection = entry.get();
    let backend = F::backends().get(connection.backend).ok_or(Verdict::DROP_INTERNAL)?;
    let mode = connection.forwarding();
    if mode > forwarding::DSR {
        return tunnel::send(context, Load::of(packet, plain), entry, backend);
    }
    let length = packet.network.length;
    if backend.mtu != 0 && length > backend.mtu {
        return Ok(Step::with(Next::TOO_BIG, backend.mtu));
    }
    if mode == forwarding::DSR {
        let Some(hop) = way_to::<F>(context, backend, packet.header, packet.network) else {
            return Err(Verdict::PASS_NO_NEXT_HOP);
        };
        stats::packet(connection.backend, Direction::Forward, length);
        F::decrement(packet.header);
        return Ok(Step::done(Verdict::TO_BACKEND, send(context, packet.ethernet, &hop)));
    }
    nat::translate::<F>(packet.header, &mut packet.transport, connection);
    stats::packet(connection.backend, Direction::Forward, length);
    let Some(hop) = way_to::<F>(context, backend, packet.header, packet.network) else {
        return Err(Verdict::PASS_NO_NEXT_HOP);
    };
    Ok(Step::done(Verdict::TO_BACKEND, send(context, packet.ethernet, &hop)))
}

/// Sends a backend's packet back the way its client's packets come.
#[inline(always)]
pub fn to_client<F: Tables>(
    context: *mut xdp_md,
    mut packet: Packet<'_, F>,
    entry: Entry<F::Address>,
) -> Step {
    let connection = entry.get();
    let length = packet.network.length;
    let least = maps::node().map_or(0, |node| node.least_mtu);
    if length > least
        && least != 0
        && let Some(mtu) = too_big_for(context, connection.client.interface, length)
    {
        return Step::with(Next::TOO_BIG, mtu);
    }
    nat::translate::<F>(packet.header, &mut packet.transport, connection);
    stats::packet(connection.backend, Direction::Reverse, length);
    Step::done(Verdict::TO_CLIENT, send(context, packet.ethernet, &connection.client))
}

/// The MTU of an interface for which the packet is too big.
#[inline(always)]
fn too_big_for(context: *mut xdp_md, interface: u32, length: u32) -> Option<u32> {
    /// `BPF_MTU_CHK_RET_FRAG_NEEDED`.
    const TOO_BIG: i64 = 1;
    // Asked for the IP packet's length: the frame's has VLAN tags and padding in it.
    let mut mtu = length;
    // SAFETY: the context is the program's, and the answer's place outlives the call.
    let answer = unsafe { bpf_check_mtu(context.cast(), interface, &raw mut mtu, 0, 0) };
    (answer == TOO_BIG).then_some(mtu & 0xffff)
}

/// Writes the Ethernet header and lets the packet leave.
#[inline(always)]
pub fn send(context: *mut xdp_md, ethernet: &mut Ethernet, hop: &Hop) -> Action {
    put_ethernet(&mut ethernet.source, &hop.source);
    put_ethernet(&mut ethernet.destination, &hop.destination);
    leave(context, hop.interface)
}

/// Lets the packet leave by an interface.
#[inline(always)]
pub fn leave(context: *mut xdp_md, interface: u32) -> Action {
    if interface == ingress(context) {
        return Action::BACK;
    }
    // SAFETY: the helper takes numbers only; an interface that is gone drops the packet.
    let action = unsafe { bpf_redirect(interface, 0) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an action code")]
    Action(action as u32)
}

/// The way to a backend: the one that the controller keeps, else the kernel's.
#[inline(always)]
pub fn way_to<F: Family>(
    context: *mut xdp_md,
    backend: &Backend<F::Address>,
    header: &F::Header,
    network: Network,
) -> Option<Hop> {
    if backend.hop.is_known() {
        return Some(backend.hop);
    }
    let source = F::source(header).widen();
    let destination = backend.address.widen();
    ask_kernel(context, F::AF, network, (*source.words(), *destination.words()))
}

/// The kernel's own forwarding decision for a packet, where it has a neighbour's address for it.
/// `ends` are the packet's source and destination address.
#[inline(always)]
pub fn ask_kernel(
    context: *mut xdp_md,
    family: u8,
    network: Network,
    ends: ([u32; 4], [u32; 4]),
) -> Option<Hop> {
    // SAFETY: the structure is of integers only; zero is a value of each.
    let mut query: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    query.family = family;
    query.l4_protocol = network.protocol;
    #[expect(clippy::cast_possible_truncation, reason = "an IP packet's length, from a u16")]
    {
        query.__bindgen_anon_1.tot_len = network.length as u16;
    }
    query.ifindex = ingress(context);
    // The kernel keeps either family's address at the front of the same sixteen bytes.
    query.__bindgen_anon_3.ipv6_src = ends.0;
    query.__bindgen_anon_4.ipv6_dst = ends.1;
    // SAFETY: the query is initialised and outlives the call, and its size is given.
    let answer = unsafe { fib_lookup(context.cast(), &raw mut query, QUERY_SIZE, 0) };
    (answer == 0).then_some(Hop {
        interface: query.ifindex,
        source: answered(&raw const query.smac),
        destination: answered(&raw const query.dmac),
    })
}

/// An Ethernet address of the kernel's answer, read by halves: the answer lies on the stack, where
/// the verifier wants a word to be aligned, and the second address is not.
#[inline(always)]
fn answered(address: *const [u8; 6]) -> [u8; 6] {
    // SAFETY: six initialised bytes, read whole at an even offset of an aligned structure.
    let halves = unsafe {
        [
            address.cast::<[u8; 2]>().read_volatile(),
            address.cast::<[u8; 2]>().add(1).read_volatile(),
            address.cast::<[u8; 2]>().add(2).read_volatile(),
        ]
    };
    bytemuck::cast(halves)
}
