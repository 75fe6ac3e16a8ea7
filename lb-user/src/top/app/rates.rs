//! Rates: what changed per second between two readings of the counters, and how the new connections went.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use crate::api::model::{BackendCounters, Counters};
pub use crate::overview::Rate;

/// How many rates of new connections are remembered of each backend: more than a sparkline shows.
const REMEMBERED: usize = 120;

/// A service by its name and none, or a backend by both.
pub type Key = (String, Option<String>);

/// The rates of everything.
#[derive(Debug, Default)]
pub struct Rates {
    last: Option<(Instant, Counters)>,
    now: HashMap<Key, Rate>,
    past: HashMap<Key, VecDeque<f64>>,
}

impl Rates {
    /// Takes in a reading. The first one gives no rate.
    pub fn take_in(&mut self, at: Instant, counters: &Counters) {
        if let Some((then, old)) = &self.last {
            let seconds = at.duration_since(*then).as_secs_f64();
            // Two answers of one moment say nothing.
            if seconds <= 0.0 {
                return;
            }
            self.now = between(old, counters, seconds);
            self.past.retain(|key, _| self.now.contains_key(key));
            for (key, rate) in &self.now {
                let past = self.past.entry(key.clone()).or_default();
                past.push_back(rate.connections);
                if past.len() > REMEMBERED {
                    past.pop_front();
                }
            }
        }
        self.last = Some((at, counters.clone()));
    }

    /// The last rate; `None` where there are not two readings yet.
    pub fn of(&self, key: &Key) -> Option<Rate> {
        self.now.get(key).copied()
    }

    /// New connections per second, the latest last.
    pub fn past(&self, key: &Key) -> impl DoubleEndedIterator<Item = f64> {
        self.past.get(key).into_iter().flatten().copied()
    }

    /// A backend's counters.
    pub fn counters(&self, service: &str, backend: &str) -> Option<&BackendCounters> {
        let (_, counters) = self.last.as_ref()?;
        let service = counters.services.iter().find(|known| known.name == service)?;
        service.backends.iter().find(|known| known.name == backend)
    }
}

fn between(old: &Counters, new: &Counters, seconds: f64) -> HashMap<Key, Rate> {
    let mut rates = HashMap::new();
    for service in &new.services {
        let before = old.services.iter().find(|before| before.name == service.name);
        let mut sum = Rate::default();
        for backend in &service.backends {
            let before = before
                .and_then(|before| before.backends.iter().find(|old| old.name == backend.name));
            // What was not there before has counted from 0, but since when, nobody knows.
            let rate =
                before.map_or_else(Rate::default, |old| Rate::between(old, backend, seconds));
            sum += rate;
            rates.insert((service.name.clone(), Some(backend.name.clone())), rate);
        }
        rates.insert((service.name.clone(), None), sum);
    }
    rates
}
