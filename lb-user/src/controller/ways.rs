//! The ways to the backends: what the resolver tells of them, and which addresses none leads to.

use std::time::Instant;

use lb_common::net::Hop;
use tracing::{info, warn};

use super::{Controller, SETTLING};
use crate::{
    nexthop::{self, Unresolved},
    plan::Way,
};

/// A backend's address that no way leads to.
pub struct Lost {
    pub why: Unresolved,
    pub since: Instant,
    /// Whether the log has it: a neighbour that answers at once is not worth a line.
    pub said: bool,
}

impl Controller {
    /// Notes the way to an address, or that there is none.
    pub(super) fn note_next_hop(&mut self, update: nexthop::Update) {
        match update.next_hop {
            Ok(next_hop) => {
                if self.unresolved.remove(&update.target).is_some_and(|lost| lost.said) {
                    self.note_way(update.target, None);
                }
                let hop = Hop {
                    interface: next_hop.ifindex,
                    source: next_hop.source_mac,
                    destination: next_hop.destination_mac,
                };
                let source = next_hop.preferred_source;
                self.ways.insert(update.target, Way { hop, source, mtu: next_hop.mtu });
                info!(backend = %update.target, "reached by {next_hop}");
            }
            Err(why) => {
                // Its source stays: connections wait for the way, they do not move.
                if let Some(way) = self.ways.get_mut(&update.target) {
                    way.hop = Hop::default();
                }
                self.unresolved
                    .insert(update.target, Lost { why, since: Instant::now(), said: false });
            }
        }
    }

    /// Warns of addresses that no way has led to for a while.
    pub(super) fn say_what_is_lost(&mut self) {
        let mut news = Vec::new();
        for (target, lost) in &mut self.unresolved {
            if !lost.said && lost.since.elapsed() >= SETTLING {
                warn!(backend = %target, "no way there: {}", lost.why);
                lost.said = true;
                news.push((*target, lost.why.to_string()));
            }
        }
        for (target, why) in news {
            self.note_way(target, Some(&why));
        }
    }
}
