//! Packets of our own: what tells a sender that its packet does not fit, or a client that no backend
//! takes its connection.

use std::net::IpAddr;

use super::{
    Action, Model, Outcome, TCP, UDP,
    icmp::turn,
    rewrite::put,
    sum::{octets, pseudo, sum},
    wire::{self, ACK, FIN, Layers, RST, SYN, be16},
    world::Tells,
};

/// Bytes of a packet that an error quotes.
const QUOTED: usize = 128;
const TTL: u8 = 64;

/// Tells a packet's sender how large a packet may be (RFC 1191; RFC 4443, 3.2).
pub fn too_big(frame: &[u8], mtu: u32) -> Option<Outcome> {
    let layers = told(frame)?;
    let (kind, code, least) = if layers.link.version == 4 { (3, 4, 68) } else { (2, 0, 1280) };
    let frame = error(frame, &layers, kind, code, mtu.max(least));
    Some(Outcome { verdict: "reply-too-big", action: Action::Back, frame, unknown: None })
}

impl Model {
    /// Tells a client that it gets no connection, where its service is one that tells: by a RST
    /// (RFC 9293, 3.10.7.1), or as if nobody listened at the port.
    pub(super) fn rejected(
        &self,
        frame: &[u8],
        verdict: &'static str,
        when: fn(Tells) -> bool,
    ) -> Option<Outcome> {
        let layers = told(frame)?;
        let transport = wire::transport(frame, &layers).ok()?;
        let flow = layers.flow(frame, &transport);
        let service = self.service_at(flow.destination, flow.protocol)?;
        if !when(self.services[&service].tells) {
            return None;
        }
        let frame = if layers.protocol == UDP {
            let (kind, code) = if layers.link.version == 4 { (3, 3) } else { (1, 4) };
            error(frame, &layers, kind, code, 0)
        } else {
            // A RST is not answered; how long a segment is, its first fragment does not tell.
            if transport.flags & RST != 0 || layers.part.is_some() {
                return None;
            }
            let header = usize::from(frame[layers.transport + 12] >> 4) * 4;
            let payload = layers.end - layers.transport - header;
            let counted = payload
                + usize::from(transport.flags & SYN != 0)
                + usize::from(transport.flags & FIN != 0);
            let end = transport.sequence.wrapping_add(u32::try_from(counted).unwrap_or(u32::MAX));
            let acknowledged = transport.flags & ACK != 0;
            let (sequence, acknowledgement, flags) = if acknowledged {
                (transport.acknowledgement, 0, RST)
            } else {
                (0, end, RST | ACK)
            };
            let mut segment = Vec::new();
            segment.extend(transport.ports.1.to_be_bytes());
            segment.extend(transport.ports.0.to_be_bytes());
            segment.extend(sequence.to_be_bytes());
            segment.extend(acknowledgement.to_be_bytes());
            segment.extend([5 << 4, flags, 0, 0, 0, 0, 0, 0]);
            let (source, destination) = layers.link.addresses(frame);
            let pseudo = pseudo(destination, source, TCP, segment.len());
            let checksum = !sum(&[&pseudo.to_be_bytes(), &segment]);
            put(&mut segment, 16, checksum);
            packet(frame, &layers, TCP, &segment)
        };
        Some(Outcome { verdict, action: Action::Back, frame, unknown: None })
    }
}

/// Reads a packet whose sender may be told something: it is one host, and the packet is no fragment
/// after the first (RFC 1122, 3.2.2; RFC 4443, 2.4).
fn told(frame: &[u8]) -> Option<Layers> {
    let layers = wire::layers(frame, wire::link(frame)?).ok()?;
    let (source, _) = layers.link.addresses(frame);
    let one_host = match source {
        IpAddr::V4(v4) => !matches!(v4.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(v6) => !v6.is_multicast() && !v6.is_unspecified(),
    };
    (one_host && layers.part.is_none_or(|part| part.first)).then_some(layers)
}

/// An ICMP error about a packet, to its sender.
fn error(frame: &[u8], layers: &Layers, kind: u8, code: u8, rest: u32) -> Vec<u8> {
    let v4 = layers.link.version == 4;
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest.to_be_bytes());
    let length = layers.length().min(QUOTED) / 2 * 2;
    message.extend(&frame[layers.link.ip..][..length]);
    let protocol = layers.link.icmp();
    let (source, destination) = layers.link.addresses(frame);
    let pseudo = if v4 { 0 } else { pseudo(destination, source, protocol, message.len()) };
    let checksum = !sum(&[&pseudo.to_be_bytes(), &message]);
    put(&mut message, 2, checksum);
    packet(frame, layers, protocol, &message)
}

/// A packet back to the sender of `frame`: from its destination, by the way that it came.
fn packet(frame: &[u8], layers: &Layers, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = frame[..layers.link.ip].to_vec();
    turn(&mut out);
    let (source, destination) = layers.link.addresses(frame);
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut header = Vec::new();
    if layers.link.version == 6 {
        header.extend([0x60, 0, 0, 0]);
        header.extend(length.to_be_bytes());
        header.extend([protocol, TTL]);
    } else {
        header.extend([0x45, 0]);
        header.extend((length + 20).to_be_bytes());
        // Not to be fragmented, and so without an identification (RFC 6864, 4.1).
        header.extend([0, 0, 0x40, 0, TTL, protocol, 0, 0]);
    }
    header.extend(octets(destination));
    header.extend(octets(source));
    if layers.link.version == 4 {
        debug_assert_eq!(be16(&header, 10), 0);
        let checksum = !sum(&[&header]);
        put(&mut header, 10, checksum);
    }
    out.extend(header);
    out.extend(payload);
    out
}
