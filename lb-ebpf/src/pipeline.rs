//! The path of a packet: parse → find the connection → else find the service and schedule →
//! rewrite → count → forward.

use aya_ebpf::bindings::xdp_md;
use lb_common::{
    filter,
    net::{TCP, UDP},
    node::flags::READS_QUOTES,
    verdict::Verdict,
};
use lb_ebpf::{
    ethernet::{Ethernet, Tag},
    family::{ETHER_IPV4, ETHER_IPV6, V4, V6},
    frame::Frame,
    parse::{self, Layers, MAX_TAGS, Packet, Transport},
    tracking::{self, Direction},
};

use crate::{
    connection, established, forward, fragment, icmp, log,
    maps::{self, Key, Room, Tables},
    reply, stats,
    step::{Next, Step},
};

/// Runs the program on a packet: one verdict, one count, one action.
#[inline(always)]
pub fn run(context: *mut xdp_md) -> u32 {
    let mut frame = crate::frame(context);
    let mut family = ETHER_IPV4;
    let mut step = match frame.take::<Ethernet>() {
        None => Verdict::PASS_NOT_IP.into(),
        Some(ethernet) => match u16::from_be_bytes(ethernet.ether_type) {
            ETHER_IPV4 => established::carry::<V4>(context, ethernet, frame).into(),
            ETHER_IPV6 => {
                family = ETHER_IPV6;
                established::carry::<V6>(context, ethernet, frame).into()
            }
            _ => {
                family = inside(ethernet, &mut frame);
                match family {
                    ETHER_IPV4 | ETHER_IPV6 => Step::next(Next::WALK),
                    _ => Verdict::PASS_NOT_IP.into(),
                }
            }
        },
    };
    if step.stage() != Next::DONE {
        step = if family == ETHER_IPV4 {
            detour::<V4>(context, step)
        } else {
            detour::<V6>(context, step)
        };
    }
    stats::verdict(step.verdict());
    step.action()
}

/// The `EtherType` behind a frame's VLAN tags, in the host's order; of a frame that ends before, no IP's.
#[inline(always)]
fn inside(ethernet: &Ethernet, frame: &mut Frame<'_>) -> u16 {
    let mut ether_type = ethernet.ether_type;
    for _ in 0..MAX_TAGS {
        if !Tag::follows(ether_type) {
            break;
        }
        let Some(tag) = frame.take::<Tag>() else { break };
        ether_type = tag.ether_type;
    }
    u16::from_be_bytes(ether_type)
}

/// Takes a packet from stage to stage until it has its verdict.
#[inline(always)]
fn detour<F: Stages>(context: *mut xdp_md, mut step: Step) -> Step {
    if step.stage() == Next::FOLLOW {
        step = F::follow(context, Meets::UNKNOWN.0);
    }
    let mut walked = false;
    if step.stage() == Next::WALK {
        walked = true;
        step = F::outline(context);
        if step.stage() == Next::CARRY {
            step = F::walked(context, Meets::UNKNOWN.0);
        }
    }
    if step.stage() == Next::OPEN {
        F::claim();
        step = F::open();
        let meets = match step.stage() {
            Next::OPENED => Some(Meets::OPENED),
            Next::GOES_ON => Some(Meets::GOING_ON),
            _ => None,
        };
        if let Some(Meets(meets)) = meets {
            step = if walked { F::walked(context, meets) } else { F::follow(context, meets) };
        }
    }
    if step.stage() == Next::ICMP {
        step = F::icmp(context);
    }
    if step.stage() != Next::DONE {
        if !walked {
            F::outline(context);
        }
        step = F::reply(context, step.register());
    }
    if step.verdict().is_drop() {
        log::dropped::<F>(context, step.verdict());
    }
    step
}

/// The stages of a family, each a function of its own to the kernel. `step` is a [`Step`]'s register, and
/// `meets` one of [`Meets`].
trait Stages: Tables {
    /// Follows the connection of a packet that is plain.
    fn follow(context: *mut xdp_md, meets: u32) -> Step;
    /// Walks over the headers of any other packet.
    fn outline(context: *mut xdp_md) -> Step;
    /// Follows the connection of a packet that has been walked.
    fn walked(context: *mut xdp_md, meets: u32) -> Step;
    /// Decides whether a packet goes on whose connection another edge opened.
    fn claim() -> Step;
    /// Opens a connection.
    fn open() -> Step;
    /// Handles ICMP.
    fn icmp(context: *mut xdp_md) -> Step;
    /// Answers a packet, as the step before says.
    fn reply(context: *mut xdp_md, step: u32) -> Step;
}

// Exported, each is a global function to the kernel, which verifies those one by one and once, and not
// again for every way that leads to them. To the kernel they take and return bare numbers.
macro_rules! stages {
    ($family:ident: $($name:ident($($argument:ident: $type:ty),*) = $stage:expr;)+) => {
        impl Stages for $family {
            $(
                #[inline(always)]
                fn $name($($argument: $type),*) -> Step {
                    #[inline(never)]
                    #[unsafe(export_name = concat!(stringify!($name), "_", stringify!($family)))]
                    extern "C" fn stage($($argument: $type),*) -> u32 {
                        Step::from($stage($($argument),*)).register()
                    }
                    Step::from_register(stage($($argument),*))
                }
            )+
        }
    };
    ($($family:ident)+) => {
        $(stages! { $family:
            follow(context: *mut xdp_md, meets: u32) = follow::<$family>;
            outline(context: *mut xdp_md) = outline::<$family>;
            walked(context: *mut xdp_md, meets: u32) = walked::<$family>;
            claim() = connection::claim::<$family>;
            open() = connection::open::<$family>;
            icmp(context: *mut xdp_md) = icmp::handle::<$family>;
            reply(context: *mut xdp_md, step: u32) = reply::send::<$family>;
        })+
    };
}

stages!(V4 V6);

#[inline(always)]
fn follow<F: Tables>(context: *mut xdp_md, meets: u32) -> Result<Step, Verdict> {
    let mut frame = crate::frame(context);
    let ethernet = frame.take::<Ethernet>().ok_or(Verdict::PASS_NOT_IP)?;
    // A closure of its own in each stage: of a function the compiler makes one that is called.
    match parse::plain::<F>(ethernet, &mut frame, |header| concerns_us::<F>(header)) {
        Ok(packet) => carry(context, packet, Meets(meets), true),
        Err(Some(verdict)) => Err(verdict),
        Err(None) => Ok(Step::next(Next::WALK)),
    }
}

#[inline(always)]
fn outline<F: Tables>(context: *mut xdp_md) -> Result<Step, Verdict> {
    let mut frame = crate::frame(context);
    let layers = match parse::layers::<F>(&mut frame, |header| concerns_us::<F>(header)) {
        Ok(layers) => layers,
        Err(verdict) => return Err(blame::<F>(context, verdict)),
    };
    let scratch = F::scratch(Room::Packet).ok_or(Verdict::DROP_INTERNAL)?;
    scratch.outline = layers.outline();
    match layers.network.protocol {
        protocol if protocol == F::ICMP && layers.fragment.is_whole() => Ok(Step::next(Next::ICMP)),
        TCP | UDP => Ok(Step::next(Next::CARRY)),
        // What it belongs to, the first one told.
        protocol if layers.fragment.is_later() && F::is_extension(protocol) => {
            Ok(Step::next(Next::CARRY))
        }
        _ => Err(Verdict::PASS_PROTOCOL),
    }
}

/// The layers of a packet that has been walked, and what is left of its frame after them.
#[inline(always)]
pub fn resume<'a, F: Tables>(context: *mut xdp_md) -> Result<(Layers<'a, F>, Frame<'a>), Verdict> {
    let scratch = F::scratch(Room::Packet).ok_or(Verdict::DROP_INTERNAL)?;
    let mut frame = crate::frame(context);
    let layers = Layers::resume(&mut frame, &scratch.outline).ok_or(Verdict::DROP_INTERNAL)?;
    Ok((layers, frame))
}

#[inline(always)]
fn walked<F: Tables>(context: *mut xdp_md, meets: u32) -> Result<Step, Verdict> {
    let (layers, mut frame) = resume::<F>(context)?;
    let Layers { ethernet, header, mut network, fragment: part, .. } = layers;
    let transport = if part.is_later() {
        fragment::recall::<F>(header, &mut network, part)?
    } else {
        match Transport::parse(&mut frame, &network, part.is_first()) {
            Ok(transport) => transport,
            Err(verdict) => return Err(blame::<F>(context, verdict)),
        }
    };
    let packet = Packet { ethernet, header, network, transport };
    if part.is_first() {
        fragment::remember::<F>(&packet, part);
    }
    carry(context, packet, Meets(meets), false)
}

/// Whether a packet may concern us at all.
#[inline(always)]
pub fn concerns_us<F: Tables>(header: &F::Header) -> bool {
    has_our_end::<F>(header) || may_quote_ours::<F>(header)
}

/// Whether a packet may concern us though none of its addresses is ours: a router's message about a
/// packet that kept its client's address is for that client, and one about a tunnel's packet for one
/// of many outer sources.
#[inline(always)]
fn may_quote_ours<F: Tables>(header: &F::Header) -> bool {
    F::protocol(header) == F::ICMP
        && maps::node().is_some_and(|node| node.flags & READS_QUOTES != 0)
}

/// Whether one of a packet's addresses may be ours.
#[inline(always)]
pub fn has_our_end<F: Tables>(header: &F::Header) -> bool {
    let Some(bitmap) = maps::filter() else { return false };
    filter::may_contain(bitmap, &F::destination(header))
        || filter::may_contain_source(bitmap, &F::source(header))
}

/// The verdict on a packet that did not parse: only what is addressed to a service is dropped.
#[inline(always)]
fn blame<F: Tables>(context: *mut xdp_md, verdict: Verdict) -> Verdict {
    if !verdict.is_drop() {
        return verdict;
    }
    let Some(header) = crate::header::<F>(context) else { return Verdict::PASS_NOT_OURS };
    match maps::service_address::<F>(&F::destination(header)) {
        Some(_) => verdict,
        None => Verdict::PASS_NOT_OURS,
    }
}

/// What is known of a packet's connection before the packet is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Meets(u32);

impl Meets {
    /// Nothing.
    const UNKNOWN: Self = Self(0);
    /// `open` looked at it, and it goes on.
    const GOING_ON: Self = Self(1);
    /// `open` made it for this packet, which so changes nothing about it.
    const OPENED: Self = Self(2);
}

/// Follows a packet's connection and sends it on.
#[inline(always)]
fn carry<F: Tables>(
    context: *mut xdp_md,
    packet: Packet<'_, F>,
    meets: Meets,
    plain: bool,
) -> Result<Step, Verdict> {
    if F::ttl(packet.header) <= 1 {
        return Err(Verdict::PASS_TTL);
    }
    if meets == Meets::OPENED {
        let entry = maps::opened::<F>().ok_or(Verdict::DROP_INTERNAL)?;
        return forward::to_backend::<F>(context, packet, entry, plain);
    }
    let Key(flow) = &Key(packet.flow());
    let client = forward::way_back(context, packet.ethernet);
    let Some(entry) = maps::find::<F>(flow) else {
        return connection::ask::<F>(flow, &packet.transport, client, false);
    };
    let direction = if entry.get().is_reverse() { Direction::Reverse } else { Direction::Forward };
    let asks = direction == Direction::Forward && tracking::asks(packet.transport.flags);
    if meets == Meets::UNKNOWN && asks {
        // A client's SYN may take the place of a connection that is over or that came to nothing.
        return connection::ask::<F>(flow, &packet.transport, client, true);
    }
    match direction {
        Direction::Forward => {
            match connection::follow_client::<F>(entry, flow, &packet.transport, client) {
                Err(reason @ Verdict::DROP_OVERLOAD) => {
                    // Its packets are nobody's from now on, whether the client learns it or not.
                    let scratch = F::scratch(Room::Packet).ok_or(Verdict::DROP_INTERNAL)?;
                    maps::remove_pair::<F>(entry, flow, &mut scratch.key);
                    return Ok(Step::with(Next::REJECT, reason.index()));
                }
                followed => followed?,
            }
            forward::to_backend::<F>(context, packet, entry, plain)
        }
        Direction::Reverse => {
            connection::follow_backend::<F>(entry, flow, &packet.transport)?;
            Ok(forward::to_client::<F>(context, packet, entry))
        }
    }
}
