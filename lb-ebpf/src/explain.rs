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

/// Answers one question; returns the outcome.
#[inline(always)]
pub fn run(context: *mut xdp_md) -> u32 {
    // Global functions, as the stages of a packet are: each is verified by itself.
    #[inline(never)]
    #[unsafe(export_name = "explain_V4")]
    extern "C" fn v4(context: *mut xdp_md) -> u32 {
        answer::<V4>(context)
    }
    #[inline(never)]
    #[unsafe(export_name = "explain_V6")]
    extern "C" fn v6(context: *mut xdp_md) -> u32 {
        answer::<V6>(context)
    }
    let Some(family) = crate::frame(context).take::<Unaligned<u32>>() else { return 0 };
    match family.0 {
        4 => v4(context),
        6 => v6(context),
        _ => 0,
    }
}

#[inline(always)]
fn answer<F: Tables>(context: *mut xdp_md) -> u32
where
    Unaligned<Question<F::Address>>: Header,
{
    let mut frame = crate::frame(context);
    let Some(_) = frame.take::<Unaligned<u32>>() else { return 0 };
    let Some(request) = frame.take::<Unaligned<Question<F::Address>>>() else { return 0 };
    let Some(scratch) = F::scratch(Room::Expire) else { return 0 };
    scratch.flow = request.0.flow;
    request.0.answer = EMPTY;
    // In the packet, of whose bytes the verifier keeps no account: it would follow each way by itself.
    let mut asker = Looking { question: request, turn: 0 };
    if let Err(verdict) = explain::<F>(&scratch.flow, &mut asker) {
        asker.question.0.answer.outcome = outcome::AWAY;
        asker.question.0.answer.verdict = verdict.index();
        asker.question.0.answer.backend = NONE;
    }
    asker.question.0.answer.outcome
}

/// As `pipeline::carry` and `connection::open` go about a client's SYN, or its datagram.
#[inline(always)]
fn explain<F: Tables>(
    flow: &Flow<F::Address>,
    asker: &mut Looking<'_, F::Address>,
) -> Result<(), Verdict> {
    let bitmap = maps::filter().ok_or(Verdict::DROP_INTERNAL)?;
    if !filter::may_contain(bitmap, &flow.destination) {
        return Err(Verdict::PASS_NOT_OURS);
    }
    let mut before = schedule::NOBODY;
    if let Some(entry) = maps::find::<F>(flow)
        && !entry.get().is_reverse()
    {
        let (seen, connection) = (entry.state(), entry.get());
        asker.question.0.answer.met = connection.backend;
        asker.question.0.answer.state = seen;
        let nat = connection.forwarding() == forwarding::NAT;
        let age = connection::microseconds().wrapping_sub(connection.opened);
        let other = nat && schedule::has_other::<F>(connection.service, connection.backend);
        let again =
            if flow.protocol() == TCP { tracking::again(seen, age, other) } else { Again::Follow };
        asker.question.0.answer.meets = match again {
            Again::Follow => meets::OPEN,
            Again::Reopen => meets::OVER,
            Again::Redispatch => {
                before = connection.backend;
                meets::FAILED
            }
        };
        if again == Again::Follow {
            asker.question.0.answer.outcome = outcome::EXISTS;
            asker.question.0.answer.service = connection.service;
            asker.question.0.answer.backend = connection.backend;
            return Ok(());
        }
    }
    let service = connection::service_of::<F>(flow).ok_or(Verdict::PASS_NO_SERVICE)?;
    asker.question.0.answer.service = service;
    asker.question.0.answer.slots = maps::ring_slot(service, ring::LENGTH_SLOT).unwrap_or(0);
    let cursor = maps::cursor(service).ok_or(Verdict::DROP_INTERNAL)?;
    #[expect(clippy::cast_possible_truncation, reason = "halves")]
    let halves = [cursor as u32, (cursor >> 32) as u32];
    asker.question.0.answer.cursor = halves;
    asker.turn = cursor;
    let settings = maps::settings(service).ok_or(Verdict::DROP_INTERNAL)?;
    if before == schedule::NOBODY {
        guard::admit::<F, false>(service, settings, &flow.source)?;
    }
    asker.question.0.answer.backend =
        schedule::pick::<F, _>(asker, service, settings, flow, before)?;
    Ok(())
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
    question: &'a mut Unaligned<Question<A>>,
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
