//! Connections that another edge opened, and whose packets come here now: they go on where every edge chooses the
//! same backend, and nowhere else.

use evenkeel::{
    config::Scheduler,
    plan::{Age, Member, Ring},
};
use evenkeel_tests::{
    frame::{ACK, FIN, PSH, RST, SYN},
    topology::Family,
};
use lb_common::service::{forwarding, scheduler};

use crate::{
    harness::{Harness, Setup, backend_id},
    modes::Mode,
    world::{Kind, TCP4, TCP6},
};

const TABLE: u32 = 251;
const BACKENDS: u8 = 3;
const MODES: [Mode; 2] = [Mode::Dsr, Mode::Gue(Family::V6)];

/// An edge with services of this scheduler's number, in this mode.
fn edge(mode: Mode, number: u32) -> Harness {
    let setup = Setup { weights: vec![1; usize::from(BACKENDS)], ..mode.setup() };
    let harness = Harness::with(setup);
    for kind in [TCP4, TCP6] {
        write(&harness, kind, &compiled(kind, BACKENDS), (mode, number));
    }
    harness
}

/// The table of so many backends.
fn compiled(kind: Kind, count: u8) -> Ring {
    let member = |n| Member { id: backend_id(kind, n), weight: 1, address: kind.backend(n) };
    let members: Vec<_> = (1..=count).map(member).collect();
    Ring::compile(Scheduler::Maglev, &members, TABLE)
}

fn write(harness: &Harness, kind: Kind, ring: &Ring, (mode, number): (Mode, u32)) {
    harness.write_compiled(kind, ring);
    let setup = Setup::settings(|settings| {
        (settings.scheduler, settings.forwarding) = (number, mode.number());
    });
    harness.write_policy(kind, &setup.policy, ring.members.len());
}

fn packet(kind: Kind, port: u16, flags: u8) -> Vec<u8> {
    kind.frame(flags).source_port(port).build()
}

/// Sums over the backends: opened and closed connections, and those open and established now.
fn sums(harness: &Harness, kind: Kind) -> [u64; 4] {
    (1..=BACKENDS).fold([0; 4], |sums, n| {
        let ((opened, closed), (open, established)) =
            (harness.opened_closed(kind, n), harness.load(kind, n));
        [sums[0] + opened, sums[1] + closed, sums[2] + open, sums[3] + established]
    })
}

#[test]
fn what_every_edge_schedules_alike_goes_on() {
    for mode in MODES {
        let (one, other) = (edge(mode, scheduler::MAGLEV), edge(mode, scheduler::MAGLEV));
        for kind in [TCP4, TCP6] {
            for port in 2000..2040 {
                assert_eq!(one.run(&packet(kind, port, SYN)).verdict, "to-backend");
                let data = packet(kind, port, PSH | ACK);
                let (here, there) = (one.run(&data), other.run(&data));
                assert_eq!(there.verdict, "to-backend", "{mode}, {kind}");
                assert_eq!(there.bytes, here.bytes, "{mode}, {kind}: another backend");
            }
            // With their second packet they are confirmed, as new ones are.
            assert_eq!(sums(&other, kind), [40, 0, 40, 0], "{mode}, {kind}");
            for port in 2000..2040 {
                other.run(&packet(kind, port, ACK));
            }
            assert_eq!(sums(&other, kind), [40, 0, 40, 40], "{mode}, {kind}");
        }
    }
}

#[test]
fn the_last_packet_of_a_connection_ends_it_here_too() {
    let harness = edge(Mode::Dsr, scheduler::MAGLEV);
    for kind in [TCP4, TCP6] {
        assert_eq!(harness.run(&packet(kind, 2000, RST | ACK)).verdict, "to-backend");
        assert_eq!(sums(&harness, kind), [1, 1, 0, 0], "{kind}");
        assert_eq!(harness.run(&packet(kind, 2001, FIN | ACK)).verdict, "to-backend");
        assert_eq!(sums(&harness, kind), [2, 1, 1, 0], "{kind}");
    }
}

#[test]
fn nothing_else_goes_on() {
    let maglev = edge(Mode::Dsr, scheduler::MAGLEV);
    for kind in [TCP4, TCP6] {
        for (name, flags) in [("no flags", 0), ("a reset", RST), ("an answer", SYN | ACK)] {
            maglev.passes(name, &packet(kind, 2000, flags), "pass-no-connection");
        }
        let elsewhere = kind.frame(ACK).destination_port(81).build();
        maglev.passes("another port", &elsewhere, "pass-no-service");
        assert_eq!(sums(&maglev, kind), [0; 4]);
    }
    assert_eq!(Mode::Nat.number(), forwarding::NAT);
    let others = [
        edge(Mode::Nat, scheduler::MAGLEV),
        edge(Mode::Dsr, scheduler::ROUND_ROBIN),
        edge(Mode::Dsr, scheduler::SOURCE_HASH),
    ];
    for harness in others {
        for kind in [TCP4, TCP6] {
            harness.passes("data", &packet(kind, 2000, PSH | ACK), "pass-no-connection");
        }
    }
}

/// A backend was added: of the slots that are its own now, every connection that goes on is a former owner's.
#[test]
fn what_goes_on_goes_to_whose_the_slot_was() {
    let (before, after) = (edge(Mode::Dsr, scheduler::MAGLEV), edge(Mode::Dsr, scheduler::MAGLEV));
    for kind in [TCP4, TCP6] {
        let how = (Mode::Dsr, scheduler::MAGLEV);
        let two = compiled(kind, 2);
        write(&before, kind, &two, how);
        write(&after, kind, &compiled(kind, 3).after(&two, Age::Grown, |_| true), how);
        let (mut moved, mut same) = (0, 0);
        for port in 2000..2100 {
            before.run(&packet(kind, port, SYN));
            let goes_on = packet(kind, port, ACK);
            let expected = before.run(&goes_on).bytes;
            let ran = after.run(&goes_on);
            assert_eq!(ran.verdict, "to-backend", "{kind}, {port}");
            assert_eq!(ran.bytes, expected, "{kind}, {port}");
            // A new connection of the same client goes by the new slots.
            let anew = sent_to(&after, kind, port + 5000);
            let old = sent_to(&before, kind, port + 5000);
            if anew == old { same += 1 } else { moved += 1 }
        }
        assert!(moved > 10 && same > moved, "{kind}: {moved} of {} slots moved", moved + same);
    }
}

/// The Ethernet address that a new connection is sent to.
fn sent_to(harness: &Harness, kind: Kind, port: u16) -> [u8; 6] {
    let bytes = harness.run(&packet(kind, port, SYN)).bytes;
    bytes[..6].try_into().unwrap()
}
