//! Scheduling: which backend a new connection gets.
//!
//! A service's ring is its scheduler, compiled: only the slot is chosen here. Round-robin is a ring
//! and a cursor that all CPUs share: N connections in a row take N slots in a row, so the split is
//! exact whatever CPUs they arrive on. Behind the slots a ring has each of its backends once, for
//! when those that the slots name have no room.

mod affinity;

use aya_ebpf::helpers::bpf_get_prandom_u32;
use lb_common::{
    backend::flags::ACTIVE,
    connection::Flow,
    hash, ring,
    service::{ServiceSettings, forwarding, scheduler},
    verdict::Verdict,
};

pub use self::affinity::remember;
use crate::maps::{self, Tables};

/// No backend's id.
pub const NOBODY: u32 = ring::NOBODY;

/// Slots that are tried before every backend is looked at in turn.
const TRIES: u32 = 4;

/// Backends that are looked at in turn.
const MEMBERS: u32 = 256;

/// For whom a backend is picked: a packet, or a question that leaves no trace.
pub trait Asker {
    /// Whether nothing may be changed, and what is picked is told.
    const LOOKS: bool;

    /// The turn of the service's next connection, of which this is an attempt, counted from zero.
    fn turn(&mut self, service: u32, attempt: u32) -> Option<u64>;

    /// What was looked at, and how it went.
    #[inline(always)]
    fn note(&mut self, _note: Note) {}
}

/// What a question is told of the way to its answer.
#[derive(Clone, Copy)]
pub enum Note {
    /// The client's own backend is the answer.
    Sticky,
    /// A slot is tried, counted from zero.
    Slot(u32),
    /// An attempt led to this backend, which has no room.
    Full(u32, u32),
    /// Whoever has room is looked for.
    Any,
    /// A packet would draw at random.
    Drawn,
}

/// A packet, whose connection takes its turn.
pub struct Packet;

impl Asker for Packet {
    const LOOKS: bool = false;

    #[inline(always)]
    fn turn(&mut self, service: u32, _attempt: u32) -> Option<u64> {
        maps::next_turn(service)
    }
}

/// The backend of a client's next connection; not `avoid`, where there is another.
#[inline(always)]
pub fn pick<F: Tables, A: Asker>(
    asker: &mut A,
    service: u32,
    settings: &ServiceSettings,
    flow: &Flow<F::Address>,
    avoid: u32,
) -> Result<u32, Verdict> {
    let length = maps::ring_slot(service, ring::LENGTH_SLOT).unwrap_or(0);
    if length == 0 {
        return Err(Verdict::DROP_NO_BACKEND);
    }
    if settings.sticky != 0
        && let Some(backend) = affinity::recall::<F>(service, settings, &flow.source)
        && backend != avoid
        && has_room::<F>(backend)
    {
        asker.note(Note::Sticky);
        return Ok(backend);
    }
    let hash = match settings.scheduler {
        scheduler::MAGLEV => hash::flow(flow),
        scheduler::SOURCE_HASH => hash::client(&flow.source),
        _ => 0,
    };
    if A::LOOKS && matches!(settings.scheduler, scheduler::LEAST_CONNECTIONS | scheduler::RANDOM) {
        asker.note(Note::Drawn);
        return any::<F, A>(asker, service, settings, length, hash, avoid);
    }
    for attempt in 0..TRIES {
        let backend = match settings.scheduler {
            scheduler::ROUND_ROBIN => {
                let turn = asker.turn(service, attempt).ok_or(Verdict::DROP_INTERNAL)?;
                named::<A>(asker, service, turn, length)?
            }
            scheduler::LEAST_CONNECTIONS => less_loaded::<F>(service, length)?,
            scheduler::RANDOM => slot(service, random(), length)?,
            _ => named::<A>(asker, service, u64::from(rehash(hash, attempt)), length)?,
        };
        if backend != avoid && has_room::<F>(backend) {
            return Ok(backend);
        }
        if backend != avoid {
            asker.note(Note::Full(attempt, backend));
        }
    }
    asker.note(Note::Any);
    any::<F, A>(asker, service, settings, length, hash, avoid)
}

/// Whether every edge chooses the same backend for a flow, whenever it is asked: then a connection that
/// another edge opened goes on here. Not through NAT, whose source ports only one edge knows.
#[inline(always)]
pub const fn is_alike_everywhere(settings: &ServiceSettings) -> bool {
    settings.scheduler == scheduler::MAGLEV && settings.forwarding != forwarding::NAT
}

/// Where every edge sent a flow before the slots changed, in a ring that remembers; else nobody.
#[inline(always)]
pub fn former<F: Tables>(service: u32, settings: &ServiceSettings, flow: &Flow<F::Address>) -> u32 {
    let length = maps::ring_slot(service, ring::LENGTH_SLOT).unwrap_or(0);
    if length == 0 {
        return NOBODY;
    }
    let at = ring::former(u64::from(hash::flow(flow)), length, settings.members);
    maps::ring_slot(service, at).unwrap_or(NOBODY)
}

/// Any backend that has room, `avoid` last.
#[inline(always)]
fn any<F: Tables, A: Asker>(
    asker: &mut A,
    service: u32,
    settings: &ServiceSettings,
    length: u32,
    hash: u32,
    avoid: u32,
) -> Result<u32, Verdict> {
    let members = settings.members;
    if A::LOOKS && members > MEMBERS {
        asker.note(Note::Drawn);
    }
    // Of more than can be looked at, others each time: the client's retransmission has another chance.
    let from = if members > MEMBERS { random() } else { u64::from(hash) };
    for turn in 0..MEMBERS {
        if turn >= members {
            break;
        }
        let member = (from + u64::from(turn)) % u64::from(members);
        #[expect(clippy::cast_possible_truncation, reason = "less than `members`, a u32")]
        let at = ring::LENGTH_SLOT + 1 + length + member as u32;
        let Some(backend) = maps::ring_slot(service, at) else { continue };
        if backend != avoid && has_room::<F>(backend) {
            return Ok(backend);
        }
    }
    if avoid != NOBODY && has_room::<F>(avoid) {
        return Ok(avoid);
    }
    Err(Verdict::DROP_OVERLOAD)
}

/// The less loaded, by its weight, of the backends of two random slots.
#[inline(always)]
fn less_loaded<F: Tables>(service: u32, length: u32) -> Result<u32, Verdict> {
    let first = slot(service, random(), length)?;
    let second = slot(service, random(), length)?;
    let weight = |id| F::backends().get(id).map_or(1, |backend| u64::from(backend.weight));
    let ((first_load, _), (second_load, _)) = (maps::load(first), maps::load(second));
    // a / v < b / w, without the division. One more each: an empty backend is not weightless.
    let less = (second_load + 1) * weight(first) < (first_load + 1) * weight(second);
    Ok(if less { second } else { first })
}

/// The same, and notes which slot it is.
#[inline(always)]
fn named<A: Asker>(asker: &mut A, service: u32, turn: u64, length: u32) -> Result<u32, Verdict> {
    if A::LOOKS {
        asker.note(Note::Slot(ring::slot(turn, length) - ring::slot(0, 1)));
    }
    slot(service, turn, length)
}

/// The backend in the slot that the `turn`-th connection takes.
#[inline(always)]
fn slot(service: u32, turn: u64, length: u32) -> Result<u32, Verdict> {
    // A ring that was swapped for a shorter one since its length was read may have no such slot:
    // take its first one, which it has.
    maps::ring_slot(service, ring::slot(turn, length))
        .or_else(|| maps::ring_slot(service, ring::slot(0, 1)))
        .ok_or(Verdict::DROP_NO_BACKEND)
}

#[inline(always)]
fn random() -> u64 {
    // SAFETY: the helper has no preconditions.
    u64::from(unsafe { bpf_get_prandom_u32() })
}

/// The hash for another attempt, the same on every edge.
#[inline(always)]
const fn rehash(hash: u32, attempt: u32) -> u32 {
    hash.wrapping_add(attempt.wrapping_mul(0x9e37_79b1))
}

/// Whether a backend takes one more connection.
#[inline(always)]
fn has_room<F: Tables>(id: u32) -> bool {
    let Some(backend) = F::backends().get(id) else { return false };
    let most = u64::from(backend.max_connections);
    most == 0 || maps::load(id).1 < most
}

/// Counts a connection as established; tells whether that was one too many. Handshakes do not count
/// before: a flood of spoofed SYNs would close the service. So more may be under way than there is
/// room for, and the last ones learn it here.
#[inline(always)]
pub fn confirmed<F: Tables>(backend: u32) -> bool {
    let before = maps::add_established(backend, 1);
    let most = maps::most_connections::<F>(backend);
    most != 0 && before >= u64::from(most)
}

/// Whether new connections of a service may go to another backend than `id`, which may be out already.
#[inline(always)]
pub fn has_other<F: Tables>(service: u32, id: u32) -> bool {
    let members = maps::settings(service).map_or(0, |settings| settings.members);
    members > 1 || (members == 1 && !is_active::<F>(id))
}

/// Whether new connections may go to a backend.
#[inline(always)]
fn is_active<F: Tables>(id: u32) -> bool {
    F::backends().get(id).is_some_and(|backend| backend.flags & ACTIVE != 0)
}
