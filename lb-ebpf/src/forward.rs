//! Forwarding: the Ethernet header and the interface that a packet leaves by.

use aya_ebpf::{
    bindings::{bpf_fib_lookup, xdp_action, xdp_md},
    helpers::{bpf_fib_lookup as fib_lookup, bpf_redirect},
    programs::XdpContext,
};
use lb_common::{
    net::{Address, Hop},
    verdict::Verdict,
};
use lb_ebpf::{
    ethernet::Ethernet,
    family::{Family, Network},
    frame::put_ethernet,
};

use crate::maps::Tables;

/// Bytes of a question to the kernel's FIB.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "64 bytes")]
const QUERY_SIZE: i32 = size_of::<bpf_fib_lookup>() as i32;

/// What the kernel is told to do with a packet: an XDP action code.
#[derive(Clone, Copy)]
pub struct Action(pub u32);

impl Action {
    /// Hand it to the host's own stack.
    pub const PASS: Self = Self(xdp_action::XDP_PASS);
    /// Drop it.
    pub const DROP: Self = Self(xdp_action::XDP_DROP);

    /// The action of a verdict that does not forward.
    #[inline(always)]
    pub const fn of(verdict: Verdict) -> Self {
        if verdict.is_drop() { Self::DROP } else { Self::PASS }
    }
}

/// The interface that a packet came in on.
#[inline(always)]
pub fn ingress(context: *mut xdp_md) -> u32 {
    // An interface index is a u32 that the context's accessor widens.
    #[expect(clippy::cast_possible_truncation, reason = "widened from a u32")]
    let interface = XdpContext::new(context).ingress_ifindex() as u32;
    interface
}

/// Sends a translated packet to its backend: the way the controller keeps, else the kernel's.
#[inline(always)]
pub fn to_backend<F: Tables>(
    context: *mut xdp_md,
    ethernet: &mut Ethernet,
    header: &F::Header,
    network: &Network,
    backend: u32,
) -> (Verdict, Action) {
    let hop = match F::backends().get(backend) {
        Some(backend) if backend.hop.is_known() => backend.hop,
        _ => match ask_kernel::<F>(context, header, network) {
            Some(hop) => hop,
            None => return (Verdict::PASS_NO_NEXT_HOP, Action::PASS),
        },
    };
    (Verdict::TO_BACKEND, send(context, ethernet, &hop))
}

/// Sends a translated reply back the way its client's packets come.
#[inline(always)]
pub fn to_client(context: *mut xdp_md, ethernet: &mut Ethernet, client: &Hop) -> (Verdict, Action) {
    (Verdict::TO_CLIENT, send(context, ethernet, client))
}

#[inline(always)]
fn send(context: *mut xdp_md, ethernet: &mut Ethernet, hop: &Hop) -> Action {
    put_ethernet(&mut ethernet.source, &hop.source);
    put_ethernet(&mut ethernet.destination, &hop.destination);
    if hop.interface == ingress(context) {
        return Action(xdp_action::XDP_TX);
    }
    // SAFETY: the helper takes numbers only; an interface that is gone drops the packet.
    let action = unsafe { bpf_redirect(hop.interface, 0) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an action code")]
    Action(action as u32)
}

/// The kernel's own forwarding decision for a packet, where it has a neighbour's address for it.
#[inline(always)]
fn ask_kernel<F: Family>(
    context: *mut xdp_md,
    header: &F::Header,
    network: &Network,
) -> Option<Hop> {
    // SAFETY: the structure is of integers only; zero is a value of each.
    let mut query: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    query.family = F::AF;
    query.l4_protocol = network.protocol;
    #[expect(clippy::cast_possible_truncation, reason = "an IP packet's length, from a u16")]
    {
        query.__bindgen_anon_1.tot_len = network.length as u16;
    }
    query.ifindex = ingress(context);
    // The kernel keeps either family's address at the front of the same sixteen bytes.
    query.__bindgen_anon_3.ipv6_src = words(&F::source(header));
    query.__bindgen_anon_4.ipv6_dst = words(&F::destination(header));
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

/// An address in the first words of four.
#[inline(always)]
fn words<A: Address>(address: &A) -> [u32; 4] {
    let mut words = [0; 4];
    let given: &[u32] = bytemuck::cast_slice(core::slice::from_ref(address));
    for (word, given) in words.iter_mut().zip(given) {
        *word = *given;
    }
    words
}
