//! The benchmark's wrapper: lays a fresh frame over the packet and jumps to the program that is
//! measured.
//!
//! The kernel's test-run repeats a program on one packet, as the last run left it. Here every run
//! starts from the same frame, or from the same frame of another client. It knows where a client's
//! address and port lie, and nothing else of what is measured.

#![no_std]
#![cfg_attr(target_arch = "bpf", no_main)]
#![expect(internal_features, reason = "BPF's atomic instructions are reached by intrinsics only")]
#![feature(core_intrinsics)]
#![expect(missing_docs, reason = "the macro repeats each program under its own, undocumented name")]

mod trial;

use core::{
    intrinsics::{AtomicOrdering, atomic_xadd},
    ptr::addr_of_mut,
};

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::{Array, ProgramArray},
    helpers::bpf_xdp_adjust_head,
    macros::{btf_map, xdp},
    programs::XdpContext,
};

/// Words of eight bytes in every frame: enough for IPv6 and TCP.
const WORDS: usize = 10;

/// What to run. The benchmark has the same layout.
#[repr(C)]
pub struct Plan {
    /// The frame.
    frame: [u64; WORDS],
    /// Runs so far. Client number n is n, modulo `clients`, times `stride`, modulo `clients`.
    turn: u64,
    /// How many clients take turns; zero leaves the frame as it is.
    clients: u64,
    /// The step from one client's number to the next.
    stride: u64,
    /// Where the last two bytes of the client's address lie in the frame.
    address_at: u64,
    /// Where the two bytes of the client's port lie in the frame.
    port_at: u64,
}

#[btf_map]
static PLAN: Array<Plan, 1> = Array::new();
#[btf_map]
static TARGET: ProgramArray<1> = ProgramArray::new();

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Restores the packet and jumps.
#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
pub fn restore(context: XdpContext) -> u32 {
    if shrink(&context).is_none() || lay(&context).is_none() {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: nothing is left to drop.
    unsafe { TARGET.tail_call(&context, 0) };
    xdp_action::XDP_ABORTED
}

/// What a program costs that does nothing.
#[xdp]
pub fn empty(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Takes away what the last run put in front of the packet. Asked of the kernel in every run, so
/// that it costs the same before every program, whether that one puts something there or not.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "within a page")]
fn shrink(context: &XdpContext) -> Option<()> {
    let length = context.data_end() - context.data();
    let grown = length as i32 - (WORDS * size_of::<u64>()) as i32;
    // SAFETY: the context is the program's, and no pointer into the packet is held.
    (unsafe { bpf_xdp_adjust_head(context.ctx, grown) } == 0).then_some(())
}

#[inline(always)]
fn lay(context: &XdpContext) -> Option<()> {
    let start = context.data();
    if start + WORDS * size_of::<u64>() > context.data_end() {
        return None;
    }
    let plan = PLAN.get_ptr_mut(0)?;
    // SAFETY: the benchmark writes a plan and then runs this program on one CPU.
    let Plan { frame, turn, clients, stride, address_at, port_at } = unsafe { plan.read() };
    let packet = start as *mut u64;
    for (at, word) in frame.iter().enumerate() {
        // SAFETY: the packet has that many words, at any alignment.
        unsafe { packet.add(at).write_unaligned(*word) };
    }
    if clients != 0 {
        let client = (turn % clients).wrapping_mul(stride) % clients;
        put(context, address_at, client >> 16)?;
        put(context, port_at, client)?;
    }
    // Atomic for its side effect on the processor: all stores to the packet are done before the
    // measured program loads, as they are when a network card wrote it.
    // SAFETY: as above.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(addr_of_mut!((*plan).turn), 1) };
    Some(())
}

/// Writes the low sixteen bits of `value` at an offset of the packet, in network byte order.
#[inline(always)]
fn put(context: &XdpContext, at: u64, value: u64) -> Option<()> {
    // Bounds that the verifier follows: an offset into the headers, and then the packet's end.
    let at = (at & 0x3f) as usize;
    let start = context.data() + at;
    if start + 2 > context.data_end() {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
    let bytes = (value as u16).to_be_bytes();
    // SAFETY: within the packet.
    unsafe { (start as *mut [u8; 2]).write(bytes) };
    Some(())
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
