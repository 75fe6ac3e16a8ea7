//! ICMP (RFC 792, RFC 4443): an error about a connection goes to the end that it concerns, in words
//! that this end understands; an echo request to a service's address is answered where the host does
//! not do it (DESIGN.md 4, "ICMP is part of the flow").

use std::net::SocketAddr;

use super::{
    Action, Flow, Model, Outcome, Stop, TCP, UDP, rewrite,
    rewrite::{put, put_ends},
    sum::{completing, octets, pseudo, sum},
    table::{Connection, Sender},
    wire::{Layers, be16, ends},
    world::{Forwarding, Hop},
};

/// Bytes of a message's header.
const HEADER: usize = 8;
/// TTL of a packet of our own.
const TTL: u8 = 64;

/// The packet that an error quotes.
struct Quote {
    /// Where it begins in the frame.
    ip: usize,
    /// Where its transport header begins.
    transport: usize,
    flow: Flow,
}

impl Model {
    /// What becomes of an ICMP message.
    pub(super) fn message(
        &mut self,
        frame: &[u8],
        layers: &Layers,
        ingress: u32,
    ) -> Result<Outcome, Stop> {
        let message = &frame[layers.transport..layers.end];
        let Some([kind, code, ..]) = message.first_chunk::<HEADER>().copied() else {
            return Err(Stop::Verdict("drop-malformed-transport"));
        };
        let v4 = layers.link.version == 4;
        if kind == if v4 { 8 } else { 128 } {
            return self.echo(frame, layers, code);
        }
        let is_error = if v4 { matches!(kind, 3 | 11 | 12) } else { matches!(kind, 1..=4) };
        if !is_error {
            return Err(Stop::Verdict("pass-protocol"));
        }
        let quote = quote(frame, layers)?;
        // Who sent the quoted packet is who gets what goes against it.
        let against = quote.flow.turned();
        let found = self.table(&against).find(&against);
        let (client, sender) = found.ok_or(Stop::Verdict("pass-protocol"))?;
        if layers.link.ttl(frame) <= 1 {
            return Err(Stop::Verdict("pass-ttl"));
        }
        let internal = Stop::Verdict("drop-internal");
        let connection = self.table(&client).get(&client).cloned().ok_or(internal)?;
        match (sender, connection.back) {
            // We sent it to the backend, for the client.
            (Sender::Backend, _) => {
                let (service, client) = (client.destination, client.source);
                let out = translated(frame, layers, &quote, (service, client), false);
                Ok(leave("icmp-to-client", out, &connection.client, ingress))
            }
            // We sent it to the client, for the backend.
            (Sender::Client, Some(back)) => {
                self.fits(layers, &connection, 0)?;
                // A backend that sees its clients' addresses may see the router's, too.
                let keeps = back.destination.ip() == client.source.ip();
                let ends = (back.destination, back.source);
                let out = translated(frame, layers, &quote, ends, keeps);
                match self.backends.get(&connection.backend).and_then(|backend| backend.hop) {
                    Some(hop) => Ok(leave("icmp-to-backend", out, &hop, ingress)),
                    None => Ok(Outcome {
                        verdict: "pass-no-next-hop",
                        action: Action::Pass,
                        frame: out,
                        unknown: None,
                    }),
                }
            }
            // The backend sent it to the client itself.
            (Sender::Client, None) => self.forwarded(frame, layers, &client, &connection, ingress),
        }
    }

    /// Whether an error fits the way to a backend: where not, nobody is sent an error about it
    /// (RFC 1122, 3.2.2; RFC 4443, 2.4).
    fn fits(&self, layers: &Layers, connection: &Connection, added: usize) -> Result<(), Stop> {
        let mtu = self.backends.get(&connection.backend).map_or(0, |backend| backend.mtu);
        let needed = u32::try_from(layers.length() + added).unwrap_or(u32::MAX);
        if mtu != 0 && needed > mtu { Err(Stop::Verdict("drop-too-big")) } else { Ok(()) }
    }

    /// Sends a message the way that its connection's packets go.
    fn forwarded(
        &self,
        frame: &[u8],
        layers: &Layers,
        client: &Flow,
        connection: &Connection,
        ingress: u32,
    ) -> Result<Outcome, Stop> {
        let internal = Stop::Verdict("drop-internal");
        let backend = self.backends.get(&connection.backend).ok_or(internal)?;
        let gue = connection.forwarding == Forwarding::Gue;
        let tunnel = match connection.forwarding {
            Forwarding::Dsr => None,
            _ => Some(backend.tunnel.ok_or(internal)?),
        };
        let added = tunnel.as_ref().map_or(0, |tunnel| rewrite::overhead(tunnel, gue));
        self.fits(layers, connection, added)?;
        let hop = backend.hop.ok_or(Stop::Verdict("pass-no-next-hop"))?;
        let out = if let Some(tunnel) = &tunnel {
            let hash = super::hash::flow(client);
            rewrite::encapsulate(frame, layers, backend.address, tunnel, gue, hash).frame
        } else {
            let mut out = frame.to_vec();
            rewrite::decrement(&mut out, layers);
            out
        };
        Ok(leave("icmp-to-backend", out, &hop, ingress))
    }

    /// Answers an echo request, where the host does not.
    fn echo(&self, frame: &[u8], layers: &Layers, code: u8) -> Result<Outcome, Stop> {
        let (source, destination) = layers.link.addresses(frame);
        let service = self.services.values().find(|service| service.address == destination);
        let v4 = layers.link.version == 4;
        let plain = layers.transport == layers.link.ip + if v4 { 20 } else { 40 };
        if code != 0 || !plain || service.is_none_or(|service| service.on_host) {
            return Err(Stop::Verdict("pass-protocol"));
        }
        let mut out = frame.to_vec();
        turn(&mut out);
        let before = message_sum(&out, layers);
        {
            let header = &mut out[layers.link.ip..layers.transport];
            let all = sum(&[header]);
            put_ends(header, destination, source);
            header[if v4 { 8 } else { 7 }] = TTL;
            if v4 {
                put(header, 10, 0);
                let checksum = completing(all, sum(&[header]));
                put(header, 10, checksum);
            }
        }
        let at = layers.transport;
        out[at] = if v4 { 0 } else { 129 };
        put(&mut out, at + 2, 0);
        let checksum = completing(before, message_sum(&out, layers));
        // A message of nothing but zeros has the checksum of all ones (RFC 1624, 3); of any other,
        // both representations are right.
        let zeros = checksum == 0 && out[at + 4..at + 8] == [0; 4];
        put(&mut out, at + 2, if zeros { 0xffff } else { checksum });
        Ok(Outcome { verdict: "reply-echo", action: Action::Back, frame: out, unknown: None })
    }
}

/// Swaps the Ethernet addresses.
pub fn turn(frame: &mut [u8]) {
    let (destination, source) = frame[..12].split_at_mut(6);
    destination.swap_with_slice(source);
}

fn leave(verdict: &'static str, mut frame: Vec<u8>, hop: &Hop, ingress: u32) -> Outcome {
    rewrite::address(&mut frame, hop);
    let action = if hop.interface == ingress { Action::Back } else { Action::Away };
    Outcome { verdict, action, frame, unknown: None }
}

/// The sum that an ICMP checksum completes: of the message, and over IPv6 of a pseudo-header.
fn message_sum(frame: &[u8], layers: &Layers) -> u16 {
    let message = &frame[layers.transport..layers.end];
    if layers.link.version == 4 {
        return sum(&[message]);
    }
    let (source, destination) = layers.link.addresses(frame);
    let pseudo = pseudo(source, destination, layers.protocol, message.len());
    sum(&[&pseudo.to_be_bytes(), message])
}

/// Reads the packet that an error quotes: as much as tells its ports.
fn quote(frame: &[u8], layers: &Layers) -> Result<Quote, Stop> {
    let cut = Stop::Verdict("drop-malformed-transport");
    let none = Stop::Verdict("pass-protocol");
    let ip = layers.transport + HEADER;
    let quoted = &frame[ip..layers.end];
    let v4 = layers.link.version == 4;
    let (length, protocol) = if v4 {
        let header = quoted.first_chunk::<20>().ok_or(cut)?;
        let length = usize::from(header[0] & 0xf) * 4;
        if header[0] >> 4 != 4 || length < 20 || length > quoted.len() {
            return Err(cut);
        }
        if be16(header, 6) & 0x1fff != 0 {
            return Err(none);
        }
        (length, header[9])
    } else {
        let header = quoted.first_chunk::<40>().ok_or(cut)?;
        if header[0] >> 4 != 6 {
            return Err(cut);
        }
        (40, header[6])
    };
    if !matches!(protocol, TCP | UDP) {
        return Err(none);
    }
    let transport = quoted[length..].first_chunk::<8>().ok_or(cut)?;
    let (source, destination) = ends(quoted, layers.link.version);
    Ok(Quote {
        ip,
        transport: ip + length,
        flow: Flow {
            source: SocketAddr::new(source, be16(transport, 0)),
            destination: SocketAddr::new(destination, be16(transport, 2)),
            protocol,
        },
    })
}

/// An error to the end `to` of a connection whose other end is `from`: the quoted packet becomes the
/// one that `to` sent to `from`.
fn translated(
    frame: &[u8],
    layers: &Layers,
    quote: &Quote,
    (from, to): (SocketAddr, SocketAddr),
    keeps_source: bool,
) -> Vec<u8> {
    let mut out = frame.to_vec();
    let before = message_sum(&out, layers);
    rewrite::decrement(&mut out, layers);
    let v4 = layers.link.version == 4;
    let own = layers.link.addresses(frame).0;
    {
        let header = &mut out[layers.link.ip..layers.transport];
        let all = sum(&[header]);
        put_ends(header, if keeps_source { own } else { from.ip() }, to.ip());
        if v4 {
            put(header, 10, 0);
            let checksum = completing(all, sum(&[header]));
            put(header, 10, checksum);
        }
    }
    let Quote { ip, transport, flow } = quote;
    {
        let header = &mut out[*ip..*transport];
        let all = sum(&[header]);
        put_ends(header, to.ip(), from.ip());
        if v4 {
            put(header, 10, 0);
            let checksum = completing(all, sum(&[header]));
            put(header, 10, checksum);
        }
    }
    put(&mut out, *transport, to.port());
    put(&mut out, transport + 2, from.port());
    // The quoted checksum, as far as it is quoted: of all that it covers only the ends changed.
    let field = transport + if flow.protocol == TCP { 16 } else { 6 };
    if field + 2 <= layers.end && (flow.protocol == TCP || be16(&out, field) != 0) {
        let of = |source: SocketAddr, destination: SocketAddr, check: u16| {
            let ports = [source.port(), destination.port(), check].map(u16::to_be_bytes);
            sum(&[&octets(source.ip()), &octets(destination.ip()), &ports.concat()])
        };
        let whole = of(flow.source, flow.destination, be16(&out, field));
        let checksum = completing(whole, of(to, from, 0));
        let none = flow.protocol == UDP && checksum == 0;
        put(&mut out, field, if none { 0xffff } else { checksum });
    }
    let at = layers.transport + 2;
    put(&mut out, at, 0);
    let checksum = completing(before, message_sum(&out, layers));
    put(&mut out, at, checksum);
    out
}
