//! What the packets of a connection tell of it: how far it is, and when it is over.

use super::Passing;
use crate::model::{
    Flow, Model, Stop, TCP,
    table::{Connection, State},
    wire::{ACK, FIN, RST, SYN},
    world::ATTEMPTS,
};

impl Model {
    /// Follows a client's packet.
    pub(super) fn follow_client(&mut self, packet: &Passing<'_>) -> Result<(), Stop> {
        let client = packet.flow;
        let hop = packet.sender();
        let Some(connection) = self.table_mut(&client).get_mut(&client) else { return Ok(()) };
        if connection.back.is_some() {
            // Its client may have moved to another way: replies leave by it.
            connection.client = hop;
        }
        let Connection { state, back, answer, .. } = *connection;
        let flags = packet.transport.flags;
        let mut after = state;
        after.closed |= flags & RST != 0;
        after.client_fin |= flags & FIN != 0;
        // Where the backend's packets do not pass here, the first packet is taken for answered. Else
        // the client proves that it exists by acknowledging what was sent to it: a spoofed one cannot.
        let proved = if back.is_none() || client.protocol != TCP {
            true
        } else {
            let ahead = packet.transport.acknowledgement.wrapping_sub(answer);
            flags & ACK != 0 && ahead <= 0xffff
        };
        after.established |= proved && state.answered && flags & SYN == 0;
        after.answered |= back.is_none();
        self.settle(&client, after)
    }

    /// Follows a backend's packet; `client` is the flow of its connection.
    pub(super) fn follow_backend(
        &mut self,
        packet: &Passing<'_>,
        client: Flow,
    ) -> Result<(), Stop> {
        let flags = packet.transport.flags;
        let internal = Stop::Verdict("drop-internal");
        let table = self.table_mut(&client);
        let connection = table.get_mut(&client).ok_or(internal)?;
        let state = connection.state;
        if flags & SYN != 0 && !state.established {
            connection.answer = packet.transport.sequence.wrapping_add(1);
        }
        let Connection { backend, service, attempts, .. } = *connection;
        if flags & RST != 0 && !state.answered && !state.closed {
            // Where another backend can be tried, the client is not told: its own retransmission
            // succeeds there (DESIGN.md 4, "Redispatch").
            if !state.refused {
                self.load_mut(backend).refused += 1;
            }
            if self.has_other(service, backend) && attempts + 1 < ATTEMPTS {
                let state = State { refused: true, ..state };
                if let Some(connection) = self.table_mut(&client).get_mut(&client) {
                    connection.state = state;
                }
                return Err(Stop::Verdict("drop-refused"));
            }
        }
        let mut after = state;
        after.closed |= flags & RST != 0;
        if flags & FIN != 0 {
            after.backend_first |= !state.client_fin && !state.backend_fin;
            after.backend_fin = true;
        }
        after.answered |= client.protocol != TCP || flags & (SYN | ACK) == SYN | ACK;
        if flags & RST != 0 && state.established && !state.closed {
            self.load_mut(backend).reset += 1;
        }
        self.settle(&client, after)
    }

    /// Takes a connection to its next state, and counts what that means for its backend.
    fn settle(&mut self, client: &Flow, mut after: State) -> Result<(), Stop> {
        let Some(connection) = self.table_mut(client).get_mut(client) else { return Ok(()) };
        let (before, backend) = (connection.state, connection.backend);
        after.closed |= after.client_fin && after.backend_fin;
        let most = u64::from(self.backends.get(&backend).map_or(0, |known| known.max_connections));
        let load = self.load_mut(backend);
        let mut full = false;
        if after.established && !before.established && !before.closed {
            // More handshakes may be under way than there is room for: the last ones learn it here.
            full = most != 0 && load.established >= most;
            load.established += 1;
        }
        after.closed |= full;
        if after.closed && !before.closed {
            load.closed += 1;
            load.open -= 1;
            load.established -= u64::from(after.established);
        }
        if let Some(connection) = self.table_mut(client).get_mut(client) {
            connection.state = after;
        }
        if full { Err(Stop::Overload) } else { Ok(()) }
    }

    /// Ends a connection; its end is counted once.
    pub(super) fn end(&mut self, client: &Flow) {
        let Some(connection) = self.table_mut(client).get_mut(client) else { return };
        let (state, backend) = (connection.state, connection.backend);
        connection.state.closed = true;
        if !state.closed {
            let load = self.load_mut(backend);
            load.closed += 1;
            load.open -= 1;
            load.established -= u64::from(state.established);
        }
    }
}
