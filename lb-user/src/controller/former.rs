//! For how long a service remembers whose its slots were: so that connections which move here from another edge,
//! soon after backends changed, find the backend that they have.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use super::Applier;
use crate::plan::ServiceId;

/// That long. Of the connections that move later, most were opened by the new slots already.
const REMEMBERED: Duration = Duration::from_mins(5);

/// The services that remember, with the revision of their ring and since when it is theirs.
#[derive(Debug, Default)]
pub struct Formers(HashMap<ServiceId, (u64, Instant)>);

impl Formers {
    /// Takes up what the tables hold.
    pub fn note(&mut self, applier: &Applier, now: Instant) {
        let services = &applier.held().services;
        let remembers = |id: &ServiceId| {
            services.get(id).is_some_and(|service| !service.ring.former.is_empty())
        };
        self.0.retain(|id, _| remembers(id));
        for id in services.keys().filter(|id| remembers(id)) {
            let revision = applier.revision(*id);
            let noted = self.0.entry(*id).or_insert((revision, now));
            if noted.0 != revision {
                *noted = (revision, now);
            }
        }
    }

    /// Those that may forget.
    pub fn settled(&self, now: Instant) -> BTreeSet<ServiceId> {
        let old = |since: &Instant| now.saturating_duration_since(*since) >= REMEMBERED;
        self.0.iter().filter(|(_, (_, since))| old(since)).map(|(id, _)| *id).collect()
    }
}
