//! The trial of DESIGN.md, section 8: the least that any tunnelling balancer does.
//!
//! One look-up of the flow in an LRU hash (which learns what it does not know), IPIP, and a counter of
//! this CPU. It checks nothing, chooses nothing and forgets nobody's connection in time: not a balancer
//! but a yardstick, which tells how fast a machine is in the same run as the real program.

use core::mem::size_of;

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_NO_COMMON_LRU, xdp_action},
    btf_maps::{LruHashMap, PerCpuArray},
    helpers::bpf_xdp_adjust_head,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use lb_ebpf::checksum;
use network_types::ip::Ipv4Hdr;

/// The flow: source and destination address, ports, protocol.
type Key = [u64; 2];

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

#[btf_map]
static FLOWS: LruHashMap<Key, u64, 1024, { BPF_F_NO_COMMON_LRU as usize }> = LruHashMap::new();
#[btf_map]
static PACKETS: PerCpuArray<u64, 1> = PerCpuArray::new();

/// What a bare hot path costs.
#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
pub fn trial(context: XdpContext) -> u32 {
    forward(&context).unwrap_or(xdp_action::XDP_ABORTED)
}

#[inline(always)]
fn forward(context: &XdpContext) -> Option<u32> {
    let key = key(context)?;
    if FLOWS.get_ptr(key).is_none() {
        FLOWS.insert(key, 1, u64::from(BPF_ANY)).ok()?;
    }
    if let Some(packets) = PACKETS.get_ptr_mut(0) {
        // SAFETY: this CPU's own copy.
        unsafe { *packets += 1 };
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "twenty")]
    let grow = -(Ipv4Hdr::LEN as i32);
    // SAFETY: the context is the program's, and no pointer into the packet is held.
    if unsafe { bpf_xdp_adjust_head(context.ctx, grow) } != 0 {
        return None;
    }
    encapsulate(context)?;
    Some(xdp_action::XDP_TX)
}

/// The key of a packet that is taken to be plain TCP or UDP over IPv4.
#[inline(always)]
fn key(context: &XdpContext) -> Option<Key> {
    let start = context.data();
    if start + ETHERNET + Ipv4Hdr::LEN + 20 > context.data_end() {
        return None;
    }
    let at = |offset: usize| (start + offset) as *const u8;
    // SAFETY: within the packet, at any alignment.
    unsafe {
        if at(12).cast::<u16>().read_unaligned() != 0x0800_u16.to_be() {
            return None;
        }
        let addresses = at(ETHERNET + 12).cast::<u64>().read_unaligned();
        let ports = at(ETHERNET + 20).cast::<u32>().read_unaligned();
        let protocol = at(ETHERNET + 9).read();
        Some([addresses, u64::from(ports) | u64::from(protocol) << 32])
    }
}

/// Writes both headers into the room in front of the packet.
#[inline(always)]
fn encapsulate(context: &XdpContext) -> Option<()> {
    let start = context.data();
    if start + ETHERNET + 2 * Ipv4Hdr::LEN > context.data_end() {
        return None;
    }
    let at = |offset: usize| (start + offset) as *mut u8;
    // SAFETY: within the packet, at any alignment.
    unsafe {
        let inner = at(ETHERNET + Ipv4Hdr::LEN);
        let length = u16::from_be(inner.add(2).cast::<u16>().read_unaligned());
        #[expect(clippy::cast_possible_truncation, reason = "twenty")]
        let length = length.wrapping_add(Ipv4Hdr::LEN as u16).to_be();
        let (source, destination) = (0x0100_12c6_u32, 0x0b00_000a_u32);
        let words = [0x0045, length, 0, 0x0040, 0x0440, 0];
        let halves = |word: u32| (word & 0xffff) + (word >> 16);
        let sum = words.iter().map(|word| u32::from(*word)).sum::<u32>();
        let sum = sum + halves(source) + halves(destination);
        let ip = at(ETHERNET);
        ip.cast::<[u16; 6]>().write_unaligned(words);
        ip.add(10).cast::<u16>().write_unaligned(!checksum::fold(sum));
        ip.add(12).cast::<u32>().write_unaligned(source);
        ip.add(16).cast::<u32>().write_unaligned(destination);
        at(0).cast::<[u32; 3]>().write_unaligned([0x0000_0002, 0x0002_0110, 0x0100_0000]);
        at(12).cast::<u16>().write_unaligned(0x0800_u16.to_be());
    }
    const { assert!(size_of::<Key>() == 16) };
    Some(())
}
