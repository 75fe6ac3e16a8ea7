//! The program in the kernel and its tables, opened by what the loaded program refers to.
//!
//! It writes the tables as it is told, and reads them back in the model's words. It decides nothing.

mod family;
mod words;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use aya::{
    maps::{Array, ArrayOfMaps, MapData, PerCpuArray},
    programs::{TestRun as _, TestRunOptions},
};
use evenkeel_tests::model::{
    Flow, Load,
    world::{self, Forwarding, Scheduler},
};
use lb_common::{
    backend::{Backend, BackendState, Tunnel},
    client::NODE_SCOPE,
    counters::BackendCounters,
    filter::{self, Bitmap},
    net::{Addr4, Addr6, Be16},
    node::{self, NodeSettings, NodeState},
    service::{self, ServiceCursor, ServiceSettings},
    verdict,
};

pub use self::words::Entry;
use self::{
    family::{Family, Maps},
    words::{key, limit, own, wide, wire},
};
use crate::load::{Loaded, Raw};

/// Slots of a ring's map. They are written in place: no packet passes meanwhile.
const RING: u32 = 64;
/// `BPF_F_INNER_MAP` (include/uapi/linux/bpf.h).
const INNER_MAP: u32 = 0x1000;

type Values<T> = Array<MapData, Raw<T>>;
type Ring = Array<MapData, u32>;

/// The program and its tables.
pub struct Kernel {
    loaded: Loaded,
    v4: Family<Addr4>,
    v6: Family<Addr6>,
    filter: Values<Bitmap>,
    bitmap: Bitmap,
    capacity: usize,
    node: Values<NodeSettings>,
    node_state: Values<NodeState>,
    settings: Values<ServiceSettings>,
    cursors: Values<ServiceCursor>,
    _rings: ArrayOfMaps<MapData, Ring>,
    slots: Vec<Ring>,
    tunnels: Values<Tunnel>,
    states: Values<BackendState>,
    counters: PerCpuArray<MapData, Raw<BackendCounters>>,
    verdicts: PerCpuArray<MapData, u64>,
}

impl Kernel {
    /// Loads the program with a table of so many connections.
    pub fn new(connections: u32, places: u32) -> Self {
        let loaded = crate::load::load(connections, places);
        let mut maps = Maps(BTreeMap::new());
        let mut capacity = 0;
        for id in loaded.map_ids() {
            let data = MapData::from_id(id).unwrap();
            let info = data.info().unwrap();
            let name = info.name_as_str().unwrap_or_default().to_owned();
            if name == "CONNECTIONS_V4" {
                capacity = usize::try_from(info.max_entries()).unwrap();
            }
            maps.0.insert((name, info.key_size()), data);
        }
        let mut rings: ArrayOfMaps<MapData, Ring> = maps.take("RINGS");
        let services = u32::from(crate::spec::SERVICES);
        let slots: Vec<Ring> =
            (0..services).map(|_| Array::create(RING, INNER_MAP).unwrap()).collect();
        for (service, ring) in (0..).zip(&slots) {
            rings.set(service, ring, 0).unwrap();
        }
        Self {
            v4: Family::open(&mut maps, 4),
            v6: Family::open(&mut maps, 6),
            filter: maps.take("ADDRESS_FILTER"),
            bitmap: [0; filter::WORDS],
            capacity,
            node: maps.take("NODE"),
            node_state: maps.take("NODE_STATE"),
            settings: maps.take("SERVICE_SETTINGS"),
            cursors: maps.take("SERVICE_CURSORS"),
            _rings: rings,
            slots,
            tunnels: maps.take("TUNNELS"),
            states: maps.take("BACKEND_STATES"),
            counters: maps.take("BACKEND_COUNTERS"),
            verdicts: maps.take("VERDICTS"),
            loaded,
        }
    }

    /// Empties every table.
    pub fn clear(&mut self, places: u32) {
        self.v4.clear(places);
        self.v6.clear(places);
        self.write_filter([], []);
        self.node_state.set(0, Raw(NodeState::default()), 0).unwrap();
        for (service, ring) in (0..).zip(&mut self.slots) {
            ring.set(0, 0, 0).unwrap();
            self.settings.set(service, Raw(ServiceSettings::default()), 0).unwrap();
            self.cursors.set(service, Raw(ServiceCursor::default()), 0).unwrap();
        }
        let cpus = self.verdicts.get(&0, 0).unwrap().len();
        for id in 0..ids() {
            self.v4.backends.set(id, Raw(Backend::default()), 0).unwrap();
            self.v6.backends.set(id, Raw(Backend::default()), 0).unwrap();
            self.tunnels.set(id, Raw(Tunnel::default()), 0).unwrap();
            self.states.set(id, Raw(BackendState::default()), 0).unwrap();
            let zero = vec![Raw(BackendCounters::default()); cpus].try_into().unwrap();
            self.counters.set(id, zero, 0).unwrap();
        }
        for index in 0..u32::try_from(verdict::COUNT).unwrap() {
            self.verdicts.set(index, vec![0; cpus].try_into().unwrap(), 0).unwrap();
        }
    }

    pub fn write_node(&mut self, places: u32, access: &world::Access, keeps: bool, mtu: u32) {
        self.v4.write_prefixes(NODE_SCOPE, access);
        self.v6.write_prefixes(NODE_SCOPE, access);
        let mut flags = if keeps { node::flags::READS_QUOTES } else { 0 };
        flags |= if access.is_empty() { 0 } else { node::flags::HAS_PREFIXES };
        flags |= if access.allow.is_empty() { 0 } else { node::flags::DENY_OTHERS };
        let settings =
            NodeSettings { unconfirmed_mask: places - 1, flags, least_mtu: mtu, reserved: 0 };
        self.node.set(0, Raw(settings), 0).unwrap();
    }

    pub fn write_filter<'a>(
        &mut self,
        addresses: impl IntoIterator<Item = &'a IpAddr>,
        sources: impl IntoIterator<Item = &'a IpAddr>,
    ) {
        let mut bitmap = [0; filter::WORDS];
        for ip in addresses {
            if ip.is_ipv4() {
                filter::insert(&mut bitmap, &own::<Addr4>(*ip));
            } else {
                filter::insert(&mut bitmap, &own::<Addr6>(*ip));
            }
        }
        for ip in sources {
            if ip.is_ipv4() {
                filter::insert_source(&mut bitmap, &own::<Addr4>(*ip));
            } else {
                filter::insert_source(&mut bitmap, &own::<Addr6>(*ip));
            }
        }
        self.filter.set(0, Raw(bitmap), 0).unwrap();
        self.bitmap = bitmap;
    }

    /// Whether the filter lets a packet with these ends pass: it may err on this side.
    pub fn looks_up(&self, from: IpAddr, to: IpAddr) -> bool {
        if from.is_ipv4() {
            filter::may_contain(&self.bitmap, &own::<Addr4>(to))
                || filter::may_contain_source(&self.bitmap, &own::<Addr4>(from))
        } else {
            filter::may_contain(&self.bitmap, &own::<Addr6>(to))
                || filter::may_contain_source(&self.bitmap, &own::<Addr6>(from))
        }
    }

    pub fn write_service(&mut self, id: u32, service: &world::Service) {
        let mut flags = if service.keep_source { service::flags::KEEP_SOURCE } else { 0 };
        flags |= if service.tells.overload { service::flags::REJECT } else { 0 };
        flags |= if service.tells.no_backend { service::flags::REJECT_NO_BACKEND } else { 0 };
        flags |= if service.access.is_empty() { 0 } else { service::flags::HAS_PREFIXES };
        flags |= if service.access.allow.is_empty() { 0 } else { service::flags::DENY_OTHERS };
        let (v4, v6) = service.client_prefix;
        let Raw(before) = self.settings.get(&id, 0).unwrap();
        let settings = ServiceSettings {
            scheduler: match service.scheduler {
                Scheduler::RoundRobin => service::scheduler::ROUND_ROBIN,
                Scheduler::LeastConnections => service::scheduler::LEAST_CONNECTIONS,
                Scheduler::Maglev => service::scheduler::MAGLEV,
                Scheduler::SourceHash => service::scheduler::SOURCE_HASH,
                Scheduler::Random => service::scheduler::RANDOM,
            },
            forwarding: match service.forwarding {
                Forwarding::Nat => service::forwarding::NAT,
                Forwarding::Dsr => service::forwarding::DSR,
                Forwarding::Ipip => service::forwarding::IPIP,
                Forwarding::Gue => service::forwarding::GUE,
            },
            flags,
            members: before.members,
            sticky: service.sticky.map_or(0, |time| time.as_secs().try_into().unwrap()),
            client_prefix: if service.address.is_ipv4() { v4 } else { v6 }.into(),
            limit: limit(service.limit),
            client_limit: limit(service.client_limit),
        };
        self.settings.set(id, Raw(settings), 0).unwrap();
        let bits = if service.on_host { node::address::HOST } else { 0 };
        if service.address.is_ipv4() {
            self.v4.write_prefixes(id, &service.access);
            self.v4.write_service(key(service), id, bits);
        } else {
            self.v6.write_prefixes(id, &service.access);
            self.v6.write_service(key(service), id, bits);
        }
    }

    /// Removes a service; `last`: of its address.
    pub fn remove_service(&mut self, service: &world::Service, last: bool) {
        if service.address.is_ipv4() {
            self.v4.remove_service(key(service), last);
        } else {
            self.v6.remove_service(key(service), last);
        }
    }

    pub fn write_ring(&mut self, id: u32, ring: &world::Ring) {
        let slots = &mut self.slots[usize::try_from(id).unwrap()];
        slots.set(0, u32::try_from(ring.slots.len()).unwrap(), 0).unwrap();
        // What follows is nobody: a ring of its own size would end there.
        let nobody = std::iter::repeat(&u32::MAX);
        for (at, backend) in (1..RING).zip(ring.slots.iter().chain(&ring.members).chain(nobody)) {
            slots.set(at, *backend, 0).unwrap();
        }
        let Raw(mut settings) = self.settings.get(&id, 0).unwrap();
        settings.members = ring.members.len().try_into().unwrap();
        self.settings.set(id, Raw(settings), 0).unwrap();
    }

    /// `v4`: its service is of IPv4.
    pub fn write_backend(&mut self, id: u32, backend: &world::Backend, v4: bool) {
        if v4 {
            self.v4.write_backend(id, backend);
        } else {
            self.v6.write_backend(id, backend);
        }
        let Some(tunnel) = backend.tunnel else { return };
        let mut mask = [0; 16];
        let at = if tunnel.source.is_ipv4() { 0 } else { 12 };
        mask[at..at + 4].copy_from_slice(&tunnel.varying.to_be_bytes());
        let value = Tunnel {
            destination: wide(backend.address),
            source: wide(tunnel.source),
            source_mask: Addr6::from_wire(mask),
            family: if backend.address.is_ipv4() { 4 } else { 6 },
            port: Be16::new(tunnel.port),
            reserved: 0,
        };
        self.tunnels.set(id, Raw(value), 0).unwrap();
    }

    /// Makes everything that is remembered older.
    pub fn age(&mut self, time: Duration) {
        self.v4.age(time);
        self.v6.age(time);
        for service in 0..u32::from(crate::spec::SERVICES) {
            let Raw(mut cursor) = self.cursors.get(&service, 0).unwrap();
            cursor.due = cursor.due.saturating_sub(u64::try_from(time.as_nanos()).unwrap());
            self.cursors.set(service, Raw(cursor), 0).unwrap();
        }
    }

    /// Runs a frame that came in by an interface: the action, and the frame as it is then.
    pub fn run(&self, interface: u32, frame: &[u8]) -> (u32, Vec<u8>) {
        let mut out = vec![0; frame.len() + 256];
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress.
        let length = u32::try_from(frame.len()).unwrap();
        let mut context = [0; 24];
        for (at, word) in [0, length, 0, interface].into_iter().enumerate() {
            context[at * 4..at * 4 + 4].copy_from_slice(&word.to_ne_bytes());
        }
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        let result = self.loaded.balancer().test_run(options).unwrap();
        out.truncate(result.data_size_out.try_into().unwrap());
        (result.return_value, out)
    }

    /// How often a verdict was given.
    pub fn verdict(&self, name: &str) -> u64 {
        let at = verdict::ALL.iter().position(|(known, ..)| *known == name);
        let Some(at) = at else { return 0 };
        self.verdicts.get(&at.try_into().unwrap(), 0).unwrap().iter().sum()
    }

    /// All verdicts that were given.
    pub fn given(&self) -> BTreeMap<&'static str, u64> {
        let counted = verdict::ALL.iter().map(|(name, ..)| (*name, self.verdict(name)));
        counted.filter(|(_, count)| *count != 0).collect()
    }

    /// Entries that each family's connection table holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The connection tables.
    pub fn entries(&self) -> BTreeMap<Flow, Entry> {
        let mut all = BTreeMap::new();
        self.v4.entries(&mut all);
        self.v6.entries(&mut all);
        all
    }

    /// The backend of a client's connection.
    pub fn backend_of(&self, client: &Flow) -> Option<u32> {
        if client.source.is_ipv4() {
            self.v4.connections.get(&Raw(wire(client)), 0).ok().map(|Raw(entry)| entry.backend)
        } else {
            self.v6.connections.get(&Raw(wire(client)), 0).ok().map(|Raw(entry)| entry.backend)
        }
    }

    /// What a backend has and had.
    pub fn load(&self, id: u32) -> Load {
        let Raw(state) = self.states.get(&id, 0).unwrap();
        let mut sum = BackendCounters::default();
        for cpu in self.counters.get(&id, 0).unwrap().iter() {
            sum.add(&cpu.0);
        }
        Load {
            open: state.open,
            established: state.established,
            received: (sum.packets_in, sum.bytes_in),
            sent: (sum.packets_out, sum.bytes_out),
            opened: sum.opened,
            closed: sum.closed,
            reset: sum.reset,
            refused: sum.refused,
            unanswered: sum.unanswered,
            redispatched: sum.redispatched,
            evicted: sum.evicted,
        }
    }

    /// How many source ports were taken in turn towards a backend.
    pub fn ports_taken(&self, id: u32) -> u64 {
        let Raw(state) = self.states.get(&id, 0).unwrap();
        state.next_source
    }

    /// Ends every connection.
    pub fn end_all(&self) -> u32 {
        self.v4.end_all(4, &self.loaded) + self.v6.end_all(6, &self.loaded)
    }
}

/// Ids of backends are below this.
pub fn ids() -> u32 {
    u32::from(crate::spec::SERVICES) * u32::from(crate::spec::BACKENDS)
}
