//! The packets that are measured, each with its target from DESIGN.md, section 8.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use evenkeel_tests::frame::{ACK, CLIENT4, Frame};

use crate::datapath::{Bench, Clients, FRAME, FRESH_PORT};

/// One kind of packet.
pub struct Scenario {
    /// What it is.
    pub name: &'static str,
    /// The cost that DESIGN.md asks for, in nanoseconds.
    pub target: Option<u32>,
    /// The frame.
    pub frame: Vec<u8>,
    /// Whose.
    pub clients: Clients,
    /// Runs of a round.
    pub repeat: u32,
    /// The verdict that every one of them gets.
    pub verdict: &'static str,
    /// Whether every run opens a connection.
    pub opens: bool,
}

const ONE: Clients = Clients { count: 0, stride: 0 };

/// Clients in the order in which their connections were opened. The kernel hands out the table's
/// entries one after the other, so the processor fetches some of them ahead.
fn in_turn(count: u64) -> Clients {
    Clients { count, stride: 1 }
}

/// Clients in an order that nothing can guess, like those of real traffic.
fn scattered(count: u64) -> Clients {
    // A prime that divides no count here: every client has its turn.
    Clients { count, stride: 7_368_787 }
}

/// Opens the connections that the packets belong to, and describes the packets.
pub fn prepare(bench: &Bench, many: u32) -> Result<Vec<Scenario>> {
    let data4 = padded(Frame::tcp4())?.flags(ACK);
    let data6 = padded(Frame::tcp6())?.flags(ACK);
    let datagram = padded(Frame::udp4())?;
    let reply = bench.open(&padded(Frame::tcp4())?)?.flags(ACK);
    bench.open(&padded(Frame::tcp6())?)?;
    bench.open(&datagram)?;
    for client in 0..many {
        bench.open(&padded(Frame::tcp4())?.from(address(client), port(client)))?;
    }
    let fresh = padded(Frame::tcp4())?.destination_port(FRESH_PORT);
    let stranger = data4.clone().to(Ipv4Addr::new(203, 0, 113, 9), 80);
    let other_port = data4.clone().destination_port(22);

    let forward = |name, target, frame: &Frame| Scenario {
        name,
        target,
        frame: frame.build(),
        clients: ONE,
        repeat: 2_000_000,
        verdict: "to-backend",
        opens: false,
    };
    let mut scenarios = vec![
        forward("v4 TCP, established, one flow", Some(50), &data4),
        forward("v6 TCP, established, one flow", Some(55), &data6),
        forward("v4 UDP, established, one flow", Some(50), &datagram),
        Scenario { verdict: "to-client", ..forward("v4 TCP, a backend's reply", None, &reply) },
    ];
    for (name, target, clients) in [
        ("v4 TCP, 10,000 flows in turn", Some(100), in_turn(10_000)),
        ("v4 TCP, 10,000 flows scattered", None, scattered(10_000)),
        ("v4 TCP, 1,000,000 flows in turn", Some(260), in_turn(1_000_000)),
        ("v4 TCP, 1,000,000 flows scattered", None, scattered(1_000_000)),
    ] {
        if clients.count <= many.into() {
            scenarios.push(Scenario { clients, ..forward(name, target, &data4) });
        }
    }
    scenarios.push(Scenario {
        clients: scattered(1 << 32),
        repeat: 200_000,
        opens: true,
        ..forward("new connection, never seen", Some(800), &fresh)
    });
    scenarios.push(Scenario {
        verdict: "pass-not-ours",
        ..forward("not for a service", Some(12), &stranger)
    });
    scenarios.push(Scenario {
        verdict: "pass-no-service",
        ..forward("for a service's address, another port", None, &other_port)
    });
    Ok(scenarios)
}

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
