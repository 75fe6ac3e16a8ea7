//! The question which backend a client's next connection gets: its answer is what the next packet gets, and
//! it leaves no trace in any table.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::SocketAddr,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use aya::programs::Xdp;
use evenkeel::{
    config::{PrefixLists, Scheduler},
    plan::{Member, Policy, Ring},
};
use evenkeel_tests::frame::{ACK, RST, SYN, parse};
use lb_common::{
    connection::state,
    explain::{Answer, NONE, meets, outcome},
    service::{Limit, ServiceSettings, flags, scheduler},
    verdict::Verdict,
};
use serde_json::Value;

use crate::{
    harness::{Harness, Setup, backend_id},
    world::{KINDS, Kind, Link, TCP_KINDS, TCP4, Way},
};

/// An interval after which no token comes within a test.
const NEVER: u64 = 3_600_000_000_000;
/// Slots of the hashing schedulers' tables.
const SIZE: u32 = 251;
/// How often each question is put: a trace would add up.
const QUESTIONS: usize = 20;

/// What bpftool says to a verb about each of some maps.
fn bpftool(verb: &str, maps: &[u32]) -> Vec<Value> {
    let commands: Vec<_> = maps.iter().map(|id| format!("map {verb} id {id}\n")).collect();
    // One process for all of them.
    let mut bpftool = Command::new("bpftool")
        .args(["-j", "batch", "file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("bpftool runs");
    bpftool.stdin.take().unwrap().write_all(commands.concat().as_bytes()).unwrap();
    let output = bpftool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let answers: Value = serde_json::from_slice(&output.stdout).unwrap();
    answers.as_array().unwrap().iter().map(|answer| answer["output"].clone()).collect()
}

/// What every table of the program holds, by its number and name. Only the scratch rooms are left out, which
/// every packet writes over, and the log.
fn fingerprint(program: &Xdp) -> BTreeMap<(u32, String), String> {
    let maps = program.info().unwrap().map_ids().unwrap().unwrap();
    let named: Vec<_> = bpftool("show", &maps)
        .into_iter()
        .zip(maps)
        .filter(|(about, _)| about["type"] != "ringbuf")
        .map(|(about, id)| (id, about["name"].as_str().unwrap_or_default().to_owned()))
        .filter(|(_, name)| !name.starts_with("SCRATCH"))
        .collect();
    let ids: Vec<_> = named.iter().map(|(id, _)| *id).collect();
    let tables = bpftool("dump", &ids).into_iter().map(|table| table.to_string());
    named.into_iter().zip(tables).collect()
}

/// Asks several times, and checks that no table changed and every answer was the same.
fn asks(harness: &Harness, kind: Kind, client: SocketAddr) -> Answer {
    let before = fingerprint(harness.balancer());
    assert!(before.len() > 20, "all tables: {:?}", before.keys());
    let answers: Vec<_> = (0..QUESTIONS).map(|_| harness.explain(kind, client)).collect();
    let after = fingerprint(harness.balancer());
    for (name, table) in &before {
        assert_eq!(Some(table), after.get(name), "{kind}: {name:?} changed");
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{kind}: {answers:?}");
    answers[0]
}

/// Asks for the `turn`-th time; the tables are compared the first time only, because that takes its time.
fn again(harness: &Harness, link: &Link, turn: u16) -> Answer {
    let asked = if turn == 0 { asks } else { Harness::explain };
    asked(harness, link.kind, end(link))
}

fn end(link: &Link) -> SocketAddr {
    link.client.into()
}

/// Sends a link's first packet: the backend that it goes to, or the verdict.
fn opens(harness: &Harness, link: &Link) -> Result<u8, &'static str> {
    let ran = harness.run(&link.frame(Way::Forth, SYN).build());
    if ran.verdict != "to-backend" {
        return Err(ran.verdict);
    }
    let to = parse(&ran.bytes).unwrap().destination;
    Ok((1..=15).find(|n| link.kind.backend(*n).ip() == to).expect("a backend"))
}

fn id(kind: Kind, n: u8) -> u32 {
    backend_id(kind, n).0
}

/// That the answer names whom the next packet gets.
fn comes_true(harness: &Harness, link: &Link, said: &Answer) {
    let kind = link.kind;
    let got = opens(harness, link).map(|n| id(kind, n));
    assert_eq!(got, Ok(said.backend), "{kind}: {said:?}");
}

fn away(answer: &Answer) -> Option<Verdict> {
    (answer.outcome == outcome::AWAY).then(|| Verdict::from_index(answer.verdict))
}

/// Pinned tables that are quick to compare.
fn asked(setup: Setup) -> Harness {
    let (connections, unconfirmed, clients, prefixes) = (64, 16, 16, 16);
    Harness::with(Setup { pinned: true, connections, unconfirmed, clients, prefixes, ..setup })
}

/// Three backends, and a policy for every kind.
fn harness(change: impl Fn(&mut ServiceSettings)) -> Harness {
    asked(Setup { weights: vec![2, 1, 1], ..Setup::settings(change) })
}

#[test]
fn round_robin_tells_the_slot_that_is_next() {
    let harness = harness(|_| {});
    for kind in KINDS {
        for turn in 0..6 {
            let link = Link::new(kind, turn);
            let said = again(&harness, &link, turn);
            assert_eq!(said.outcome, outcome::SLOT, "{kind}");
            assert_eq!((said.slot, said.slots), (u32::from(turn) % 4, 4), "{kind}");
            assert_eq!(said.cursor, [u32::from(turn), 0], "{kind}");
            comes_true(&harness, &link, &said);
        }
    }
}

#[test]
fn hashing_schedulers_tell_the_slot_of_the_hash() {
    let hashes =
        [(Scheduler::Maglev, scheduler::MAGLEV), (Scheduler::SourceHash, scheduler::SOURCE_HASH)];
    for (name, number) in hashes {
        let harness = harness(|settings| settings.scheduler = number);
        for kind in KINDS {
            let member =
                |n| Member { id: backend_id(kind, n), weight: 1, address: kind.backend(n) };
            harness.write_compiled(kind, &Ring::compile(name, &[1, 2, 3].map(member), SIZE));
            let mut backends = BTreeMap::<u32, u32>::new();
            for turn in 0..4 {
                let link = Link::new(kind, turn);
                let said = again(&harness, &link, turn);
                assert_eq!((said.outcome, said.slots), (outcome::SLOT, SIZE), "{kind}");
                assert!(said.slot < SIZE);
                comes_true(&harness, &link, &said);
                *backends.entry(said.backend).or_default() += 1;
            }
            let alike = number == scheduler::SOURCE_HASH;
            assert!(!alike || backends.len() == 1, "{kind}: by the client alone: {backends:?}");
        }
    }
}

#[test]
fn what_is_drawn_is_not_foretold() {
    for number in [scheduler::RANDOM, scheduler::LEAST_CONNECTIONS] {
        let harness = harness(|settings| settings.scheduler = number);
        for kind in KINDS {
            let said = asks(&harness, kind, end(&Link::new(kind, 0)));
            assert_eq!((said.outcome, said.slot, said.slots), (outcome::DRAWN, NONE, 4), "{kind}");
        }
    }
}

#[test]
fn a_sticky_client_keeps_its_backend() {
    let harness = harness(|settings| settings.sticky = 600);
    for kind in KINDS {
        let first = Link::new(kind, 0);
        assert_eq!(asks(&harness, kind, end(&first)).outcome, outcome::SLOT, "{kind}");
        let n = opens(&harness, &first).unwrap();
        let link = Link::new(kind, 1);
        let said = asks(&harness, kind, end(&link));
        assert_eq!((said.outcome, said.backend), (outcome::STICKY, id(kind, n)), "{kind}");
        comes_true(&harness, &link, &said);
    }
}

#[test]
fn a_denied_client_and_used_up_rates_are_told() {
    let harness = asked(Setup::default());
    for kind in KINDS {
        let link = Link::new(kind, 0);
        let deny = vec![format!("{}", link.client.0).parse().unwrap()];
        let prefixes = PrefixLists { allow: Vec::new(), deny };
        let mut policy = Setup::settings(|settings| settings.flags = flags::HAS_PREFIXES).policy;
        policy.prefixes = prefixes;
        harness.write_policy(kind, &policy, 1);
        let said = asks(&harness, kind, end(&link));
        assert_eq!(away(&said), Some(Verdict::DROP_DENIED), "{kind}");
        assert_eq!(opens(&harness, &link), Err("drop-denied"), "{kind}");
    }
    // Two tokens: as many questions as anybody likes, and then two connections.
    let limit = Limit { interval: NEVER, tolerance: NEVER };
    let service = ServiceSettings { limit, ..ServiceSettings::default() };
    let client =
        ServiceSettings { client_limit: limit, client_prefix: 24, ..ServiceSettings::default() };
    let limits = [
        ("drop-service-limit", Verdict::DROP_SERVICE_LIMIT, service),
        ("drop-client-limit", Verdict::DROP_CLIENT_LIMIT, client),
    ];
    for (offset, (name, verdict, limited)) in (10..).step_by(10).zip(limits) {
        let policy: Policy = Setup::settings(|settings| *settings = limited).policy;
        for kind in KINDS {
            harness.write_policy(kind, &policy, 1);
            for turn in 0..2 {
                let link = Link::new(kind, offset + turn);
                let said = asks(&harness, kind, end(&link));
                assert_eq!(said.outcome, outcome::SLOT, "{kind}, {name}, {turn}");
                let told = opens(&harness, &link);
                assert!(told.is_ok() || turn == 1 && told == Err(name), "{kind}: {told:?}");
            }
            let link = Link::new(kind, offset + 2);
            assert_eq!(away(&asks(&harness, kind, end(&link))), Some(verdict), "{kind}");
            assert_eq!(opens(&harness, &link), Err(name), "{kind}");
        }
    }
}

/// Opens and confirms a link's connection, wherever it goes.
fn connects(harness: &Harness, link: &Link) -> Link {
    let ran = harness.run(&link.frame(Way::Forth, SYN).build());
    let to = parse(&ran.bytes).unwrap();
    let backend = (1..=15).find(|n| link.kind.backend(*n).ip() == to.destination).unwrap();
    let link = Link { backend, source: (to.source, to.source_port), ..*link };
    harness.carries(&link, Way::Back, SYN | ACK);
    harness.carries(&link, Way::Forth, ACK);
    link
}

#[test]
fn who_is_full_is_told() {
    let setup = Setup { weights: vec![1; 2], max_connections: Some(2), ..Setup::default() };
    let harness = asked(setup);
    for kind in KINDS {
        // The first has no room, the cursor stands at it.
        let links: Vec<_> = (0..2).map(|turn| connects(&harness, &Link::new(kind, turn))).collect();
        assert_eq!(links.iter().map(|link| link.backend).collect::<Vec<_>>(), [1, 2], "{kind}");
        harness.write_backend(kind, 1, |entry| entry.max_connections = Some(1));
        let link = Link::new(kind, 2);
        let said = asks(&harness, kind, end(&link));
        assert_eq!((said.outcome, said.backend), (outcome::SLOT, id(kind, 2)), "{kind}");
        assert_eq!(said.full, [id(kind, 1), NONE, NONE, NONE], "{kind}");
        let link = connects(&harness, &link);
        assert_eq!(link.backend, 2, "{kind}");
        // Nobody has.
        let link = Link::new(kind, 3);
        let said = asks(&harness, kind, end(&link));
        assert_eq!(away(&said), Some(Verdict::DROP_OVERLOAD), "{kind}");
        assert_eq!(opens(&harness, &link), Err("drop-overload"), "{kind}");
    }
}

#[test]
fn whoever_has_room_beside_full_slots_is_told() {
    // Nine slots in ten, and the four that are tried, are the first one's, which is full.
    let setup = Setup { weights: vec![9, 1], max_connections: Some(1), ..Setup::default() };
    let harness = asked(setup);
    for kind in KINDS {
        assert_eq!(connects(&harness, &Link::new(kind, 0)).backend, 1, "{kind}");
        let link = Link::new(kind, 1);
        let said = asks(&harness, kind, end(&link));
        assert_eq!((said.outcome, said.slot), (outcome::ANY, NONE), "{kind}");
        assert_eq!(said.full, [id(kind, 1); 4], "{kind}");
        comes_true(&harness, &link, &said);
    }
}

#[test]
fn no_backend_and_no_service_are_told() {
    let harness = asked(Setup::default());
    for kind in KINDS {
        harness.write_ring(kind, &[]);
        let link = Link::new(kind, 0);
        assert_eq!(
            away(&asks(&harness, kind, end(&link))),
            Some(Verdict::DROP_NO_BACKEND),
            "{kind}"
        );
        assert!(opens(&harness, &link).is_err(), "{kind}");
        harness.remove_service(kind);
        assert_eq!(
            away(&asks(&harness, kind, end(&link))),
            Some(Verdict::PASS_NO_SERVICE),
            "{kind}"
        );
        assert_eq!(opens(&harness, &link), Err("pass-no-service"), "{kind}");
    }
}

#[test]
fn a_connection_that_there_is_is_told() {
    let harness = harness(|_| {});
    for kind in KINDS {
        let link = connects(&harness, &Link::new(kind, 0));
        let said = asks(&harness, kind, end(&link));
        assert_eq!((said.outcome, said.meets), (outcome::EXISTS, meets::OPEN), "{kind}");
        assert_eq!((said.backend, said.met), (id(kind, link.backend), id(kind, link.backend)));
        assert_ne!(said.state & state::ESTABLISHED, 0, "{kind}");
    }
    for kind in TCP_KINDS {
        // Over: a SYN from the same port is a new connection.
        let link = Link { backend: 1, ..Link::new(kind, 0) };
        harness.carries(&link, Way::Forth, RST);
        let said = asks(&harness, kind, end(&link));
        assert_eq!((said.outcome, said.meets), (outcome::SLOT, meets::OVER), "{kind}");
        assert_eq!(said.met, id(kind, 1), "{kind}");
        comes_true(&harness, &link, &said);
    }
}

#[test]
fn an_attempt_that_fails_is_tried_elsewhere() {
    let harness = asked(Setup { weights: vec![1, 1], ..Setup::default() });
    let link = Link::new(TCP4, 0);
    // The first question loads the program, which takes longer than a backend has to answer.
    assert_eq!(harness.explain(TCP4, end(&link)).outcome, outcome::SLOT);
    assert_eq!(opens(&harness, &link), Ok(1));
    let said = harness.explain(TCP4, end(&link));
    // Its backend may still answer.
    assert_eq!((said.outcome, said.backend), (outcome::EXISTS, id(TCP4, 1)));
    // As long as a backend has to answer.
    thread::sleep(Duration::from_millis(600));
    let said = asks(&harness, TCP4, end(&link));
    assert_eq!((said.meets, said.met), (meets::FAILED, id(TCP4, 1)));
    assert_eq!(said.backend, id(TCP4, 2));
    comes_true(&harness, &link, &said);
}
