//! The world of the cases: what the small numbers in them stand for, and the frames they make.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use evenkeel_tests::{
    frame::{self, ACK, Frame, TCP, UDP},
    model::{Flow, Model, world::Prefix},
};

use crate::spec::{Acknowledges, BACKENDS, Packet, Part, SERVICES, What};

/// Interfaces, as the test's namespace has them: clients' two, and the backends'.
#[derive(Clone, Copy, Debug)]
pub struct Interfaces {
    pub clients: [u32; 2],
    pub backends: u32,
}

/// What the clients' interfaces, and the backends', take.
pub const MTUS: [u32; 3] = [1500, 1400, 1500];

const VIP4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
const SECOND4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 20));
const VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x10));
const SECOND6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x20));

/// Addresses that the host itself has.
pub const ON_HOST: [IpAddr; 2] = [SECOND4, SECOND6];

/// Address, port (zero: every one) and protocol of every service.
pub const SERVICES_AT: [(IpAddr, u16, u8); SERVICES as usize] = [
    (VIP4, 80, TCP),
    (VIP4, 53, UDP),
    (VIP6, 80, TCP),
    (VIP6, 53, UDP),
    (VIP4, 0, TCP),
    (SECOND4, 0, UDP),
    (SECOND6, 0, TCP),
    (SECOND4, 443, TCP),
];

/// Types and codes of ICMP messages, of IPv4 and IPv6: errors first.
pub const MESSAGES: [[(u8, u8); 2]; 8] = [
    [(3, 1), (1, 0)],
    [(3, 4), (2, 0)],
    [(11, 0), (3, 0)],
    [(12, 0), (4, 1)],
    [(3, 3), (1, 4)],
    [(0, 0), (129, 0)],
    [(5, 1), (137, 0)],
    [(8, 1), (128, 3)],
];

/// Prefixes that a case can allow or deny.
pub fn prefixes() -> [Prefix; 6] {
    let prefix = |address: IpAddr, bits| Prefix { address, bits };
    [
        prefix(client_at(0, true), 24),
        prefix(client_at(0, true), 32),
        prefix(client_at(2, true), 8),
        prefix(client_at(0, false), 64),
        prefix(client_at(1, false), 128),
        prefix(client_at(0, false), 0),
    ]
}

/// A client's address.
pub fn client_at(client: u8, v4: bool) -> IpAddr {
    let host = 1 + client % 2;
    match (v4, client % 4 < 2) {
        (true, true) => Ipv4Addr::new(198, 51, 100, host).into(),
        (true, false) => Ipv4Addr::new(203, 0, 113, host).into(),
        (false, near) => {
            Ipv6Addr::new(0x2001, 0xdb8, 1, u16::from(!near), 0, 0, 0, host.into()).into()
        }
    }
}

/// NAT's source addresses.
pub fn source_at(n: u8, v4: bool) -> IpAddr {
    if v4 {
        Ipv4Addr::new(10, 0, 0, 2 + n % 3).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2 + u16::from(n % 3)).into()
    }
}

/// A backend's address. Services of a family share their servers.
pub fn server_at(n: u8, v4: bool) -> IpAddr {
    if v4 {
        Ipv4Addr::new(10, 0, 0, 10 + n).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10 + u16::from(n)).into()
    }
}

/// A backend's Ethernet address.
pub const fn server_mac(n: u8) -> [u8; 6] {
    [0x02, 0, 0, 0, 1, n]
}

/// The Ethernet address of the edge towards clients and backends.
pub const EDGE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
pub const BACK_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x03];

pub const fn id(service: u8, backend: u8) -> u32 {
    (service % SERVICES) as u32 * BACKENDS as u32 + (backend % BACKENDS) as u32
}

impl Packet {
    fn at(&self) -> (IpAddr, u16, u8) {
        SERVICES_AT[usize::from(self.service % SERVICES)]
    }

    /// The client's flow to the service.
    pub fn client_flow(&self) -> Flow {
        let (address, port, protocol) = self.at();
        let client = client_at(self.client, address.is_ipv4());
        let to = match (port, self.to_port) {
            (0, more) => 7000 + u16::from(more % 4),
            (port, 0) => port,
            (_, more) => 7000 + u16::from(more % 4),
        };
        let source = SocketAddr::new(client, 40_000 + u16::from(self.port % 8));
        Flow { source, destination: SocketAddr::new(address, to), protocol }
    }

    /// The flow that it is in itself.
    fn flow(&self, model: &Model) -> Flow {
        let there = self.client_flow();
        let v4 = there.source.is_ipv4();
        let source = SocketAddr::new(source_at(0, v4), 1024 + u16::from(self.to_port));
        match self.what {
            What::ToService | What::Echo => there,
            What::Reply => {
                let known = model.connection(&there).and_then(|connection| connection.back);
                let server = SocketAddr::new(server_at(0, v4), 8080);
                known.unwrap_or(Flow { source: server, destination: source, ..there })
            }
            What::ToSource => Flow { destination: source, ..there },
            What::Stranger => Flow { destination: SocketAddr::new(client_at(3, v4), 80), ..there },
            // The flow of the packet that is quoted.
            What::AboutForth => {
                let known = model.connection(&there).and_then(|connection| connection.back);
                known.map_or(Flow { source, ..there }, |back| back.turned())
            }
            What::AboutBack => there.turned(),
        }
    }

    /// Which interface it comes by.
    pub fn ingress(&self, interfaces: &Interfaces) -> u32 {
        if matches!(self.what, What::Reply | What::AboutForth) {
            interfaces.backends
        } else {
            interfaces.clients[usize::from(self.way % 2)]
        }
    }

    /// The frame.
    pub fn frame(&self, model: &Model) -> Vec<u8> {
        let mut bytes = self.build(model);
        for (at, by) in &self.changed {
            let length = bytes.len();
            bytes[usize::from(*at) % length] ^= by;
        }
        if let Some(cut) = self.cut {
            bytes.truncate(usize::from(cut).max(14));
        }
        bytes
    }

    fn build(&self, model: &Model) -> Vec<u8> {
        let flow = self.flow(model);
        if matches!(self.what, What::AboutForth | What::AboutBack | What::Echo) {
            return self.message(&flow);
        }
        let tcp = flow.protocol == TCP;
        let v4 = flow.source.is_ipv4();
        let mut payload: Vec<u8> =
            (0..self.payload % 1600).map(|n| (n % 251).to_be_bytes()[1] ^ 0x5a).collect();
        let later = self.part == Part::Later;
        let mut frame = match (v4, tcp, later) {
            (true, true, false) => Frame::tcp4(),
            (false, true, false) => Frame::tcp6(),
            (true, false, false) => Frame::udp4(),
            (false, false, false) => Frame::udp6(),
            (true, _, true) => Frame::other4(flow.protocol, &[]),
            (false, _, true) => Frame::other6(flow.protocol, &[]),
        };
        frame = frame
            .from(flow.source.ip(), flow.source.port())
            .to(flow.destination.ip(), flow.destination.port())
            .ttl(64_u8.saturating_sub(self.aged))
            .tos(self.tos)
            .id(self.id.into())
            .dont_fragment(self.whole)
            .trailer(&vec![0xee; usize::from(self.trailer % 32)]);
        frame = match self.what {
            What::Reply => frame.macs(server_mac(9), BACK_MAC),
            _ => frame.macs([0x02, 0, 0, 0, 0, 0x60 + self.way], EDGE_MAC),
        };
        for tag in 0..self.tags % 4 {
            frame = frame.vlan(if tag == 0 { 0x88a8 } else { 0x8100 }, 100 + u16::from(tag));
        }
        if tcp && !later {
            let known = model.connection(&self.client_flow());
            let answer = known.map_or(0, |connection| connection.answer);
            let acknowledgement = match self.acknowledges {
                Acknowledges::Right => answer,
                Acknowledges::More(more) => answer.wrapping_add(more),
                Acknowledges::Wrong => answer.wrapping_sub(1),
            };
            let acknowledgement = if self.flags & ACK == 0 { 0 } else { acknowledgement };
            let options = vec![1; usize::from(self.more % 8) * 4];
            frame = frame
                .flags(self.flags)
                .numbers(u32::from(self.sequence) << 16 | 0xfff0, acknowledgement)
                .tcp_options(&options);
        } else if !tcp && !later && !self.more.is_multiple_of(8) {
            let datagram = u16::try_from(8 + payload.len()).unwrap();
            payload.extend(vec![0x77; usize::from(self.more % 8)]);
            // The checksum is that of the datagram alone.
            let alone = frame.clone().payload(&payload[..usize::from(datagram) - 8]).build();
            frame = frame.udp_length(datagram).checksum(udp_checksum(&alone));
        }
        frame = frame.payload(&payload);
        frame = self.dress(frame, v4);
        let right = frame.build();
        let Ok(parsed) = frame::parse(&right) else { return right };
        let field = if tcp { 16 } else { 6 };
        if !later && self.unsummed && !tcp {
            frame = frame.checksum(0);
        } else if !later && self.wrong.0 != 0 && parsed.segment.len() >= field + 2 {
            let is = u16::from_be_bytes([parsed.segment[field], parsed.segment[field + 1]]);
            frame = frame.checksum(is.wrapping_add(self.wrong.0));
        }
        if let Some(header) = &parsed.ipv4_header
            && self.wrong.1 != 0
        {
            let is = u16::from_be_bytes([header[10], header[11]]);
            frame = frame.ip_checksum(is.wrapping_add(self.wrong.1));
        }
        frame.build()
    }

    /// An ICMP message: an error about a packet of `flow`, or an echo request.
    fn message(&self, flow: &Flow) -> Vec<u8> {
        let v4 = flow.source.is_ipv4();
        let router = client_at(3, v4);
        let data = vec![0x42; usize::from(self.payload % 1600)];
        let icmp = |(kind, code), rest| {
            if v4 { Frame::icmp4(kind, code, rest) } else { Frame::icmp6(kind, code, rest) }
        };
        let mut frame = if self.what == What::Echo {
            let frame = icmp(if v4 { (8, 0) } else { (128, 0) }, [0, self.id, 0, self.port]);
            frame.from(flow.source.ip(), 0).to(flow.destination.ip(), 0).payload(&data)
        } else {
            let about = match (v4, flow.protocol == TCP) {
                (true, true) => Frame::tcp4(),
                (false, true) => Frame::tcp6(),
                (true, false) => Frame::udp4(),
                (false, false) => Frame::udp6(),
            };
            let about = about
                .from(flow.source.ip(), flow.source.port())
                .to(flow.destination.ip(), flow.destination.port())
                .ip_options(&vec![1; usize::from(self.more % 8) * 4])
                .payload(&data);
            let about =
                if self.unsummed && flow.protocol != TCP { about.checksum(0) } else { about };
            let mut quoted = about.packet();
            if self.quoted != 0 {
                quoted.truncate(self.quoted.into());
            }
            let kinds = MESSAGES[usize::from(self.message) % MESSAGES.len()];
            let rest = if self.message % 8 == 1 { [0, 0, 5, 0] } else { [0; 4] };
            let frame = icmp(kinds[usize::from(!v4)], rest);
            frame.from(router, 0).to(flow.source.ip(), 0).payload(&quoted)
        };
        frame = frame
            .macs([0x02, 0, 0, 0, 0, 0x70 + self.way], EDGE_MAC)
            .ttl(64_u8.saturating_sub(self.aged))
            .tos(self.tos)
            .id(self.id.into())
            .dont_fragment(self.whole)
            .trailer(&vec![0xee; usize::from(self.trailer % 32)]);
        for tag in 0..self.tags % 4 {
            frame = frame.vlan(0x8100, 100 + u16::from(tag));
        }
        frame = self.dress(frame, v4);
        if self.wrong.0 != 0
            && let Ok(parsed) = frame::parse(&frame.build())
            && parsed.segment.len() >= 4
        {
            let is = u16::from_be_bytes([parsed.segment[2], parsed.segment[3]]);
            frame = frame.checksum(is.wrapping_add(self.wrong.0));
        }
        frame.build()
    }

    /// Options, extension headers, and the part in a fragmented packet.
    fn dress(&self, mut frame: Frame, v4: bool) -> Frame {
        if v4 {
            frame = frame.ip_options(&vec![1; usize::from(self.options % 11) * 4]);
            return match self.part {
                Part::Whole | Part::Atomic => frame,
                Part::First => frame.fragment(0, true),
                Part::Later => frame.fragment(3, self.id & 1 != 0),
            };
        }
        let padding = [0, 1, 4, 0, 0, 0, 0];
        let routing = [0, 4, 0, 0, 0, 0, 0];
        if self.options & 1 != 0 {
            frame = frame.extension(frame::HOP_BY_HOP, &padding);
        }
        if self.options & 2 != 0 {
            frame = frame.extension(frame::ROUTING, &routing);
        }
        for _ in 0..self.options >> 2 & 7 {
            frame = frame.extension(frame::DESTINATION, &padding);
        }
        let field: u16 = match self.part {
            Part::Whole => return frame,
            Part::First => 1,
            Part::Later => 3 << 3 | u16::from(self.id & 1),
            Part::Atomic => 6,
        };
        let [high, low] = field.to_be_bytes();
        frame = frame.extension(frame::FRAGMENT, &[0, high, low & 0xf9, 0, 0, 0, self.id]);
        frame
    }
}

fn udp_checksum(frame: &[u8]) -> u16 {
    let parsed = frame::parse(frame).unwrap();
    u16::from_be_bytes([parsed.segment[6], parsed.segment[7]])
}
