//! The packets that are measured, each with its target from DESIGN.md, section 8.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use evenkeel::config::Protocol;
use evenkeel_tests::frame::{CLIENT4, Frame, fragments4};

use crate::{
    datapath::{Bench, Clients, FRAME, later},
    services::{FRESH, GUARDED_PORT, Mode},
};

/// One kind of packet.
pub struct Scenario {
    /// What it is.
    pub name: String,
    /// The cost that DESIGN.md asks for, in nanoseconds.
    pub target: Option<u32>,
    /// What the trial took for such packets on the machine that DESIGN.md's table is of: its fastest, in
    /// nanoseconds. `None` where the trial knows no such packets.
    pub trial: Option<u32>,
    /// The frame.
    pub frame: Vec<u8>,
    /// A frame that goes before each round's.
    pub before: Option<Vec<u8>>,
    /// Whose.
    pub clients: Clients,
    /// Runs of a round.
    pub repeat: u32,
    /// The verdict that every one of them gets.
    pub verdict: &'static str,
    /// Whether every run opens a connection.
    pub opens: bool,
}

/// The trial's times in DESIGN.md's table.
mod trial {
    pub const ONE_FLOW: u32 = 28;
    pub const THOUSANDS: u32 = 70;
    pub const MILLION: u32 = 229;
    pub const NEW: u32 = 380;
}

/// Targets of a way of forwarding, in the order of the rows of DESIGN.md's table.
struct Targets {
    tcp4: Option<u32>,
    tcp6: Option<u32>,
    udp4: Option<u32>,
    thousands: Option<u32>,
    million: Option<u32>,
}

/// The client in the frame.
const ONE: Clients = Clients { count: 0, stride: 0 };

/// Clients in the order in which their connections were opened. The kernel hands out the table's
/// entries one after the other, so the processor fetches some of them ahead.
const fn in_turn(count: u64) -> Clients {
    Clients { count, stride: 1 }
}

/// Clients in an order that nothing can guess, like those of real traffic.
const fn scattered(count: u64) -> Clients {
    // A prime that divides no count here: every client has its turn.
    Clients { count, stride: 7_368_787 }
}

/// Clients that come once.
const STRANGERS: Clients = scattered(1 << 32);

/// Flows that stay in the processor's caches, more or less.
const THOUSANDS: u32 = 10_000;

/// SYNs of a round of the flood: every place for an unconfirmed connection is handed out many times.
const FLOOD: u32 = 2_000_000;

const fn targets(mode: Mode) -> Targets {
    let [tcp4, tcp6, udp4, thousands, million] = match mode {
        Mode::Nat => [Some(50), Some(55), Some(50), Some(100), Some(260)],
        Mode::Ipip | Mode::Gue => [Some(40), Some(45), Some(40), Some(85), Some(240)],
        Mode::Dsr => [None; 5],
    };
    Targets { tcp4, tcp6, udp4, thousands, million }
}

/// Opens the connections that the packets belong to, and describes the packets. `many` flows are
/// the most that a scenario has.
pub fn prepare(bench: &Bench, many: u32) -> Result<Vec<Scenario>> {
    let mut scenarios = Vec::new();
    for mode in Mode::ALL {
        scenarios.extend(one_flow(bench, mode)?);
    }
    for mode in Mode::ALL {
        let most = if matches!(mode, Mode::Nat | Mode::Ipip) { many } else { THOUSANDS };
        scenarios.extend(flows(bench, mode, most)?);
    }
    scenarios.extend(new_connections()?);
    scenarios.extend(others()?);
    Ok(scenarios)
}

/// A plain packet to a backend.
fn forward(name: String, target: Option<u32>, frame: &Frame) -> Scenario {
    Scenario {
        name,
        target,
        trial: None,
        frame: frame.build(),
        before: None,
        clients: ONE,
        repeat: 2_000_000,
        verdict: "to-backend",
        opens: false,
    }
}

/// One flow of each kind, with a fragment and, where it passes here, the backend's packet.
fn one_flow(bench: &Bench, mode: Mode) -> Result<Vec<Scenario>> {
    let Targets { tcp4, tcp6, udp4, .. } = targets(mode);
    let name = |what: &str| format!("{}: {what}", mode.name());
    let (tcp, udp) = (mode.port(Protocol::Tcp), mode.port(Protocol::Udp));
    let kinds = [
        ("v4 TCP, established, one flow", tcp4, Frame::tcp4().destination_port(tcp)),
        ("v6 TCP, established, one flow", tcp6, Frame::tcp6().destination_port(tcp)),
        ("v4 UDP, established, one flow", udp4, Frame::udp4().destination_port(udp)),
    ];
    let mut scenarios = Vec::new();
    let mut answers = Vec::new();
    for (what, target, first) in kinds {
        let first = padded(first)?;
        if mode == Mode::Nat {
            answers.push(bench.open(&first)?);
        } else {
            bench.open_one_way(&first)?;
        }
        let trial = if what.starts_with("v4") { Some(trial::ONE_FLOW) } else { None };
        scenarios.push(Scenario { trial, ..forward(name(what), target, &later(&first)) });
    }
    if let [answer, ..] = &*answers {
        let reply = forward(name("v4 TCP, a backend's reply"), None, &later(answer));
        scenarios.push(Scenario { verdict: "to-client", ..reply });
    }
    // Of the UDP flow: 24 bytes in the first fragment, and in the other what fills a frame.
    let rest = FRAME - ETHERNET - IPV4;
    let datagram = Frame::udp4().destination_port(udp).dont_fragment(false);
    let parts = fragments4(&datagram.payload(&vec![0; 24 - UDP + rest]).build(), &[24]);
    let [first, other] = &*parts else { unreachable!("two fragments") };
    let fragment = Scenario {
        frame: other.clone(),
        before: Some(first.clone()),
        ..forward(name("a fragment after the first"), None, &Frame::udp4())
    };
    scenarios.push(fragment);
    Ok(scenarios)
}

/// Many flows, of which each packet is another one's.
fn flows(bench: &Bench, mode: Mode, most: u32) -> Result<Vec<Scenario>> {
    let Targets { thousands, million, .. } = targets(mode);
    let first = padded(Frame::tcp4().destination_port(mode.port(Protocol::Tcp)))?;
    let before = bench.established()?;
    for client in 0..most {
        let first = first.clone().from(address(client), port(client));
        if mode == Mode::Nat {
            bench.open(&first)?;
        } else {
            bench.open_one_way(&first)?;
        }
    }
    let opened = bench.established()? - before;
    ensure!(opened == u64::from(most), "{opened} of {most} connections are established");

    let frame = later(&first);
    let scenario = |what: &str, target, trial, clients| Scenario {
        trial,
        clients,
        ..forward(format!("{}: v4 TCP, {what}", mode.name()), target, &frame)
    };
    let kinds = [
        ("10,000 flows in turn", thousands, Some(trial::THOUSANDS), in_turn(THOUSANDS.into())),
        ("10,000 flows scattered", None, None, scattered(THOUSANDS.into())),
        ("1,000,000 flows in turn", million, Some(trial::MILLION), in_turn(1_000_000)),
        ("1,000,000 flows scattered", None, None, scattered(1_000_000)),
    ];
    let kinds = kinds.into_iter().filter(|(.., clients)| clients.count <= most.into());
    Ok(kinds.map(|(what, target, trial, clients)| scenario(what, target, trial, clients)).collect())
}

/// Packets that open a connection, or would.
fn new_connections() -> Result<Vec<Scenario>> {
    let mut scenarios = Vec::new();
    for service in FRESH {
        let name = format!("new connection, {}, {}", service.mode.name(), service.name);
        let syn = padded(Frame::tcp4().destination_port(service.port))?;
        scenarios.push(Scenario {
            clients: STRANGERS,
            trial: service.target.map(|_| trial::NEW),
            // Fewer than there are places: nobody has to make room.
            repeat: 100_000,
            opens: true,
            ..forward(name, service.target, &syn)
        });
    }
    // The first of each way: round-robin.
    for mode in [Mode::Nat, Mode::Ipip] {
        let service = FRESH.iter().find(|service| service.mode == mode);
        let port = service.map_or(0, |service| service.port);
        let syn = padded(Frame::tcp4().destination_port(port))?;
        scenarios.push(Scenario {
            clients: STRANGERS,
            repeat: FLOOD,
            opens: true,
            ..forward(format!("SYN flood, {}", mode.name()), None, &syn)
        });
    }
    let denied = padded(Frame::tcp4().destination_port(GUARDED_PORT))?;
    scenarios.push(Scenario {
        clients: STRANGERS,
        verdict: "drop-denied",
        ..forward("a denied source, of 100,000 prefixes".to_owned(), None, &denied)
    });
    Ok(scenarios)
}

/// Packets of no connection.
fn others() -> Result<Vec<Scenario>> {
    let data = later(&padded(Frame::tcp4())?);
    let stranger = data.clone().to(Ipv4Addr::new(203, 0, 113, 9), 80);
    let kinds = [
        ("ICMP echo, answered", None, padded(Frame::echo4(1, 1, &[]))?, "reply-echo"),
        ("not for a service", Some(12), stranger, "pass-not-ours"),
        (
            "for a service's address, another port",
            None,
            data.destination_port(22),
            "pass-no-service",
        ),
    ];
    let scenario = |(name, target, frame, verdict): (&str, _, Frame, _)| Scenario {
        verdict,
        ..forward(name.to_owned(), target, &frame)
    };
    Ok(kinds.map(scenario).into())
}

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;

/// The frame, filled up to the length that all have.
fn padded(frame: Frame) -> Result<Frame> {
    let bare = frame.clone().payload(&[]).build().len();
    ensure!(bare <= FRAME, "a frame of {bare} bytes is too long");
    Ok(frame.payload(&vec![0; FRAME - bare]))
}

/// The address of client number `client`, as the wrapper writes it.
fn address(client: u32) -> IpAddr {
    let [a, b, ..] = CLIENT4.octets();
    let [high, low, ..] = client.to_be_bytes();
    Ipv4Addr::new(a, b, high, low).into()
}

/// Its port.
fn port(client: u32) -> u16 {
    let [.., high, low] = client.to_be_bytes();
    u16::from_be_bytes([high, low])
}
