//! What the words of agents bring about: smaller weights, and backends that get nothing new.

use std::collections::HashMap;

use tracing::{debug, info, warn};

use super::{Controller, probes::BackendKey};
use crate::{
    config::Config,
    health::{AgentChange, AgentReport, AgentState, Wants},
};

/// Turns in a weight cycle that agents have a say in: with more, a ring would be longer than what it
/// is exact about is worth.
const MOST_TURNS: u64 = 1 << 16;

/// The weights of a service's backends as their agents want them; `None`: no new connections.
///
/// Each weight is multiplied by the percentage that was asked for. All are, so that half of 1 is half
/// of what the others have; common factors go. Nobody who is ready gets less than one turn.
pub fn effective(backends: &[(u16, Option<&AgentReport>)]) -> Vec<Option<u16>> {
    let percent = |report: Option<&AgentReport>| report.and_then(|report| report.weight_percent);
    let ready = |report: Option<&AgentReport>| report.is_none_or(|r| r.wants == Wants::Ready);
    if backends.iter().all(|(_, report)| percent(*report).is_none()) {
        return backends.iter().map(|(weight, report)| ready(*report).then_some(*weight)).collect();
    }
    let products: Vec<u64> = backends
        .iter()
        .map(|(weight, report)| u64::from(*weight) * u64::from(percent(*report).unwrap_or(100)))
        .collect();
    let divisor = products.iter().copied().fold(0, gcd).max(1);
    let turns: u64 = products.iter().sum::<u64>() / divisor;
    let scaled = |product: u64| {
        let exact = product / divisor;
        let turns = if turns <= MOST_TURNS { exact } else { exact * MOST_TURNS / turns };
        u16::try_from(turns.max(1)).unwrap_or(u16::MAX)
    };
    let weights = backends.iter().zip(products);
    weights.map(|((_, report), product)| ready(*report).then(|| scaled(product))).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Gives the backends of `config` the weights that their agents want, and takes those that want
/// nothing new out of `active`.
pub fn apply(
    config: &mut Config,
    active: &mut HashMap<BackendKey, bool>,
    agents: &HashMap<BackendKey, AgentState>,
) {
    if agents.is_empty() {
        return;
    }
    for service in &mut config.services {
        let key = |name: &String| (service.name.clone(), name.clone());
        let report = |name: &String| agents.get(&key(name))?.report.as_ref();
        let backends: Vec<_> = service
            .backends
            .iter()
            .map(|backend| (backend.weight, report(&backend.name)))
            .collect();
        for (backend, weight) in service.backends.iter_mut().zip(effective(&backends)) {
            match weight {
                Some(weight) => backend.weight = weight,
                None => drop(active.insert((service.name.clone(), backend.name.clone()), false)),
            }
        }
    }
}

impl Controller {
    /// Notes what an agent said.
    pub(super) fn note_agent(&mut self, change: AgentChange<BackendKey>) {
        let AgentChange { key, state } = change;
        if !self.agents_wanted.contains(&key) {
            return;
        }
        let (service, backend) = (&key.0, &key.1);
        let wants = |state: &AgentState| state.report.as_ref().map(|report| report.wants);
        let before = self.agents.get(&key);
        match before {
            // How busy it is changes all the time.
            Some(known)
                if wants(known) == wants(&state)
                    && known.trouble.is_none()
                    && state.trouble.is_none() =>
            {
                debug!(service, backend, "agent says: {state}");
            }
            _ if state.trouble.is_some() => warn!(service, backend, "agent says: {state}"),
            _ => info!(service, backend, "agent says: {state}"),
        }
        self.agents.insert(key, state);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report(line: &str) -> Option<AgentReport> {
        if line.is_empty() { None } else { Some(line.parse().unwrap()) }
    }

    fn weights(backends: &[(u16, &str)]) -> Vec<Option<u16>> {
        let reports: Vec<_> =
            backends.iter().map(|(weight, line)| (*weight, report(line))).collect();
        let backends: Vec<_> =
            reports.iter().map(|(weight, report)| (*weight, report.as_ref())).collect();
        effective(&backends)
    }

    #[test]
    fn percentages_are_shares_of_the_weight() {
        for (backends, expected) in [
            (&[(1, ""), (3, "up")][..], &[Some(1), Some(3)][..]),
            (&[(1, "50%"), (1, "")], &[Some(1), Some(2)]),
            (&[(4, "25%"), (1, "100%")], &[Some(1), Some(1)]),
            (&[(1, "33%"), (1, "")], &[Some(33), Some(100)]),
            (&[(1, "drain"), (2, "")], &[None, Some(2)]),
            (&[(1, "maint"), (2, "50%"), (1, "")], &[None, Some(1), Some(1)]),
            (&[(1, "down"), (1, "0%")], &[None, None]),
            (&[(65_535, "1%"), (65_535, "")], &[Some(1), Some(100)]),
        ] {
            assert_eq!(weights(backends), expected, "{backends:?}");
        }
    }

    proptest! {
        /// Whatever is said, whoever is ready has a turn, and shares are as asked, within what the
        /// longest cycle can tell.
        #[test]
        fn shares_are_as_asked(
            backends in prop::collection::vec((1_u16..=65_535, prop::option::of(1_u8..=100)), 1..40),
        ) {
            let lines: Vec<_> = backends
                .iter()
                .map(|(weight, percent)| {
                    (*weight, percent.map_or(String::new(), |percent| format!("{percent}%")))
                })
                .collect();
            let lines: Vec<_> = lines.iter().map(|(weight, line)| (*weight, line.as_str())).collect();
            let found: Vec<u64> =
                weights(&lines).into_iter().map(|weight| weight.unwrap().into()).collect();
            if backends.iter().all(|(_, percent)| percent.is_none()) {
                return Ok(());
            }
            let asked: Vec<u64> = backends
                .iter()
                .map(|(weight, percent)| u64::from(*weight) * u64::from(percent.unwrap_or(100)))
                .collect();
            let (found_sum, asked_sum): (u64, u64) = (found.iter().sum(), asked.iter().sum());
            prop_assert!(found_sum <= MOST_TURNS + 40);
            for (found, asked) in found.iter().zip(&asked) {
                prop_assert!(*found >= 1);
                #[expect(clippy::cast_precision_loss, reason = "shares are compared roughly")]
                let (found, asked) =
                    (*found as f64 / found_sum as f64, *asked as f64 / asked_sum as f64);
                prop_assert!((found - asked).abs() < 0.002, "{found} of {asked}");
            }
        }
    }
}
