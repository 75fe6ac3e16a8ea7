//! What follows for open connections when an interface is another device than before, or a neighbour
//! another machine.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use lb_common::net::Hop;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{Connections, Controller};
use crate::{config::HostFacts, loader::Interfaces, nexthop::Moved};

/// The devices that the interfaces were when last seen, by name.
pub type Indices = BTreeMap<String, u32>;

impl Controller {
    /// Follows how the program is attached to the interfaces.
    pub fn follow_interfaces(&mut self, attached: Interfaces) {
        self.sources.attached = attached;
        self.note_interfaces();
    }

    /// Looks at the host's own addresses and MTUs again.
    pub(super) fn note_host(&mut self) {
        match HostFacts::read() {
            Ok(facts) if facts != self.host => {
                self.host = facts;
                self.update();
            }
            Ok(_) => {}
            Err(error) => warn!("cannot read this host's interfaces: {error}"),
        }
    }

    /// Takes up the addresses and MTUs of interfaces that came or went, and has the connections of clients
    /// behind one that was made again find the way back.
    pub(super) fn note_interfaces(&mut self) {
        self.note_host();
        self.announce(Instant::now());
        for attachment in self.sources.attached.borrow_and_update().iter() {
            if attachment.index == 0 {
                continue;
            }
            let before = self.indices.insert(attachment.name.clone(), attachment.index);
            let Some(from) = before.filter(|before| *before != attachment.index) else { continue };
            let connections = Arc::clone(&self.connections);
            let by = |interface| Hop { interface, ..Hop::default() };
            let (from, to) = (by(from), by(attachment.index));
            tokio::task::spawn_blocking(move || reroute(&connections, from, to));
        }
    }
}

/// Has the connections of clients behind a neighbour that got another hardware address be answered there,
/// one neighbour after the other: each takes a walk over all connections.
pub async fn follow_moves(connections: Arc<Connections>, mut moves: mpsc::Receiver<Moved>) {
    while let Some(Moved { interface, from, to }) = moves.recv().await {
        let by = |destination| Hop { interface, destination, ..Hop::default() };
        let (connections, from, to) = (Arc::clone(&connections), by(from), by(to));
        let done = tokio::task::spawn_blocking(move || reroute(&connections, from, to)).await;
        if done.is_err() {
            return;
        }
    }
}

fn reroute(connections: &Connections, from: Hop, to: Hop) {
    match connections.reroute(from, to) {
        Ok(0) => {}
        Ok(entries) => info!(entries, "clients of open connections are reached by another way now"),
        Err(error) => {
            warn!("clients of open connections are reached only once they send: {error:#}");
        }
    }
}
