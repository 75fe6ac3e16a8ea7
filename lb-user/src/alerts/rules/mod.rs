//! The rules: from facts, and what was before, to findings. Pure: the time is passed in.
//!
//! Each rule has two thresholds. A finding is *certain* above the one at which an alert rises, and there at
//! all above the other, lower one, below which it clears.

mod announcing;
mod balance;
mod connections;
mod discovered;
mod headroom;
mod host;
mod membership;
mod store;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Instant,
};

use self::{headroom::Peak, host::Host};
use super::{Kind, facts::Facts, past::Past};
use crate::{api::model::Evidence, config::alerts::Alerts, plan::BackendId};

/// Of the threshold at which an alert rises, what is left when it clears.
const LOWER: f64 = 0.7;
/// How improbable what was seen must be by chance alone.
const CERTAIN: f64 = crate::statistics::CERTAIN;

/// What a rule found wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// The service's name.
    pub service: Option<String>,
    /// The backend's name.
    pub backend: Option<String>,
    /// Whether it is above the threshold at which an alert rises; otherwise only an alert that is raised
    /// stays.
    pub certain: bool,
    /// A sentence for people; empty: nobody knows anything new, and an alert that is raised says what it
    /// said.
    pub summary: String,
    /// The numbers that it rests on.
    pub evidence: BTreeMap<String, Evidence>,
}

/// The rules with what they remember.
#[derive(Debug, Default)]
pub struct Rules {
    past: HashMap<BackendId, Past>,
    peaks: HashMap<String, Peak>,
    host: Host,
}

impl Rules {
    /// Judges what a look saw.
    pub fn judge(&mut self, facts: &Facts<'_>, config: &Alerts, now: Instant) -> Vec<Finding> {
        let mut found = Vec::new();
        self.host.judge(&mut found, facts, config, now);
        announcing::judge(&mut found, facts, config);
        store::judge(&mut found, facts);
        for service in &facts.services {
            membership::judge(&mut found, service, config);
            discovered::judge(&mut found, service);
            balance::judge(&mut found, service, config);
            let open = service.backends.iter().map(|backend| backend.open).sum();
            let peak = match self.peaks.get_mut(service.name) {
                Some(peak) => peak,
                None => self.peaks.entry(service.name.to_owned()).or_default(),
            };
            let peak = peak.note(open, config.recent, now);
            headroom::judge(&mut found, service, open, peak);
            for backend in &service.backends {
                let Some(id) = backend.id else { continue };
                let past = self.past.entry(id).or_insert_with(|| Past::new(backend, now));
                past.note(backend, config, now);
                connections::judge(&mut found, service, backend, past, config);
            }
        }
        self.forget(facts);
        found
    }

    /// Forgets who is gone.
    fn forget(&mut self, facts: &Facts<'_>) {
        let backends = facts.services.iter().flat_map(|service| &service.backends);
        let known = backends.clone().filter(|backend| backend.id.is_some()).count();
        if self.past.len() > known {
            let ids: HashSet<_> = backends.filter_map(|backend| backend.id).collect();
            self.past.retain(|id, _| ids.contains(id));
        }
        if self.peaks.len() > facts.services.len() {
            let names: HashSet<_> = facts.services.iter().map(|service| service.name).collect();
            self.peaks.retain(|name, _| names.contains(name.as_str()));
        }
    }
}

impl Finding {
    fn of_host(kind: Kind, certain: bool, summary: String) -> Self {
        let evidence = BTreeMap::new();
        Self { kind, service: None, backend: None, certain, summary, evidence }
    }

    fn of_service(kind: Kind, service: &str, certain: bool, summary: String) -> Self {
        Self { service: Some(service.to_owned()), ..Self::of_host(kind, certain, summary) }
    }

    fn of_backend(
        kind: Kind,
        service: &str,
        backend: &str,
        certain: bool,
        summary: String,
    ) -> Self {
        let backend = Some(backend.to_owned());
        Self { backend, ..Self::of_service(kind, service, certain, summary) }
    }

    /// What may be so or not: nobody has looked yet.
    fn unknown(kind: Kind, service: &str, backend: Option<&str>) -> Self {
        let backend = backend.map(str::to_owned);
        Self { backend, ..Self::of_service(kind, service, false, String::new()) }
    }

    /// The same for the host.
    fn unknown_of_host(kind: Kind) -> Self {
        Self::of_host(kind, false, String::new())
    }

    fn count(mut self, name: &str, count: u64) -> Self {
        self.evidence.insert(name.to_owned(), Evidence::Count(count));
        self
    }

    fn number(mut self, name: &str, number: f64) -> Self {
        // What is shown has three decimals; JSON has no other infinity.
        let number = if number.is_finite() { (number * 1000.0).round() / 1000.0 } else { 0.0 };
        self.evidence.insert(name.to_owned(), Evidence::Number(number));
        self
    }

    fn text(mut self, name: &str, text: impl Into<String>) -> Self {
        self.evidence.insert(name.to_owned(), Evidence::Text(text.into()));
        self
    }
}

#[cfg(test)]
mod tests;
