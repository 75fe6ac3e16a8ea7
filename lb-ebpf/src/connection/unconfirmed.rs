//! Places for the connections whose client has not yet shown that it exists.
//!
//! Unconfirmed connections share the table with the others, and yet live apart from them: each needs
//! one of a fixed number of places, which are handed out in turn. Whoever gets a place evicts the
//! connection that had it, if that one is still unconfirmed. So a flood of spoofed SYNs turns over the
//! places and nothing else: the oldest attempt gives way to the newest, and no confirmed connection to
//! any.

use lb_common::{
    connection::{Flow, state},
    verdict::Verdict,
};

use super::give_up_if;
use crate::{
    maps::{self, Scratch, Tables},
    stats,
};

/// Leaves a flow's place, because its connection was confirmed or ended: whoever has the turn of the
/// place need not look for a connection there.
#[inline(always)]
pub fn vacate<F: Tables>(place: u32, flow: &Flow<F::Address>) {
    let Some(resident) = F::unconfirmed().get_ptr_mut(place) else { return };
    // SAFETY: as in `take`. Should another CPU hand out the place at this very moment, its new resident
    // stays unconfirmed until it times out instead of being evicted.
    unsafe {
        if resident.read() == *flow {
            (*resident).protocol = 0;
        }
    }
}

/// Takes a place for a flow. `scratch.key` is used.
#[inline(always)]
pub fn take<F: Tables>(
    flow: &Flow<F::Address>,
    scratch: &mut Scratch<F::Address>,
) -> Result<u32, Verdict> {
    let mask = maps::node().ok_or(Verdict::DROP_INTERNAL)?.unconfirmed_mask;
    let turn = maps::next_place(F::PLACES).ok_or(Verdict::DROP_INTERNAL)?;
    #[expect(clippy::cast_possible_truncation, reason = "masked")]
    let place = turn as u32 & mask;
    let resident = F::unconfirmed().get_ptr_mut(place).ok_or(Verdict::DROP_INTERNAL)?;
    // SAFETY: the value is valid while the program runs. Another CPU may write it at the same time
    // only after a full turn of all places; what is then read is no flow, or another one's.
    let holder = unsafe { &*resident };
    if holder.protocol != 0
        && let Some(entry) = maps::find::<F>(holder)
    {
        let seen = entry.state();
        if entry.get().place == place
            && !entry.get().is_reverse()
            && seen & state::ESTABLISHED == 0
            && (seen & state::CLOSED != 0 || give_up_if(entry, seen))
        {
            // One that is over only lingers; a flood of SYNs and RSTs would fill the table with them.
            if seen & state::CLOSED == 0 {
                stats::evicted(entry.get().backend);
            }
            maps::remove_pair::<F>(entry, holder, &mut scratch.key);
        }
    }
    // SAFETY: as above.
    unsafe { resident.write(*flow) };
    Ok(place)
}
