//! The path of a packet: parse → find the connection → else find the service and schedule → rewrite
//! → count → forward (DESIGN.md, section 4). Opening connections is in `open`, what is seen of them in
//! `follow`.

mod follow;
mod open;

use std::net::IpAddr;

use super::{
    Action, Flow, Hint, Model, Outcome, Stop, TCP, reply, rewrite,
    table::{Connection, Sender},
    wire::{self, ACK, Layers, SYN, Transport},
    world::{FRAGMENT_TIME, Forwarding, Hop},
};

/// A packet on its way.
struct Passing<'a> {
    frame: &'a [u8],
    layers: Layers,
    transport: Transport,
    flow: Flow,
    /// The interface that it came in by.
    ingress: u32,
    /// The backend that the program under test took for it, where that is its own choice.
    chosen: Option<u32>,
}

impl Passing<'_> {
    /// Whether it asks for a connection.
    fn asks(&self) -> bool {
        self.flow.protocol == TCP && self.transport.flags & (SYN | ACK) == SYN
    }

    /// Whether its connection's handshake is over.
    fn goes_on(&self) -> bool {
        self.transport.flags & (SYN | ACK) == ACK
    }

    /// The way back to its sender.
    fn sender(&self) -> Hop {
        let address = |at: usize| {
            let mut address = [0; 6];
            address.copy_from_slice(&self.frame[at..at + 6]);
            address
        };
        Hop { interface: self.ingress, source: address(0), destination: address(6) }
    }
}

impl Model {
    /// What becomes of a frame that came in by an interface.
    pub fn run(&mut self, frame: &[u8], ingress: u32, hint: Hint) -> Outcome {
        let outcome = self.judge(frame, ingress, hint);
        *self.verdicts.entry(outcome.verdict).or_default() += 1;
        outcome
    }

    /// The flow of a frame that has a whole transport header.
    #[must_use]
    pub fn flow(&self, frame: &[u8]) -> Option<Flow> {
        let layers = wire::layers(frame, wire::link(frame)?).ok()?;
        let here = layers.is_balanced() && layers.part.is_none_or(|part| part.first);
        let transport = here.then(|| wire::transport(frame, &layers).ok()).flatten()?;
        Some(layers.flow(frame, &transport))
    }

    /// Source and destination address of a frame; `None` where it has none.
    #[must_use]
    pub fn addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
        wire::link(frame).map(|link| link.addresses(frame))
    }

    fn judge(&mut self, frame: &[u8], ingress: u32, hint: Hint) -> Outcome {
        let Hint { chosen, is_looked_up } = hint;
        let stays = |verdict: &'static str| {
            let action = if verdict.starts_with("drop") { Action::Drop } else { Action::Pass };
            Outcome { verdict, action, frame: frame.to_vec(), unknown: None }
        };
        let Some(link) = wire::link(frame) else { return stays("pass-not-ip") };
        let (source, destination) = link.addresses(frame);
        // Where clients' addresses are kept, a router's message to a client may be about a connection.
        let message = link.next(frame) == link.icmp() && self.keeps_sources();
        let ends =
            is_looked_up || self.ours.contains(&destination) || self.our_sources.contains(&source);
        if !ends && !message {
            return stays("pass-not-ours");
        }
        let is_message = wire::layers(frame, link).is_ok_and(|layers| layers.is_message());
        match self.balance(frame, link, ingress, chosen) {
            Ok(outcome) => outcome,
            Err(Stop::TooBig(mtu)) => {
                reply::too_big(frame, mtu).unwrap_or_else(|| stays("drop-too-big"))
            }
            Err(Stop::Overload) => self
                .rejected(frame, "reply-overload", |tells| tells.overload)
                .unwrap_or_else(|| stays("drop-overload")),
            Err(Stop::NoBackend) => self
                .rejected(frame, "reply-no-backend", |tells| tells.no_backend)
                .unwrap_or_else(|| stays("drop-no-backend")),
            // It was looked at for what it quotes alone, and that is nothing of ours.
            Err(Stop::Verdict("pass-protocol")) if is_message && !ends => stays("pass-not-ours"),
            // "Malformed and addressed to a service: dropped": what is not is not ours to judge.
            Err(Stop::Verdict(verdict)) if !self.is_service_address(destination) => {
                stays(match verdict {
                    // A message for one of our addresses is the host's.
                    "drop-malformed-transport" if is_message && ends => "pass-protocol",
                    "drop-malformed-ip" | "drop-malformed-transport" | "drop-extensions" => {
                        "pass-not-ours"
                    }
                    "drop-fragment" => "pass-fragment",
                    verdict => verdict,
                })
            }
            Err(Stop::Verdict(verdict)) => stays(verdict),
        }
    }

    fn keeps_sources(&self) -> bool {
        self.services.values().any(|service| service.keep_source)
    }

    fn balance(
        &mut self,
        frame: &[u8],
        link: wire::Link,
        ingress: u32,
        chosen: Option<u32>,
    ) -> Result<Outcome, Stop> {
        let mut layers = wire::layers(frame, link)?;
        if layers.is_message() {
            return self.message(frame, &layers, ingress);
        }
        let transport = self.transport(frame, &mut layers)?;
        // What is at its end here is for the host, which tells the sender.
        if link.ttl(frame) <= 1 {
            return Err(Stop::Verdict("pass-ttl"));
        }
        let flow = layers.flow(frame, &transport);
        let packet = Passing { frame, layers, transport, flow, ingress, chosen };
        let (client, sender) = match self.table(&flow).find(&flow) {
            Some((client, Sender::Client)) if packet.asks() => {
                self.ask_again(&packet, client)?;
                (flow, Sender::Client)
            }
            Some(known) => known,
            None => {
                self.open(&packet, None)?;
                (flow, Sender::Client)
            }
        };
        match sender {
            Sender::Client => {
                let followed = self.follow_client(&packet);
                if followed == Err(Stop::Overload) {
                    // Its packets are nobody's from now on.
                    self.table_mut(&flow).remove(&flow);
                }
                followed?;
                self.send_to_backend(&packet)
            }
            Sender::Backend => {
                self.follow_backend(&packet, client)?;
                self.send_to_client(&packet, client)
            }
        }
    }

    /// The transport header; of a later fragment, what its packet's first one told. Fragments follow
    /// their first one.
    fn transport(&mut self, frame: &[u8], layers: &mut Layers) -> Result<Transport, Stop> {
        let (source, destination) = layers.link.addresses(frame);
        let Some(part) = layers.part else {
            if !layers.is_balanced() {
                return Err(Stop::Verdict("pass-protocol"));
            }
            return Ok(wire::transport(frame, layers)?);
        };
        let v4 = layers.link.version == 4;
        let key = |protocol| (source, destination, part.id, v4.then_some(protocol));
        if part.first {
            if !layers.is_balanced() {
                return Err(Stop::Verdict("pass-protocol"));
            }
            let transport = wire::transport(frame, layers)?;
            let told = (layers.protocol, transport.ports, self.now);
            self.fragments.insert(key(layers.protocol), told);
            return Ok(transport);
        }
        if !layers.is_balanced() && (v4 || !wire::is_extension(layers.protocol)) {
            return Err(Stop::Verdict("pass-protocol"));
        }
        match self.fragments.get(&key(layers.protocol)) {
            Some((protocol, ports, seen)) if self.now.saturating_sub(*seen) <= FRAGMENT_TIME => {
                layers.protocol = *protocol;
                Ok(Transport { ports: *ports, ..Transport::default() })
            }
            _ => Err(Stop::Verdict("drop-fragment")),
        }
    }

    /// Sends a client's packet to its connection's backend.
    fn send_to_backend(&mut self, packet: &Passing<'_>) -> Result<Outcome, Stop> {
        let Passing { frame, layers, flow, .. } = packet;
        let internal = Stop::Verdict("drop-internal");
        let connection = self.table(flow).get(flow).cloned().ok_or(internal)?;
        let Connection { back, forwarding, .. } = connection;
        let backend = self.backends.get(&connection.backend).cloned().ok_or(internal)?;
        let length = layers.length();

        let tunnel = match forwarding {
            Forwarding::Nat | Forwarding::Dsr => None,
            Forwarding::Ipip | Forwarding::Gue => Some(backend.tunnel.ok_or(internal)?),
        };
        let gue = forwarding == Forwarding::Gue;
        let added = tunnel.as_ref().map_or(0, |tunnel| rewrite::overhead(tunnel, gue));
        let added = u32::try_from(added).unwrap_or_default();
        let needed = u32::try_from(length).unwrap_or(u32::MAX) + added;
        if backend.mtu != 0 && needed > backend.mtu {
            return Err(Stop::TooBig(backend.mtu.saturating_sub(added)));
        }

        let mut out = frame.to_vec();
        let mut unknown = None;
        if let Some(back) = back {
            let (source, destination) = (back.destination, back.source);
            rewrite::translate(&mut out, layers, &packet.transport, source, destination);
        } else if backend.hop.is_none() {
            return Err(Stop::Verdict("pass-no-next-hop"));
        } else if let Some(tunnel) = &tunnel {
            let hash = super::hash::flow(flow);
            let tunnelled = rewrite::encapsulate(frame, layers, backend.address, tunnel, gue, hash);
            (out, unknown) = (tunnelled.frame, tunnelled.unknown);
        } else {
            rewrite::decrement(&mut out, layers);
        }
        let received = &mut self.load_mut(connection.backend).received;
        *received = (received.0 + 1, received.1 + length as u64);
        let Some(hop) = backend.hop else {
            // The rewritten packet goes up to the kernel, which resolves the way.
            let action = Action::Pass;
            return Ok(Outcome { verdict: "pass-no-next-hop", action, frame: out, unknown });
        };
        Ok(leave("to-backend", out, &hop, packet.ingress, unknown))
    }

    /// Sends a backend's packet back the way its client's packets come.
    fn send_to_client(&mut self, packet: &Passing<'_>, client: Flow) -> Result<Outcome, Stop> {
        let internal = Stop::Verdict("drop-internal");
        let connection = self.table(&client).get(&client).cloned().ok_or(internal)?;
        let length = packet.layers.length();
        let hop = connection.client;
        let mtu = self.node.interfaces.iter().find(|(interface, _)| *interface == hop.interface);
        if let Some((_, mtu)) = mtu
            && u32::try_from(length).unwrap_or(u32::MAX) > *mtu
        {
            return Err(Stop::TooBig(*mtu));
        }
        let mut out = packet.frame.to_vec();
        let (source, destination) = (client.destination, client.source);
        rewrite::translate(&mut out, &packet.layers, &packet.transport, source, destination);
        let sent = &mut self.load_mut(connection.backend).sent;
        *sent = (sent.0 + 1, sent.1 + length as u64);
        Ok(leave("to-client", out, &hop, packet.ingress, None))
    }
}

fn leave(
    verdict: &'static str,
    mut frame: Vec<u8>,
    hop: &Hop,
    ingress: u32,
    unknown: Option<usize>,
) -> Outcome {
    rewrite::address(&mut frame, hop);
    let action = if hop.interface == ingress { Action::Back } else { Action::Away };
    Outcome { verdict, action, frame, unknown }
}
