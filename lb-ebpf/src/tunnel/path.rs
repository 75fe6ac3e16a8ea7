//! The MTU of a tunnel's way, as routers on it tell (RFC 2003, section 5; RFC 1191).
//!
//! A router that cannot pass a tunnel's packet tells the tunnel's near end, which is us. We are not who
//! sent too much: the size is noted for the backend, and the client that sends as much again is told
//! what fits. Its message is believed only if it quotes enough of the packet inside to name one of our
//! connections, and that one's tunnel.

use aya_ebpf::bindings::xdp_md;
use lb_common::{
    backend::PATH_MTU_LIFETIME,
    connection::Flow,
    net::{Address as _, Be16, Ports, UDP},
    service::forwarding,
};
use lb_ebpf::{
    encap,
    family::{Family, V4, V6},
    frame::Frame,
    message::{Icmp, Messages, Start},
};
use network_types::udp::UdpHdr;

use crate::{
    connection::seconds,
    maps::{self, Room, Tables},
    pipeline,
};

/// A size below this is not believed: no link of today is smaller, and a liar could make every packet
/// a small one.
const LEAST: u32 = 552;

/// What fits on the way to a backend: the MTU that the controller knows, or the path's where that is
/// less. Asked for `needed` bytes.
#[inline(always)]
pub fn mtu(backend: u32, known: u32, needed: u32) -> u32 {
    if needed <= LEAST {
        return known;
    }
    let (told, since) = maps::path_mtu(backend);
    let believed = told != 0 && seconds().wrapping_sub(since) <= PATH_MTU_LIFETIME;
    if believed && (known == 0 || told < known) { told } else { known }
}

/// Whether routers may have told of a way that takes less than `needed` bytes.
#[inline(always)]
pub fn is_told(backend: u32, needed: u32) -> bool {
    needed > LEAST && maps::path_mtu(backend).0 != 0
}

/// Learns from a message about a packet that was too big: `None` where it is not about a tunnel's.
#[inline(always)]
pub fn learn<F: Tables + Messages>(context: *mut xdp_md) -> Option<()> {
    let (_, mut frame) = pipeline::resume::<F>(context).ok()?;
    let icmp = frame.take::<Icmp>()?;
    if (icmp.kind, icmp.code) != F::TOO_BIG {
        return None;
    }
    let [_, _, c, d] = icmp.rest;
    let told = u32::from(u16::from_be_bytes([c, d]));
    let outer = frame.take::<F::Header>()?;
    if F::options(outer) {
        return None;
    }
    let mut inside = F::protocol(outer);
    let mut port = Be16::new(0);
    if inside == UDP {
        port = Be16::from_wire(frame.take::<UdpHdr>()?.dst);
        // GUE in variant 1: the version of the packet inside stands first.
        inside = if frame.peek()? >> 4 == 6 { V6::IN_IP } else { V4::IN_IP };
    }
    let far_end = F::destination(outer).widen();
    let near_end = F::source(outer).widen();
    let (backend, hash) = match inside {
        V4::IN_IP => owner::<V4>(&mut frame)?,
        V6::IN_IP => owner::<V6>(&mut frame)?,
        _ => return None,
    };
    let tunnel = maps::tunnel(backend)?;
    let ours = tunnel.destination == far_end
        && tunnel.port == port
        && encap::source(tunnel, hash) == near_end;
    if !ours {
        return None;
    }
    let least = if F::LEAST_MTU > LEAST { F::LEAST_MTU } else { LEAST };
    maps::note_path_mtu(backend, if told > least { told } else { least }, seconds());
    Some(())
}

/// The backend of the connection that the packet at the front of `frame` is of, and its flow's hash.
#[inline(always)]
fn owner<F: Tables + Messages>(frame: &mut Frame<'_>) -> Option<(u32, u32)> {
    let header = frame.take::<F::Header>()?;
    let room = size_of::<F::Header>() + frame.remaining();
    let (protocol, _) = F::quoted(header, frame, room).ok()?;
    let start = frame.take::<Start>()?;
    let scratch = F::scratch(Room::Packet)?;
    scratch.other = Flow {
        source: F::source(header),
        destination: F::destination(header),
        ports: Ports::from_wire(start.ports),
        protocol: u32::from(protocol),
    };
    let entry = maps::find::<F>(&scratch.other)?;
    let connection = entry.get();
    (connection.forwarding() > forwarding::DSR).then_some((connection.backend, connection.answer))
}
