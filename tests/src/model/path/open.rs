//! Opening a connection: guard → schedule → take a place and a source port.

use std::{net::SocketAddr, time::Duration};

use super::Passing;
use crate::model::{
    Flow, Model, Stop, TCP,
    sum::octets,
    table::{Connection, State, back},
    world::{ANSWER_TIME, ATTEMPTS, Backend, Forwarding, Scheduler, Service},
};

/// Source ports that are tried, and how many of them before one is taken away from a connection that
/// is over or unconfirmed: "so that a port is reused as late as possible".
const PORTS_TRIED: u32 = 24;
const PORTS_LEFT_ALONE: u32 = 6;

/// The step from one port to the next.
const PORT_STRIDE: u64 = 2_654_435_761;

/// An attempt that another backend had.
pub struct Before {
    backend: u32,
    attempts: u8,
}

impl Model {
    /// A client's SYN for a connection that there is: a retransmission, a new connection in the place
    /// of one that is over, or an attempt for the next backend (DESIGN.md 4, "Redispatch").
    pub(super) fn ask_again(&mut self, packet: &Passing<'_>, client: Flow) -> Result<(), Stop> {
        let internal = Stop::Verdict("drop-internal");
        let connection = self.table(&client).get(&client).cloned().ok_or(internal)?;
        let Connection { state, backend, attempts, .. } = connection;
        if state.closed {
            self.table_mut(&client).remove(&client);
            return self.open(packet, None);
        }
        let age = self.now.saturating_sub(connection.opened);
        let failed = state.refused || age >= ANSWER_TIME;
        let fresh = !state.answered && !state.established;
        if connection.back.is_none()
            || !self.has_other(connection.service, backend)
            || !fresh
            || !failed
            || attempts + 1 >= ATTEMPTS
        {
            return Ok(());
        }
        self.end(&client);
        self.table_mut(&client).remove(&client);
        let load = self.load_mut(backend);
        load.redispatched += 1;
        load.unanswered += u64::from(!state.refused);
        self.open(packet, Some(Before { backend, attempts: attempts + 1 }))
    }

    /// Opens a connection for a packet that is in none.
    pub(super) fn open(
        &mut self,
        packet: &Passing<'_>,
        before: Option<Before>,
    ) -> Result<(), Stop> {
        let flow = packet.flow;
        let id = self.service_at(flow.destination, flow.protocol);
        let id = id.ok_or(Stop::Verdict("pass-no-service"))?;
        // What every edge schedules alike goes on where another edge opened it.
        let service = self.services[&id].clone();
        let is_alike =
            service.scheduler == Scheduler::Maglev && service.forwarding != Forwarding::Nat;
        if flow.protocol == TCP && !packet.asks() && !(is_alike && packet.goes_on()) {
            return Err(Stop::Verdict("pass-no-connection"));
        }
        if !packet.transport.here {
            // Its first fragment opened none, or it is gone.
            return Err(Stop::Verdict("drop-fragment"));
        }
        if before.is_none() {
            self.admit(id, &service, flow.source.ip())?;
        }
        let avoid = before.as_ref().map(|before| before.backend);
        let backend = self.pick(id, &service, &flow, avoid, packet.chosen)?;

        let (place, leaves) = self.table_mut(&flow).take_place(flow);
        if let Some(leaves) = leaves {
            self.make_room(&leaves);
        }
        let back = match service.forwarding {
            Forwarding::Nat => Some(self.take_port(&service, backend, &flow)?),
            _ => None,
        };
        if !self.table(&flow).has_room(if back.is_some() { 2 } else { 1 }) {
            return Err(Stop::Verdict("drop-table-full"));
        }
        let connection = Connection {
            back,
            client: packet.sender(),
            backend,
            service: id,
            forwarding: service.forwarding,
            state: State::default(),
            attempts: before.map_or(0, |before| before.attempts),
            place,
            answer: 0,
            opened: self.now,
        };
        self.table_mut(&flow).insert(flow, connection);
        let load = self.load_mut(backend);
        load.opened += 1;
        load.open += 1;
        if service.sticky.is_some_and(|time| time > Duration::ZERO) {
            self.affinities.insert((id, flow.source.ip()), (backend, self.now));
        }
        Ok(())
    }

    /// The flow of the backend's packets: to the client itself, or to a source port that is free, or
    /// can be freed.
    fn take_port(&mut self, service: &Service, id: u32, flow: &Flow) -> Result<Flow, Stop> {
        let none = Stop::Verdict("drop-no-source-port");
        let backend = self.backends.get(&id).cloned().ok_or(Stop::Verdict("drop-internal"))?;
        let port = if backend.port == 0 { flow.destination.port() } else { backend.port };
        let server = SocketAddr::new(backend.address, port);
        if service.keep_source {
            let back = back(server, flow.source, flow.protocol);
            return if self.enter(&back, true)? { Ok(back) } else { Err(none) };
        }
        let Backend { sources, first_port, ports, .. } = backend;
        if ports == 0 || sources.is_empty() {
            return Err(none);
        }
        for attempt in 0..PORTS_TRIED {
            let turn = if attempt == 0 {
                own_port(flow.source)
            } else {
                let next = self.next_sources.entry(id).or_default();
                *next += 1;
                let all = u64::from(ports) * u64::try_from(sources.len()).unwrap_or(1);
                // All ports in turn, but no two neighbours in a row.
                (*next - 1) % all * PORT_STRIDE % all
            };
            let (round, offset) = (turn / u64::from(ports), turn % u64::from(ports));
            let port = first_port.wrapping_add(u16::try_from(offset).unwrap_or_default());
            let source = sources[usize::try_from(round).unwrap_or_default() % sources.len()];
            let back = back(server, SocketAddr::new(source, port), flow.protocol);
            if self.enter(&back, attempt >= PORTS_LEFT_ALONE)? {
                return Ok(back);
            }
        }
        Err(none)
    }

    /// Whether a backend's flow is free for a new connection. `press`: whoever has it has to go, if the
    /// connection is over or unconfirmed.
    fn enter(&mut self, back: &Flow, press: bool) -> Result<bool, Stop> {
        if self.table(back).is_free(back) {
            return if self.table(back).has_room(1) {
                Ok(true)
            } else {
                Err(Stop::Verdict("drop-table-full"))
            };
        }
        let Some(holder) = self.table(back).holder(back) else { return Ok(false) };
        let Some(connection) = self.table(&holder).get(&holder) else { return Ok(false) };
        let State { closed, established, .. } = connection.state;
        if !press || (established && !closed) {
            return Ok(false);
        }
        self.make_room(&holder);
        Ok(true)
    }

    /// Removes a connection that is over and only lingers, or ends one that is unconfirmed.
    fn make_room(&mut self, client: &Flow) {
        let lingers = self.table(client).get(client).is_some_and(|known| known.state.closed);
        self.end(client);
        if let Some(connection) = self.table_mut(client).remove(client) {
            self.load_mut(connection.backend).evicted += u64::from(!lingers);
        }
    }

    /// Whether a service has a backend beside one that may be out already.
    pub(super) fn has_other(&self, service: u32, backend: u32) -> bool {
        let out = self.backends.get(&backend).is_none_or(|known| !known.active);
        match self.rings.get(&service).map_or(0, |ring| ring.members.len()) {
            0 => false,
            1 => out,
            _ => true,
        }
    }
}

/// The turn of the port that belongs to a client's address and port: an address's words, as the host
/// that balances reads them, are folded into one, each turned by another number of bits.
fn own_port(client: SocketAddr) -> u64 {
    let turns = [0, 7, 13, 19];
    let words = octets(client.ip());
    let folded = words.chunks(4).zip(turns).fold(0_u32, |all, (word, turn)| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(word);
        all ^ u32::from_ne_bytes(bytes).rotate_left(turn)
    });
    u64::from(folded) + u64::from(client.port())
}
