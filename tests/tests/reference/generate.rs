//! Random cases: a few services and clients that meet often, with everything that can be odd about a
//! packet now and then.

use evenkeel_tests::frame::{ACK, FIN, PSH, RST, SYN};

use crate::{
    play::is_tcp,
    random::Random,
    spec::{
        Acknowledges, BACKENDS, Backend, Case, Mode, Packet, Part, Rule, SERVICES, Scheduler,
        Service, Step, What,
    },
};

const SCHEDULERS: [Scheduler; 5] = [
    Scheduler::RoundRobin,
    Scheduler::Maglev,
    Scheduler::SourceHash,
    Scheduler::LeastConnections,
    Scheduler::Random,
];
const MODES: [Mode; 6] = [Mode::Nat, Mode::Nat, Mode::Keep, Mode::Dsr, Mode::Ipip, Mode::Gue];

/// A case of so many steps.
pub fn case(seed: u64, steps: usize) -> Case {
    let mut random = Random(seed);
    let random = &mut random;
    let count = 1 + random.below(3);
    let services: Vec<u8> = (0..count).map(|_| random.small(SERVICES)).collect();
    let clients = 1 + random.small(4);
    let ports = 1 + random.small(8);
    let odd = random.of(&[3, 8, 30]);
    let mut case =
        Case { about: format!("seed {seed}"), places: random.small(6), steps: Vec::new() };
    for at in &services {
        case.steps.push(Step::Service(service(random, *at)));
        for n in 0..=random.small(BACKENDS) {
            case.steps.push(Step::Backend(backend(random, *at, n)));
        }
    }
    let mut last = Packet::default();
    while case.steps.len() < steps {
        let at = random.of(&services);
        let step = match random.below(100) {
            0 => Step::Service(service(random, at)),
            1 if random.one_in(3) => Step::Remove(at),
            1..=3 => {
                let n = random.small(BACKENDS);
                Step::Backend(backend(random, at, n))
            }
            4 if random.one_in(3) => Step::Access(rules(random)),
            5..=6 => Step::Pass(random.of(&[1_000, 1_000, 40_000, 1_800_000, 3_600_000])),
            _ => {
                // Most packets have to do with the one before.
                let fresh = random.one_in(3);
                let who = if fresh {
                    Packet {
                        service: at,
                        client: random.small(clients),
                        port: random.small(ports),
                        to_port: if random.one_in(4) { random.small(4) } else { 0 },
                        ..Packet::default()
                    }
                } else {
                    let Packet { service, client, port, to_port, .. } = last;
                    Packet { service, client, port, to_port, ..Packet::default() }
                };
                last = packet(random, who, odd);
                if fresh && last.what == What::Reply && !random.one_in(4) {
                    last.what = What::ToService;
                    last.flags = if is_tcp(last.service) { SYN } else { 0 };
                }
                Step::Packet(last.clone())
            }
        };
        case.steps.push(step);
    }
    case
}

fn service(random: &mut Random, service: u8) -> Service {
    let mode = random.of(&MODES);
    let mut scheduler = random.of(&SCHEDULERS);
    if mode == Mode::Keep && matches!(scheduler, Scheduler::LeastConnections | Scheduler::Random) {
        // The client's own port may be taken at the backend; then there is no telling which it was.
        scheduler = Scheduler::RoundRobin;
    }
    Service {
        service,
        scheduler,
        mode,
        reject: random.one_in(2),
        sticky: random.one_in(4),
        limit: random.one_in(8).then(|| random.small(8)),
        client_limit: random.one_in(8).then(|| random.small(8)),
        reject_no_backend: random.one_in(2),
        access: if random.one_in(6) { rules(random) } else { Vec::new() },
    }
}

fn rules(random: &mut Random) -> Vec<Rule> {
    (0..random.below(4)).map(|_| Rule(random.small(6), random.one_in(2))).collect()
}

fn backend(random: &mut Random, service: u8, backend: u8) -> Backend {
    Backend {
        service,
        backend,
        weight: random.of(&[0, 1, 1, 1, 2, 3]),
        max_connections: if random.one_in(3) { 1 + random.small(3) } else { 0 },
        mtu: if random.one_in(4) { random.of(&[300, 600, 1400]) } else { 0 },
        any_port: random.one_in(4),
        lost: random.one_in(10),
        one_nic: random.one_in(8),
        other_family: random.one_in(2),
        more_sources: random.small(3),
        ports: if random.one_in(4) { 1 + random.small(6) } else { 0 },
    }
}

/// A packet of `who`; one in `odd` is odd in any one way.
pub fn packet(random: &mut Random, who: Packet, odd: u64) -> Packet {
    let what = match random.below(20) {
        0 => What::ToSource,
        1 if random.one_in(2) => What::Stranger,
        1 => What::Echo,
        2 if random.one_in(2) => What::AboutForth,
        2 => What::AboutBack,
        3..=9 => What::Reply,
        _ => What::ToService,
    };
    let flags = match (is_tcp(who.service), what) {
        (false, _) => 0,
        (_, What::Reply) => random.of(&[
            SYN | ACK,
            SYN | ACK,
            SYN | ACK,
            ACK,
            PSH | ACK,
            FIN | ACK,
            RST,
            RST | ACK,
            SYN,
        ]),
        _ => random.of(&[SYN, SYN, SYN, ACK, ACK, PSH | ACK, FIN | ACK, RST, RST | ACK, SYN | ACK]),
    };
    let mut packet = Packet { what, flags, ..who };
    packet.payload = random.of(&[0, 0, 5, 64, 301]);
    if matches!(what, What::AboutForth | What::AboutBack) {
        packet.flags = 0;
        packet.message = random.of(&[0, 1, 1, 2, 3, 4, 5, 6, 7]);
        packet.quoted = random.of(&[0, 0, 28, 48, 46, 56, 66, 128]);
    }
    let mut oddly = |n: u64| random.one_in(odd * n);
    let which: Vec<bool> = [1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 4, 4, 4].map(&mut oddly).to_vec();
    if which[0] {
        packet.acknowledges = random.of(&[
            Acknowledges::Wrong,
            Acknowledges::More(1),
            Acknowledges::More(0xffff),
            Acknowledges::More(0x1_0000),
        ]);
    }
    if which[1] {
        packet.part = random.of(&[Part::First, Part::Later, Part::Atomic]);
        packet.id = random.small(3);
    }
    if which[2] {
        packet.way = random.small(4);
    }
    if which[3] {
        packet.payload = random.of(&[1, 250, 290, 550, 600, 1380, 1372, 1460, 1580]);
    }
    if which[4] {
        packet.tags = random.small(4);
    }
    if which[5] {
        packet.options = random.small(32);
    }
    if which[6] {
        packet.more = random.small(8);
    }
    if which[7] {
        packet.tos = u8::try_from(random.below(256)).unwrap_or_default();
        packet.whole = random.one_in(2);
    }
    if which[8] {
        packet.unsummed = true;
    }
    if which[9] {
        packet.trailer = random.small(20);
    }
    if which[10] {
        packet.aged = random.of(&[1, 62, 63, 64]);
    }
    if which[11] {
        packet.wrong = (random.of(&[0, 1, 0x8000]), random.of(&[0, 1, 0xfffe]));
    }
    if which[12] {
        packet.flags = u8::try_from(random.below(64)).unwrap_or_default();
        packet.sequence = u16::try_from(random.below(65_536)).unwrap_or_default();
    }
    if which[13] {
        for _ in 0..=random.below(3) {
            let by = 1 << random.below(8);
            packet.changed.push((u16::try_from(12 + random.below(90)).unwrap_or_default(), by));
        }
    }
    if which[14] {
        packet.cut = Some(u16::try_from(14 + random.below(90)).unwrap_or_default());
    }
    packet
}
