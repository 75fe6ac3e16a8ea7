//! The XDP program: from a received frame to a verdict and an action.
//!
//! Read `pipeline.rs` first: it is the whole path in one sentence. Everything here touches tables
//! or helpers; what only computes is in the library beside it.

#![no_std]
#![cfg_attr(target_arch = "bpf", no_main)]
#![expect(internal_features, reason = "BPF's atomic instructions are reached by intrinsics only")]
#![feature(core_intrinsics)]
#![expect(missing_docs, reason = "the macro repeats each program under its own, undocumented name")]

mod connection;
mod established;
mod expire;
mod explain;
mod forward;
mod fragment;
mod guard;
mod icmp;
mod log;
mod maps;
mod pipeline;
mod reply;
mod schedule;
mod stats;
mod step;
mod tunnel;

use core::ptr::addr_of;

use aya_ebpf::{bindings::xdp_md, macros::xdp, programs::XdpContext};
use lb_ebpf::{
    ethernet::{Ethernet, Tag},
    family::Family,
    frame::Frame,
    parse::MAX_TAGS,
};

/// The kernel lets only programs under a licence compatible with its own use `bpf_fib_lookup`.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Runs on every packet that a balanced interface receives.
#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
pub fn evenkeel(context: XdpContext) -> u32 {
    pipeline::run(context.ctx)
}

/// Ends connections on the controller's word; attached nowhere.
#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
pub fn expire(context: XdpContext) -> u32 {
    expire::run(context.ctx)
}

/// Tells what would become of a client's next connection; attached nowhere.
#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
pub fn explain(context: XdpContext) -> u32 {
    explain::run(context.ctx)
}

/// The frame that the kernel handed over.
#[inline(always)]
fn frame<'a>(context: *mut xdp_md) -> Frame<'a> {
    // Volatile: what the compiler concludes from comparisons with the pointers of an earlier call, the
    // verifier does not know of these.
    // SAFETY: the kernel promises these bytes to the program for as long as it runs. Whoever calls
    // this is done with the headers of an earlier call.
    unsafe {
        let start = addr_of!((*context).data).read_volatile();
        let end = addr_of!((*context).data_end).read_volatile();
        Frame::from_raw(start as usize, end as usize)
    }
}

/// The IP header of a packet, whatever else is right or wrong with it.
#[inline(always)]
fn header<'a, F: Family>(context: *mut xdp_md) -> Option<&'a F::Header> {
    let mut frame = frame(context);
    let mut ether_type = frame.take::<Ethernet>()?.ether_type;
    for _ in 0..MAX_TAGS {
        if Tag::follows(ether_type) {
            ether_type = frame.take::<Tag>()?.ether_type;
        }
    }
    frame.take::<F::Header>().map(|header| &*header)
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // A loop the verifier refuses: a program in which a panic can be reached never loads.
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
