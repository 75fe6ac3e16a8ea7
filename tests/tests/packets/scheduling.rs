//! Round-robin: over any number of new connections the split is exact to one per weight cycle,
//! whatever CPUs they arrive on, and over a change of the ring.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use evenkeel_tests::frame::{SYN, describe, parse};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{
    harness::{Harness, Setup, XDP_REDIRECT, backend_id, ring},
    world::{KINDS, Kind, TCP4, TCP6},
};

const WEIGHTS: [&[u8]; 5] = [&[1], &[1, 1], &[1, 1, 2], &[3, 1], &[1, 7, 2, 5]];

/// Clients in no order, none of them twice (splitmix64).
struct Clients {
    state: u64,
    seen: HashSet<(u32, u16)>,
}

impl Clients {
    fn new(seed: u64) -> Self {
        Self { state: seed, seen: HashSet::new() }
    }

    fn opening(&mut self, kind: Kind) -> Vec<u8> {
        let (host, port) = loop {
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let bytes = (mixed ^ (mixed >> 27)).to_be_bytes();
            let host = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
            let client = (host, u16::from_be_bytes([bytes[3] | 4, bytes[4]]));
            if self.seen.insert(client) {
                break client;
            }
        };
        let [_, a, b, c] = host.to_be_bytes();
        let ip: IpAddr = if kind.is_v4() {
            Ipv4Addr::new(100, a, b, c).into()
        } else {
            let low = u16::from_be_bytes([b, c]);
            Ipv6Addr::new(0x2001, 0xdb8, 1, a.into(), 0, 0, 0, low).into()
        };
        kind.frame(SYN).from(ip, port).build()
    }
}

/// Which backend, from one, a forwarded frame goes to.
fn taken(kind: Kind, bytes: &[u8]) -> u8 {
    let destination = parse(bytes).unwrap().destination;
    (1..=16).find(|n| kind.backend(*n).ip() == destination).expect("a backend")
}

fn opened(harness: &Harness, kind: Kind, backends: usize) -> Vec<u64> {
    (1..).take(backends).map(|n| harness.counters(kind, n).opened).collect()
}

#[test]
fn every_turn_takes_its_slot() {
    let harness = Harness::with(Setup { weights: vec![1; 4], ..Setup::default() });
    for kind in KINDS {
        let mut clients = Clients::new(7);
        let mut turns = 0;
        for weights in WEIGHTS {
            let ring = ring(kind, weights);
            harness.write_ring(kind, &ring);
            let before = opened(&harness, kind, weights.len());
            let mut counts = vec![0; weights.len()];
            // The turns go on where those of the ring before ended.
            let slots = ring.iter().cycle().skip(turns % ring.len());
            for (slot, turn) in slots.take(5 * ring.len() + 3).zip(1_usize..) {
                turns += 1;
                let frame = clients.opening(kind);
                let first = harness.run(&frame);
                let backend = taken(kind, &first.bytes);
                assert_eq!(backend_id(kind, backend), *slot, "{kind} {weights:?}");
                counts[usize::from(backend) - 1] += 1;
                // Its next packet takes no turn.
                assert_eq!(harness.run(&frame).bytes, first.bytes);
                if turn.is_multiple_of(ring.len()) {
                    let cycles = u64::try_from(turn / ring.len()).unwrap();
                    let fair: Vec<_> = weights.iter().map(|w| cycles * u64::from(*w)).collect();
                    assert_eq!(counts, fair, "{kind} {weights:?} after {turn}");
                }
            }
            let opened = opened(&harness, kind, weights.len());
            let opened: Vec<_> = opened.iter().zip(&before).map(|(now, then)| now - then).collect();
            assert_eq!(opened, counts, "{kind} {weights:?}");
        }
    }
}

/// The CPUs that this process may use, two of them where there are.
fn cpus() -> [usize; 2] {
    let allowed = sched_getaffinity(None).unwrap();
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).cycle();
    [cpus.next().unwrap(), cpus.next().unwrap()]
}

/// Sends from two threads, each pinned to a CPU, `counts` new connections.
fn from_two_cpus(harness: &Harness, kind: Kind, seed: u64, counts: [usize; 2]) {
    thread::scope(|scope| {
        for ((cpu, count), seed) in cpus().into_iter().zip(counts).zip([2 * seed, 2 * seed + 1]) {
            let mut clients = Clients::new(seed);
            scope.spawn(move || {
                let mut set = CpuSet::new();
                set.set(cpu);
                sched_setaffinity(None, &set).unwrap();
                for _ in 0..count {
                    let frame = clients.opening(kind);
                    let (action, _) = harness.send(None, &frame);
                    assert_eq!(action, XDP_REDIRECT, "{}", describe(&frame));
                }
            });
        }
    });
}

#[test]
fn the_split_is_exact_from_two_cpus_at_once() {
    for weights in [&[1, 1, 2][..], &[1, 7, 2, 5]] {
        let setup = Setup { weights: weights.into(), connections: 8192, ..Setup::default() };
        let harness = Harness::with(setup);
        let cycle = weights.iter().copied().map(usize::from).sum::<usize>();
        for kind in [TCP4, TCP6] {
            let mut total = 0;
            // Together whole cycles in the first round, and a part of one more after each other.
            for (seed, rest) in [(1, 0), (2, 1), (3, cycle - 2)] {
                from_two_cpus(&harness, kind, seed, [40 * cycle + 1, 20 * cycle - 1 + rest]);
                total += 60 * cycle + rest;
                let counts = opened(&harness, kind, weights.len());
                assert_eq!(counts.iter().sum::<u64>(), u64::try_from(total).unwrap());
                let whole = u64::try_from(total / cycle).unwrap();
                let part = u64::from(!total.is_multiple_of(cycle));
                for (count, weight) in counts.iter().zip(weights) {
                    let weight = u64::from(*weight);
                    let fair = whole * weight..=(whole + part) * weight;
                    assert!(fair.contains(count), "{kind} {weights:?}: {counts:?} of {total}");
                }
            }
        }
        assert_eq!(harness.verdict("drop-internal"), 0);
    }
}

#[test]
fn a_new_ring_shares_exactly_from_its_first_turn_and_moves_no_connection() {
    for (before, after) in [(&[1, 1][..], &[1, 1, 2][..]), (&[1, 7, 2, 5], &[0, 1, 1, 0])] {
        let weights = if before.len() > after.len() { before } else { after };
        let harness = Harness::with(Setup { weights: weights.into(), ..Setup::default() });
        for kind in KINDS {
            let mut clients = Clients::new(11);
            harness.write_ring(kind, &ring(kind, before));
            // In the middle of a cycle.
            let old: Vec<_> = (0..7).map(|_| clients.opening(kind)).collect();
            let went: Vec<_> = old.iter().map(|frame| harness.run(frame).bytes).collect();
            let counts = opened(&harness, kind, weights.len());
            let ring = ring(kind, after);
            harness.write_ring(kind, &ring);
            for cycles in 1..=4 {
                for _ in 0..ring.len() {
                    harness.run(&clients.opening(kind));
                }
                let fair = counts.iter().zip(after.iter().copied().chain([0; 8]));
                let fair: Vec<_> = fair.map(|(old, w)| old + cycles * u64::from(w)).collect();
                assert_eq!(opened(&harness, kind, weights.len()), fair, "{kind} {after:?}");
            }
            for (frame, went) in old.iter().zip(&went) {
                assert_eq!(&harness.run(frame).bytes, went, "{kind}");
            }
        }
    }
}

#[test]
fn a_ring_swapped_under_traffic_refuses_nobody() {
    // Ports for all on one backend: swaps fall as they will.
    let setup = Setup { weights: vec![1; 4], connections: 8192, ports: 8000, ..Setup::default() };
    let harness = Harness::with(setup);
    let rings: [&[u8]; 3] = [&[1, 7, 2, 5], &[1, 0, 1, 0], &[0, 0, 0, 1]];
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for weights in rings.iter().cycle() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                harness.write_ring(TCP4, &ring(TCP4, weights));
            }
        });
        let senders = panic::catch_unwind(AssertUnwindSafe(|| {
            from_two_cpus(&harness, TCP4, 5, [3000, 3000]);
        }));
        // Also where they failed: this scope waits for the thread that swaps.
        done.store(true, Ordering::Relaxed);
        senders.unwrap_or_else(|failure| panic::resume_unwind(failure));
    });
    assert_eq!(opened(&harness, TCP4, 4).iter().sum::<u64>(), 6000);
    assert_eq!(harness.verdict("to-backend"), 6000);
}
