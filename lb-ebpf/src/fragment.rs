//! Fragments: the first one of a packet tells the ports of those that follow it.

use lb_common::{
    fragment::{FirstFragment, FragmentKey, LIFETIME},
    verdict::Verdict,
};
use lb_ebpf::{
    family::{Family, Network},
    parse::{Fragment, Packet, Transport},
};

use crate::{
    connection::seconds,
    maps::{self, Room, Tables},
};

#[inline(always)]
fn key<F: Family>(header: &F::Header, protocol: u8, part: Fragment) -> FragmentKey<F::Address> {
    FragmentKey {
        source: F::source(header),
        destination: F::destination(header),
        identification: part.identification,
        protocol: if F::PARTS_HAVE_PROTOCOL { u32::from(protocol) } else { 0 },
    }
}

/// Remembers what a packet's first fragment says.
#[inline(always)]
pub fn remember<F: Tables>(packet: &Packet<'_, F>, part: Fragment) {
    let protocol = packet.network.protocol;
    let first = FirstFragment {
        ports: packet.transport.ports(),
        protocol: u32::from(protocol),
        seen: seconds(),
    };
    let key = key::<F>(packet.header, protocol, part);
    // The kernel makes room by forgetting another packet; should it fail, the rest is dropped.
    let _ = F::fragments().insert(key, first, 0);
}

/// The transport header of a later fragment, as its packet's first one told it; the protocol is
/// noted in `network`.
#[inline(always)]
pub fn recall<'a, F: Tables>(
    header: &F::Header,
    network: &mut Network,
    part: Fragment,
) -> Result<Transport<'a>, Verdict> {
    let key = key::<F>(header, network.protocol, part);
    if let Some(first) = F::fragments().get_ptr(key) {
        // SAFETY: valid while the program runs; words that are written once.
        let FirstFragment { ports, protocol, seen } = unsafe { first.read() };
        if seconds().wrapping_sub(seen) <= LIFETIME {
            let scratch = F::scratch(Room::Packet).ok_or(Verdict::DROP_INTERNAL)?;
            #[expect(clippy::cast_possible_truncation, reason = "made from a u8")]
            let protocol = protocol as u8;
            network.protocol = protocol;
            return Ok(Transport::remembered(protocol, ports, &mut scratch.note));
        }
    }
    Err(match maps::service_address::<F>(&key.destination) {
        Some(_) => Verdict::DROP_FRAGMENT,
        None => Verdict::PASS_FRAGMENT,
    })
}
