//! Guards: who may open a connection, and how often. Established connections are never theirs.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread,
    time::{Duration, Instant},
};

use evenkeel::{
    config::{Prefix, PrefixLists},
    plan::{NodePolicy, Policy},
};
use evenkeel_tests::frame::{ACK, Frame, SYN};
use lb_common::service::{Limit, flags};

use crate::{
    harness::{Harness, Setup},
    modes::Mode,
    world::{KINDS, Kind, LIFE, Link, TCP4, TCP6, UDP4, UDP6, Way},
};

/// An interval after which no token comes within a test.
const NEVER: u64 = 3_600_000_000_000;
/// One that a slow machine's few packets fit into.
const SLOW: u64 = 1_500_000_000;

fn lists(allow: &[&str], deny: &[&str]) -> PrefixLists {
    let parse = |texts: &[&str]| {
        let mut prefixes: Vec<Prefix> = texts.iter().map(|text| text.parse().unwrap()).collect();
        prefixes.sort();
        prefixes
    };
    PrefixLists { allow: parse(allow), deny: parse(deny) }
}

/// A service's policy with these prefixes.
fn policy(prefixes: PrefixLists) -> Policy {
    let mut policy = Setup::default().policy;
    let mut set = |condition: bool, flag: u32| {
        policy.settings.flags |= if condition { flag } else { 0 };
    };
    set(!prefixes.is_empty(), flags::HAS_PREFIXES);
    set(!prefixes.allow.is_empty(), flags::DENY_OTHERS);
    policy.prefixes = prefixes;
    policy
}

fn from(kind: Kind, client: &str, port: u16) -> Vec<u8> {
    let client: IpAddr = client.parse().unwrap();
    kind.frame(SYN).from(client, port).build()
}

/// Checks who is let in; each by a port of its own.
fn admits(harness: &Harness, name: &str, cases: &[(&str, bool)], port: u16) {
    for kind in KINDS {
        for (client, admitted) in cases {
            if client.parse::<IpAddr>().unwrap().is_ipv4() != kind.is_v4() {
                continue;
            }
            let verdict = harness.run(&from(kind, client, port)).verdict;
            let expected = if *admitted { "to-backend" } else { "drop-denied" };
            assert_eq!(verdict, expected, "{name}, {kind}, {client}");
        }
    }
}

const DENY: [&str; 5] =
    ["203.0.113.0/24", "198.51.100.66", "2001:db8:bad::/48", "2001:db8:1::66", "10.0.0.0/8"];
const DENIED: [(&str, bool); 12] = [
    ("203.0.113.0", false),
    ("203.0.113.255", false),
    ("203.0.112.255", true),
    ("203.0.114.0", true),
    ("198.51.100.66", false),
    ("198.51.100.67", true),
    ("10.255.0.1", false),
    ("2001:db8:bad::1", false),
    ("2001:db8:bad:ffff:ffff:ffff:ffff:ffff", false),
    ("2001:db8:bae::1", true),
    ("2001:db8:1::66", false),
    ("2001:db8:1::67", true),
];

/// With an allow list everybody else is denied, and the longest prefix wins.
const BOTH: ([&str; 5], [&str; 5]) = (
    ["100.64.0.0/10", "100.64.7.9/32", "0.0.0.0/2", "2001:db8::/32", "2001:db8:7:7::/64"],
    ["100.64.7.0/24", "16.0.0.0/4", "2001:db8:7::/48", "2001:db8:7:7::9", "100.64.0.0/16"],
);
const EITHER: [(&str, bool); 13] = [
    ("100.65.0.1", true),
    ("100.64.7.8", false),
    ("100.64.7.9", true),
    ("100.64.8.1", false),
    ("100.128.0.1", false),
    ("9.9.9.9", true),
    ("17.0.0.1", false),
    ("198.51.100.2", false),
    ("2001:db8:1::2", true),
    ("2001:db8:7:8::1", false),
    ("2001:db8:7:7::8", true),
    ("2001:db8:7:7::9", false),
    ("2001:db9::1", false),
];

#[test]
fn a_services_prefixes_say_who_comes_in() {
    let harness = Harness::new();
    let everybody: Vec<_> = DENIED.iter().map(|(client, _)| (*client, true)).collect();
    admits(&harness, "no list", &everybody, 1);
    for kind in KINDS {
        harness.write_policy(kind, &policy(lists(&[], &DENY)), 1);
    }
    admits(&harness, "denied", &DENIED, 2);
    for kind in KINDS {
        harness.write_policy(kind, &policy(lists(&BOTH.0, &BOTH.1)), 1);
    }
    admits(&harness, "allowed and denied", &EITHER, 3);
    for kind in KINDS {
        harness.write_policy(kind, &policy(PrefixLists::default()), 1);
    }
    admits(&harness, "no list again", &everybody, 4);
    // One service's list is not another's.
    harness.write_policy(TCP4, &policy(lists(&[], &["0.0.0.0/0", "::/0"])), 1);
    harness.drops("its own", &from(TCP4, "100.64.0.1", 5), "drop-denied");
    assert_eq!(harness.run(&from(UDP4, "100.64.0.1", 5)).verdict, "to-backend");
    assert_eq!(harness.run(&from(TCP6, "2001:db8::1", 5)).verdict, "to-backend");
}

#[test]
fn the_nodes_prefixes_come_before_a_services() {
    let harness = Harness::new();
    harness.write_node(&NodePolicy { prefixes: lists(&[], &DENY), ..NodePolicy::default() });
    admits(&harness, "denied", &DENIED, 1);
    // Whom the node denies no service lets in, and whom it lets in a service may deny.
    for kind in KINDS {
        harness.write_policy(kind, &policy(lists(&["0.0.0.0/0", "::/0"], &[])), 1);
    }
    admits(&harness, "denied by the node", &DENIED, 2);
    for kind in KINDS {
        harness.write_policy(kind, &policy(lists(&[], &["198.51.100.67", "2001:db8:1::67"])), 1);
    }
    let both = [("198.51.100.67", false), ("2001:db8:1::67", false), ("100.64.0.1", true)];
    admits(&harness, "denied by the service", &both, 3);
    for kind in KINDS {
        harness.write_policy(kind, &Setup::default().policy, 1);
    }
    let prefixes = lists(&BOTH.0, &BOTH.1);
    harness.write_node(&NodePolicy { prefixes, ..NodePolicy::default() });
    admits(&harness, "allowed and denied", &EITHER, 4);
    harness.write_node(&NodePolicy::default());
    let everybody: Vec<_> = EITHER.iter().map(|(client, _)| (*client, true)).collect();
    admits(&harness, "no list", &everybody, 5);
}

#[test]
fn denial_cuts_no_connection() {
    for mode in [Mode::Nat, Mode::Dsr] {
        let harness = Harness::with(mode.setup());
        let everybody = lists(&[], &["0.0.0.0/0", "::/0"]);
        let lives = |kind: Kind| {
            let link = mode.link(kind, 0);
            for (step, way, flags) in mode.life() {
                let flags = if flags == SYN { ACK } else { flags };
                let (frame, expected) = mode.whole(&link, way, &link.frame(way, flags), 64);
                harness.forwards(&format!("{mode}, {kind}: {step}"), way, &frame, &expected);
            }
        };
        for kind in KINDS {
            let link = mode.link(kind, 0);
            for (_, way, flags) in LIFE.into_iter().filter(|life| mode.ways().contains(&life.1)) {
                harness.run(&link.frame(way, flags).build());
            }
            let mut policy = policy(everybody.clone());
            policy.settings.forwarding = mode.number();
            harness.write_policy(kind, &policy, 1);
            let new = mode.link(kind, 1).frame(Way::Forth, SYN).build();
            harness.drops(&format!("{mode}, {kind}"), &new, "drop-denied");
            lives(kind);
        }
        let prefixes = everybody.clone();
        harness.write_node(&NodePolicy { prefixes, ..NodePolicy::default() });
        KINDS.into_iter().for_each(lives);
    }
}

#[test]
fn a_denied_client_takes_no_token_and_no_room() {
    let harness = Harness::new();
    for kind in [TCP4, UDP6] {
        let mut policy = policy(lists(&[], &["198.51.100.66", "2001:db8:1::66"]));
        policy.settings.limit = Limit { interval: NEVER, tolerance: 0 };
        harness.write_policy(kind, &policy, 1);
        let denied = if kind.is_v4() { "198.51.100.66" } else { "2001:db8:1::66" };
        for port in 1..20 {
            harness.drops("denied", &from(kind, denied, port), "drop-denied");
        }
        let other = Link::new(kind, 0).frame(Way::Forth, SYN).build();
        assert_eq!(harness.run(&other).verdict, "to-backend", "{kind}");
        assert_eq!(harness.counters(kind, 1).opened, 1, "{kind}");
    }
}

/// Prefixes of all lengths in no order (splitmix64), each once.
fn many(count: usize) -> PrefixLists {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let mut prefixes = std::collections::BTreeSet::new();
    while prefixes.len() < count {
        let (bits, length) = (next(), next());
        let prefix = if prefixes.len() % 2 == 0 {
            let length = u8::try_from(8 + length % 25).unwrap();
            let address = Ipv4Addr::from_bits(u32::try_from(bits >> 32).unwrap());
            Prefix::cut(address.into(), length)
        } else {
            let length = u8::try_from(20 + length % 109).unwrap();
            // Of few /24, so that prefixes lie within each other.
            let high = 0x2001_0d00_0000_0000 | bits >> 32;
            let address = u128::from(high) << 64 | u128::from(next());
            Prefix::cut(Ipv6Addr::from_bits(address).into(), length)
        };
        prefixes.insert(prefix);
    }
    let (mut allow, mut deny) = (Vec::new(), Vec::new());
    for prefix in prefixes {
        if next() % 2 == 0 { allow.push(prefix) } else { deny.push(prefix) }
    }
    PrefixLists { allow, deny }
}

/// The longest of the prefixes that contain an address; nobody else is allowed.
fn is_allowed(lists: &PrefixLists, address: IpAddr) -> bool {
    let longest = |list: &[Prefix]| {
        let matching = list.iter().filter(|prefix| prefix.contains(address));
        matching.map(|prefix| prefix.length).max()
    };
    match (longest(&lists.allow), longest(&lists.deny)) {
        (None, _) => false,
        (allow, deny) => allow > deny,
    }
}

#[test]
fn a_hundred_thousand_prefixes_are_loaded_fast_and_looked_up_right() {
    let lists = many(100_000);
    let harness = Harness::with(Setup { prefixes: 131_072, ..Setup::default() });
    let start = Instant::now();
    harness.write_node(&NodePolicy { prefixes: lists.clone(), ..NodePolicy::default() });
    let loaded = start.elapsed();
    println!("100,000 prefixes were loaded in {loaded:?}");
    // A second on an idle machine; no longer than a person waits for it on a busy one.
    assert!(loaded < Duration::from_secs(30), "{loaded:?}");
    let mut said = [0; 2];
    let sample = lists.allow.iter().chain(&lists.deny).step_by(149);
    for (prefix, port) in sample.zip(1..) {
        // Its first address, its last, and the one after that.
        let ends = match prefix.address {
            IpAddr::V4(v4) => {
                let last = v4.to_bits() | u32::MAX.checked_shr(prefix.length.into()).unwrap_or(0);
                [v4.to_bits(), last, last.wrapping_add(1)].map(|bits| Ipv4Addr::from(bits).into())
            }
            IpAddr::V6(v6) => {
                let last = v6.to_bits() | u128::MAX.checked_shr(prefix.length.into()).unwrap_or(0);
                [v6.to_bits(), last, last.wrapping_add(1)].map(|bits| Ipv6Addr::from(bits).into())
            }
        };
        for address in ends {
            let kind = if prefix.address.is_ipv4() { UDP4 } else { UDP6 };
            let frame: Frame = kind.frame(0);
            let verdict = harness.run(&frame.from(address, port).build()).verdict;
            let allowed = is_allowed(&lists, address);
            said[usize::from(allowed)] += 1;
            // A client that is allowed may have no room left in the small tables.
            let denied = verdict == "drop-denied";
            assert_eq!(denied, !allowed, "{address}, of {prefix}: {verdict}");
        }
    }
    assert!(said.iter().all(|count| *count > 500), "{said:?}");
    // They go as they came.
    let start = Instant::now();
    harness.write_node(&NodePolicy::default());
    println!("and removed in {:?}", start.elapsed());
    let denied = lists.deny.iter().find(|prefix| prefix.address.is_ipv4()).unwrap();
    let frame = UDP4.frame(0).from(denied.address, 9).build();
    assert_ne!(harness.run(&frame).verdict, "drop-denied");
}

/// A policy with limits.
fn limited(service: Limit, client: Limit, bits: u32) -> Policy {
    let mut policy = Setup::default().policy;
    policy.settings.limit = service;
    policy.settings.client_limit = client;
    policy.settings.client_prefix = bits;
    policy
}

const fn limit(interval: u64, burst: u64) -> Limit {
    Limit { interval, tolerance: interval * (burst - 1) }
}

/// How many of `count` new connections of a client come in; the others get `verdict`.
fn let_in(harness: &Harness, kind: Kind, client: IpAddr, count: u16, verdict: &str) -> u16 {
    static PORT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(1000);
    let mut passed = 0;
    for _ in 0..count {
        let port = PORT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let ran = harness.run(&kind.frame(SYN).from(client, port).build());
        if ran.verdict == "to-backend" {
            passed += 1;
        } else {
            assert_eq!(ran.verdict, verdict, "{kind}");
        }
    }
    passed
}

/// Clients: two of one prefix of 24 or 64 bits, and one of the next.
fn clients(kind: Kind) -> [IpAddr; 3] {
    let texts = if kind.is_v4() {
        ["100.64.1.7", "100.64.1.200", "100.64.2.7"]
    } else {
        ["2001:db8:1:1::7", "2001:db8:1:1:f::9", "2001:db8:1:2::7"]
    };
    texts.map(|text| text.parse().unwrap())
}

#[test]
fn a_service_takes_its_burst_and_then_its_rate() {
    let harness = Harness::new();
    for kind in KINDS {
        harness.write_policy(kind, &limited(limit(NEVER, 7), Limit::default(), 0), 1);
        let [one, _, other] = clients(kind);
        assert_eq!(let_in(&harness, kind, one, 5, "drop-service-limit"), 5, "{kind}");
        assert_eq!(let_in(&harness, kind, other, 5, "drop-service-limit"), 2, "{kind}");
        assert_eq!(let_in(&harness, kind, one, 20, "drop-service-limit"), 0, "{kind}");
        assert_eq!(harness.counters(kind, 1).opened, 7, "{kind}");
        harness.write_policy(kind, &limited(Limit::default(), Limit::default(), 0), 1);
        assert_eq!(let_in(&harness, kind, one, 20, ""), 20, "{kind}");
    }
}

#[test]
fn a_client_prefix_takes_its_own_burst() {
    let harness = Harness::new();
    for kind in KINDS {
        let bits = if kind.is_v4() { 24 } else { 64 };
        harness.write_policy(kind, &limited(Limit::default(), limit(NEVER, 4), bits), 1);
        let [one, neighbour, other] = clients(kind);
        assert_eq!(let_in(&harness, kind, one, 3, "drop-client-limit"), 3, "{kind}");
        assert_eq!(let_in(&harness, kind, neighbour, 3, "drop-client-limit"), 1, "{kind}");
        assert_eq!(let_in(&harness, kind, one, 3, "drop-client-limit"), 0, "{kind}");
        assert_eq!(let_in(&harness, kind, other, 6, "drop-client-limit"), 4, "{kind}");
        // A whole address is a prefix, too.
        let bits = if kind.is_v4() { 32 } else { 128 };
        harness.write_policy(kind, &limited(Limit::default(), limit(NEVER, 4), bits), 1);
        assert_eq!(let_in(&harness, kind, one, 6, "drop-client-limit"), 4, "{kind}");
        assert_eq!(let_in(&harness, kind, neighbour, 6, "drop-client-limit"), 4, "{kind}");
    }
}

#[test]
fn tokens_come_with_time_and_never_more_than_the_burst() {
    let harness = Harness::new();
    let service = (limited(limit(SLOW, 3), Limit::default(), 0), "drop-service-limit");
    let client = (limited(Limit::default(), limit(SLOW, 3), 32), "drop-client-limit");
    let policies = [(TCP4, &service), (UDP6, &service), (TCP6, &client), (UDP4, &client)];
    let try_all = |kind: Kind, verdict: &str| let_in(&harness, kind, clients(kind)[0], 8, verdict);
    let start = Instant::now();
    for (kind, (policy, verdict)) in policies {
        harness.write_policy(kind, policy, 1);
        assert_eq!(try_all(kind, verdict), 3, "{kind}, {verdict}");
    }
    thread::sleep(Duration::from_nanos(SLOW + SLOW / 4));
    for (kind, (_, verdict)) in policies {
        // One, unless the machine slept for longer than asked.
        let passed = try_all(kind, verdict);
        let came = start.elapsed().as_nanos() / u128::from(SLOW);
        assert!((1..=came).contains(&u128::from(passed)), "{kind}, {verdict}: {passed}");
    }
    thread::sleep(Duration::from_nanos(5 * SLOW));
    for (kind, (_, verdict)) in policies {
        assert_eq!(try_all(kind, verdict), 3, "{kind}, {verdict}");
    }
}

#[test]
fn packets_of_a_connection_take_no_tokens() {
    let harness = Harness::new();
    for kind in KINDS {
        harness.write_policy(kind, &limited(limit(NEVER, 1), limit(NEVER, 1), 32), 1);
        let link = Link::new(kind, 0);
        // Its opening sent again is no other connection.
        for (_, way, flags) in [LIFE[0]].into_iter().chain(LIFE).chain(LIFE.into_iter().skip(2)) {
            harness.carries(&link, way, flags);
        }
        let next = Link::new(kind, 1).frame(Way::Forth, SYN).build();
        harness.drops(&kind.to_string(), &next, "drop-client-limit");
    }
}
