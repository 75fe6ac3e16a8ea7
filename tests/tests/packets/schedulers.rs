//! The schedulers beside round-robin, sticky clients, and changes of a running service: open
//! connections stay where they are.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread,
    time::Duration,
};

use evenkeel::{
    config::Scheduler,
    plan::{Member, Policy, Ring},
};
use evenkeel_tests::{
    frame::{PSH, SYN, parse},
    topology::Family,
};
use lb_common::service::{ServiceSettings, forwarding, scheduler};

use crate::{
    harness::{Harness, Setup, backend_id, ring, tunnel},
    modes::Mode,
    world::{KINDS, Kind, Link, TCP4, TCP6, UDP4, UDP6, Way, client_hash, flow_hash},
};

/// Slots of the hashing schedulers' tables.
const SIZE: u32 = 65_537;

/// Every scheduler with its number.
const SCHEDULERS: [(Scheduler, u32); 5] = [
    (Scheduler::RoundRobin, scheduler::ROUND_ROBIN),
    (Scheduler::LeastConnections, scheduler::LEAST_CONNECTIONS),
    (Scheduler::Maglev, scheduler::MAGLEV),
    (Scheduler::SourceHash, scheduler::SOURCE_HASH),
    (Scheduler::Random, scheduler::RANDOM),
];

fn policy(change: impl FnOnce(&mut ServiceSettings)) -> Policy {
    Setup::settings(change).policy
}

/// Room for some thousand connections to backends with these weights.
fn roomy(weights: &[u8]) -> Setup {
    Setup {
        weights: weights.to_vec(),
        connections: 16_384,
        unconfirmed: 16_384,
        ports: 30_000,
        ..Setup::default()
    }
}

/// Sets a kind's scheduler, with the ring that it compiles of `members`.
fn schedule(harness: &Harness, kind: Kind, number: usize, members: &[Member], sticky: u32) -> Ring {
    let (scheduler, number) = SCHEDULERS[number];
    let ring = Ring::compile(scheduler, members, SIZE);
    harness.write_compiled(kind, &ring);
    let policy = policy(|settings| (settings.scheduler, settings.sticky) = (number, sticky));
    harness.write_policy(kind, &policy, ring.members.len());
    ring
}

/// Backends by the numbers of their ids, each at the address that `place` numbers.
fn members(kind: Kind, weights: &[u8], place: impl Fn(u8) -> u8) -> Vec<Member> {
    let member = |(n, weight): (u8, &u8)| Member {
        id: backend_id(kind, n),
        weight: u16::from(*weight),
        address: kind.backend(place(n)),
    };
    (1..).zip(weights).filter(|(_, weight)| **weight > 0).map(member).collect()
}

/// The `n`-th client, and a port of it.
fn client(kind: Kind, n: u16, port: u16) -> (IpAddr, u16) {
    let [high, low] = n.to_be_bytes();
    let address = match kind.family {
        Family::V4 => IpAddr::from(Ipv4Addr::new(100, 64, high, low)),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, n, 2).into(),
    };
    (address, 10_000 + port)
}

fn opening(kind: Kind, client: (IpAddr, u16)) -> Vec<u8> {
    kind.frame(SYN).from(client.0, client.1).build()
}

/// By its address, the backend to which a client's connection is opened.
fn opens(harness: &Harness, kind: Kind, client: (IpAddr, u16)) -> u8 {
    let ran = harness.run(&opening(kind, client));
    assert_eq!(ran.verdict, "to-backend", "{kind}, {client:?}");
    let to = parse(&ran.bytes).unwrap().destination;
    (1..=15).find(|n| kind.backend(*n).ip() == to).expect("a backend")
}

/// The chi-square statistic of counts against weights.
fn chi_square(counts: &[u64], weights: &[u8]) -> f64 {
    let total: u64 = counts.iter().sum();
    let all: u64 = weights.iter().copied().map(u64::from).sum();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let expected = |weight: u8| total as f64 * f64::from(weight) / all as f64;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let term = |(count, weight): (&u64, &u8)| {
        (*count as f64 - expected(*weight)).powi(2) / expected(*weight)
    };
    counts.iter().zip(weights).map(term).sum()
}

/// Chance gets above it less than once in ten million times, with two degrees of freedom.
const UNLIKELY: f64 = 34.0;

fn opened(harness: &Harness, kind: Kind, backends: usize) -> Vec<u64> {
    (1..).take(backends).map(|n| harness.counters(kind, n).opened).collect()
}

#[test]
fn maglev_chooses_alike_on_every_edge() {
    let weights = [1, 2, 5];
    let reversed = |n: u8| 4 - n;
    let harnesses = [Harness::with(roomy(&weights)), Harness::with(roomy(&weights))];
    for kind in KINDS {
        let one = schedule(&harnesses[0], kind, 2, &members(kind, &weights, |n| n), 0);
        // Another edge has other ids for the same backends and names them in another order.
        for n in 1..=3 {
            harnesses[1].write_backend(kind, n, |entry| entry.address = kind.backend(reversed(n)));
        }
        let other: Vec<_> = weights.iter().rev().copied().collect();
        schedule(&harnesses[1], kind, 2, &members(kind, &other, reversed), 0);
        for n in 0..1000 {
            let client = client(kind, n % 71, n);
            let hash = flow_hash(kind, client, kind.service());
            let slot = one.slots[usize::try_from(hash % SIZE).unwrap()];
            let taken = opens(&harnesses[0], kind, client);
            assert_eq!(backend_id(kind, taken), slot, "{kind}, {client:?}");
            assert_eq!(opens(&harnesses[1], kind, client), taken, "{kind}, {client:?}");
        }
        let counts = opened(&harnesses[0], kind, 3);
        assert!(chi_square(&counts, &weights) < UNLIKELY, "{kind}: {counts:?}");
    }
}

#[test]
fn maglev_moves_few_flows_when_a_backend_leaves() {
    let harnesses = [Harness::with(roomy(&[1; 6])), Harness::with(roomy(&[1; 6]))];
    for kind in [TCP4, UDP6] {
        schedule(&harnesses[0], kind, 2, &members(kind, &[1; 6], |n| n), 0);
        schedule(&harnesses[1], kind, 2, &members(kind, &[1, 1, 0, 1, 1, 1], |n| n), 0);
        let mut moved = 0;
        for n in 0..2000 {
            let client = client(kind, n, 1);
            let [before, after] = [0, 1].map(|n: usize| opens(&harnesses[n], kind, client));
            assert_ne!(after, 3, "{kind}, {client:?}");
            moved += u32::from(before != 3 && before != after);
        }
        // Of those that need not move, a few in a hundred.
        assert!(moved < 100, "{kind}: {moved} moved");
    }
}

#[test]
fn source_hash_looks_at_the_client_alone() {
    let weights = [3, 1, 4];
    let harness = Harness::with(roomy(&weights));
    for kind in KINDS {
        let ring = schedule(&harness, kind, 3, &members(kind, &weights, |n| n), 0);
        for n in 0..600 {
            let hash = client_hash(client(kind, n, 0).0);
            let slot = ring.slots[usize::try_from(hash % SIZE).unwrap()];
            for port in [0, 1, 7777] {
                let taken = opens(&harness, kind, client(kind, n, port));
                assert_eq!(backend_id(kind, taken), slot, "{kind}, client {n}, port {port}");
            }
        }
        let counts: Vec<_> = opened(&harness, kind, 3).iter().map(|count| count / 3).collect();
        assert!(chi_square(&counts, &weights) < UNLIKELY, "{kind}: {counts:?}");
    }
}

#[test]
fn random_follows_the_weights() {
    let weights = [1, 2, 5];
    let harness = Harness::with(roomy(&weights));
    for kind in [TCP4, UDP6] {
        schedule(&harness, kind, 4, &members(kind, &weights, |n| n), 0);
        let mut in_a_row = 0;
        let mut last = 0;
        for n in 0..3000 {
            let taken = opens(&harness, kind, client(kind, n, 0));
            in_a_row += u32::from(taken == last);
            last = taken;
        }
        let counts = opened(&harness, kind, 3);
        assert!(chi_square(&counts, &weights) < UNLIKELY, "{kind}: {counts:?}");
        // The sum of the squares of the shares, 30/64 of 3000, and no pattern.
        assert!((1250..1560).contains(&in_a_row), "{kind}: {in_a_row} of 3000 in a row");
    }
}

#[test]
fn the_less_loaded_backend_gets_more() {
    for weights in [[1, 1, 1], [1, 3, 4]] {
        let harness = Harness::with(roomy(&weights));
        for kind in [TCP4, TCP6, UDP4] {
            // All go to the first one to begin with.
            let first = [members(kind, &weights, |n| n)[0]];
            schedule(&harness, kind, 0, &first, 0);
            for n in 0..150 {
                opens(&harness, kind, client(kind, n, 0));
            }
            schedule(&harness, kind, 1, &members(kind, &weights, |n| n), 0);
            let mut counts = [150_u64, 0, 0];
            for n in 150..300 {
                counts[usize::from(opens(&harness, kind, client(kind, n, 0))) - 1] += 1;
            }
            // Two slots of the loaded one alone send it more: one time in nine, or in 64.
            assert!(counts[0] < 150 + 45, "{kind}, {weights:?}: {counts:?}");
            for n in 300..2000 {
                counts[usize::from(opens(&harness, kind, client(kind, n, 0))) - 1] += 1;
            }
            let all: u64 = weights.iter().copied().map(u64::from).sum();
            for (count, weight) in counts.iter().zip(weights) {
                let fair = 2000 * u64::from(weight) / all;
                assert!(count.abs_diff(fair) < 60, "{kind}, {weights:?}: {counts:?}");
            }
            assert_eq!(opened(&harness, kind, 3), counts, "{kind}");
        }
    }
}

#[test]
fn a_new_scheduler_leaves_open_connections_where_they_are() {
    let weights = [1, 2, 2];
    let harness = Harness::with(roomy(&weights));
    for kind in KINDS {
        let members = members(kind, &weights, |n| n);
        let mut before: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for (number, turn) in [1, 2, 0, 4, 3, 2].into_iter().zip(0..) {
            let ring = schedule(&harness, kind, number, &members, 0);
            for (frame, left) in &before {
                assert_eq!(&harness.run(frame).bytes, left, "{kind}, scheduler {number}");
            }
            for n in 0..100 {
                let client = client(kind, n, turn);
                let taken = backend_id(kind, opens(&harness, kind, client));
                let hash = match number {
                    2 => Some(flow_hash(kind, client, kind.service())),
                    3 => Some(client_hash(client.0)),
                    _ => None,
                };
                if let Some(hash) = hash {
                    let slot = ring.slots[usize::try_from(hash % SIZE).unwrap()];
                    assert_eq!(taken, slot, "{kind}, scheduler {number}, {client:?}");
                }
                // An opening that is sent again late is another matter.
                let frame = kind.frame(PSH).from(client.0, client.1).build();
                let left = harness.run(&frame).bytes;
                before.push((frame, left));
            }
        }
        assert_eq!(opened(&harness, kind, 3).iter().sum::<u64>(), 600, "{kind}");
    }
}

#[test]
fn a_new_forwarding_mode_leaves_open_connections_in_theirs() {
    let harness = Harness::with(Mode::Ipip(Family::V4).setup());
    for kind in [TCP4, UDP4] {
        // The backend has the same address in all of these modes.
        let modes = [Mode::Nat, Mode::Dsr, Mode::Ipip(Family::V4), Mode::Dsr, Mode::Nat];
        let mut before: Vec<(Mode, Link)> = Vec::new();
        for (mode, turn) in modes.into_iter().zip(0..) {
            let policy = policy(|settings| settings.forwarding = mode.number());
            harness.write_policy(kind, &policy, 1);
            before.push((mode, mode.link(kind, turn)));
            for (old, link) in before.iter().rev() {
                let is_new = *old == mode && link.client.1 == mode.link(kind, turn).client.1;
                for (step, way, flags) in old.life() {
                    let flags = if is_new { flags } else { PSH };
                    let (frame, expected) = old.whole(link, way, &link.frame(way, flags), 64);
                    let name = format!("{kind}, {old} while {mode}: {step}");
                    harness.forwards(&name, way, &frame, &expected);
                }
            }
        }
        assert_eq!(harness.counters(kind, 1).opened, 5, "{kind}");
    }
    // From IPIP to GUE: the tunnel itself has another near end then, the packets their own form.
    let kind = TCP6;
    let harness = Harness::with(Mode::Ipip(Family::V6).setup());
    let [old, new] = [Mode::Ipip(Family::V6), Mode::Gue(Family::V6)];
    let link = old.link(kind, 0);
    let (frame, expected) = old.whole(&link, Way::Forth, &link.frame(Way::Forth, SYN), 64);
    harness.forwards("IPIP", Way::Forth, &frame, &expected);
    harness.write_backend(kind, 1, |entry| entry.tunnel = Some(tunnel(Family::V6, true)));
    harness.write_policy(kind, &policy(|settings| settings.forwarding = forwarding::GUE), 1);
    let link = new.link(kind, 1);
    let (frame, expected) = new.whole(&link, Way::Forth, &link.frame(Way::Forth, SYN), 64);
    harness.forwards("GUE", Way::Forth, &frame, &expected);
    let old = old.link(kind, 0).frame(Way::Forth, PSH).build();
    let ran = harness.run(&old);
    assert_eq!((ran.verdict, parse(&ran.bytes).unwrap().protocol), ("to-backend", 41));
}

#[test]
fn a_sticky_client_keeps_its_backend_with_every_scheduler() {
    let weights = [1, 2, 2];
    let harness = Harness::with(roomy(&weights));
    for kind in KINDS {
        let all = members(kind, &weights, |n| n);
        for (number, block) in (0..SCHEDULERS.len()).zip(0_u16..) {
            schedule(&harness, kind, number, &all, 600);
            let mut used = HashMap::<u8, u32>::new();
            for n in 100 * block..100 * block + 40 {
                let kept = opens(&harness, kind, client(kind, n, 0));
                *used.entry(kept).or_default() += 1;
                for port in 1..5 {
                    let taken = opens(&harness, kind, client(kind, n, port));
                    assert_eq!(taken, kept, "{kind}, scheduler {number}, client {n}");
                }
            }
            assert_eq!(used.len(), 3, "{kind}, scheduler {number}: {used:?}");
        }
        // The affinity outlives the scheduler that chose.
        let kept = opens(&harness, kind, client(kind, 1, 50));
        schedule(&harness, kind, 2, &all, 600);
        assert_eq!(opens(&harness, kind, client(kind, 1, 51)), kept, "{kind}");
    }
}

#[test]
fn affinity_ends_with_its_time() {
    let harness = Harness::with(roomy(&[1; 2]));
    // A slot each: without affinity, a client's connections take turns.
    let kinds = [TCP4, UDP6];
    for kind in kinds {
        schedule(&harness, kind, 0, &members(kind, &[1; 2], |n| n), 1);
    }
    let kept = kinds.map(|kind| opens(&harness, kind, client(kind, 1, 0)));
    for (kind, kept) in kinds.into_iter().zip(kept) {
        // Another client takes the second turn, and the third is the first backend's again.
        opens(&harness, kind, client(kind, 2, 0));
        assert_eq!(opens(&harness, kind, client(kind, 1, 1)), kept, "{kind}");
    }
    // Whole seconds are counted: two have passed for sure.
    thread::sleep(Duration::from_millis(2100));
    for kind in kinds {
        // An odd number of turns later: were it kept, they would not alternate.
        let [one, two] = [2, 3].map(|port| {
            thread::sleep(Duration::from_millis(2100));
            opens(&harness, kind, client(kind, 1, port))
        });
        assert_ne!(one, two, "{kind}");
    }
}

#[test]
fn a_backend_that_leaves_the_ring_loses_its_clients_to_one_that_keeps_them() {
    let harness = Harness::with(roomy(&[1; 3]));
    for kind in KINDS {
        let all = members(kind, &[1; 3], |n| n);
        schedule(&harness, kind, 0, &all, 600);
        let gone = opens(&harness, kind, client(kind, 1, 0));
        let rest: Vec<_> =
            all.iter().filter(|member| member.id != backend_id(kind, gone)).copied().collect();
        harness.write_backend(kind, gone, |entry| entry.active = false);
        schedule(&harness, kind, 0, &rest, 600);
        let next = opens(&harness, kind, client(kind, 1, 1));
        assert_ne!(next, gone, "{kind}");
        // It is back, and yet the client stays where it is now.
        harness.write_backend(kind, gone, |entry| entry.active = true);
        schedule(&harness, kind, 0, &all, 600);
        for port in 2..6 {
            assert_eq!(opens(&harness, kind, client(kind, 1, port)), next, "{kind}");
        }
        // Its open connection never left.
        let frame = kind.frame(PSH).from(client(kind, 1, 0).0, client(kind, 1, 0).1).build();
        let to = parse(&harness.run(&frame).bytes).unwrap().destination;
        assert_eq!(to, kind.backend(gone).ip(), "{kind}");
    }
}

#[test]
fn more_sticky_clients_than_there_is_room_for_forget_the_oldest() {
    let harness = Harness::with(Setup { clients: 64, ..roomy(&[1; 4]) });
    for kind in [TCP4, TCP6] {
        schedule(&harness, kind, 4, &members(kind, &[1; 4], |n| n), 600);
        for n in 0..1000 {
            let kept = opens(&harness, kind, client(kind, n, 0));
            // Whoever was last here is known.
            assert_eq!(opens(&harness, kind, client(kind, n, 1)), kept, "{kind}, client {n}");
        }
        // Of the first hundred, which are forgotten, chance sends a quarter to where it was.
        let again = |n: &u16| {
            let (address, port) = client(kind, *n, 0);
            let frame = kind.frame(PSH).from(address, port).build();
            let before = parse(&harness.run(&frame).bytes).unwrap().destination;
            let after = opens(&harness, kind, client(kind, *n, 2));
            kind.backend(after).ip() == before
        };
        let kept = (0..100).filter(again).count();
        assert!((5..60).contains(&kept), "{kind}: {kept} of 100");
    }
}

#[test]
fn what_the_hash_does_not_find_room_for_goes_to_another() {
    let harness = Harness::with(roomy(&[1; 3]));
    let kind = UDP4;
    let all = members(kind, &[1; 3], |n| n);
    let full = ring(kind, &[1; 3])[1];
    harness.write_backend(kind, 2, |entry| entry.max_connections = Some(1));
    schedule(&harness, kind, 2, &all, 0);
    // An established connection fills it.
    let filler = (0..1000).find(|n| opens(&harness, kind, client(kind, *n, 0)) == 2).unwrap();
    let link = Link { client: client(kind, filler, 0), ..Link::new(kind, 0) };
    let left = parse(&harness.run(&link.frame(Way::Forth, 0).build()).bytes).unwrap();
    let link = Link { source: (left.source, left.source_port), backend: 2, ..link };
    for way in [Way::Back, Way::Forth] {
        harness.run(&link.frame(way, 0).build());
    }
    for n in 1000..1300 {
        assert_ne!(backend_id(kind, opens(&harness, kind, client(kind, n, 0))), full);
    }
}
