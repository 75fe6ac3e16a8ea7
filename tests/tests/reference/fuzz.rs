//! A storm of broken frames over the loaded program: what it must never do, whatever comes.
//!
//! Frames begin as good ones, of every service and both directions; replies are made from what the
//! program itself sent to the backends. Then they are broken: bits and fields changed, parts cut,
//! doubled, put into each other.

use std::{collections::BTreeMap, net::SocketAddr, thread};

use evenkeel_tests::{
    frame::{self, ACK, Frame, SYN, TCP, UDP, describe, verify_checksums},
    model::{Model, State, world::Forwarding},
};

use crate::{
    generate,
    kernel::{Entry, Kernel, ids},
    play::Stage,
    random::Random,
    sequences::{on_stage, setting},
    spec::{BACKENDS, Backend, Case, Mode, Packet, SERVICES, Scheduler, Service, Step},
    world::{Interfaces, server_at},
};

/// Frames of `cargo xtask test`.
const FRAMES: u64 = 200_000;
/// Frames that are kept to break again.
const POOL: usize = 256;
/// CPUs that run the program at once.
const THREADS: u64 = 2;
/// Connections and places: enough for many, few enough to turn over.
const CONNECTIONS: u32 = 4096;
const PLACES: u32 = 1024;

/// `EVENKEEL_FRAMES` and `EVENKEEL_SEED` send more, or others.
#[test]
fn a_storm_of_broken_frames_does_no_harm() {
    let frames = setting("EVENKEEL_FRAMES", FRAMES);
    let seed = setting("EVENKEEL_SEED", 1);
    on_stage("fuzz", CONNECTIONS, PLACES, |stage| {
        let model = stage.set(&world(), PLACES);
        let Stage { kernel, interfaces } = stage;
        let threads = || {
            thread::scope(|scope| {
                let (kernel, model) = (&*kernel, &model);
                let storms: Vec<_> = (0..THREADS)
                    .map(|n| {
                        let storm = Storm::new(kernel, *interfaces, seed * THREADS + n);
                        scope.spawn(move || storm.blow(model, frames / THREADS))
                    })
                    .collect();
                storms.into_iter().map(|storm| storm.join().unwrap()).collect::<Vec<_>>()
            })
        };
        let mut actions = [0_u64; 5];
        for counted in threads() {
            for (sum, count) in actions.iter_mut().zip(counted) {
                *sum += count;
            }
        }
        println!("aborted, dropped, passed, sent back, sent on: {actions:?}");
        println!("{:#?}", kernel.given());
        let sent = frames / THREADS * THREADS;
        assert_eq!(kernel.given().values().sum::<u64>(), sent, "one verdict for every frame");
        assert!(actions[3] + actions[4] > sent / 20, "hardly anything was sent on: {actions:?}");
        are_consistent(kernel);
        kernel.end_all();
        assert!(kernel.entries().is_empty());
        for id in 0..ids() {
            let load = kernel.load(id);
            assert_eq!((load.open, load.established), (0, 0), "backend {id}: {load:?}");
            assert_eq!(load.opened, load.closed, "backend {id}: {load:?}");
        }
    });
}

/// Services of all modes, each with a few backends.
fn world() -> Case {
    let modes =
        [Mode::Nat, Mode::Gue, Mode::Nat, Mode::Ipip, Mode::Keep, Mode::Nat, Mode::Gue, Mode::Dsr];
    let schedulers = [
        Scheduler::RoundRobin,
        Scheduler::Maglev,
        Scheduler::LeastConnections,
        Scheduler::Random,
        Scheduler::SourceHash,
    ];
    let mut steps = Vec::new();
    for (service, mode) in (0..SERVICES).zip(modes) {
        let scheduler = schedulers[usize::from(service) % schedulers.len()];
        let reject = service % 2 == 0;
        let sticky = service % 3 == 0;
        let plain = Service { reject_no_backend: service % 4 < 2, ..Service::default() };
        steps.push(Step::Service(Service { service, scheduler, mode, reject, sticky, ..plain }));
        for backend in 0..BACKENDS {
            steps.push(Step::Backend(Backend {
                service,
                backend,
                weight: 1 + backend % 2,
                max_connections: if backend == 3 { 5 } else { 0 },
                mtu: if backend == 2 { 600 } else { 0 },
                other_family: backend % 2 == 1,
                more_sources: backend % 3,
                ports: if backend == 1 { 50 } else { 0 },
                ..Backend::default()
            }));
        }
    }
    Case { about: String::new(), places: 5, steps }
}

/// One thread's frames.
struct Storm<'a> {
    kernel: &'a Kernel,
    interfaces: Interfaces,
    random: Random,
    pool: Vec<(u32, Vec<u8>)>,
}

impl<'a> Storm<'a> {
    fn new(kernel: &'a Kernel, interfaces: Interfaces, seed: u64) -> Self {
        Self { kernel, interfaces, random: Random(seed), pool: Vec::new() }
    }

    /// Sends frames; returns how many got each action.
    fn blow(mut self, model: &Model, frames: u64) -> [u64; 5] {
        let mut actions = [0; 5];
        for number in 0..frames {
            let (interface, frame) = self.next(model);
            let (action, out) = self.kernel.run(interface, &frame);
            let context = || format!("frame {number}: {frame:02x?}\n{}", describe(&frame));
            match usize::try_from(action) {
                Ok(action @ 1..=4) => actions[action] += 1,
                _ => panic!("action {action}, {}", context()),
            }
            if action < 3 {
                assert!(out == frame, "it changed, and is not sent: {}", context());
                continue;
            }
            if let Err(reason) = is_sound(&frame, &out) {
                panic!("{reason}\n{}\nbecame {out:02x?}\n{}", context(), describe(&out));
            }
            self.keep(&out);
        }
        actions
    }

    /// The next frame, and by which interface it comes.
    fn next(&mut self, model: &Model) -> (u32, Vec<u8>) {
        let Self { random, interfaces, .. } = self;
        let (interface, mut frame) = if self.pool.is_empty() || random.one_in(3) {
            let who = Packet {
                service: random.small(SERVICES),
                client: random.small(4),
                port: random.small(8),
                to_port: random.small(4),
                ..Packet::default()
            };
            let packet = generate::packet(random, who, 12);
            (packet.ingress(interfaces), packet.frame(model))
        } else {
            let at = usize::try_from(random.below(self.pool.len() as u64)).unwrap();
            self.pool[at].clone()
        };
        if !random.one_in(3) {
            for _ in 0..=random.below(3) {
                self.damage(&mut frame);
                // The least that a test-run takes, and the most.
                frame.resize(frame.len().clamp(14, 3000), 0);
            }
        }
        (interface, frame)
    }

    /// Breaks a frame in one way.
    fn damage(&mut self, frame: &mut Vec<u8>) {
        let random = &mut self.random;
        let length = frame.len().max(1) as u64;
        let mut place = |end: u64| usize::try_from(random.below(end.max(1))).unwrap();
        // Headers are where it hurts.
        let (at, any) = (place(length.min(90)), place(length));
        let random = &mut self.random;
        match random.below(10) {
            0..=2 => frame[at] ^= 1 << random.below(8),
            3 => frame[at] = random.of(&[0, 1, 4, 5, 6, 0x0f, 0x45, 0x46, 0x60, 0x7f, 0x80, 0xff]),
            4 if at + 2 <= frame.len() => {
                let near = u16::try_from(length).unwrap_or(u16::MAX);
                let values = [0, 1, 7, 8, 20, 40, near, near - 1, near.wrapping_add(1), 0xffff];
                frame[at..at + 2].copy_from_slice(&random.of(&values).to_be_bytes());
            }
            5 => frame.truncate(any),
            6 => {
                let more = random.below(64);
                frame.extend((0..more).map(|_| u8::try_from(random.below(256)).unwrap()));
            }
            7 => {
                // Doubles a part.
                let end = (at + usize::try_from(random.below(48)).unwrap()).min(frame.len());
                let part = frame[at.min(end)..end].to_vec();
                frame.splice(at..at, part);
            }
            8 => {
                let end = (at + usize::try_from(random.below(16)).unwrap()).min(frame.len());
                frame.drain(at.min(end)..end);
            }
            _ => {
                if let Some((_, other)) = self.pool.get(any % POOL) {
                    let from = other.len().min(at);
                    frame.truncate(at);
                    frame.extend_from_slice(&other[from..]);
                }
            }
        }
    }

    /// Makes a backend's reply of what was sent to it, and keeps that.
    fn keep(&mut self, out: &[u8]) {
        let Ok(sent) = frame::parse(out) else { return };
        let reply = match (sent.protocol, sent.source.is_ipv4()) {
            (TCP, true) => Frame::tcp4(),
            (TCP, false) => Frame::tcp6(),
            (UDP, true) => Frame::udp4(),
            (UDP, false) => Frame::udp6(),
            _ => return,
        };
        let v4 = sent.destination.is_ipv4();
        let is_server = (0..BACKENDS).any(|n| server_at(n, v4) == sent.destination);
        let (from, to) = (
            SocketAddr::new(sent.destination, sent.destination_port),
            SocketAddr::new(sent.source, sent.source_port),
        );
        let mut reply = reply.from(from.ip(), from.port()).to(to.ip(), to.port());
        let (sequence, acknowledgement) = sent.numbers();
        if sent.protocol == TCP {
            let flags =
                if sent.flags & (SYN | ACK) == SYN { SYN | ACK } else { self.random.small(32) };
            reply = reply.flags(flags).numbers(acknowledgement, sequence.wrapping_add(1));
        }
        let interface =
            if is_server { self.interfaces.backends } else { self.interfaces.clients[0] };
        let kept = (interface, reply.build());
        if self.pool.len() < POOL {
            self.pool.push(kept);
        } else {
            let at = usize::try_from(self.random.below(POOL as u64)).unwrap();
            self.pool[at] = kept;
        }
    }
}

/// Whether what left is a frame as it should be: it can be read, and its checksums are right where
/// those of what came were, and wrong where they were wrong, unless it is a packet of our own.
fn is_sound(came: &[u8], left: &[u8]) -> Result<(), String> {
    let before = frame::parse(came).map_err(|error| format!("sent on, but broken: {error}"))?;
    let after = frame::parse(left).map_err(|error| format!("broken by us: {error}"))?;
    let own = before.source == after.destination && before.destination == after.source;
    match (verify_checksums(came), verify_checksums(left)) {
        (Ok(()), Err(reason)) => Err(format!("a checksum was right: {reason}")),
        (Err(reason), Ok(())) if !own => Err(format!("a wrong checksum became right: {reason}")),
        _ => Ok(()),
    }
}

/// Whether the tables agree with themselves: every entry has its partner, and the counts are those of
/// the entries.
fn are_consistent(kernel: &Kernel) {
    let entries = kernel.entries();
    let mut open: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for (flow, entry) in &entries {
        let Entry { rewrite, backend, state, .. } = entry;
        if entry.forwarding == Forwarding::Nat {
            let mut there = *flow;
            (there.destination, there.source) = *rewrite;
            let partner = entries.get(&there);
            assert!(partner.is_some(), "{flow:?} has no partner: {entry:?}");
            let partner = partner.unwrap();
            assert_eq!(partner.rewrite, (flow.destination, flow.source), "{flow:?} {entry:?}");
            assert_ne!(partner.reverse, entry.reverse, "{flow:?}");
            assert_eq!(partner.backend, entry.backend, "{flow:?}");
        }
        let State { established, closed, .. } = *state;
        if !entry.reverse && !closed {
            let counts = open.entry(*backend).or_default();
            *counts = (counts.0 + 1, counts.1 + u64::from(established));
        }
    }
    for id in 0..ids() {
        let load = kernel.load(id);
        let counts = open.get(&id).copied().unwrap_or_default();
        assert_eq!((load.open, load.established), counts, "backend {id}: {load:?}");
        assert_eq!(load.opened - load.closed, load.open, "backend {id}: {load:?}");
    }
}
