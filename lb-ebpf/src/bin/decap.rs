//! The backends' program: takes packets for the addresses that it was told out of the edges'
//! tunnels, and leaves everything else to the host.
//!
//! Only tables and the kernel's help are here; what is decided, and why, is in the library
//! (`decap`). It shares no table with the balancer.

#![no_std]
#![cfg_attr(target_arch = "bpf", no_main)]
#![expect(missing_docs, reason = "the macro repeats the program under its own, undocumented name")]

use aya_ebpf::{
    Global,
    bindings::{xdp_action, xdp_md},
    btf_maps::{HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
    helpers::bpf_xdp_adjust_head,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use lb_common::decap::{COUNT, Fate};
use lb_ebpf::{
    decap::{self, Told, Unwrapped},
    frame::Frame,
};

/// Placeholder: the loader makes each table as large as what it was told.
const ENTRIES: usize = 1;

#[btf_map]
static ADDRESSES_V4: HashMap<[u8; 4], u32, ENTRIES> = HashMap::new();
#[btf_map]
static ADDRESSES_V6: HashMap<[u8; 16], u32, ENTRIES> = HashMap::new();
#[btf_map]
static EDGES_V4: LpmTrie<[u8; 4], u32, ENTRIES> = LpmTrie::new();
#[btf_map]
static EDGES_V6: LpmTrie<[u8; 16], u32, ENTRIES> = LpmTrie::new();
#[btf_map]
static FATES: PerCpuArray<u64, COUNT> = PerCpuArray::new();

/// The UDP port of GUE; the loader sets it.
#[unsafe(no_mangle)]
static GUE_PORT: Global<u16> = Global::new(0);

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Runs on every packet that a backend's interface receives.
#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
pub fn decap(context: XdpContext) -> u32 {
    let fate = run(context.ctx).unwrap_or_else(|fate| fate);
    if let Some(count) = FATES.get_ptr_mut(fate.index()) {
        // SAFETY: this CPU's own counter, and nothing interrupts the program with itself.
        unsafe { *count += 1 };
    }
    if fate.is_drop() { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS }
}

#[inline(always)]
fn run(context: *mut xdp_md) -> Result<Fate, Fate> {
    let Unwrapped { link, ether_type, strip, fate } = decap::unwrap(&mut frame(context), &Tables)?;
    // SAFETY: the context is the kernel's own. No reference into the frame outlives this.
    if unsafe { bpf_xdp_adjust_head(context, strip.cast_signed()) } != 0 {
        return Err(Fate::DROP_INTERNAL);
    }
    link.put(&mut frame(context), ether_type).ok_or(Fate::DROP_INTERNAL)?;
    Ok(fate)
}

/// The frame as the kernel has it now.
#[inline(always)]
fn frame<'a>(context: *mut xdp_md) -> Frame<'a> {
    let context = XdpContext::new(context);
    // SAFETY: the kernel promises these bytes to the program until it ends or moves the frame's
    // beginning. Whoever calls this is done with the headers of an earlier call.
    unsafe { Frame::from_raw(context.data(), context.data_end()) }
}

/// A key whose data begins at a multiple of eight: it is copied by words of eight bytes, and the
/// verifier wants those aligned on the stack.
#[repr(C, align(8))]
struct Aligned {
    reserved: u32,
    key: Key<[u8; 16]>,
}

/// What the loader has written.
struct Tables;

impl Told for Tables {
    #[inline(always)]
    fn gue_port(&self) -> u16 {
        GUE_PORT.load()
    }

    #[inline(always)]
    fn is_ours_v4(&self, destination: &[u8; 4]) -> bool {
        ADDRESSES_V4.get_ptr(destination).is_some()
    }

    #[inline(always)]
    fn is_ours_v6(&self, destination: &[u8; 16]) -> bool {
        ADDRESSES_V6.get_ptr(destination).is_some()
    }

    #[inline(always)]
    fn is_edge_v4(&self, source: &[u8; 4]) -> bool {
        EDGES_V4.get(&Key::new(32, *source)).is_some()
    }

    #[inline(always)]
    fn is_edge_v6(&self, source: &[u8; 16]) -> bool {
        let aligned = Aligned { reserved: 0, key: Key::new(128, *source) };
        EDGES_V6.get(&aligned.key).is_some()
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
