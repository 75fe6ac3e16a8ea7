//! Numbers that all CPUs share and the program itself changes: cursors, counts of connections, when the
//! next is due. Each is a word that is read and written whole, or changed by an atomic instruction.

use core::{
    intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd},
    ptr::addr_of_mut,
};

use super::{BACKEND_STATES, NODE_STATE, SERVICE_CURSORS};

/// Counts a service's cursor up and returns what it was.
#[inline(always)]
pub fn next_turn(service: u32) -> Option<u64> {
    SERVICE_CURSORS.get_ptr_mut(service).map(|cursor| {
        // SAFETY: the value is valid while the program runs; the instruction is atomic.
        unsafe {
            atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(addr_of_mut!((*cursor).next), 1)
        }
    })
}

/// A service's cursor.
#[inline(always)]
pub fn cursor(service: u32) -> Option<u64> {
    SERVICE_CURSORS.get_ptr_mut(service).map(|cursor| {
        // SAFETY: the value is valid while the program runs; a word is read whole.
        unsafe { addr_of_mut!((*cursor).next).read_volatile() }
    })
}

/// Adds to a number that all CPUs share and returns what it was.
///
/// # Safety
///
/// `number` points to a number of a map's value.
#[inline(always)]
unsafe fn add(number: *mut u64, amount: u64) -> u64 {
    // SAFETY: the caller's promise, and the kernel keeps the value while the program runs; the
    // instruction is atomic.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(number, amount) }
}

/// Counts a backend's port cursor up and returns what it was.
#[inline(always)]
pub fn next_source(backend: u32) -> Option<u64> {
    let state = BACKEND_STATES.get_ptr_mut(backend)?;
    // SAFETY: a field of the value.
    Some(unsafe { add(addr_of_mut!((*state).next_source), 1) })
}

/// Adds to the number of a backend's open connections.
#[inline(always)]
pub fn add_open(backend: u32, amount: i64) {
    if let Some(state) = BACKEND_STATES.get_ptr_mut(backend) {
        // SAFETY: a field of the value.
        unsafe { add(addr_of_mut!((*state).open), amount.cast_unsigned()) };
    }
}

/// Adds to the number of a backend's established connections, and returns what it was.
#[inline(always)]
pub fn add_established(backend: u32, amount: i64) -> u64 {
    let Some(state) = BACKEND_STATES.get_ptr_mut(backend) else { return 0 };
    // SAFETY: a field of the value.
    counted(unsafe { add(addr_of_mut!((*state).established), amount.cast_unsigned()) })
}

/// A count of connections. One that has drifted below zero is none, until the sweep mends it, and not
/// more than any maximum.
#[inline(always)]
fn counted(number: u64) -> u64 {
    if number.cast_signed() < 0 { 0 } else { number }
}

/// A backend's open and established connections.
#[inline(always)]
pub fn load(backend: u32) -> (u64, u64) {
    let Some(state) = BACKEND_STATES.get_ptr_mut(backend) else { return (0, 0) };
    // SAFETY: the value is valid while the program runs; words are read whole.
    unsafe {
        (
            counted(addr_of_mut!((*state).open).read_volatile()),
            counted(addr_of_mut!((*state).established).read_volatile()),
        )
    }
}

/// What a tunnel's way takes as routers told, and when they did; zero: they told nothing.
#[inline(always)]
pub fn path_mtu(backend: u32) -> (u32, u32) {
    let Some(state) = BACKEND_STATES.get_ptr_mut(backend) else { return (0, 0) };
    // SAFETY: the value is valid while the program runs; words are read whole.
    unsafe {
        (
            addr_of_mut!((*state).path_mtu).read_volatile(),
            addr_of_mut!((*state).path_mtu_seen).read_volatile(),
        )
    }
}

/// Notes what a tunnel's way takes. Where two CPUs do so at once, a size may get the other's time,
/// which is the same.
#[inline(always)]
pub fn note_path_mtu(backend: u32, mtu: u32, now: u32) {
    if let Some(state) = BACKEND_STATES.get_ptr_mut(backend) {
        // SAFETY: the value is valid while the program runs; words are written whole.
        unsafe {
            addr_of_mut!((*state).path_mtu_seen).write_volatile(now);
            addr_of_mut!((*state).path_mtu).write_volatile(mtu);
        }
    }
}

/// The next place for an unconfirmed connection of a family: zero for IPv4, one for IPv6.
#[inline(always)]
pub fn next_place(family: usize) -> Option<u64> {
    let state = NODE_STATE.get_ptr_mut(0)?;
    // SAFETY: a field of the value; the index is bounded.
    Some(unsafe { add(addr_of_mut!((*state).next_place[family & 1]), 1) })
}

/// Where the service's limit notes when the next connection is due.
#[inline(always)]
pub fn service_due(service: u32) -> Option<*mut u64> {
    // SAFETY: only the address of a field is taken.
    SERVICE_CURSORS.get_ptr_mut(service).map(|cursor| unsafe { addr_of_mut!((*cursor).due) })
}

/// Where is noted when the next packet of our own making is due.
#[inline(always)]
pub fn reply_due() -> Option<*mut u64> {
    // SAFETY: only the address of a field is taken.
    NODE_STATE.get_ptr_mut(0).map(|state| unsafe { addr_of_mut!((*state).reply_due) })
}

/// Reads a number that other CPUs change.
#[inline(always)]
pub fn read_shared(number: *mut u64) -> u64 {
    // SAFETY: a pointer that a function above gave out, valid while the program runs.
    unsafe { number.read_volatile() }
}

/// Changes a number that other CPUs change, if it still is `seen`; tells whether it was.
#[inline(always)]
pub fn change_shared(number: *mut u64, seen: u64, value: u64) -> bool {
    // SAFETY: as for `read_shared`; the instruction is atomic.
    let (before, _) = unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
            number, seen, value,
        )
    };
    before == seen
}
