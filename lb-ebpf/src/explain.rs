//! Telling what would become of a client's next connection, and why.
//!
//! The same stages decide as for a packet, over the same tables: the connection that there is, the service,
//! the guard, the scheduler. Here they look and change nothing: no turn of a cursor is taken and no token,
//! nothing is entered, remembered or counted. What they are compiled to for packets does not know of it.

use aya_ebpf::bindings::xdp_md;
use lb_common::{
    connection::Flow,
    explain::{Answer, MOST_FULL, NONE, Question, meets, outcome},
    filter,
    net::{Addr4, Addr6, TCP},
    ring,
    service::forwarding,
    verdict::Verdict,
};
use lb_ebpf::{
    family::{V4, V6},
    frame::Header,
    tracking::{self, Again},
};

use crate::{
    connection,
    expire::Unaligned,
    guard,
    maps::{self, Room, Tables},
    schedule::{self, Asker, Note},
};

// SAFETY: packed, of a value that any bytes make.
unsafe impl Header for Unaligned<u32> {}
// SAFETY: as above.
unsafe impl Header for Unaligned<Question<Addr4>> {}
// SAFETY: as above.
unsafe impl Header for Unaligned<Question<Addr6>> {}

/// A question in the packet, of whose bytes the verifier keeps no account. What one stage finds the next one
/// reads there.
type Request<A> = Unaligned<Question<A>>;

/// Answers one question; returns the outcome.
#[inline(always)]
pub fn run(context: *mut xdp_md) -> u32 {
    let Some(family) = crate::frame(context).take::<Unaligned<u32>>() else { return 0 };
    match family.0 {
        4 => answer::<V4>(context),
        6 => answer::<V6>(context),
        _ => 0,
    }
}

/// The stages of an answer, each a function of its own to the kernel, as those of a packet are. They tell
/// whether there is more to find out.
trait Stages: Tables {
    /// Looks for the connection.
    fn met(context: *mut xdp_md) -> u32;
    /// Finds the service, and whether the client may open a connection to it.
    fn admitted(context: *mut xdp_md) -> u32;
    /// Finds the backend.
    fn picked(context: *mut xdp_md) -> u32;
}

macro_rules! stages {
    ($family:ident: $($name:ident)+) => {
        impl Stages for $family {
            $(
                #[inline(always)]
                fn $name(context: *mut xdp_md) -> u32 {
                    #[inline(never)]
                    #[unsafe(export_name = concat!("explain_", stringify!($name), "_", stringify!($family)))]
                    extern "C" fn stage(context: *mut xdp_md) -> u32 {
                        u32::from(told::<$family>(context, $name::<$family>))
                    }
                    stage(context)
                }
            )+
        }
    };
    ($($family:ident)+) => {
        $(stages! { $family: met admitted picked })+
    };
}

stages!(V4 V6);

/// As `pipeline::carry` and `connection::open` go about a client's SYN, or its datagram.
#[inline(always)]
fn answer<F: Stages>(context: *mut xdp_md) -> u32
where
    Request<F::Address>: Header,
{
    let Some(request) = asked::<F>(context) else { return 0 };
    request.0.answer = EMPTY;
    if F::met(context) != 0 && F::admitted(context) != 0 {
        let _ = F::picked(context);
    }
    asked::<F>(context).map_or(0, |request| request.0.answer.outcome)
}

#[inline(always)]
fn asked<'a, F: Tables>(context: *mut xdp_md) -> Option<&'a mut Request<F::Address>>
where
    Request<F::Address>: Header,
{
    let mut frame = crate::frame(context);
    frame.take::<Unaligned<u32>>()?;
    frame.take()
}

/// Runs a stage on the question; where it has a verdict, writes that down.
#[inline(always)]
fn told<F: Tables>(
    context: *mut xdp_md,
    stage: impl Fn(&Flow<F::Address>, &mut Request<F::Address>) -> Result<bool, Verdict>,
) -> bool
where
    Request<F::Address>: Header,
{
    let Some(request) = asked::<F>(context) else { return false };
    let Some(scratch) = F::scratch(Room::Expire) else { return false };
    scratch.flow = request.0.flow;
    stage(&scratch.flow, request).unwrap_or_else(|verdict| {
        request.0.answer.outcome = outcome::AWAY;
        request.0.answer.verdict = verdict.index();
        request.0.answer.backend = NONE;
        false
    })
}

#[inline(always)]
fn met<F: Tables>(
    flow: &Flow<F::Address>,
    request: &mut Request<F::Address>,
) -> Result<bool, Verdict> {
    let bitmap = maps::filter().ok_or(Verdict::DROP_INTERNAL)?;
    if !filter::may_contain(bitmap, &flow.destination) {
        return Err(Verdict::PASS_NOT_OURS);
    }
    let Some(entry) = maps::find::<F>(flow).filter(|entry| !entry.get().is_reverse()) else {
        return Ok(true);
    };
    let (seen, connection) = (entry.state(), entry.get());
    request.0.answer.met = connection.backend;
    request.0.answer.state = seen;
    let nat = connection.forwarding() == forwarding::NAT;
    let age = connection::microseconds().wrapping_sub(connection.opened);
    let other = nat && schedule::has_other::<F>(connection.service, connection.backend);
    let again =
        if flow.protocol() == TCP { tracking::again(seen, age, other) } else { Again::Follow };
    request.0.answer.meets = match again {
        Again::Follow => meets::OPEN,
        Again::Reopen => meets::OVER,
        Again::Redispatch => meets::FAILED,
    };
    if again != Again::Follow {
        return Ok(true);
    }
    request.0.answer.outcome = outcome::EXISTS;
    request.0.answer.service = connection.service;
    request.0.answer.backend = connection.backend;
    Ok(false)
}

#[inline(always)]
fn admitted<F: Tables>(
    flow: &Flow<F::Address>,
    request: &mut Request<F::Address>,
) -> Result<bool, Verdict> {
    let service = connection::service_of::<F>(flow).ok_or(Verdict::PASS_NO_SERVICE)?;
    request.0.answer.service = service;
    if request.0.answer.meets != meets::FAILED {
        let settings = maps::settings(service).ok_or(Verdict::DROP_INTERNAL)?;
        guard::admit::<F, false>(service, settings, &flow.source)?;
    }
    Ok(true)
}

#[inline(always)]
fn picked<F: Tables>(
    flow: &Flow<F::Address>,
    request: &mut Request<F::Address>,
) -> Result<bool, Verdict> {
    let service = request.0.answer.service;
    let failed = request.0.answer.meets == meets::FAILED;
    let before = if failed { request.0.answer.met } else { schedule::NOBODY };
    request.0.answer.slots = maps::ring_slot(service, ring::LENGTH_SLOT).unwrap_or(0);
    let turn = maps::cursor(service).ok_or(Verdict::DROP_INTERNAL)?;
    #[expect(clippy::cast_possible_truncation, reason = "halves")]
    let halves = [turn as u32, (turn >> 32) as u32];
    request.0.answer.cursor = halves;
    let settings = maps::settings(service).ok_or(Verdict::DROP_INTERNAL)?;
    let mut asker = Looking { question: request, turn };
    let backend = schedule::pick::<F, _>(&mut asker, service, settings, flow, before)?;
    request.0.answer.backend = backend;
    Ok(false)
}

/// Nothing is known yet.
const EMPTY: Answer = Answer {
    outcome: 0,
    verdict: NONE,
    service: NONE,
    backend: NONE,
    slot: NONE,
    slots: 0,
    cursor: [0; 2],
    full: [NONE; MOST_FULL],
    meets: meets::NONE,
    met: NONE,
    state: 0,
};

/// A question under way.
struct Looking<'a, A> {
    question: &'a mut Request<A>,
    /// The turn that the next connection takes.
    turn: u64,
}

impl<A> Asker for Looking<'_, A> {
    const LOOKS: bool = true;

    #[inline(always)]
    fn turn(&mut self, _service: u32, attempt: u32) -> Option<u64> {
        Some(self.turn.wrapping_add(u64::from(attempt)))
    }

    #[inline(always)]
    fn note(&mut self, note: Note) {
        let (outcome, slot) = match note {
            Note::Sticky => (outcome::STICKY, NONE),
            Note::Slot(slot) => (outcome::SLOT, slot),
            Note::Any => (outcome::ANY, NONE),
            Note::Drawn => (outcome::DRAWN, NONE),
            Note::Full(attempt, backend) => {
                // Of an array, because a packed one's elements cannot be borrowed.
                let mut full = self.question.0.answer.full;
                if let Some(full) = full.get_mut(attempt as usize) {
                    *full = backend;
                }
                self.question.0.answer.full = full;
                return;
            }
        };
        self.question.0.answer.outcome = outcome;
        self.question.0.answer.slot = slot;
    }
}
