//! The shared tables, and the only raw pointers into them: those into the connection table are in
//! `entry.rs`, those to numbers that all CPUs change in `shared.rs`.
//!
//! The sizes here are placeholders where the loader sets the configured ones.

mod entry;
mod shared;

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    btf_maps::{
        Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, lpm_trie::Key as PrefixKey,
    },
    macros::btf_map,
};
use lb_common::{
    backend::{Backend, BackendState, Tunnel},
    client::{Affinity, ClientKey},
    connection::{Connection, Flow},
    counters::BackendCounters,
    filter::Bitmap,
    fragment::{FirstFragment, FragmentKey},
    net::{Addr4, Addr6, Hop},
    node::{NodeSettings, NodeState},
    record::{BackendRecord, ServiceRecord},
    service::{Service, ServiceCursor, ServiceKey, ServiceSettings},
    verdict,
};
use lb_ebpf::{
    family::{Family, V4, V6},
    parse::{Note, Outline},
};

pub use self::{
    entry::{Entry, InsertError, Key, find, insert, opened, partner, remove, remove_pair},
    shared::{
        add_established, add_open, change_shared, cursor, load, next_place, next_source, next_turn,
        note_path_mtu, path_mtu, read_shared, reply_due, service_due,
    },
};

const SERVICES: usize = 4096;
const BACKENDS: usize = 16_384;
const ENTRIES: usize = 524_288;
const UNCONFIRMED: usize = 131_072;
const CLIENTS: usize = 65_536;
const FRAGMENTS: usize = 16_384;
const PREFIXES: usize = 131_072;
/// `BPF_F_INNER_MAP`: lets rings of any length take a slot of `RINGS`.
const INNER_MAP: usize = 0x1000;

type Connections<A> = HashMap<Flow<A>, Connection<A>, ENTRIES>;
type Services<A> = HashMap<ServiceKey<A>, Service, SERVICES>;
type Addresses<A> = HashMap<A, u32, SERVICES>;
type Backends<A> = Array<Backend<A>, BACKENDS>;
type Unconfirmed<A> = Array<Flow<A>, UNCONFIRMED>;
type Affinities<A> = LruHashMap<ClientKey<A>, Affinity, CLIENTS>;
type ClientLimits<A> = LruHashMap<ClientKey<A>, u64, CLIENTS>;
type Fragments<A> = LruHashMap<FragmentKey<A>, FirstFragment, FRAGMENTS>;
type Prefixes<A> = LpmTrie<ClientKey<A>, u32, PREFIXES>;
type Ring = Array<u32, 1, INNER_MAP>;

#[btf_map]
static LAYOUT: Array<u32, 1> = Array::new();
#[btf_map]
static ADDRESS_FILTER: Array<Bitmap, 1> = Array::new();
#[btf_map]
static NODE: Array<NodeSettings, 1> = Array::new();
#[btf_map]
static NODE_STATE: Array<NodeState, 1> = Array::new();
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
static SERVICE_SETTINGS: Array<ServiceSettings, SERVICES> = Array::new();
#[btf_map]
static TUNNELS: Array<Tunnel, BACKENDS> = Array::new();
#[btf_map]
static BACKEND_STATES: Array<BackendState, BACKENDS> = Array::new();
#[btf_map]
static BACKEND_COUNTERS: PerCpuArray<BackendCounters, BACKENDS> = PerCpuArray::new();
#[btf_map]
static VERDICTS: PerCpuArray<u64, { verdict::COUNT }> = PerCpuArray::new();
#[btf_map]
static CONNECTIONS_V4: Connections<Addr4> = HashMap::new();
#[btf_map]
static CONNECTIONS_V6: Connections<Addr6> = HashMap::new();
#[btf_map]
static UNCONFIRMED_V4: Unconfirmed<Addr4> = Array::new();
#[btf_map]
static UNCONFIRMED_V6: Unconfirmed<Addr6> = Array::new();
#[btf_map]
static AFFINITIES_V4: Affinities<Addr4> = LruHashMap::new();
#[btf_map]
static AFFINITIES_V6: Affinities<Addr6> = LruHashMap::new();
#[btf_map]
static CLIENT_LIMITS_V4: ClientLimits<Addr4> = LruHashMap::new();
#[btf_map]
static CLIENT_LIMITS_V6: ClientLimits<Addr6> = LruHashMap::new();
#[btf_map]
static FRAGMENTS_V4: Fragments<Addr4> = LruHashMap::new();
#[btf_map]
static FRAGMENTS_V6: Fragments<Addr6> = LruHashMap::new();
#[btf_map]
static PREFIXES_V4: Prefixes<Addr4> = LpmTrie::new();
#[btf_map]
static PREFIXES_V6: Prefixes<Addr6> = LpmTrie::new();
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
    /// The flow at hand.
    pub flow: Flow<A>,
    /// The way to its client.
    pub client: Hop,
    /// What a walk over the packet found.
    pub outline: Outline,
    /// What stands for the transport header of a fragment after the first.
    pub note: Note,
    /// One of [`asks`].
    pub asks: u32,
    /// Not zero: it meets a connection that there is.
    pub known: u32,
}

/// Values of [`Scratch::asks`]: what a packet is to a connection that does not exist yet.
pub mod asks {
    /// It may open one.
    pub const OPENS: u32 = 1;
    /// It belongs to one that there was.
    pub const BELONGS: u32 = 2;
    /// It is a fragment after the first.
    pub const FOLLOWS: u32 = 3;
    /// Added to [`BELONGS`]: that may be one that another edge opened. Added to [`OPENS`]: it is.
    pub const MOVED: u32 = 4;
    /// How far that bit stands from the lowest one.
    pub const MOVED_SHIFT: u32 = 2;
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
    /// Which of the two turns of places is its own.
    const PLACES: usize;

    /// Connections.
    fn connections() -> &'static Connections<Self::Address>;
    /// Services.
    fn services() -> &'static Services<Self::Address>;
    /// Addresses that have a service.
    fn addresses() -> &'static Addresses<Self::Address>;
    /// Backends.
    fn backends() -> &'static Backends<Self::Address>;
    /// Places of unconfirmed connections.
    fn unconfirmed() -> &'static Unconfirmed<Self::Address>;
    /// Backends that clients keep.
    fn affinities() -> &'static Affinities<Self::Address>;
    /// When client prefixes' next connections are due.
    fn client_limits() -> &'static ClientLimits<Self::Address>;
    /// First fragments.
    fn fragments() -> &'static Fragments<Self::Address>;
    /// Prefixes that are allowed or denied.
    fn prefixes() -> &'static Prefixes<Self::Address>;
    /// This CPU's scratch room of a program. A run takes it once at a time: whoever holds it hands
    /// it down.
    fn scratch(room: Room) -> Option<&'static mut Scratch<Self::Address>>;
}

impl Tables for V4 {
    const PLACES: usize = 0;

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
    fn unconfirmed() -> &'static Unconfirmed<Addr4> {
        &UNCONFIRMED_V4
    }
    #[inline(always)]
    fn affinities() -> &'static Affinities<Addr4> {
        &AFFINITIES_V4
    }
    #[inline(always)]
    fn client_limits() -> &'static ClientLimits<Addr4> {
        &CLIENT_LIMITS_V4
    }
    #[inline(always)]
    fn fragments() -> &'static Fragments<Addr4> {
        &FRAGMENTS_V4
    }
    #[inline(always)]
    fn prefixes() -> &'static Prefixes<Addr4> {
        &PREFIXES_V4
    }
    #[inline(always)]
    fn scratch(room: Room) -> Option<&'static mut Scratch<Addr4>> {
        // SAFETY: this CPU's own copy, see the trait; any bytes are a value of it.
        SCRATCH_V4.get_ptr_mut(room as u32).map(|scratch| unsafe { &mut *scratch })
    }
}

impl Tables for V6 {
    const PLACES: usize = 1;

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
    fn unconfirmed() -> &'static Unconfirmed<Addr6> {
        &UNCONFIRMED_V6
    }
    #[inline(always)]
    fn affinities() -> &'static Affinities<Addr6> {
        &AFFINITIES_V6
    }
    #[inline(always)]
    fn client_limits() -> &'static ClientLimits<Addr6> {
        &CLIENT_LIMITS_V6
    }
    #[inline(always)]
    fn fragments() -> &'static Fragments<Addr6> {
        &FRAGMENTS_V6
    }
    #[inline(always)]
    fn prefixes() -> &'static Prefixes<Addr6> {
        &PREFIXES_V6
    }
    #[inline(always)]
    fn scratch(room: Room) -> Option<&'static mut Scratch<Addr6>> {
        // SAFETY: this CPU's own copy, see the trait; any bytes are a value of it.
        SCRATCH_V6.get_ptr_mut(room as u32).map(|scratch| unsafe { &mut *scratch })
    }
}

/// The service at an address and port.
#[inline(always)]
pub fn service<F: Tables>(key: &ServiceKey<F::Address>) -> Option<u32> {
    F::services().get_ptr(key).map(|service| {
        // SAFETY: the kernel keeps the value valid while the program runs; one word is read.
        unsafe { (*service).id }
    })
}

/// What is known of an address that has services: bits of [`lb_common::node::address`].
#[inline(always)]
pub fn service_address<F: Tables>(address: &F::Address) -> Option<u32> {
    // SAFETY: the kernel keeps the value valid while the program runs; one word is read.
    F::addresses().get_ptr(address).map(|bits| unsafe { *bits })
}

/// How a service schedules and forwards.
#[inline(always)]
pub fn settings(service: u32) -> Option<&'static ServiceSettings> {
    SERVICE_SETTINGS.get(service)
}

/// Settings of the node.
#[inline(always)]
pub fn node() -> Option<&'static NodeSettings> {
    NODE.get(0)
}

/// The tunnel to a backend.
#[inline(always)]
pub fn tunnel(backend: u32) -> Option<&'static Tunnel> {
    TUNNELS.get(backend)
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

/// Established connections that a backend of either family takes at the most; zero: any number.
#[inline(always)]
pub fn most_connections<F: Tables>(backend: u32) -> u32 {
    F::backends().get(backend).map_or(0, |backend| backend.max_connections)
}

/// What the longest prefix that matches an address says, in a scope.
#[inline(always)]
pub fn longest_prefix<F: Tables>(scope: u32, address: F::Address) -> Option<u32> {
    #[expect(clippy::cast_possible_truncation, reason = "bits of an address")]
    let bits = u32::BITS + 8 * size_of::<F::Address>() as u32;
    let Key(key) = &Key(PrefixKey::new(bits, ClientKey { service: scope, address }));
    F::prefixes().get(key).copied()
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
