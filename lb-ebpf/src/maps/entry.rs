//! Entries of the connection table, and the only raw pointers into it.

use core::{
    intrinsics::{AtomicOrdering, atomic_cxchg, atomic_or},
    ptr::{NonNull, addr_of_mut},
};

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use lb_common::{
    connection::{Connection, Flow},
    net::{Address, Hop},
};

use super::{Room, Tables};

/// `EEXIST`, as the helpers return it.
const EXISTS: i32 = -17;

/// Why an entry was not inserted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum InsertError {
    /// The key is taken.
    Exists,
    /// The table is full.
    Full,
}

/// An entry of the connection table, shared with the other CPUs.
///
/// The kernel keeps the memory valid while the program runs. Its slot may be handed to another
/// connection once the entry is removed: whoever removes an entry does not use it afterwards.
#[derive(Clone, Copy)]
pub struct Entry<A>(NonNull<Connection<A>>);

impl<A: Address> Entry<A> {
    /// The entry's fields. Rewrite, backend and deltas never change while it lives.
    #[inline(always)]
    pub fn get(&self) -> &Connection<A> {
        // SAFETY: see the type; concurrent writes to the other fields are of whole words.
        unsafe { self.0.as_ref() }
    }

    /// The state's bits now.
    #[inline(always)]
    pub fn state(&self) -> u32 {
        // SAFETY: as for `get`; volatile, because other CPUs set bits.
        unsafe { addr_of_mut!((*self.0.as_ptr()).state).read_volatile() }
    }

    /// Sets bits of the state, and returns the bits from before.
    #[inline(always)]
    pub fn set_state(&self, bits: u32) -> u32 {
        // SAFETY: as for `get`; the instruction is atomic.
        unsafe {
            atomic_or::<u32, u32, { AtomicOrdering::SeqCst }>(
                addr_of_mut!((*self.0.as_ptr()).state),
                bits,
            )
        }
    }

    /// Sets bits of the state if it still is `seen`; tells whether it was.
    #[inline(always)]
    pub fn set_state_if(&self, seen: u32, bits: u32) -> bool {
        // SAFETY: as for `get`; the instruction is atomic.
        let (before, _) = unsafe {
            atomic_cxchg::<u32, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                addr_of_mut!((*self.0.as_ptr()).state),
                seen,
                seen | bits,
            )
        };
        before == seen
    }

    /// Notes which number acknowledges the backend's SYN.
    #[inline(always)]
    pub fn set_answer(&self, number: u32) {
        // SAFETY: as for `get`; a word is written whole.
        unsafe { addr_of_mut!((*self.0.as_ptr()).answer).write_volatile(number) }
    }

    /// Notes that a packet came at tick `now`. Written once a tick, so that a busy connection's
    /// cache line stays shared between CPUs.
    #[inline(always)]
    pub fn touch(&self, now: u32) {
        // SAFETY: as for `get`; a word is written whole.
        unsafe {
            let last_seen = addr_of_mut!((*self.0.as_ptr()).last_seen);
            if last_seen.read_volatile() != now {
                last_seen.write_volatile(now);
            }
        }
    }

    /// Sets the interface by which the client is reached.
    #[inline(always)]
    pub fn set_interface(&self, interface: u32) {
        // SAFETY: as for `get`; a word is written whole.
        unsafe { addr_of_mut!((*self.0.as_ptr()).client.interface).write_volatile(interface) }
    }

    /// Sets the way to the client.
    #[inline(always)]
    pub fn set_client(&self, hop: Hop) {
        // SAFETY: as for `get`; a packet that reads it half-written takes the wrong way once.
        unsafe { addr_of_mut!((*self.0.as_ptr()).client).write(hop) }
    }
}

/// A key on the stack. The compiler writes it in words of eight bytes, which the verifier wants aligned
/// there.
#[repr(align(8))]
pub struct Key<T>(pub T);

/// The entry of a flow.
#[inline(always)]
pub fn find<F: Tables>(flow: &Flow<F::Address>) -> Option<Entry<F::Address>> {
    F::connections().get_ptr_mut(flow).and_then(NonNull::new).map(Entry)
}

/// The entry that opening a connection has left in the scratch room: a copy, which is good for
/// reading.
#[inline(always)]
pub fn opened<F: Tables>() -> Option<Entry<F::Address>> {
    let scratch = F::scratch(Room::Packet)?;
    Some(Entry(NonNull::from(&mut scratch.connection)))
}

/// Inserts an entry; `replace` overwrites one that is there.
#[inline(always)]
pub fn insert<F: Tables>(
    flow: &Flow<F::Address>,
    connection: &Connection<F::Address>,
    replace: bool,
) -> Result<(), InsertError> {
    let flags = if replace { BPF_ANY } else { BPF_NOEXIST };
    F::connections()
        .insert(flow, connection, u64::from(flags))
        .map_err(|error| if error == EXISTS { InsertError::Exists } else { InsertError::Full })
}

/// Removes a flow's entry, where there is one.
#[inline(always)]
pub fn remove<F: Tables>(flow: &Flow<F::Address>) {
    // The only error is that it is gone already.
    let _ = F::connections().remove(flow);
}

/// The connection's other entry, if it still is: a closed connection's may have been replaced.
/// Its key is left in `room`.
#[inline(always)]
pub fn partner<F: Tables>(
    entry: Entry<F::Address>,
    flow: &Flow<F::Address>,
    room: &mut Flow<F::Address>,
) -> Option<Entry<F::Address>> {
    *room = entry.get().partner(flow.protocol());
    let partner = find::<F>(room)?;
    let rewrite = &partner.get().rewrite;
    let back = rewrite.source == flow.destination
        && rewrite.destination == flow.source
        && rewrite.ports == flow.ports.turned();
    back.then_some(partner)
}

/// Removes both entries of a connection, of which `entry` under `flow` is one.
#[inline(always)]
pub fn remove_pair<F: Tables>(
    entry: Entry<F::Address>,
    flow: &Flow<F::Address>,
    room: &mut Flow<F::Address>,
) {
    if partner::<F>(entry, flow, room).is_some() {
        remove::<F>(room);
    }
    remove::<F>(flow);
}
