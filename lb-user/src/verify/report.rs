//! What a verification found: what `verify -o json` prints. Fields are only ever added.

use std::collections::BTreeMap;

use serde::Serialize;

use super::load::Limit;
use crate::config::{Forwarding, Protocol, Scheduler, Verify};

/// A verification.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Whether nothing is wrong.
    pub passed: bool,
    /// The seed of the clients: the same one makes the same clients.
    pub seed: u64,
    /// What the configuration was held to.
    pub thresholds: Verify,
    /// Every service, in the order of the configuration.
    pub services: Vec<ServiceReport>,
    /// What is wrong with the host as a whole.
    pub problems: Vec<Problem>,
    /// What was left out of the verification.
    pub notes: Vec<String>,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceReport {
    /// Its name.
    pub name: String,
    /// Its virtual address and port.
    pub address: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its scheduler.
    pub scheduler: Scheduler,
    /// Its forwarding mode.
    pub forwarding: Forwarding,
    /// Open connections that it is to carry at its peak.
    pub expected_connections: Option<u32>,
    /// Whether nothing is wrong, whatever backend is down.
    pub passed: bool,
    /// What is wrong while all backends are up.
    pub problems: Vec<Problem>,
    /// What could not be judged, or is worth knowing.
    pub warnings: Vec<String>,
    /// With all backends up.
    pub balance: Split,
    /// With each backend down in turn.
    pub failures: Vec<Failure>,
    /// Backends that were not tried down: see `--failures`.
    pub failures_left_out: u64,
}

/// A service without one of its backends.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// The backend that is down.
    pub backend: String,
    /// Whether nothing is wrong.
    pub passed: bool,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What the others get.
    pub split: Split,
}

/// How connections were shared out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Split {
    /// Connections that clients opened.
    pub connections: u64,
    /// Addresses that they came from.
    pub clients: u64,
    /// Every backend that takes part.
    pub backends: Vec<Share>,
    /// The largest share over its fair one.
    pub max_over_fair: f64,
    /// Coefficient of variation of the shares over the fair ones.
    pub variation: f64,
    /// The chi-square test's p.
    pub p: f64,
    /// Connections that went to no backend, by verdict.
    pub refused: BTreeMap<String, u64>,
    /// Open connections that it carries before one is refused or a backend overloaded; absent where
    /// nothing limits them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_carry: Option<u64>,
}

/// A backend's part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Its name.
    pub name: String,
    /// Its weight.
    pub weight: u16,
    /// Connections that it got.
    pub connections: u64,
    /// The share that its weight gives it, 0 to 1.
    pub expected_share: f64,
    /// The share that it got, 0 to 1.
    pub share: f64,
    /// The one over the other.
    pub over_fair: f64,
    /// With a backend down: by how much its share grew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gained: Option<f64>,
    /// Open connections that it has of the service's expected ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<u64>,
    /// Open connections after which others are given more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// What it cannot carry more than.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
}

/// Something that fails a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it is.
    pub kind: ProblemKind,
    /// The backend that it is about, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// What is wrong, naming the object, and what to do about it.
    pub message: String,
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// Connections went to no backend.
    Refused,
    /// A backend has more than `max_over_fair` of its fair share.
    Imbalance,
    /// The shares vary by more than `max_variation`.
    Variation,
    /// The chi-square test's p is below `min_p`.
    Chance,
    /// The expected connections are more than the backends carry.
    Overload,
    /// The expected connections are more than the connection table holds.
    Table,
}

impl Report {
    /// Everything that is wrong, with where it was found.
    pub fn problems(&self) -> impl Iterator<Item = (String, &Problem)> {
        let host = self.problems.iter().map(|problem| (String::new(), problem));
        host.chain(self.services.iter().flat_map(|service| {
            let own = service.problems.iter().map(|problem| (service.name.clone(), problem));
            own.chain(service.failures.iter().flat_map(|failure| {
                let place = format!("{} without {}", service.name, failure.backend);
                failure.problems.iter().map(move |problem| (place.clone(), problem))
            }))
        }))
    }
}

impl Split {
    /// Connections that went to no backend.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.values().sum()
    }
}
