//! The world that the frames live in: one service of each kind, its backends, and the two sides
//! of a connection as the edge sees them.
//!
//! Knows addresses and frames, and nothing of the program under test.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use evenkeel::{config::Protocol, plan::ServiceId};
use evenkeel_tests::{
    frame::{ACK, CLIENT_MAC, EDGE_MAC, Frame, PSH, SYN},
    topology::Family,
};

/// The edge's MAC address on the backends' side.
pub const BACK_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x03];
/// The interface towards the backends. It need not exist: a test-run redirects nothing.
pub const BACK: u32 = 77;
/// The interface that a test-run's packets come in by unless told otherwise: the loopback.
pub const LOOPBACK: u32 = 1;
/// The lowest source port of NAT.
pub const FIRST_PORT: u16 = 1024;
/// How many of them there are, where a test does not say.
pub const PORTS: u16 = 2000;
/// The lowest of the clients' ports.
pub const CLIENT_PORT: u16 = 40_000;

/// A kind of service: family and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub family: Family,
    pub protocol: Protocol,
}

pub const TCP4: Kind = Kind { family: Family::V4, protocol: Protocol::Tcp };
pub const TCP6: Kind = Kind { family: Family::V6, protocol: Protocol::Tcp };
pub const UDP4: Kind = Kind { family: Family::V4, protocol: Protocol::Udp };
pub const UDP6: Kind = Kind { family: Family::V6, protocol: Protocol::Udp };
/// All of them.
pub const KINDS: [Kind; 4] = [TCP4, TCP6, UDP4, UDP6];
/// Those that have states.
pub const TCP_KINDS: [Kind; 2] = [TCP4, TCP6];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.protocol, self.family)
    }
}

impl Kind {
    pub fn is_tcp(self) -> bool {
        self.protocol == Protocol::Tcp
    }

    pub fn is_v4(self) -> bool {
        self.family == Family::V4
    }

    /// The id of the service.
    pub fn id(self) -> ServiceId {
        ServiceId(KINDS.iter().position(|kind| *kind == self).unwrap().try_into().unwrap())
    }

    pub fn service(self) -> SocketAddr {
        self.family.service(if self.is_tcp() { 80 } else { 53 })
    }

    /// NAT's `n`-th source address, from zero.
    pub fn source(self, n: u8) -> IpAddr {
        self.inside(2 + n)
    }

    /// The `n`-th backend, from one.
    pub fn backend(self, n: u8) -> SocketAddr {
        SocketAddr::new(self.inside(10 + n), 8080)
    }

    fn inside(self, host: u8) -> IpAddr {
        if self.is_v4() {
            Ipv4Addr::new(10, 0, 0, host).into()
        } else {
            Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, host.into()).into()
        }
    }

    /// A client's packet to the service: with `flags`, where it is of TCP. Every packet has the first
    /// number, and what acknowledges, the next one: as it is right for a handshake.
    pub fn frame(self, flags: u8) -> Frame {
        let acknowledged = if flags & ACK == 0 { 0 } else { 1001 };
        match self {
            TCP4 => Frame::tcp4().flags(flags).numbers(1000, acknowledged),
            TCP6 => Frame::tcp6().flags(flags).numbers(1000, acknowledged),
            UDP4 => Frame::udp4(),
            _ => Frame::udp6(),
        }
    }
}

/// The MAC address of the `n`-th backend.
pub fn backend_mac(n: u8) -> [u8; 6] {
    [0x02, 0, 0, 0, 1, n]
}

/// A connection, as the frames on its two sides show it.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub kind: Kind,
    pub client: (IpAddr, u16),
    /// NAT's address and port.
    pub source: (IpAddr, u16),
    pub backend: u8,
}

/// Where among `ports` ports the one of a client's own address and port is: its address folded to a
/// word, and its port, added up. Neighbouring ports of a client have neighbouring ports.
pub fn own_port(client: (IpAddr, u16), ports: u16) -> u16 {
    let word = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap());
    let folded = match client.0 {
        IpAddr::V4(v4) => word(&v4.octets()),
        IpAddr::V6(v6) => {
            let words: Vec<u32> = v6.octets().chunks(4).map(word).collect();
            let turned = [0, 7, 13, 19];
            words.iter().zip(turned).fold(0, |all, (word, by)| all ^ word.rotate_left(by))
        }
    };
    u16::try_from((u64::from(folded) + u64::from(client.1)) % u64::from(ports)).unwrap()
}

/// The finaliser of `MurmurHash3` for 32 bits.
const fn mix(word: u32) -> u32 {
    let word = (word ^ (word >> 16)).wrapping_mul(0x85eb_ca6b);
    let word = (word ^ (word >> 13)).wrapping_mul(0xc2b2_ae35);
    word ^ (word >> 16)
}

/// An address's words in network order, each mixed into a hash.
fn hashed(seed: u32, address: IpAddr) -> u32 {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let words = octets.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap()));
    words.fold(seed, |hash, word| mix(hash ^ word).wrapping_add(0x9e37_79b9))
}

/// The hash of a client's address, which every edge shares.
pub fn client_hash(client: IpAddr) -> u32 {
    mix(hashed(0, client))
}

/// The hash of a client's flow, which every edge shares.
pub fn flow_hash(kind: Kind, client: (IpAddr, u16), service: SocketAddr) -> u32 {
    let hash = hashed(hashed(if kind.is_tcp() { 6 } else { 17 }, client.0), service.ip());
    mix(hash ^ (u32::from(client.1) << 16 | u32::from(service.port())))
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Forth,
    Back,
}

/// The packets of a connection that lives: way and flags.
pub const LIFE: [(&str, Way, u8); 5] = [
    ("opening", Way::Forth, SYN),
    ("answer", Way::Back, SYN | ACK),
    ("acknowledgement", Way::Forth, ACK),
    ("request", Way::Forth, PSH | ACK),
    ("response", Way::Back, PSH | ACK),
];

impl Link {
    /// The `turn`-th connection of the default client, from zero, to backend 1, by the port that NAT
    /// has for that client's port, of [`PORTS`].
    pub fn new(kind: Kind, turn: u16) -> Self {
        let client = match kind.family {
            Family::V4 => evenkeel_tests::frame::CLIENT4.into(),
            Family::V6 => evenkeel_tests::frame::CLIENT6.into(),
        };
        let client = (client, CLIENT_PORT + turn);
        let source = (kind.source(0), FIRST_PORT + own_port(client, PORTS));
        Self { kind, client, source, backend: 1 }
    }

    /// A packet as it reaches the edge.
    pub fn frame(&self, way: Way, flags: u8) -> Frame {
        let frame = self.kind.frame(flags);
        match way {
            Way::Forth => frame.from(self.client.0, self.client.1),
            Way::Back => {
                let backend = self.kind.backend(self.backend);
                frame
                    .macs(backend_mac(self.backend), BACK_MAC)
                    .from(backend.ip(), backend.port())
                    .to(self.source.0, self.source.1)
            }
        }
    }

    /// The same packet as it leaves the edge, but for its TTL.
    pub fn translated(&self, way: Way, frame: Frame) -> Frame {
        match way {
            Way::Forth => {
                let backend = self.kind.backend(self.backend);
                frame
                    .macs(BACK_MAC, backend_mac(self.backend))
                    .from(self.source.0, self.source.1)
                    .to(backend.ip(), backend.port())
            }
            Way::Back => {
                let service = self.kind.service();
                frame
                    .macs(EDGE_MAC, CLIENT_MAC)
                    .from(service.ip(), service.port())
                    .to(self.client.0, self.client.1)
            }
        }
    }

    /// The bytes of a plain packet as it reaches the edge, and as it leaves.
    pub fn plain(&self, way: Way, flags: u8) -> (Vec<u8>, Vec<u8>) {
        let frame = self.frame(way, flags);
        let translated = self.translated(way, frame.clone()).ttl(63);
        (frame.build(), translated.build())
    }
}
