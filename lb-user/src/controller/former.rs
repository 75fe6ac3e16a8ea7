//! How long rings have been in force, and for how long a service remembers whose its slots were: so that
//! connections which move here from another edge, soon after backends changed, find the backend that they have.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::Applier;
use crate::plan::{Age, ServiceId};

/// As long as a ring must have been in force to be remembered. Backends that come one by one after a start make
/// rings by which nobody opened a connection.
const GROWN: Duration = Duration::from_secs(5);
/// For how long it is. Of the connections that move later, most were opened by the new slots already.
const OLD: Duration = Duration::from_mins(5);

/// The rings with their revisions, and since when they are in force.
#[derive(Debug, Default)]
pub struct Formers(HashMap<ServiceId, Since>);

#[derive(Debug)]
struct Since {
    revision: u64,
    at: Instant,
    remembers: bool,
}

impl Formers {
    /// Takes up what the tables hold. A ring that was there before this daemon is grown.
    pub fn note(&mut self, applier: &Applier, now: Instant) {
        let services = &applier.held().services;
        self.0.retain(|id, _| services.contains_key(id));
        for (id, service) in services {
            let revision = applier.revision(*id);
            let remembers = !service.ring.former.is_empty();
            if revision == 0 && !remembers {
                continue;
            }
            let since = self.0.entry(*id).or_insert(Since { revision, at: now, remembers });
            if since.revision != revision {
                *since = Since { revision, at: now, remembers };
            }
        }
    }

    /// How long the rings have been in force.
    pub fn ages(&self, now: Instant) -> HashMap<ServiceId, Age> {
        let age = |since: &Since| match now.saturating_duration_since(since.at) {
            age if age < GROWN => Age::Young,
            age if age < OLD => Age::Grown,
            _ => Age::Old,
        };
        self.0.iter().map(|(id, since)| (*id, age(since))).collect()
    }

    /// Whether a service has something to forget.
    pub fn is_due(&self, now: Instant) -> bool {
        let old = |since: &Since| now.saturating_duration_since(since.at) >= OLD;
        self.0.values().any(|since| since.remembers && old(since))
    }
}
