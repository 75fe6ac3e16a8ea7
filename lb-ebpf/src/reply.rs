//! Packets of our own: what tells a sender that its packet was too big, or that no backend takes its
//! connection.

use core::hint::black_box;

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
};
use lb_common::{
    connection::Flow,
    net::{Be16, TCP, UDP},
    service::{Limit, flags},
    verdict::Verdict,
};
use lb_ebpf::{
    answer::{self, Error, QUOTED, Segment},
    ethernet::{Ethernet, Tag},
    frame::put_ethernet,
    message::Messages,
    parse::{Fragment, Layers, MAX_TAGS},
};
use network_types::{tcp::TcpHdr, udp::UdpHdr};

use crate::{
    connection, guard,
    maps::{self, Room, Tables},
    pipeline,
    step::{Action, Next, Step},
};

/// Packets of our own in a second, the whole node's.
const REPLIES: u64 = 10_000;
/// How many of them at once.
const BURST: u64 = 1000;

/// What keeps a flood that comes in from becoming one that goes out (RFC 1812, 4.3.2.8; RFC 4443,
/// section 2.4).
const LIMIT: Limit = {
    let interval = 1_000_000_000 / REPLIES;
    Limit { interval, tolerance: interval * (BURST - 1) }
};

/// Answers a packet, as the stage before says.
#[inline(always)]
pub fn send<F: Tables + Messages>(context: *mut xdp_md, step: u32) -> Result<Step, Verdict> {
    let step = Step::from_register(step);
    match step.stage() {
        Next::TOO_BIG => too_big::<F>(context, step.value()),
        Next::REJECT => reject::<F>(context, Verdict::from_index(step.value())),
        _ => Err(Verdict::DROP_INTERNAL),
    }
}

/// Tells a packet's sender that packets of `mtu` bytes fit. Where the packet may be fragmented, too:
/// we do not do it, and nothing else could help its sender.
#[inline(always)]
fn too_big<F: Tables + Messages>(context: *mut xdp_md, mtu: u32) -> Result<Step, Verdict> {
    const UNTOLD: Verdict = Verdict::DROP_TOO_BIG;
    let (Layers { header, network, fragment, .. }, _) = pipeline::resume::<F>(context)?;
    if !may_be_told::<F>(header, fragment) {
        return Err(UNTOLD);
    }
    tell::<F>(context, Error::too_big::<F>(mtu), network.length, UNTOLD)?;
    Ok(Step::done(Verdict::REPLY_TOO_BIG, Action::BACK))
}

/// Tells a client that no backend takes its connection, where its service is one that tells; the verdict
/// is `untold` where not.
#[inline(always)]
fn reject<F: Tables + Messages>(context: *mut xdp_md, untold: Verdict) -> Result<Step, Verdict> {
    let (told, flag) = match untold {
        Verdict::DROP_NO_BACKEND => (Verdict::REPLY_NO_BACKEND, flags::REJECT_NO_BACKEND),
        _ => (Verdict::REPLY_OVERLOAD, flags::REJECT),
    };
    let (Layers { header, network, fragment, .. }, mut frame) = pipeline::resume::<F>(context)?;
    if !may_be_told::<F>(header, fragment) {
        return Err(untold);
    }
    let (source_port, destination_port, segment) = match network.protocol {
        TCP => {
            let tcp = frame.take::<TcpHdr>().ok_or(untold)?;
            let segment = Segment::of(tcp, network.payload).ok_or(untold)?;
            (tcp.source, tcp.dest, Some(segment))
        }
        UDP => {
            let udp = frame.take::<UdpHdr>().ok_or(untold)?;
            (udp.src, udp.dst, None)
        }
        _ => return Err(untold),
    };
    let scratch = F::scratch(Room::Packet).ok_or(Verdict::DROP_INTERNAL)?;
    scratch.flow = Flow::new(
        (F::source(header), Be16::from_wire(source_port)),
        (F::destination(header), Be16::from_wire(destination_port)),
        network.protocol,
    );
    let service = connection::service_of::<F>(&scratch.flow).ok_or(untold)?;
    let settings = maps::settings(service).ok_or(Verdict::DROP_INTERNAL)?;
    if settings.flags & flag == 0 {
        return Err(untold);
    }
    match segment {
        // How long a segment is, its first fragment does not tell.
        Some(_) if !fragment.is_whole() => return Err(untold),
        Some(segment) => reset::<F>(context, &segment, untold)?,
        None => tell::<F>(context, Error::port_unreachable::<F>(), network.length, untold)?,
    }
    Ok(Step::done(told, Action::BACK))
}

/// Whether a packet's sender may be told anything: nobody is about a fragment after the first, and
/// only one host is (RFC 1122, 3.2.2; RFC 4443, section 2.4).
#[inline(always)]
fn may_be_told<F: Messages>(header: &F::Header, fragment: Fragment) -> bool {
    !fragment.is_later() && F::is_one_host(&F::source(header))
}

/// Whether a packet of our own is due.
#[inline(always)]
fn is_due() -> bool {
    maps::reply_due().is_some_and(|due| guard::is_within(&LIMIT, due))
}

/// Sends an error back that quotes the packet at hand, of `length` bytes from the IP header on.
#[inline(always)]
fn tell<F: Messages>(
    context: *mut xdp_md,
    error: Error,
    length: u32,
    untold: Verdict,
) -> Result<(), Verdict> {
    if !is_due() {
        return Err(untold);
    }
    let (all, link) = sizes(context)?;
    let quoted = (if length < QUOTED { length } else { QUOTED }) & !1;
    // The frame's headers are not touched after this: they have other addresses.
    cut(context, all, link + quoted as usize)?;
    let room = answer::overhead::<F>();
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "below fifty")]
    let change = -(room as i32);
    // SAFETY: the context is the program's.
    if unsafe { bpf_xdp_adjust_head(context, change) } != 0 {
        return Err(Verdict::DROP_INTERNAL);
    }
    move_link(context, room).ok_or(Verdict::DROP_INTERNAL)?;
    let mut frame = crate::frame(context);
    frame.skip(link).ok_or(Verdict::DROP_INTERNAL)?;
    error.put::<F>(&mut frame).ok_or(Verdict::DROP_INTERNAL)
}

/// Bytes of a frame, and of all that stands in front of its IP header.
#[inline(always)]
fn sizes(context: *mut xdp_md) -> Result<(usize, usize), Verdict> {
    let mut frame = crate::frame(context);
    // Not to be folded into a sum of 32 bits, which the verifier forbids on packet pointers.
    let all = black_box(frame.remaining());
    let mut link = Ethernet::LEN;
    let mut ether_type = frame.take::<Ethernet>().ok_or(Verdict::DROP_INTERNAL)?.ether_type;
    for _ in 0..MAX_TAGS {
        if Tag::follows(ether_type) {
            ether_type = frame.take::<Tag>().ok_or(Verdict::DROP_INTERNAL)?.ether_type;
            link += size_of::<Tag>();
        }
    }
    // One number of several to the verifier, which else goes on with each of them.
    Ok((all, black_box(link)))
}

/// Moves the Ethernet header, turned round, and its tags to the front of the frame, from `room` bytes
/// behind it. `None` where the frame ends before.
#[inline(always)]
fn move_link(context: *mut xdp_md, room: usize) -> Option<()> {
    let mut frame = crate::frame(context);
    let ethernet = frame.take::<Ethernet>()?;
    frame.skip(room - Ethernet::LEN)?;
    let old = frame.take::<Ethernet>()?;
    put_ethernet(&mut ethernet.destination, &old.source);
    put_ethernet(&mut ethernet.source, &old.destination);
    ethernet.ether_type = old.ether_type;
    let mut ether_type = old.ether_type;
    for n in 0..MAX_TAGS {
        if Tag::follows(ether_type) {
            let mut frame = crate::frame(context);
            frame.skip(Ethernet::LEN + n * size_of::<Tag>())?;
            let tag = frame.take::<Tag>()?;
            frame.skip(room - size_of::<Tag>())?;
            *tag = *frame.take::<Tag>()?;
            ether_type = tag.ether_type;
        }
    }
    Some(())
}

/// Sends a RST back.
#[inline(always)]
fn reset<F: Messages>(
    context: *mut xdp_md,
    segment: &Segment,
    untold: Verdict,
) -> Result<(), Verdict> {
    if !is_due() {
        return Err(untold);
    }
    let (all, link) = sizes(context)?;
    // As in `tell`. The segment's own header is as long as what is kept.
    cut(context, all, link + size_of::<F::Header>() + TcpHdr::LEN)?;
    let mut frame = crate::frame(context);
    frame.take::<Ethernet>().ok_or(Verdict::DROP_INTERNAL)?.turn();
    frame.skip(link - Ethernet::LEN).ok_or(Verdict::DROP_INTERNAL)?;
    let header = frame.take::<F::Header>().ok_or(Verdict::DROP_INTERNAL)?;
    let tcp = frame.take::<TcpHdr>().ok_or(Verdict::DROP_INTERNAL)?;
    segment.reset::<F>(header, tcp);
    Ok(())
}

/// Cuts a frame of `all` bytes down to those that are `kept`.
#[inline(always)]
fn cut(context: *mut xdp_md, all: usize, kept: usize) -> Result<(), Verdict> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "frame sizes")]
    let change = kept as i32 - all as i32;
    // SAFETY: the context is the program's.
    if unsafe { bpf_xdp_adjust_tail(context, change) } != 0 {
        return Err(Verdict::DROP_INTERNAL);
    }
    Ok(())
}
