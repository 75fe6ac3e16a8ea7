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
    message::Messages,
    parse::{self, Layers, MAX_TAGS, Packet, Transport},
    tracking::{self, Direction},
};

use crate::{
    connection, established, forward, fragment, icmp, log,
    maps::{self, Room, Tables},
    reply, stats,
    step::{Next, Step, register},
};

/// Runs the program on a packet: one verdict, one count, one action.
#[inline(always)]
pub fn run(context: *mut xdp_md) -> u32 {
    let mut frame = crate::frame(context);
    let Some(ethernet) = frame.take::<Ethernet>() else { return pass(Verdict::PASS_NOT_IP) };
    let mut ether_type = ethernet.ether_type;
    let is_tagged = Tag::follows(ether_type);
    for _ in 0..MAX_TAGS {
        if !Tag::follows(ether_type) {
            break;
        }
        let Some(tag) = frame.take::<Tag>() else { return pass(Verdict::PASS_NOT_IP) };
        ether_type = tag.ether_type;
    }
    match u16::from_be_bytes(ether_type) {
        ETHER_IPV4 => balance::<V4>(context, is_tagged),
        ETHER_IPV6 => balance::<V6>(context, is_tagged),
        _ => pass(Verdict::PASS_NOT_IP),
    }
}

#[inline(always)]
fn pass(verdict: Verdict) -> u32 {
    stats::verdict(verdict);
    Step::from(verdict).action()
}

/// Takes a packet from stage to stage until it has its verdict.
#[inline(always)]
fn balance<F: Stages>(context: *mut xdp_md, is_tagged: bool) -> u32 {
    let mut step = if is_tagged {
        Step::next(Next::WALK)
    } else {
        Step::from_register(register(established::carry::<F>(context)))
    };
    if step.stage() == Next::DONE {
        stats::verdict(step.verdict());
        return step.action();
    }
    if step.stage() == Next::FOLLOW {
        step = Step::from_register(F::follow(context, Meets::UNKNOWN.0));
    }
    let mut walked = false;
    if step.stage() == Next::WALK {
        walked = true;
        step = Step::from_register(F::outline(context));
        if step.stage() == Next::CARRY {
            step = Step::from_register(F::walked(context, Meets::UNKNOWN.0));
        }
    }
    if step.stage() == Next::OPEN {
        step = Step::from_register(F::open());
        let meets = match step.stage() {
            Next::OPENED => Some(Meets::OPENED),
            Next::GOES_ON => Some(Meets::GOING_ON),
            _ => None,
        };
        if let Some(Meets(meets)) = meets {
            step = Step::from_register(if walked {
                F::walked(context, meets)
            } else {
                F::follow(context, meets)
            });
        }
    }
    if step.stage() == Next::ICMP {
        step = Step::from_register(F::icmp(context));
    }
    if step.stage() != Next::DONE {
        if !walked {
            F::outline(context);
        }
        step = Step::from_register(F::reply(context, step.register()));
    }
    let verdict = step.verdict();
    if verdict.is_drop() {
        log::dropped::<F>(context, verdict);
    }
    stats::verdict(verdict);
    step.action()
}

/// The stages of a family, each a function of its own. They return a [`Step`]'s register. `meets` is
/// one of [`Meets`].
trait Stages: Tables {
    /// Follows the connection of a packet that is plain.
    fn follow(context: *mut xdp_md, meets: u32) -> u32;
    /// Walks over the headers of any other packet.
    fn outline(context: *mut xdp_md) -> u32;
    /// Follows the connection of a packet that has been walked.
    fn walked(context: *mut xdp_md, meets: u32) -> u32;
    /// Opens a connection.
    fn open() -> u32;
    /// Handles ICMP.
    fn icmp(context: *mut xdp_md) -> u32;
    /// Answers a packet, as the step before says.
    fn reply(context: *mut xdp_md, step: u32) -> u32;
}

// Exported, each is a global function to the kernel, which verifies those one by one and once, and not
// again for every way that leads to them.
macro_rules! stages {
    ($family:ident: $($name:ident($($argument:ident: $type:ty),*) = $stage:expr;)+) => {
        impl Stages for $family {
            $(
                #[inline(always)]
                fn $name($($argument: $type),*) -> u32 {
                    #[inline(never)]
                    #[unsafe(export_name = concat!(stringify!($name), "_", stringify!($family)))]
                    extern "C" fn stage($($argument: $type),*) -> u32 {
                        register($stage($($argument),*))
                    }
                    stage($($argument),*)
                }
            )+
        }
    };
    ($($family:ident)+) => {
        $(stages! { $family:
            follow(context: *mut xdp_md, meets: u32) = follow::<$family>;
            outline(context: *mut xdp_md) = outline::<$family>;
            walked(context: *mut xdp_md, meets: u32) = walked::<$family>;
            open() = connection::open::<$family>;
            icmp(context: *mut xdp_md) = icmp::handle::<$family>;
            reply(context: *mut xdp_md, step: u32) = answer::<$family>;
        })+
    };
}

stages!(V4 V6);

#[inline(always)]
fn follow<F: Tables>(context: *mut xdp_md, meets: u32) -> Result<Step, Verdict> {
    let mut frame = crate::frame(context);
    // A closure of its own in each stage: of a function the compiler makes one that is called.
    match parse::plain::<F>(&mut frame, |header| concerns_us::<F>(header)) {
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

#[inline(always)]
fn answer<F: Tables + Messages>(context: *mut xdp_md, step: u32) -> Result<Step, Verdict> {
    reply::send::<F>(context, Step::from_register(step))
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
    let flow = packet.flow();
    let client = forward::way_back(context, packet.ethernet);
    let Some(entry) = maps::find::<F>(&flow) else {
        return connection::ask::<F>(&flow, &packet.transport, client, false);
    };
    let direction = if entry.get().is_reverse() { Direction::Reverse } else { Direction::Forward };
    let asks = direction == Direction::Forward && tracking::asks(packet.transport.flags);
    if meets == Meets::UNKNOWN && asks {
        // A client's SYN may take the place of a connection that is over or that came to nothing.
        return connection::ask::<F>(&flow, &packet.transport, client, true);
    }
    match direction {
        Direction::Forward => {
            match connection::follow_client::<F>(entry, &flow, &packet.transport, client) {
                Err(Verdict::DROP_OVERLOAD) => {
                    // Its packets are nobody's from now on, whether the client learns it or not.
                    let scratch = F::scratch(Room::Packet).ok_or(Verdict::DROP_INTERNAL)?;
                    maps::remove_pair::<F>(entry, &flow, &mut scratch.key);
                    return Ok(Step::next(Next::REJECT));
                }
                followed => followed?,
            }
            forward::to_backend::<F>(context, packet, entry, plain)
        }
        Direction::Reverse => {
            connection::follow_backend::<F>(entry, &flow, &packet.transport)?;
            Ok(forward::to_client::<F>(context, packet, entry))
        }
    }
}
