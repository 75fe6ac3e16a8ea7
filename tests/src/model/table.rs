//! Connections of one family: who is connected, by which addresses, and how far each is.
//!
//! A connection is one value here, found by the client's flow or by the backend's.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{
    Flow,
    world::{Forwarding, Hop},
};

/// How far a connection is (RFC 9293, 3.6, as seen from the middle).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that was seen or was not")]
pub struct State {
    /// The backend answered.
    pub answered: bool,
    /// The client acknowledged the answer.
    pub established: bool,
    /// The client sent a FIN.
    pub client_fin: bool,
    /// The backend sent a FIN.
    pub backend_fin: bool,
    /// The backend's FIN was the first.
    pub backend_first: bool,
    /// It is over.
    pub closed: bool,
    /// The backend refused, and another one is to get the attempt.
    pub refused: bool,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The flow of what the backend sends; `None` where that does not pass here.
    pub back: Option<Flow>,
    /// The way to the client.
    pub client: Hop,
    /// The backend's id.
    pub backend: u32,
    /// The service's id.
    pub service: u32,
    /// How its packets are forwarded.
    pub forwarding: Forwarding,
    /// How far it is.
    pub state: State,
    /// How many backends had the attempt before.
    pub attempts: u8,
    /// Its place among the unconfirmed.
    pub place: usize,
    /// What the client has to acknowledge.
    pub answer: u32,
    /// When it was opened.
    pub opened: Duration,
}

/// Which end sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Client,
    Backend,
}

/// The connections of a family.
#[derive(Clone, Debug)]
pub struct Table {
    by_client: BTreeMap<Flow, Connection>,
    by_backend: BTreeMap<Flow, Flow>,
    entries: usize,
    places: Vec<Option<Flow>>,
    next_place: usize,
}

impl Table {
    pub fn new(entries: usize, places: usize) -> Self {
        Self {
            by_client: BTreeMap::new(),
            by_backend: BTreeMap::new(),
            entries,
            places: vec![None; places],
            next_place: 0,
        }
    }

    /// The client's flow of the connection that a packet belongs to, and who sent it.
    pub fn find(&self, flow: &Flow) -> Option<(Flow, Sender)> {
        if self.by_client.contains_key(flow) {
            return Some((*flow, Sender::Client));
        }
        self.by_backend.get(flow).map(|client| (*client, Sender::Backend))
    }

    pub fn get(&self, client: &Flow) -> Option<&Connection> {
        self.by_client.get(client)
    }

    pub fn get_mut(&mut self, client: &Flow) -> Option<&mut Connection> {
        self.by_client.get_mut(client)
    }

    /// All of them, by the client's flow.
    pub fn iter(&self) -> impl Iterator<Item = (&Flow, &Connection)> {
        self.by_client.iter()
    }

    /// The connection that has an address and port towards a backend.
    pub fn holder(&self, back: &Flow) -> Option<Flow> {
        self.by_backend.get(back).copied()
    }

    /// Whether a flow can be entered: nobody else has it.
    pub fn is_free(&self, flow: &Flow) -> bool {
        self.find(flow).is_none()
    }

    /// Whether so many more entries fit.
    pub fn has_room(&self, more: usize) -> bool {
        self.by_client.len() + self.by_backend.len() + more <= self.entries
    }

    pub fn insert(&mut self, client: Flow, connection: Connection) {
        if let Some(back) = connection.back {
            self.by_backend.insert(back, client);
        }
        self.by_client.insert(client, connection);
    }

    pub fn remove(&mut self, client: &Flow) -> Option<Connection> {
        let connection = self.by_client.remove(client)?;
        if let Some(back) = connection.back {
            self.by_backend.remove(&back);
        }
        Some(connection)
    }

    /// Gives the next place to a flow; who had it before and never was confirmed has to go.
    pub fn take_place(&mut self, flow: Flow) -> (usize, Option<Flow>) {
        let place = self.next_place % self.places.len();
        self.next_place += 1;
        let before = self.places[place].replace(flow);
        let leaves = before.filter(|before| {
            let holder = self.by_client.get(before);
            holder.is_some_and(|holder| holder.place == place && !holder.state.established)
        });
        (place, leaves)
    }
}

/// The flow of a backend's packets.
pub fn back(backend: SocketAddr, source: SocketAddr, protocol: u8) -> Flow {
    Flow { source: backend, destination: source, protocol }
}
