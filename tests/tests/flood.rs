//! A flood: millions of spoofed SYNs at full speed, beside which no established connection is lost and
//! a client that exists still connects.
//!
//! The real program runs over tables of its own, attached to nothing. Two CPUs send the flood from
//! inside the kernel, by the benchmark's wrapper program, as fast as they can. It knows addresses and
//! frames, and of the tables what the controller would write.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{Array, MapData, ProgramArray},
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use evenkeel::{
    config::{PortRange, PrefixLists, Protocol},
    dataplane::{Dataplane as _, Filter, Lifetimes, Timing},
    loader::{Datapath, Sizes, load_unpinned},
    plan::{
        BackendEntry, BackendId, NodePolicy, Policy, Ring, ServiceEntry, ServiceId, ServiceKey,
    },
};
use evenkeel_tests::{
    frame::{ACK, Frame, SYN},
    topology::VIP4,
};
use evenkeel_toolchain::{Object, Toolchain};
use lb_common::{net::Hop, service::ServiceSettings};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Connections that are established before the flood.
const ESTABLISHED: u32 = 100_000;
/// SYNs of the flood.
const SPOOFED: u32 = 5_000_000;
/// Backends, and addresses that NAT has towards each.
const BACKENDS: u8 = 4;
const SOURCES: u8 = 4;
/// The legitimate client's time from a packet to the answer: a round trip through a continent.
const ROUND_TRIP: Duration = Duration::from_millis(20);
/// Handshakes that it begins in each round trip.
const BATCH: u16 = 20;
/// Of its handshakes that many in a hundred must succeed, without a single retransmission.
const FLOOR: u64 = 95;

/// The bytes of a spoofed frame: what the wrapper lays.
const FRAME: usize = 80;

/// XDP's action codes (include/uapi/linux/bpf.h).
const TX: u32 = 3;
const REDIRECT: u32 = 4;

/// Where an IPv4 frame's source and destination address, and the two ports, lie.
const ADDRESSES: [usize; 2] = [26, 30];
const PORTS: [usize; 2] = [34, 36];

/// An address and a port.
type End = ([u8; 4], u16);

const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(VIP4), 80);

fn source(n: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, n).into()
}

/// The data path with the default room, its table filled as the controller would.
fn datapath() -> Datapath {
    let sizes = Sizes { services: 16, backends: 16, ..Sizes::default() };
    let mut datapath = load_unpinned(&sizes).unwrap();
    let tables = &mut datapath.tables;
    let (node, policy) = (
        NodePolicy::default(),
        Policy { settings: ServiceSettings::default(), prefixes: PrefixLists::default() },
    );
    let ours = (1..=SOURCES).map(source).chain([SERVICE.ip()]);
    let filter = Filter { destinations: ours.collect(), sources: BTreeSet::new() };
    tables.write_filter(&filter).unwrap();
    tables.write_node(&node, false).unwrap();
    tables.write_address(SERVICE.ip(), Some(false)).unwrap();
    let (id, key) = (ServiceId(0), ServiceKey { address: SERVICE, protocol: Protocol::Tcp });
    for n in 1..=BACKENDS {
        let address = SocketAddr::new(source(100 + n), 8080);
        let mut entry = BackendEntry::new("web".into(), format!("web-{n}"), address, Protocol::Tcp);
        entry.hop = Hop { interface: 77, source: [2; 6], destination: [2, 0, 0, 0, 1, n] };
        (entry.service_is_ipv4, entry.service_id, entry.active) = (true, id, true);
        entry.sources = (1..=SOURCES).map(source).collect();
        entry.ports = PortRange { low: 1024, high: 32_767 };
        tables.reset_backend(BackendId(n.into())).unwrap();
        tables.write_backend(BackendId(n.into()), &entry).unwrap();
    }
    let ring = Ring::of((1..=BACKENDS).map(|n| BackendId(n.into())).collect());
    let entry =
        ServiceEntry { name: "web".into(), key, ring, policy: Some(policy.clone()), live: true };
    tables.write_service_record(id, Some(&entry)).unwrap();
    tables.write_policy(id, &policy, entry.ring.members.len()).unwrap();
    tables.write_ring(id, &entry.ring).unwrap();
    tables.write_service(key, id).unwrap();
    datapath
}

/// One frame, sent again and again from other ends.
struct Sender<'a> {
    datapath: &'a Datapath,
    frame: Vec<u8>,
    out: Vec<u8>,
}

impl<'a> Sender<'a> {
    fn new(datapath: &'a Datapath, flags: u8) -> Self {
        let acknowledged = if flags & ACK == 0 { 0 } else { 1001 };
        let frame = Frame::tcp4().flags(flags).numbers(1000, acknowledged).build();
        Self { datapath, out: vec![0; frame.len()], frame }
    }

    /// Sends from one end to the other; returns the action, and the ends of what left. Transport
    /// checksums stay as they are: the program moves them on, and asks no more of them.
    fn send(&mut self, ends: [End; 2]) -> (u32, [End; 2]) {
        for (end, (address, port)) in ends.into_iter().zip(ADDRESSES.into_iter().zip(PORTS)) {
            self.frame[address..address + 4].copy_from_slice(&end.0);
            self.frame[port..port + 2].copy_from_slice(&end.1.to_be_bytes());
        }
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            data_out: Some(&mut self.out),
            ..TestRunOptions::new()
        };
        let ran = self.datapath.programs.balancer().unwrap().test_run(options).unwrap();
        let word = |at: usize| self.out[at..at + 4].try_into().unwrap();
        let port = |at: usize| u16::from_be_bytes([self.out[at], self.out[at + 1]]);
        let end = |n: usize| (word(ADDRESSES[n]), port(PORTS[n]));
        (ran.return_value, [end(0), end(1)])
    }

    fn client_sends(&mut self, client: End) -> (u32, [End; 2]) {
        self.send([client, (VIP4.octets(), SERVICE.port())])
    }
}

/// The three packets of a handshake, and one of data.
struct Client<'a> {
    opening: Sender<'a>,
    answer: Sender<'a>,
    acknowledgement: Sender<'a>,
}

impl<'a> Client<'a> {
    fn new(datapath: &'a Datapath) -> Self {
        let sender = |flags| Sender::new(datapath, flags);
        Self { opening: sender(SYN), answer: sender(SYN | ACK), acknowledgement: sender(ACK) }
    }

    /// Returns NAT's end and the backend's, where the SYN gets there.
    fn opens(&mut self, client: End) -> Option<[End; 2]> {
        let (action, ends) = self.opening.client_sends(client);
        (action == REDIRECT).then_some(ends)
    }

    fn is_answered(&mut self, client: End, [nat, backend]: [End; 2]) -> bool {
        let (action, [_, to]) = self.answer.send([backend, nat]);
        action == TX && to == client
    }

    /// Whether an acknowledgement goes where the connection is.
    fn reaches(&mut self, client: End, to: [End; 2]) -> bool {
        self.acknowledgement.client_sends(client) == (REDIRECT, to)
    }
}

/// The `n`-th of the clients whose connections are established before: of eight hosts.
fn settled(n: u32) -> End {
    let host = u8::try_from(n % 8).unwrap();
    ([198, 51, 100, host], u16::try_from(20_000 + n / 8).unwrap())
}

/// Connects and connects until told to stop; returns those that worked, and how many were tried.
fn legitimate(datapath: &Datapath, done: &AtomicBool) -> (Vec<(End, [End; 2])>, u64) {
    let mut client = Client::new(datapath);
    let (mut worked, mut tried) = (Vec::new(), 0);
    let mut next: u16 = 1024;
    while !done.load(Relaxed) && next < u16::MAX - BATCH {
        let batch: Vec<End> = (next..next + BATCH).map(|port| ([203, 0, 113, 9], port)).collect();
        next += BATCH;
        tried += u64::from(BATCH);
        let opened: Vec<_> =
            batch.iter().filter_map(|end| client.opens(*end).map(|to| (*end, to))).collect();
        thread::sleep(ROUND_TRIP / 2);
        let answered: Vec<_> =
            opened.into_iter().filter(|(end, to)| client.is_answered(*end, *to)).collect();
        thread::sleep(ROUND_TRIP / 2);
        worked.extend(answered.into_iter().filter(|(end, to)| client.reaches(*end, *to)));
    }
    (worked, tried)
}

/// The CPUs that this process may use, two of them where there are.
fn cpus() -> [usize; 2] {
    let allowed = sched_getaffinity(None).unwrap();
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).cycle();
    [cpus.next().unwrap(), cpus.next().unwrap()]
}

/// A wrapper's plan, as `lb-ebpf/src/bin/bench/` reads it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Plan {
    frame: [u8; FRAME],
    turn: u64,
    clients: u64,
    stride: u64,
    address_at: u64,
    port_at: u64,
}

// SAFETY: `repr(C)`, of bytes and words, in an order that leaves no padding.
unsafe impl aya::Pod for Plan {}

/// Half of a flood: the wrapper, which lays another client's SYN over the packet each time it runs.
struct Flood {
    wrapper: Ebpf,
    _targets: ProgramArray<MapData>,
}

impl Flood {
    /// A flood from the 2^32 ends of a network of its own, 100.`network`.0.0/16, in no order.
    fn new(datapath: &Datapath, object: &[u8], network: u8) -> Self {
        let mut wrapper = Ebpf::load(object).unwrap();
        let restore: &mut Xdp = wrapper.program_mut("restore").unwrap().try_into().unwrap();
        restore.load().unwrap();
        let client = IpAddr::from([100, network, 0, 0]);
        let frame = Frame::tcp4().from(client, 0).payload(&[0; 26]).build().try_into().unwrap();
        let plan = Plan {
            frame,
            turn: 0,
            clients: 1 << 32,
            stride: 0x9e37_79b1,
            address_at: 28,
            port_at: 34,
        };
        let mut plans = Array::try_from(wrapper.take_map("PLAN").unwrap()).unwrap();
        plans.set(0, plan, 0).unwrap();
        let mut targets = ProgramArray::try_from(wrapper.take_map("TARGET").unwrap()).unwrap();
        targets.set(0, datapath.programs.balancer().unwrap().fd().unwrap(), 0).unwrap();
        Self { wrapper, _targets: targets }
    }

    /// Sends its half from one CPU.
    fn send(&self, cpu: usize) {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set).unwrap();
        let restore: &Xdp = self.wrapper.program("restore").unwrap().try_into().unwrap();
        let repeat = SPOOFED / 2;
        let options =
            TestRunOptions { data_in: Some(&[0; FRAME]), repeat, ..TestRunOptions::new() };
        assert_ne!(restore.test_run(options).unwrap().return_value, 0, "the wrapper failed");
    }
}

/// The wrapper's object file, compiled where the program itself is.
fn wrapper() -> Vec<u8> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bpf");
    let toolchain = Toolchain::find().unwrap();
    fs::read(toolchain.build(Object::Bench, workspace, &target).unwrap()).unwrap()
}

/// Open, established and evicted connections of all backends, the first two by the program's count.
fn counts(datapath: &Datapath) -> (u64, u64, u64) {
    (1..=BACKENDS).fold((0, 0, 0), |all, n| {
        let id = BackendId(n.into());
        let (open, established) = datapath.tables.backend_state(id).unwrap();
        let counters = datapath.tables.backend_counters(id).unwrap();
        assert_eq!(counters.open(), open);
        (all.0 + open, all.1 + established, all.2 + counters.evicted)
    })
}

#[test]
fn a_flood_evicts_no_established_connection_and_clients_still_connect() {
    let datapath = &datapath();
    let mut client = Client::new(datapath);
    let connect = |n| {
        let end = settled(n);
        let to = client.opens(end).expect("room for all");
        assert!(client.is_answered(end, to) && client.reaches(end, to));
        (end, to)
    };
    let before: Vec<_> = (0..ESTABLISHED).map(connect).collect();
    assert_eq!(counts(datapath), (ESTABLISHED.into(), ESTABLISHED.into(), 0));

    let object = wrapper();
    let floods = [0, 1].map(|network| Flood::new(datapath, &object, network));
    let done = &AtomicBool::new(false);
    let (worked, tried, seconds) = thread::scope(|scope| {
        let client = scope.spawn(|| legitimate(datapath, done));
        let began = Instant::now();
        let floods = floods.iter().zip(cpus());
        let floods: Vec<_> =
            floods.map(|(flood, cpu)| scope.spawn(move || flood.send(cpu))).collect();
        let floods: Vec<_> = floods.into_iter().map(thread::ScopedJoinHandle::join).collect();
        let seconds = began.elapsed().as_secs_f64();
        // Also where they failed: the client goes on until then.
        done.store(true, Relaxed);
        assert!(floods.into_iter().all(|flood| flood.is_ok()));
        let (worked, tried) = client.join().unwrap();
        (worked, tried, seconds)
    });
    let succeeded = u64::try_from(worked.len()).unwrap();
    let (open, established, evicted) = counts(datapath);
    let dropped = datapath.tables.verdicts().unwrap();
    let dropped: Vec<_> =
        dropped.iter().filter(|(name, count)| name.starts_with("drop-") && *count > 0).collect();
    println!(
        "{SPOOFED} spoofed SYNs in {seconds:.1} s; {succeeded} of {tried} legitimate handshakes \
         succeeded at once; {evicted} unconfirmed connections evicted; {dropped:?}"
    );

    // Every connection that was established before is there, as it was, and so is what came during.
    for (end, to) in before.iter().chain(&worked) {
        assert!(client.reaches(*end, *to) && client.is_answered(*end, *to), "{end:?} was lost");
    }
    assert_eq!(established, u64::from(ESTABLISHED) + succeeded);
    let room = u64::from(Sizes::default().unconfirmed);
    assert!(open - established <= room, "{open} open, {established} of them established");
    // The flood went where it could: nobody was spared by its being turned away.
    let dropped: u64 = dropped.iter().map(|(_, count)| count).sum();
    assert!(dropped * 100 <= u64::from(SPOOFED), "{dropped} of {SPOOFED} dropped");
    assert!(evicted + dropped + room >= u64::from(SPOOFED), "{evicted} of {SPOOFED} evicted");
    assert!(tried >= 100 && succeeded * 100 >= tried * FLOOR, "{succeeded} of {tried} succeeded");

    let never = Duration::MAX;
    let never = Lifetimes {
        opening: never,
        established: never,
        closing: never,
        closed: never,
        time_wait: never,
        udp: never,
    };
    let timing = Timing { others: never, ..Timing::default() };
    let expire = datapath.programs.expire().unwrap();
    let census = datapath.connections.sweep(expire, &timing).unwrap();
    let found = census.open.values().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    assert_eq!(found, (open, established));
    assert_eq!(census.entries, 2 * open, "no half of a connection is left behind");
}
