//! What edges tell of themselves, and where they see things differently. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::alerts::Severity;

/// Backends of a service whose shares, and that are down, are told one by one at the most: a report has to fit
/// into a value of etcd.
pub const MOST_TOLD: usize = 500;

/// An edge, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its name.
    pub name: String,
    /// Tells this edge from another one of the same name.
    #[serde(default)]
    pub id: String,
    /// The program's version.
    #[serde(default)]
    pub version: String,
    /// The revision of the store that is at work there.
    #[serde(default)]
    pub revision: i64,
    /// The revision that it has not taken, and why; absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
    /// When it said so, RFC 3339, by its own clock.
    #[serde(default)]
    pub at: String,
    /// Its services.
    #[serde(default)]
    pub services: Vec<ServiceReport>,
    /// What is wrong there.
    #[serde(default)]
    pub alerts: Vec<AlertReport>,
}

/// A revision that an edge has not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The revision.
    pub revision: i64,
    /// Why.
    pub why: String,
}

/// A service as an edge sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// Its name.
    pub name: String,
    /// Backends that get new connections there.
    #[serde(default)]
    pub active: usize,
    /// Backends that there are.
    #[serde(default)]
    pub backends: usize,
    /// Backends that are down there: the first few hundred.
    #[serde(default)]
    pub down: Vec<String>,
    /// Imbalance index over the last minute; absent where no connection came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<f64>,
    /// New connections over the last minute.
    #[serde(default)]
    pub connections: u64,
    /// Each backend's part of those, 0 to 1; empty where there are too many to tell.
    #[serde(default)]
    pub shares: BTreeMap<String, f64>,
}

/// An alert of an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertReport {
    /// Its id.
    pub id: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in a sentence.
    pub summary: String,
}

/// An edge as the others see it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EdgeSeen {
    /// What it said last.
    #[serde(flatten)]
    pub report: Report,
    /// Whether it is there now.
    pub alive: bool,
}

impl Report {
    /// Whether another edge needs to know at once: all but how connections are shared out, and when that was.
    #[must_use]
    pub fn differs_from(&self, other: &Self) -> bool {
        let plain = |report: &Self| {
            let mut plain = Self { at: String::new(), ..report.clone() };
            for service in &mut plain.services {
                (service.index, service.connections) = (None, 0);
                service.shares.clear();
            }
            plain
        };
        plain(self) != plain(other)
    }
}

/// A backend that some edges see as down and others do not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disagreement {
    /// The service.
    pub service: String,
    /// The backend.
    pub backend: String,
    /// Edges that do not see it as down.
    pub up: Vec<String>,
    /// Edges that do.
    pub down: Vec<String>,
}

/// The backends that the edges which are there see differently.
#[must_use]
pub fn disagreements<'a>(edges: impl Iterator<Item = &'a EdgeSeen>) -> Vec<Disagreement> {
    let mut services: BTreeMap<&str, Vec<(&str, BTreeSet<&str>)>> = BTreeMap::new();
    for edge in edges.filter(|edge| edge.alive) {
        for service in &edge.report.services {
            let down = service.down.iter().map(String::as_str).collect();
            services.entry(&service.name).or_default().push((&edge.report.name, down));
        }
    }
    let mut found = Vec::new();
    for (service, edges) in services {
        let all: BTreeSet<_> = edges.iter().flat_map(|(_, down)| down).collect();
        for backend in all {
            let (down, up): (Vec<_>, Vec<_>) =
                edges.iter().partition(|(_, down)| down.contains(backend));
            if up.is_empty() {
                continue;
            }
            let names = |edges: Vec<&(&str, BTreeSet<&str>)>| {
                edges.into_iter().map(|(name, _)| (*name).to_owned()).collect()
            };
            found.push(Disagreement {
                service: service.to_owned(),
                backend: (*backend).to_owned(),
                up: names(up),
                down: names(down),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(name: &str, alive: bool, down: &[&str]) -> EdgeSeen {
        let down = down.iter().map(|&name| name.to_owned()).collect();
        let service = ServiceReport { name: "web".into(), down, ..ServiceReport::default() };
        let report = Report { name: name.into(), services: vec![service], ..Report::default() };
        EdgeSeen { report, alive }
    }

    #[test]
    fn a_backend_that_only_some_see_as_down_is_a_disagreement() {
        let edges = [edge("a", true, &["x", "y"]), edge("b", true, &["y"]), edge("c", false, &[])];
        let found = disagreements(edges.iter());
        let expected = Disagreement {
            service: "web".into(),
            backend: "x".into(),
            up: vec!["b".into()],
            down: vec!["a".into()],
        };
        assert_eq!(found, [expected]);
        assert_eq!(disagreements([edge("a", true, &["x"])].iter()), []);
    }

    #[test]
    fn shares_alone_are_no_news() {
        let one = edge("a", true, &["x"]).report;
        let mut other = one.clone();
        other.at = "2026-01-01T00:00:00Z".into();
        other.services[0].index = Some(1.2);
        other.services[0].shares.insert("y".into(), 0.5);
        assert!(!one.differs_from(&other));
        other.revision = 2;
        assert!(one.differs_from(&other));
    }
}
