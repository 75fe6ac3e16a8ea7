//! Fragments: the first one of a packet tells the ports of those that follow it.

use lb_common::{
    fragment::{FirstFragment, FragmentKey, LIFETIME},
    verdict::Verdict,
};
use lb_ebpf::{
    family::Family,
    parse::{Fragment, Packet, Transport},
};

use crate::{
    connection::nanoseconds,
    maps::{self, Room, Tables},
};

#[inline(always)]
fn key<F: Family>(header: &F::Header, protocol: u8, part: Fragment) -> FragmentKey<F::Address> {
    FragmentKey {
        source: F::source(header),
        destination: F::destination(header),
        identification: part.identification,
        protocol: u32::from(protocol),
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "wraps after a century of uptime")]
fn seconds() -> u32 {
    (nanoseconds() / 1_000_000_000) as u32
}

/// Remembers what a packet's first fragment says.
#[inline(always)]
pub fn remember<F: Tables>(packet: &Packet<'_, F>, part: Fragment) {
    let (source_port, destination_port) = packet.transport.ports();
    let first = FirstFragment { source_port, destination_port, seen: seconds() };
    let key = key::<F>(packet.header, packet.network.protocol, part);
    // The kernel makes room by forgetting another packet; should it fail, the rest is dropped.
    let _ = F::fragments().insert(&key, &first, 0);
}

/// The transport header of a later fragment, as its packet's first one told it.
#[inline(always)]
pub fn recall<'a, F: Tables>(
    header: &F::Header,
    protocol: u8,
    part: Fragment,
) -> Result<Transport<'a>, Verdict> {
    let key = key::<F>(header, protocol, part);
    if let Some(first) = F::fragments().get_ptr(&key) {
        // SAFETY: valid while the program runs; two words that are written once.
        let FirstFragment { source_port, destination_port, seen } = unsafe { first.read() };
        if seconds().wrapping_sub(seen) <= LIFETIME {
            let scratch = F::scratch(Room::Packet).ok_or(Verdict::DROP_INTERNAL)?;
            let ports = (source_port, destination_port);
            return Ok(Transport::remembered(protocol, ports, &mut scratch.note));
        }
    }
    Err(match maps::service_address::<F>(&key.destination) {
        Some(_) => Verdict::DROP_FRAGMENT,
        None => Verdict::PASS_FRAGMENT,
    })
}
