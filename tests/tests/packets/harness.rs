//! The kernel harness: the real program over tables of its own, filled as the applier fills them,
//! and frames run through it one at a time.
//!
//! Whatever a frame is, [`Harness::run`] checks what holds for all of them: one verdict is counted,
//! the action is that verdict's, and a frame that is not ours or is dropped keeps its bytes.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use evenkeel::{
    config::PortRange,
    dataplane::{
        Census, ConnectionTable, Correction, Dataplane as _, Drift, Filter, Kernel, Lifetimes,
        Scope, Timing,
    },
    explain,
    loader::{self, Explain, Manner, Pins, Programs, Sizes},
    plan::{
        BackendEntry, BackendId, NodePolicy, Policy, Ring, ServiceEntry, ServiceId, ServiceKey,
        Tunnel,
    },
};
use evenkeel_tests::{
    frame::{ACK, SYN, describe, verify_checksums},
    netns::bpffs_directory,
    topology::Family,
};
use lb_common::{
    counters::BackendCounters,
    explain::Answer,
    net::Hop,
    service::{flags, forwarding},
};

pub use crate::setup::Setup;
use crate::world::{BACK_MAC, FIRST_PORT, KINDS, Kind, Link, Way, backend_mac};

/// XDP's action codes (include/uapi/linux/bpf.h).
pub const XDP_DROP: u32 = 1;
pub const XDP_PASS: u32 = 2;
pub const XDP_TX: u32 = 3;
pub const XDP_REDIRECT: u32 = 4;

/// What became of a frame.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The XDP action.
    pub action: u32,
    /// The frame as the program left it.
    pub bytes: Vec<u8>,
    /// The verdict that was counted.
    pub verdict: &'static str,
}

/// A loaded program with its tables.
pub struct Harness {
    tables: Mutex<Kernel>,
    programs: Programs,
    connections: ConnectionTable,
    setup: Setup,
    /// The verdicts as the last run left them; `None`: not known.
    counted: Mutex<Option<Vec<(&'static str, u64)>>>,
    pinned: Option<Pinned>,
}

/// Pins of the tables; they go when this is dropped.
struct Pinned {
    pins: Pins,
    explain: Explain,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Err(error) = self.pins.remove_all() {
            eprintln!("remove {}: {error:#}", self.pins.root().display());
        }
    }
}

/// The id of a kind's `n`-th backend, from one.
pub fn backend_id(kind: Kind, n: u8) -> BackendId {
    BackendId(kind.id().0 * 16 + u32::from(n))
}

/// The ring of backends with these weights: one turn after the other.
pub fn ring(kind: Kind, weights: &[u8]) -> Vec<BackendId> {
    let turns = (1..).zip(weights).flat_map(|(n, weight)| (0..*weight).map(move |_| n));
    turns.map(|n| backend_id(kind, n)).collect()
}

impl Harness {
    pub fn new() -> Self {
        Self::with(Setup::default())
    }

    pub fn with(setup: Setup) -> Self {
        let sizes = Sizes {
            connections: setup.connections,
            unconfirmed: setup.unconfirmed,
            clients: setup.clients,
            fragments: 1024,
            prefixes: setup.prefixes,
            services: 16,
            backends: 128,
        };
        let pinned = setup.pinned.then(|| {
            let pins = Pins::new(&bpffs_directory());
            pins.prepare().unwrap();
            Pinned { explain: Explain::new(pins.clone()), pins }
        });
        let datapath = match &pinned {
            Some(Pinned { pins, .. }) => loader::load(pins, &sizes, Manner::default()),
            None => loader::load_unpinned(&sizes),
        };
        let datapath = datapath.unwrap();
        let harness = Self {
            tables: Mutex::new(datapath.tables),
            programs: datapath.programs,
            connections: datapath.connections,
            setup,
            counted: Mutex::new(None),
            pinned,
        };
        harness.fill();
        harness
    }

    fn fill(&self) {
        let sources = |kind: Kind| (0..self.setup.sources).map(move |n| kind.source(n));
        let mut destinations: BTreeSet<_> = KINDS.into_iter().flat_map(sources).collect();
        destinations.extend(KINDS.map(|kind| kind.service().ip()));
        let keeps = self.setup.policy.settings.flags & flags::KEEP_SOURCE != 0;
        let backends = (1..).take(self.setup.weights.len());
        let backends = backends.flat_map(|n| KINDS.map(|kind| kind.backend(n).ip()));
        let sources = if keeps { backends.collect() } else { BTreeSet::new() };
        self.tables().write_filter(&Filter { destinations, sources }).unwrap();
        self.tables().write_prefixes(Scope::Node, &self.setup.node.prefixes).unwrap();
        self.tables().write_node(&self.setup.node, keeps).unwrap();
        for kind in KINDS {
            for n in (1..).take(self.setup.weights.len()) {
                let (id, entry) = (backend_id(kind, n), self.backend(kind, n));
                self.tables().reset_backend(id).unwrap();
                self.tables().write_backend_record(id, Some(&entry)).unwrap();
                self.tables().write_backend(id, &entry).unwrap();
            }
            let ip = kind.service().ip();
            let host = self.setup.node.host_addresses.contains(&ip);
            self.tables().write_address(ip, Some(host)).unwrap();
            let ring = Ring::of(ring(kind, &self.setup.weights));
            let policy = Some(self.setup.policy.clone());
            let name = kind.to_string();
            let entry = ServiceEntry { name, key: key(kind), ring, policy, live: true };
            self.tables().write_service_record(kind.id(), Some(&entry)).unwrap();
            self.write_policy(kind, &self.setup.policy, entry.ring.members.len());
            self.tables().write_ring(kind.id(), &entry.ring).unwrap();
            self.tables().write_service(entry.key, kind.id()).unwrap();
        }
    }

    fn tables(&self) -> MutexGuard<'_, Kernel> {
        self.tables.lock().unwrap()
    }

    fn backend(&self, kind: Kind, n: u8) -> BackendEntry {
        let name = format!("web-{n:02}");
        let mut entry = BackendEntry::new(kind.to_string(), name, kind.backend(n), kind.protocol);
        let interface = self.setup.interface;
        entry.hop = Hop { interface, source: BACK_MAC, destination: backend_mac(n) };
        entry.service_is_ipv4 = kind.is_v4();
        entry.service_id = kind.id();
        entry.active = true;
        entry.mtu = self.setup.mtu;
        entry.max_connections = self.setup.max_connections;
        entry.weight = self.setup.weights.get(usize::from(n) - 1).copied().unwrap_or(1).into();
        if self.setup.policy.settings.forwarding > forwarding::DSR {
            let far = self.setup.far_end.unwrap_or(kind.family);
            entry.address.set_ip(Kind { family: far, ..kind }.backend(n).ip());
            let gue = self.setup.policy.settings.forwarding == forwarding::GUE;
            entry.tunnel = Some(tunnel(far, gue));
        }
        entry.sources = (0..self.setup.sources).map(|n| kind.source(n)).collect();
        entry.ports = PortRange { low: FIRST_PORT, high: FIRST_PORT + self.setup.ports - 1 };
        entry
    }

    /// Makes known by which interface a backend is reached.
    pub fn write_way(&self, kind: Kind, n: u8, interface: u32) {
        let mut entry = self.backend(kind, n);
        entry.hop.interface = interface;
        self.tables().write_backend(backend_id(kind, n), &entry).unwrap();
    }

    /// Swaps a kind's ring for these turns.
    pub fn write_ring(&self, kind: Kind, ring: &[BackendId]) {
        let ring = Ring::of(ring.to_vec());
        self.tables().write_ring(kind.id(), &ring).unwrap();
        self.write_policy(kind, &self.setup.policy, ring.members.len());
    }

    /// Swaps a kind's ring for a compiled one.
    pub fn write_compiled(&self, kind: Kind, ring: &Ring) {
        self.tables().write_ring(kind.id(), ring).unwrap();
        self.write_policy(kind, &self.setup.policy, ring.members.len());
    }

    /// Sets how a kind's service schedules and forwards.
    pub fn write_policy(&self, kind: Kind, policy: &Policy, members: usize) {
        let mut tables = self.tables();
        tables.write_prefixes(Scope::Service(kind.id()), &policy.prefixes).unwrap();
        tables.write_policy(kind.id(), policy, members).unwrap();
    }

    /// Sets what the whole node does.
    pub fn write_node(&self, node: &NodePolicy) {
        let keeps = self.setup.policy.settings.flags & flags::KEEP_SOURCE != 0;
        let mut tables = self.tables();
        tables.write_prefixes(Scope::Node, &node.prefixes).unwrap();
        tables.write_node(node, keeps).unwrap();
    }

    /// Makes a service of every port at a kind's address, beside the one that is there.
    pub fn write_every_port(&self, kind: Kind, ring: &[BackendId]) {
        let (id, ring) = (ServiceId(8 + kind.id().0), Ring::of(ring.to_vec()));
        let key = ServiceKey { address: SocketAddr::new(kind.service().ip(), 0), ..key(kind) };
        let mut tables = self.tables();
        tables.write_policy(id, &self.setup.policy, ring.members.len()).unwrap();
        tables.write_ring(id, &ring).unwrap();
        tables.write_service(key, id).unwrap();
    }

    /// Writes a kind's `n`-th backend, changed.
    pub fn write_backend(&self, kind: Kind, n: u8, change: impl FnOnce(&mut BackendEntry)) {
        let mut entry = self.backend(kind, n);
        change(&mut entry);
        self.tables().write_backend(backend_id(kind, n), &entry).unwrap();
    }

    /// Makes a kind's service known no more; its connections stay.
    pub fn remove_service(&self, kind: Kind) {
        self.tables().remove_service(key(kind)).unwrap();
        self.write_ring(kind, &[]);
    }

    /// The program that the interfaces would run.
    pub fn balancer(&self) -> &Xdp {
        self.programs.balancer().unwrap()
    }

    /// Asks what would become of a client's next connection to a kind's service.
    pub fn explain(&self, kind: Kind, client: SocketAddr) -> Answer {
        let pinned = self.pinned.as_ref().expect("a setup whose tables are pinned");
        let ask = |program: &Xdp| explain::ask(program, client, kind.service(), kind.protocol);
        pinned.explain.with(ask).unwrap()
    }

    /// Runs a frame that came in by the loopback.
    pub fn run(&self, frame: &[u8]) -> Ran {
        self.run_from(None, frame)
    }

    /// Runs a frame that came in by `interface`, which this thread's namespace must have.
    pub fn run_from(&self, interface: Option<u32>, frame: &[u8]) -> Ran {
        let known = self.counted.lock().unwrap().take();
        let before = known.unwrap_or_else(|| self.verdicts());
        let (action, bytes) = self.send(interface, frame);
        let after = self.verdicts();
        let moved: Vec<_> = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before.1 != after.1)
            .map(|((name, before), (_, after))| (*name, after - before))
            .collect();
        *self.counted.lock().unwrap() = Some(after);
        let [(verdict, 1)] = moved[..] else {
            panic!("not one verdict, but {moved:?} for\n{}", describe(frame));
        };
        let ran = Ran { action, bytes, verdict };
        let context = || format!("{verdict} for\n{}", describe(frame));
        let rewritten = ["to-", "icmp-", "reply-"].iter().any(|head| verdict.starts_with(head))
            || verdict == "pass-no-next-hop";
        match verdict.split_once('-').unwrap().0 {
            "reply" => assert_eq!(ran.action, XDP_TX, "{}", context()),
            "to" | "icmp" => assert!([XDP_TX, XDP_REDIRECT].contains(&ran.action), "{}", context()),
            "pass" => assert_eq!(ran.action, XDP_PASS, "{}", context()),
            _ => assert_eq!(ran.action, XDP_DROP, "{}", context()),
        }
        if rewritten {
            let right = |bytes: &[u8]| verify_checksums(bytes).is_ok();
            assert_eq!(right(&ran.bytes), right(frame), "checksums after {}", context());
        } else {
            assert_eq!(ran.bytes, frame, "{}", context());
        }
        ran
    }

    /// Runs a frame and checks nothing: several threads may do so at once.
    pub fn send(&self, interface: Option<u32>, frame: &[u8]) -> (u32, Vec<u8>) {
        *self.counted.lock().unwrap() = None;
        let mut out = vec![0; frame.len() + 256];
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress.
        let length = u32::try_from(frame.len()).unwrap();
        let context = [0, length, 0, interface.unwrap_or_default(), 0, 0];
        let context: Vec<u8> = context.into_iter().flat_map(u32::to_ne_bytes).collect();
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: interface.is_some().then_some(&context),
            ..TestRunOptions::new()
        };
        let result = self.programs.balancer().unwrap().test_run(options).unwrap();
        out.truncate(result.data_size_out.try_into().unwrap());
        (result.return_value, out)
    }

    /// A frame that must pass untouched.
    pub fn passes(&self, name: &str, frame: &[u8], verdict: &str) {
        let ran = self.run(frame);
        assert_eq!((ran.verdict, ran.action), (verdict, XDP_PASS), "{name}");
        assert_eq!(ran.bytes, frame, "{name}");
    }

    /// A frame that must be dropped.
    pub fn drops(&self, name: &str, frame: &[u8], verdict: &str) {
        let ran = self.run(frame);
        assert_eq!((ran.verdict, ran.action), (verdict, XDP_DROP), "{name}");
    }

    /// A frame that must leave as `expected`.
    pub fn forwards(&self, name: &str, way: Way, frame: &[u8], expected: &[u8]) {
        let ran = self.run(frame);
        let (verdict, action) = match way {
            Way::Forth => ("to-backend", XDP_REDIRECT),
            // The harness's clients come by the loopback, and so do the replies' packets.
            Way::Back => ("to-client", XDP_TX),
        };
        assert_eq!((ran.verdict, ran.action), (verdict, action), "{name}");
        same(name, &ran.bytes, expected);
    }

    /// A connection's plain packet, which must be forwarded as the connection says.
    pub fn carries(&self, link: &Link, way: Way, flags: u8) {
        let (frame, expected) = link.plain(way, flags);
        self.forwards(&format!("{} {way:?} {flags:#04x}", link.kind), way, &frame, &expected);
    }

    /// A connection's handshake, which confirms it: over UDP a datagram, its answer and another one.
    pub fn connects(&self, link: &Link) {
        self.carries(link, Way::Forth, SYN);
        self.carries(link, Way::Back, SYN | ACK);
        self.carries(link, Way::Forth, ACK);
    }

    /// A kind's counters of its `n`-th backend.
    pub fn counters(&self, kind: Kind, n: u8) -> BackendCounters {
        self.tables().backend_counters(backend_id(kind, n)).unwrap()
    }

    /// Connections opened at and ended by a backend.
    pub fn opened_closed(&self, kind: Kind, n: u8) -> (u64, u64) {
        let counters = self.counters(kind, n);
        (counters.opened, counters.closed)
    }

    fn verdicts(&self) -> Vec<(&'static str, u64)> {
        self.tables().verdicts().unwrap()
    }

    /// How often a verdict was given.
    pub fn verdict(&self, name: &str) -> u64 {
        self.verdicts().iter().find(|(known, _)| *known == name).unwrap().1
    }

    /// Entries of a kind's connections, two for each.
    pub fn entries(&self, kind: Kind) -> u64 {
        self.census().by_service.get(&kind.id()).copied().unwrap_or_default()
    }

    /// What the connection tables hold; nothing is ended.
    pub fn census(&self) -> Census {
        let census = self.sweep(&lifetimes(Duration::MAX));
        assert_eq!(census.ended, 0);
        census
    }

    pub fn sweep(&self, lifetimes: &Lifetimes) -> Census {
        let timing = Timing { others: *lifetimes, ..Timing::default() };
        self.connections.sweep(self.programs.expire().unwrap(), &timing).unwrap()
    }

    /// A walk that ends nothing, and what it corrected.
    pub fn reconcile(&self, drift: &mut Drift) -> Vec<Correction> {
        let timing = Timing { others: lifetimes(Duration::MAX), ..Timing::default() };
        let expire = self.programs.expire().unwrap();
        self.connections.reconcile(expire, &timing, drift).unwrap().1
    }

    /// The program's own count of a backend's open and established connections.
    pub fn load(&self, kind: Kind, n: u8) -> (u64, u64) {
        self.tables().backend_state(backend_id(kind, n)).unwrap()
    }

    /// Sets all that is counted of a backend to zero, whatever is open.
    pub fn forget(&self, kind: Kind, n: u8) {
        self.tables().reset_backend(backend_id(kind, n)).unwrap();
    }

    pub fn cut(&self, kind: Kind, n: u8) -> Census {
        self.connections.cut(self.programs.expire().unwrap(), backend_id(kind, n)).unwrap()
    }
}

fn key(kind: Kind) -> ServiceKey {
    ServiceKey { address: kind.service(), protocol: kind.protocol }
}

/// The tunnel to a backend of a family: of a whole prefix for IPIP, of one address for GUE.
pub fn tunnel(far: Family, gue: bool) -> Tunnel {
    let (source, source_bits): (&str, u8) = match (far, gue) {
        (Family::V4, false) => ("198.18.0.0", 16),
        (Family::V4, true) => ("10.0.0.2", 32),
        (Family::V6, false) => ("100::", 64),
        (Family::V6, true) => ("2001:db8:2::2", 128),
    };
    Tunnel { source: source.parse().unwrap(), source_bits, gue_port: gue.then_some(GUE_PORT) }
}

/// The port of GUE at the backends.
pub const GUE_PORT: u16 = 6080;

/// The same lifetime in every state.
pub fn lifetimes(all: Duration) -> Lifetimes {
    Lifetimes {
        opening: all,
        established: all,
        closing: all,
        closed: all,
        time_wait: all,
        udp: all,
    }
}

/// Compares frames, legibly.
pub fn same(name: &str, got: &[u8], expected: &[u8]) {
    assert!(
        got == expected,
        "{name}\n--- got\n{}\n--- expected\n{}\n{got:02x?}\n{expected:02x?}",
        describe(got),
        describe(expected)
    );
}
