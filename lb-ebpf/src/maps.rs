//! The shared tables, and the only raw pointers into them.
//!
//! The sizes here are placeholders where the loader sets the configured ones.

use core::{
    intrinsics::{AtomicOrdering, atomic_or, atomic_xadd},
    ptr::{NonNull, addr_of_mut},
};

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    btf_maps::{Array, ArrayOfMaps, HashMap, PerCpuArray},
    macros::btf_map,
};
use lb_common::{
    backend::{Backend, BackendCursor},
    connection::{Connection, Flow},
    counters::BackendCounters,
    filter::Bitmap,
    net::{Addr4, Addr6, Address, Hop},
    record::{BackendRecord, ServiceRecord},
    service::{Service, ServiceCursor, ServiceKey},
    verdict,
};
use lb_ebpf::family::{Family, V4, V6};

const SERVICES: usize = 4096;
const BACKENDS: usize = 16_384;
const ENTRIES: usize = 524_288;
/// `BPF_F_INNER_MAP`: lets rings of any length take a slot of `RINGS`.
const INNER_MAP: usize = 0x1000;

/// `EEXIST`, as the helpers return it.
const EXISTS: i32 = -17;

type Connections<A> = HashMap<Flow<A>, Connection<A>, ENTRIES>;
type Services<A> = HashMap<ServiceKey<A>, Service, SERVICES>;
type Addresses<A> = HashMap<A, u32, SERVICES>;
type Backends<A> = Array<Backend<A>, BACKENDS>;
type Ring = Array<u32, 1, INNER_MAP>;

#[btf_map]
static LAYOUT: Array<u32, 1> = Array::new();
#[btf_map]
static ADDRESS_FILTER: Array<Bitmap, 1> = Array::new();
#[btf_map]
static ADDRESSES_V4: Addresses<Addr4> = HashMap::new();
#[btf_map]
static ADDRESSES_V6: Addresses<Addr6> = HashMap::new();
#[btf_map]
static SERVICES_V4: Services<Addr4> = HashMap::new();
#[btf_map]
static SERVICES_V6: Services<Addr6> = HashMap::new();
#[btf_map]
static SERVICE_CURSORS: Array<ServiceCursor, SERVICES> = Array::new();
#[btf_map]
static RINGS: ArrayOfMaps<Ring, SERVICES> = ArrayOfMaps::new();
#[btf_map]
static BACKENDS_V4: Backends<Addr4> = Array::new();
#[btf_map]
static BACKENDS_V6: Backends<Addr6> = Array::new();
#[btf_map]
static BACKEND_CURSORS: Array<BackendCursor, BACKENDS> = Array::new();
#[btf_map]
static BACKEND_COUNTERS: PerCpuArray<BackendCounters, BACKENDS> = PerCpuArray::new();
#[btf_map]
static VERDICTS: PerCpuArray<u64, { verdict::COUNT }> = PerCpuArray::new();
#[btf_map]
static CONNECTIONS_V4: Connections<Addr4> = HashMap::new();
#[btf_map]
static CONNECTIONS_V6: Connections<Addr6> = HashMap::new();
#[btf_map]
static SCRATCH_V4: PerCpuArray<Scratch<Addr4>, 2> = PerCpuArray::new();
#[btf_map]
static SCRATCH_V6: PerCpuArray<Scratch<Addr6>, 2> = PerCpuArray::new();
#[btf_map]
static SERVICE_RECORDS: Array<ServiceRecord, SERVICES> = Array::new();
#[btf_map]
static BACKEND_RECORDS: Array<BackendRecord, BACKENDS> = Array::new();

/// Room for the values of the rare paths, which the 512 bytes of stack do not hold.
#[repr(C)]
pub struct Scratch<A> {
    /// The entry that is being made.
    pub connection: Connection<A>,
    /// The key that it gets, or that of another entry of the connection at hand.
    pub key: Flow<A>,
    /// The key of an entry in the way.
    pub other: Flow<A>,
}

/// Whose scratch room it is: before Linux 6.11 a packet could interrupt a test-run.
#[derive(Clone, Copy)]
pub enum Room {
    /// The path of packets.
    Packet = 0,
    /// The program that ends connections.
    Expire = 1,
}

/// The tables of one address family.
pub trait Tables: Family {
    /// Connections.
    fn connections() -> &'static Connections<Self::Address>;
    /// Services.
    fn services() -> &'static Services<Self::Address>;
    /// Addresses that have a service.
    fn addresses() -> &'static Addresses<Self::Address>;
    /// Backends.
    fn backends() -> &'static Backends<Self::Address>;
    /// This CPU's scratch room of a program. A run takes it once at a time: whoever holds it hands
    /// it down.
    fn scratch(room: Room) -> Option<&'static mut Scratch<Self::Address>>;
}

impl Tables for V4 {
    #[inline(always)]
    fn connections() -> &'static Connections<Addr4> {
        &CONNECTIONS_V4
    }
    #[inline(always)]
    fn services() -> &'static Services<Addr4> {
        &SERVICES_V4
    }
    #[inline(always)]
    fn addresses() -> &'static Addresses<Addr4> {
        &ADDRESSES_V4
    }
    #[inline(always)]
    fn backends() -> &'static Backends<Addr4> {
        &BACKENDS_V4
    }
    #[inline(always)]
    fn scratch(room: Room) -> Option<&'static mut Scratch<Addr4>> {
        // SAFETY: this CPU's own copy, see the trait; any bytes are a value of it.
        SCRATCH_V4.get_ptr_mut(room as u32).map(|scratch| unsafe { &mut *scratch })
    }
}

impl Tables for V6 {
    #[inline(always)]
    fn connections() -> &'static Connections<Addr6> {
        &CONNECTIONS_V6
    }
    #[inline(always)]
    fn services() -> &'static Services<Addr6> {
        &SERVICES_V6
    }
    #[inline(always)]
    fn addresses() -> &'static Addresses<Addr6> {
        &ADDRESSES_V6
    }
    #[inline(always)]
    fn backends() -> &'static Backends<Addr6> {
        &BACKENDS_V6
    }
    #[inline(always)]
    fn scratch(room: Room) -> Option<&'static mut Scratch<Addr6>> {
        // SAFETY: this CPU's own copy, see the trait; any bytes are a value of it.
        SCRATCH_V6.get_ptr_mut(room as u32).map(|scratch| unsafe { &mut *scratch })
    }
}

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

    /// Sets the way to the client.
    #[inline(always)]
    pub fn set_client(&self, hop: Hop) {
        // SAFETY: as for `get`; a packet that reads it half-written takes the wrong way once.
        unsafe { addr_of_mut!((*self.0.as_ptr()).client).write(hop) }
    }
}

/// The entry of a flow.
#[inline(always)]
pub fn find<F: Tables>(flow: &Flow<F::Address>) -> Option<Entry<F::Address>> {
    F::connections().get_ptr_mut(flow).and_then(NonNull::new).map(Entry)
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
        && rewrite.source_port == flow.destination_port
        && rewrite.destination_port == flow.source_port;
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

/// The service at an address and port.
#[inline(always)]
pub fn service<F: Tables>(key: &ServiceKey<F::Address>) -> Option<u32> {
    F::services().get_ptr(key).map(|service| {
        // SAFETY: the kernel keeps the value valid while the program runs; one word is read.
        unsafe { (*service).id }
    })
}

/// Whether an address has any service.
#[inline(always)]
pub fn is_service_address<F: Tables>(address: &F::Address) -> bool {
    F::addresses().get_ptr(address).is_some()
}

/// The address filter.
#[inline(always)]
pub fn filter() -> Option<&'static Bitmap> {
    ADDRESS_FILTER.get(0)
}

/// A slot of a service's ring.
#[inline(always)]
pub fn ring_slot(service: u32, slot: u32) -> Option<u32> {
    RINGS.get_value(service, &slot).copied()
}

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

/// Counts a backend's port cursor up and returns what it was.
#[inline(always)]
pub fn next_source(backend: u32) -> Option<u64> {
    BACKEND_CURSORS.get_ptr_mut(backend).map(|cursor| {
        // SAFETY: the value is valid while the program runs; the instruction is atomic.
        unsafe {
            atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(
                addr_of_mut!((*cursor).next_source),
                1,
            )
        }
    })
}

/// This CPU's counters of a backend.
#[inline(always)]
pub fn counters(backend: u32) -> Option<&'static mut BackendCounters> {
    BACKEND_COUNTERS.get_ptr_mut(backend).map(|counters| {
        // SAFETY: this CPU's own copy; an XDP program is not interrupted by another.
        unsafe { &mut *counters }
    })
}

/// Adds one to a counter of this CPU that a packet may be adding to as well, by interrupting us.
#[inline(always)]
pub fn count_up(counter: &mut u64) {
    // SAFETY: a valid counter; the instruction is atomic.
    unsafe {
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1);
    }
}

/// This CPU's count of a verdict.
#[inline(always)]
pub fn verdict_count(index: u32) -> Option<&'static mut u64> {
    VERDICTS.get_ptr_mut(index).map(|count| {
        // SAFETY: as for `counters`.
        unsafe { &mut *count }
    })
}
