//! Ending connections on the controller's word.
//!
//! The controller reads the table and names candidates; this program looks at each again, where
//! packets are, and ends it if it is still as idle as was said. So there is one writer of the
//! table and of the counters, and a packet that came meanwhile saves its connection.

use aya_ebpf::{bindings::xdp_md, helpers::bpf_jiffies64};
use lb_common::{
    clock,
    connection::Flow,
    expire::{Candidate, Correction, ExpireHeader, MAX_CANDIDATES, ask},
    net::{Addr4, Addr6, Hop},
};
use lb_ebpf::{
    family::{V4, V6},
    frame::{Frame, Header},
};

use crate::{
    connection::{self, now},
    maps::{self, Room, Tables},
};

/// A value of a request, which starts at no particular alignment.
#[repr(C, packed)]
pub struct Unaligned<T>(pub T);

// SAFETY: packed, of a value that any bytes make.
unsafe impl Header for Unaligned<ExpireHeader> {}
// SAFETY: as above.
unsafe impl Header for Unaligned<Correction> {}
// SAFETY: as above.
unsafe impl Header for Unaligned<Candidate<Addr4>> {}
// SAFETY: as above.
unsafe impl Header for Unaligned<Candidate<Addr6>> {}

/// Handles one request; returns how many entries it ended or changed, or the answer to its question.
#[inline(always)]
pub fn run(context: *mut xdp_md) -> u32 {
    let mut frame = crate::frame(context);
    let Some(head) = frame.take::<Unaligned<ExpireHeader>>() else { return 0 };
    let head = head.0;
    match head.family {
        4 => all::<V4>(&mut frame, &head),
        6 => all::<V6>(&mut frame, &head),
        ask::CORRECT => correct(&mut frame),
        ask::TICK => now(),
        // SAFETY: the helper has no preconditions.
        #[expect(clippy::cast_possible_truncation, reason = "the low half is asked for")]
        ask::JIFFIES => unsafe { bpf_jiffies64() as u32 },
        _ => 0,
    }
}

/// Corrects a backend's counts, by adding: packets count at the same time.
#[inline(always)]
fn correct(frame: &mut Frame<'_>) -> u32 {
    let Some(correction) = frame.take::<Unaligned<Correction>>() else { return 0 };
    let Correction { backend, open, established, .. } = correction.0;
    maps::add_open(backend, open);
    maps::add_established(backend, established);
    1
}

#[inline(always)]
fn all<F: Tables>(frame: &mut Frame<'_>, head: &ExpireHeader) -> u32
where
    Unaligned<Candidate<F::Address>>: Header,
{
    let Some(scratch) = F::scratch(Room::Expire) else { return 0 };
    let now = now();
    let ExpireHeader { count, from, to, .. } = *head;
    let mut done = 0;
    for index in 0..MAX_CANDIDATES {
        if index >= count as usize {
            break;
        }
        let Some(candidate) = frame.take::<Unaligned<Candidate<F::Address>>>() else { break };
        let Candidate { flow, idle_ticks } = candidate.0;
        done += u32::from(if to.is_known() {
            reroute::<F>(&flow, &from, &to)
        } else {
            end::<F>(&flow, idle_ticks, now, &mut scratch.key)
        });
    }
    done
}

/// Has an entry's client be reached by another way, if it was by `from`.
#[inline(always)]
fn reroute<F: Tables>(flow: &Flow<F::Address>, from: &Hop, to: &Hop) -> bool {
    let Some(entry) = maps::find::<F>(flow) else { return false };
    let client = entry.get().client;
    if client.interface != from.interface {
        return false;
    }
    let halves = |address: [u8; 6]| -> [u16; 3] { bytemuck::cast(address) };
    let (asked, [first, second, third]) = (halves(from.destination), halves(client.destination));
    if asked == [0; 3] {
        entry.set_interface(to.interface);
        return true;
    }
    let by_it = asked[0] == first && asked[1] == second && asked[2] == third;
    if by_it {
        entry.set_client(Hop { destination: to.destination, ..client });
    }
    by_it
}

/// Ends the connection that `flow` is an entry of, if it is idle.
#[inline(always)]
fn end<F: Tables>(
    flow: &Flow<F::Address>,
    idle_ticks: u32,
    now: u32,
    room: &mut Flow<F::Address>,
) -> bool {
    let Some(entry) = maps::find::<F>(flow) else { return false };
    // An entry whose partner was replaced stands alone and goes alone.
    let partner = maps::partner::<F>(entry, flow, room);
    let mut age = clock::age(now, entry.get().last_seen);
    if let Some(partner) = partner {
        age = age.min(clock::age(now, partner.get().last_seen));
    }
    if age < idle_ticks {
        return false;
    }
    let forward = if entry.get().is_reverse() { partner } else { Some(entry) };
    if let Some(forward) = forward {
        let of_client = if entry.get().is_reverse() { &*room } else { flow };
        connection::vacate::<F>(forward.get().place, of_client);
        connection::close(forward);
    }
    if partner.is_some() {
        maps::remove::<F>(room);
    }
    maps::remove::<F>(flow);
    true
}
