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

use super::close_if;
use crate::{
    maps::{self, Scratch, Tables},
    stats,
};

/// Takes a place for a flow. `scratch.key` and `scratch.other` are used.
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
    scratch.key = unsafe { resident.read() };
    if scratch.key.protocol != 0
        && let Some(entry) = maps::find::<F>(&scratch.key)
    {
        let seen = entry.state();
        if entry.get().place == place
            && !entry.get().is_reverse()
            && seen & state::ESTABLISHED == 0
            && (seen & state::CLOSED != 0 || close_if(entry, seen))
        {
            // One that is over only lingers; a flood of SYNs and RSTs would fill the table with them.
            if seen & state::CLOSED == 0 {
                stats::evicted(entry.get().backend);
            }
            let Scratch { key, other, .. } = scratch;
            maps::remove_pair::<F>(entry, key, other);
        }
    }
    // SAFETY: as above.
    unsafe { resident.write(*flow) };
    Ok(place)
}
