//! Tunnels: a client's packet, as it is, inside one to its backend.

pub mod path;

use aya_ebpf::{bindings::xdp_md, helpers::bpf_xdp_adjust_head};
use lb_common::{
    backend::{Backend, Tunnel},
    connection::Connection,
    net::{Address, Hop, TCP, UDP},
    service::forwarding,
    verdict::Verdict,
};
use lb_ebpf::{
    encap::{self, Inner},
    ethernet::{Ethernet, Tags},
    family::{ETHER_IPV4, ETHER_IPV6, Family, Network, V4, V6},
    parse::{Packet, Transport},
    tracking::Direction,
};
use network_types::{
    ip::{Ipv4Hdr, Ipv6Hdr},
    udp::UdpHdr,
};

use crate::{
    established::MORE,
    forward,
    maps::{self, Entry, Tables},
    stats,
    step::{Next, Step},
};

/// A tunnel's kind: what its outer headers are.
#[derive(Clone, Copy)]
struct Kind {
    /// IPv6, not IPv4.
    ipv6: bool,
    /// With UDP after it.
    gue: bool,
}

impl Kind {
    #[inline(always)]
    const fn of<A: Address>(connection: &Connection<A>, tunnel: &Tunnel) -> Self {
        Self { ipv6: tunnel.family != 4, gue: connection.forwarding() == forwarding::GUE }
    }
}

/// Calls a function that is written for each kind of tunnel: what follows from the kind are numbers in
/// its code.
macro_rules! by_kind {
    ($kind:expr, $function:ident::<$family:ident>($($argument:expr),*)) => {
        match $kind {
            Kind { ipv6: false, gue: false } => $function::<$family, false, false>($($argument),*),
            Kind { ipv6: false, gue: true } => $function::<$family, false, true>($($argument),*),
            Kind { ipv6: true, gue: false } => $function::<$family, true, false>($($argument),*),
            Kind { ipv6: true, gue: true } => $function::<$family, true, true>($($argument),*),
        }
    };
}

/// A packet that goes into a tunnel.
pub struct Load<'a, F: Family> {
    /// IP header.
    pub header: &'a mut F::Header,
    /// What it says.
    pub network: Network,
    /// The transport header of a connection's packet.
    pub transport: Option<Transport<'a>>,
    /// Whether its headers follow each other at once: no VLAN tags, no options.
    pub plain: bool,
    /// What it is: only what goes [`Verdict::TO_BACKEND`] counts as a packet of the connection.
    pub verdict: Verdict,
}

impl<'a, F: Family> Load<'a, F> {
    /// A connection's packet.
    #[inline(always)]
    pub fn of(packet: Packet<'a, F>, plain: bool) -> Self {
        let Packet { header, network, transport, .. } = packet;
        Self { header, network, transport: Some(transport), plain, verdict: Verdict::TO_BACKEND }
    }

    /// Whether the sum of the packet's words follows from its transport checksum.
    #[inline(always)]
    fn promises(&self) -> bool {
        let Some(transport) = &self.transport else { return false };
        // A datagram over IPv4 may be without a checksum: then it promises nothing.
        let sum = match transport.protocol {
            TCP => true,
            UDP => *transport.fields.checksum != [0; 2],
            _ => false,
        };
        sum && transport.covers_all
    }
}

/// Puts an open connection's packet into its tunnel, or asks for more than a look: where the tunnel's way
/// is not known, or may not take the packet.
#[inline(always)]
pub fn carry<F: Tables>(
    context: *mut xdp_md,
    load: Load<'_, F>,
    connection: &Connection<F::Address>,
    backend: &Backend<F::Address>,
) -> Result<Step, Verdict> {
    let tunnel = maps::tunnel(connection.backend).ok_or(Verdict::DROP_INTERNAL)?;
    by_kind!(
        Kind::of(connection, tunnel),
        carry_as::<F>(context, load, connection, tunnel, backend)
    )
}

#[inline(always)]
fn carry_as<F: Tables, const IPV6: bool, const GUE: bool>(
    context: *mut xdp_md,
    load: Load<'_, F>,
    connection: &Connection<F::Address>,
    tunnel: &Tunnel,
    backend: &Backend<F::Address>,
) -> Result<Step, Verdict> {
    let needed = load.network.length + encap::overhead(IPV6, GUE);
    if needed > backend.mtu || path::is_told(connection.backend, needed) {
        return Ok(MORE);
    }
    put_as::<F, IPV6, GUE>(context, load, connection, tunnel, &backend.hop)
}

/// Puts a packet into the tunnel to its connection's backend and sends it.
#[inline(always)]
pub fn send<F: Tables>(
    context: *mut xdp_md,
    load: Load<'_, F>,
    entry: Entry<F::Address>,
    backend: &Backend<F::Address>,
) -> Result<Step, Verdict> {
    let connection = entry.get();
    let tunnel = maps::tunnel(connection.backend).ok_or(Verdict::DROP_INTERNAL)?;
    let kind = Kind::of(connection, tunnel);
    let overhead = encap::overhead(kind.ipv6, kind.gue);
    let needed = load.network.length + overhead;
    let mtu = path::mtu(connection.backend, backend.mtu, needed);
    if mtu != 0 && needed > mtu {
        return Ok(Step::with(Next::TOO_BIG, mtu.saturating_sub(overhead) & 0xffff));
    }
    let hop = way_to(context, backend.hop, tunnel, needed, connection.answer)?;
    by_kind!(kind, put_as::<F>(context, load, connection, tunnel, &hop))
}

/// Puts a packet that fits into the tunnel to its connection's backend and sends it by `hop`.
#[inline(always)]
fn put_as<F: Tables, const IPV6: bool, const GUE: bool>(
    context: *mut xdp_md,
    load: Load<'_, F>,
    connection: &Connection<F::Address>,
    tunnel: &Tunnel,
    hop: &Hop,
) -> Result<Step, Verdict> {
    let summed = GUE && IPV6 && load.plain && load.promises();
    let Load { header, network, plain, verdict, .. } = load;
    if verdict == Verdict::TO_BACKEND {
        stats::packet(connection.backend, Direction::Forward, network.length);
    }
    F::decrement(header);
    let inner = describe::<F>(header, &network, connection.answer, summed);
    let tags = if plain { Tags::default() } else { tags(context)? };

    // The packet's headers are not touched after this: they have other addresses.
    let delta = -encap::overhead(IPV6, GUE).cast_signed();
    // SAFETY: the context is the program's.
    if unsafe { bpf_xdp_adjust_head(context, delta) } != 0 {
        return Err(Verdict::DROP_INTERNAL);
    }
    wrap::<IPV6, GUE>(context, tunnel, &inner, hop, &tags).ok_or(Verdict::DROP_INTERNAL)?;
    Ok(Step::done(verdict, forward::leave(context, hop.interface)))
}

/// What the outer headers take over.
#[inline(always)]
fn describe<F: Tables>(header: &F::Header, network: &Network, hash: u32, summed: bool) -> Inner {
    let addresses = F::source(header).sum() + F::destination(header).sum();
    let sum = summed.then(|| encap::sum(F::header_sum(header), addresses, network));
    #[expect(clippy::cast_possible_truncation, reason = "an IP packet's length, from a u16")]
    let length = network.length as u16;
    Inner { protocol: F::IN_IP, class: F::class(header), length, hash, sum }
}

/// The way to a tunnel's far end.
#[inline(always)]
fn way_to(
    context: *mut xdp_md,
    hop: Hop,
    tunnel: &Tunnel,
    length: u32,
    hash: u32,
) -> Result<Hop, Verdict> {
    if hop.is_known() {
        return Ok(hop);
    }
    let family = if tunnel.family == 4 { V4::AF } else { V6::AF };
    let network = Network { protocol: 0, length, payload: 0 };
    let ends = (*encap::source(tunnel, hash).words(), *tunnel.destination.words());
    forward::ask_kernel(context, family, network, ends).ok_or(Verdict::PASS_NO_NEXT_HOP)
}

/// The tags at the front of a frame.
#[inline(always)]
fn tags(context: *mut xdp_md) -> Result<Tags, Verdict> {
    let mut frame = crate::frame(context);
    let ethernet = frame.take::<Ethernet>().ok_or(Verdict::DROP_INTERNAL)?;
    Tags::take(ethernet, &mut frame).ok_or(Verdict::DROP_INTERNAL)
}

/// Writes the headers into the room in front of the packet.
#[inline(always)]
fn wrap<const IPV6: bool, const GUE: bool>(
    context: *mut xdp_md,
    tunnel: &Tunnel,
    inner: &Inner,
    hop: &Hop,
    tags: &Tags,
) -> Option<()> {
    let mut frame = crate::frame(context);
    let ethernet = frame.take::<Ethernet>()?;
    let outside = if IPV6 { ETHER_IPV6 } else { ETHER_IPV4 }.to_be_bytes();
    tags.put(ethernet, &mut frame, outside)?;
    #[expect(clippy::cast_possible_truncation, reason = "eight")]
    let payload =
        if GUE { (UDP, inner.length + UdpHdr::LEN as u16) } else { (inner.protocol, inner.length) };
    if IPV6 {
        encap::put_ipv6(frame.take::<Ipv6Hdr>()?, tunnel, inner, payload);
    } else {
        encap::put_ipv4(frame.take::<Ipv4Hdr>()?, tunnel, inner, payload);
    }
    if GUE {
        encap::put_gue(frame.take::<UdpHdr>()?, tunnel, inner);
    }
    lb_ebpf::frame::put_ethernet(&mut ethernet.source, &hop.source);
    lb_ebpf::frame::put_ethernet(&mut ethernet.destination, &hop.destination);
    Some(())
}
