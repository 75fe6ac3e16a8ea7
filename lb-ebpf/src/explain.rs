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
    maps::{self, Tables},
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
    let maps::Key(flow) = &maps::Key(request.0.flow);
    let mut asker = Looking::new();
    if let Err(verdict) = explain::<F>(flow, &mut asker) {
        asker.answer.outcome = outcome::AWAY;
        asker.answer.verdict = verdict.index();
        asker.answer.backend = NONE;
    }
    let outcome = asker.answer.outcome;
    request.0.answer = asker.answer;
    outcome
}

/// As `pipeline::carry` and `connection::open` go about a client's SYN, or its datagram.
#[inline(always)]
fn explain<F: Tables>(flow: &Flow<F::Address>, asker: &mut Looking) -> Result<(), Verdict> {
    let bitmap = maps::filter().ok_or(Verdict::DROP_INTERNAL)?;
    if !filter::may_contain(bitmap, &flow.destination) {
        return Err(Verdict::PASS_NOT_OURS);
    }
    let mut before = schedule::NOBODY;
    if let Some(entry) = maps::find::<F>(flow)
        && !entry.get().is_reverse()
    {
        let (seen, connection) = (entry.state(), entry.get());
        asker.answer.met = connection.backend;
        asker.answer.state = seen;
        let nat = connection.forwarding() == forwarding::NAT;
        let age = connection::microseconds().wrapping_sub(connection.opened);
        let other = nat && schedule::has_other::<F>(connection.service, connection.backend);
        let again =
            if flow.protocol() == TCP { tracking::again(seen, age, other) } else { Again::Follow };
        asker.answer.meets = match again {
            Again::Follow => meets::OPEN,
            Again::Reopen => meets::OVER,
            Again::Redispatch => {
                before = connection.backend;
                meets::FAILED
            }
        };
        if again == Again::Follow {
            asker.answer.outcome = outcome::EXISTS;
            asker.answer.service = connection.service;
            asker.answer.backend = connection.backend;
            return Ok(());
        }
    }
    let service = connection::service_of::<F>(flow).ok_or(Verdict::PASS_NO_SERVICE)?;
    asker.answer.service = service;
    asker.answer.slots = maps::ring_slot(service, ring::LENGTH_SLOT).unwrap_or(0);
    let cursor = maps::cursor(service).ok_or(Verdict::DROP_INTERNAL)?;
    #[expect(clippy::cast_possible_truncation, reason = "halves")]
    let halves = [cursor as u32, (cursor >> 32) as u32];
    asker.answer.cursor = halves;
    asker.turn = cursor;
    let settings = maps::settings(service).ok_or(Verdict::DROP_INTERNAL)?;
    if before == schedule::NOBODY {
        guard::admit::<F, false>(service, settings, &flow.source)?;
    }
    asker.answer.backend = schedule::pick::<F, _>(asker, service, settings, flow, before)?;
    Ok(())
}

/// A question under way.
struct Looking {
    answer: Answer,
    /// The turn that the next connection would take.
    turn: u64,
    /// How many of `answer.full` are set.
    full: u32,
}

impl Looking {
    #[inline(always)]
    const fn new() -> Self {
        let answer = Answer {
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
        Self { answer, turn: 0, full: 0 }
    }
}

impl Asker for Looking {
    const LOOKS: bool = true;

    #[inline(always)]
    fn turn(&mut self, _service: u32) -> Option<u64> {
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        Some(turn)
    }

    #[inline(always)]
    fn note(&mut self, note: Note) {
        let answer = &mut self.answer;
        match note {
            Note::Sticky => answer.outcome = outcome::STICKY,
            Note::Slot(slot, slots) => {
                (answer.outcome, answer.slot, answer.slots) = (outcome::SLOT, slot, slots);
            }
            Note::Full(backend) => {
                if let Some(full) = answer.full.get_mut(self.full as usize) {
                    *full = backend;
                    self.full += 1;
                }
            }
            Note::Any => (answer.outcome, answer.slot) = (outcome::ANY, NONE),
            Note::Drawn => (answer.outcome, answer.slot) = (outcome::DRAWN, NONE),
        }
    }
}
