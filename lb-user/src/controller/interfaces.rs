//! What follows for connections when an interface is another device than before.

use std::{collections::BTreeMap, sync::Arc};

use tracing::{info, warn};

use super::Controller;
use crate::loader::Interfaces;

/// The devices that the interfaces were when last seen, by name.
pub type Indices = BTreeMap<String, u32>;

impl Controller {
    /// Follows how the program is attached to the interfaces.
    pub fn follow_interfaces(&mut self, attached: Interfaces) {
        self.events.attached = attached;
        self.note_interfaces();
    }

    /// Takes up the addresses and MTUs of interfaces that came or went, and has the connections of clients
    /// behind one that was made again find the way back.
    pub(super) fn note_interfaces(&mut self) {
        self.note_host();
        for attachment in self.events.attached.borrow_and_update().iter() {
            if attachment.index == 0 {
                continue;
            }
            let before = self.indices.insert(attachment.name.clone(), attachment.index);
            let Some(from) = before.filter(|before| *before != attachment.index) else { continue };
            let (connections, to) = (Arc::clone(&self.connections), attachment.index);
            let interface = attachment.name.clone();
            tokio::task::spawn_blocking(move || match connections.reroute(from, to) {
                Ok(entries) => {
                    info!(
                        interface,
                        entries, "open connections find their clients by the new device"
                    );
                }
                Err(error) => {
                    warn!(
                        interface,
                        "open connections are answered only once their clients send: {error:#}"
                    );
                }
            });
        }
    }
}
