//! The kinds of alerts: how severe each is, what it means, when it rises and clears by default. The
//! reference in `docs/` is made from [`catalogue`].

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// What an alert says is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// No backend of a service is healthy.
    AllDown,
    /// One backend carries a service that has several.
    LoneSurvivor,
    /// An interface is not balanced.
    InterfaceLost,
    /// An address cannot be announced, or withdrawn.
    AnnounceFailed,
    /// The backends left could not carry the load if one more failed.
    NoHeadroom,
    /// A backend is down.
    BackendDown,
    /// A backend goes up and down again and again.
    Flapping,
    /// More of a backend's connections fail than before.
    ConnectionFailures,
    /// A backend's handshakes take longer than before.
    SlowHandshakes,
    /// A backend gets more than its share.
    Imbalance,
    /// The connection table fills up.
    TablePressure,
    /// Somebody else changed the kernel's tables.
    Drift,
    /// Probes or the controller's look begin late.
    ProbesLate,
    /// People took a backend out long ago, or forever.
    OutOfService,
    /// Alerts do not reach a target.
    DeliveryFailed,
    /// People drained the node long ago, or forever.
    NodeDrained,
    /// The store that edges share does not answer.
    StoreUnreachable,
    /// What the store has is not taken here.
    StoreRefused,
    /// Another edge is not heard.
    EdgeLost,
    /// Another edge has not applied the newest revision.
    EdgeBehind,
    /// A source of backends gives no usable answer.
    DiscoveryFailed,
    /// The configuration file is not what is at work.
    ConfigNotApplied,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Clients suffer, or will with the next failure: somebody has to act now.
    Critical,
    /// Somebody has to look today.
    Warning,
    /// Worth knowing.
    Info,
}

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The host: its id is `KIND`.
    Node,
    /// A service: its id is `KIND/SERVICE`.
    Service,
    /// A backend of a service: its id is `KIND/SERVICE/BACKEND`.
    Backend,
}

/// What there is to know of a kind of alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The kind.
    pub kind: Kind,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub scope: Scope,
    /// What it means, in a line.
    pub meaning: &'static str,
    /// When it rises, and below what it clears, as `[alerts]` has it where nothing else is said.
    pub threshold: &'static str,
    /// The keys of `[alerts]` that set that.
    pub keys: &'static [&'static str],
    /// How long it must last before it rises, unless `raise_after` says otherwise.
    pub raise_after: Duration,
    /// How long it must be over before it clears, unless `clear_after` says otherwise.
    pub clear_after: Duration,
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Every kind, the most severe first.
const ENTRIES: [Entry; 22] = [
    Entry {
        kind: Kind::AllDown,
        severity: Severity::Critical,
        scope: Scope::Service,
        meaning: "No backend of the service is healthy: new connections are turned away, or go to \
                  backends that are down, as on_all_down says.",
        threshold: "no backend is healthy and admitted",
        keys: &[],
        raise_after: seconds(2),
        clear_after: seconds(10),
    },
    Entry {
        kind: Kind::LoneSurvivor,
        severity: Severity::Critical,
        scope: Scope::Service,
        meaning: "One backend carries a service that has several, and no spare waits: the next failure is \
                  an outage.",
        threshold: "1 of at least 2 backends can take connections",
        keys: &[],
        raise_after: seconds(5),
        clear_after: seconds(30),
    },
    Entry {
        kind: Kind::InterfaceLost,
        severity: Severity::Critical,
        scope: Scope::Node,
        meaning: "The program is not attached to an interface of the configuration: what enters there is not \
                  balanced.",
        threshold: "an interface is missing, or has another program",
        keys: &[],
        raise_after: seconds(5),
        clear_after: seconds(10),
    },
    Entry {
        kind: Kind::AnnounceFailed,
        severity: Severity::Critical,
        scope: Scope::Service,
        meaning: "The service's address cannot be announced, or not be withdrawn: a hook fails, ExaBGP's process \
                  does not ask, or the address is on its interface already. Clients do not come here, or come to \
                  an edge that cannot serve them.",
        threshold: "what is announced is not what it shall be, and an attempt failed",
        keys: &[],
        raise_after: seconds(2),
        clear_after: seconds(5),
    },
    Entry {
        kind: Kind::NoHeadroom,
        severity: Severity::Warning,
        scope: Scope::Service,
        meaning: "If one more backend failed, those left could not carry the service's connections, measured \
                  now or at the recent peak, by the stated capacity and max_connections.",
        threshold: "a backend above its capacity, or connections that nobody takes, after any one failure; \
                    clears with 10 % to spare",
        keys: &["recent"],
        raise_after: seconds(30),
        clear_after: seconds(120),
    },
    Entry {
        kind: Kind::BackendDown,
        severity: Severity::Warning,
        scope: Scope::Backend,
        meaning: "A backend that nobody took out does not take part: its probes fail, its connections do, its \
                  agent says so, or no way leads to it.",
        threshold: "down, ejected or unreachable",
        keys: &[],
        raise_after: seconds(5),
        clear_after: seconds(30),
    },
    Entry {
        kind: Kind::Flapping,
        severity: Severity::Warning,
        scope: Scope::Backend,
        meaning: "A backend falls and returns again and again.",
        threshold: "held down by flap damping, or 3 falls within 10 minutes; clears at 1",
        keys: &["flaps", "recent"],
        raise_after: seconds(0),
        clear_after: seconds(60),
    },
    Entry {
        kind: Kind::ConnectionFailures,
        severity: Severity::Warning,
        scope: Scope::Backend,
        meaning: "More of a backend's connections are refused, unanswered or reset than in its own recent \
                  past.",
        threshold: "5 % of the last seconds' connections, three times its past, and more than chance \
                    explains; clears below 3.5 % or 2.1 times",
        keys: &["failures", "lately"],
        raise_after: seconds(5),
        clear_after: seconds(60),
    },
    Entry {
        kind: Kind::SlowHandshakes,
        severity: Severity::Warning,
        scope: Scope::Backend,
        meaning: "A backend answers SYNs later than in its own recent past.",
        threshold: "median or p99 4 times its past and at least 2 ms; clears below 2.8 times",
        keys: &["handshakes", "lately"],
        raise_after: seconds(10),
        clear_after: seconds(60),
    },
    Entry {
        kind: Kind::Imbalance,
        severity: Severity::Warning,
        scope: Scope::Service,
        meaning: "A backend gets more new connections than its fair share, beyond what chance explains.",
        threshold: "imbalance index 1.25 over 10 s, 1 min or 10 min; clears below 1.175",
        keys: &["imbalance"],
        raise_after: seconds(10),
        clear_after: seconds(60),
    },
    Entry {
        kind: Kind::TablePressure,
        severity: Severity::Warning,
        scope: Scope::Node,
        meaning: "A connection table fills up, or refuses new connections already.",
        threshold: "80 % full, or connections dropped for want of room; clears below 70 %",
        keys: &["table_fill"],
        raise_after: seconds(5),
        clear_after: seconds(60),
    },
    Entry {
        kind: Kind::Drift,
        severity: Severity::Warning,
        scope: Scope::Node,
        meaning: "The kernel's tables were not what the controller had written, and were mended: somebody \
                  else writes to them.",
        threshold: "a difference within the last 10 minutes",
        keys: &["recent"],
        raise_after: seconds(0),
        clear_after: seconds(0),
    },
    Entry {
        kind: Kind::ProbesLate,
        severity: Severity::Warning,
        scope: Scope::Node,
        meaning: "Probes, or the controller's look at the counters, begin later than they are due: the host \
                  is short of processor time, and failures are seen late.",
        threshold: "1 s late within the last minute",
        keys: &["late"],
        raise_after: seconds(0),
        clear_after: seconds(60),
    },
    Entry {
        kind: Kind::OutOfService,
        severity: Severity::Warning,
        scope: Scope::Backend,
        meaning: "People took a backend out (drain, maintenance) longer ago than the reminder, or forever: \
                  it may be forgotten.",
        threshold: "out for 1 hour, or without an end",
        keys: &["reminder"],
        raise_after: seconds(0),
        clear_after: seconds(0),
    },
    Entry {
        kind: Kind::DeliveryFailed,
        severity: Severity::Warning,
        scope: Scope::Node,
        meaning: "Alerts do not reach a webhook, an Alertmanager or a program, or were dropped because too \
                  many wait.",
        threshold: "3 failed attempts in a row, or one alert dropped",
        keys: &["recent"],
        raise_after: seconds(0),
        clear_after: seconds(10),
    },
    Entry {
        kind: Kind::NodeDrained,
        severity: Severity::Warning,
        scope: Scope::Node,
        meaning: "People drained this node longer ago than the reminder, or forever: it may be forgotten, and the \
                  other edges carry its traffic.",
        threshold: "drained for 1 hour, or without an end",
        keys: &["reminder"],
        raise_after: seconds(0),
        clear_after: seconds(0),
    },
    Entry {
        kind: Kind::StoreUnreachable,
        severity: Severity::Warning,
        scope: Scope::Node,
        meaning: "The etcd that edges share does not answer, or another edge has this one's name. Balancing goes on \
                  with the last revision, and changes are refused.",
        threshold: "no member answers, or the name is taken",
        keys: &[],
        raise_after: seconds(10),
        clear_after: seconds(10),
    },
    Entry {
        kind: Kind::StoreRefused,
        severity: Severity::Warning,
        scope: Scope::Node,
        meaning: "What the store has is not taken here: it is invalid, was put there by hand, went back, or does \
                  not go with this host or its edited file. What was at work goes on.",
        threshold: "a revision of the store is refused",
        keys: &[],
        raise_after: seconds(3),
        clear_after: seconds(3),
    },
    Entry {
        kind: Kind::EdgeLost,
        severity: Severity::Warning,
        scope: Scope::Node,
        meaning: "An edge that shares the store is not heard: its daemon is down, or it does not reach etcd. Its \
                  traffic may go on, by what it knew last.",
        threshold: "a known edge is not heard for 10 s",
        keys: &[],
        raise_after: seconds(10),
        clear_after: seconds(5),
    },
    Entry {
        kind: Kind::EdgeBehind,
        severity: Severity::Warning,
        scope: Scope::Node,
        meaning: "An edge that is heard has not applied the newest revision of the store: edges balance by \
                  different configurations.",
        threshold: "an edge is at an older revision than the store",
        keys: &[],
        raise_after: seconds(15),
        clear_after: seconds(3),
    },
    Entry {
        kind: Kind::DiscoveryFailed,
        severity: Severity::Warning,
        scope: Scope::Service,
        meaning: "A source of the service's backends does not answer, or its answer cannot be taken: empty, invalid, or \
                  too few at once. The backends that were known stay, and servers that come or go are missed.",
        threshold: "the newest answer is not taken, or is not whole",
        keys: &[],
        raise_after: seconds(10),
        clear_after: seconds(5),
    },
    Entry {
        kind: Kind::ConfigNotApplied,
        severity: Severity::Info,
        scope: Scope::Node,
        meaning: "The configuration file was edited and is not what is at work: the next restart would change \
                  more than anybody expects.",
        threshold: "the file differs from what is at work",
        keys: &[],
        raise_after: seconds(600),
        clear_after: seconds(0),
    },
];

/// Every kind of alerts, the most severe first.
#[must_use]
pub fn catalogue() -> &'static [Entry] {
    &ENTRIES
}

impl Kind {
    /// What there is to know of it.
    #[must_use]
    pub fn entry(self) -> &'static Entry {
        // There is one for each: see the test.
        ENTRIES.iter().find(|entry| entry.kind == self).unwrap_or(&ENTRIES[0])
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllDown => "all-down",
            Self::LoneSurvivor => "lone-survivor",
            Self::InterfaceLost => "interface-lost",
            Self::NoHeadroom => "no-headroom",
            Self::BackendDown => "backend-down",
            Self::Flapping => "flapping",
            Self::ConnectionFailures => "connection-failures",
            Self::SlowHandshakes => "slow-handshakes",
            Self::Imbalance => "imbalance",
            Self::TablePressure => "table-pressure",
            Self::Drift => "drift",
            Self::ProbesLate => "probes-late",
            Self::OutOfService => "out-of-service",
            Self::DeliveryFailed => "delivery-failed",
            Self::AnnounceFailed => "announce-failed",
            Self::NodeDrained => "node-drained",
            Self::StoreUnreachable => "store-unreachable",
            Self::StoreRefused => "store-refused",
            Self::EdgeLost => "edge-lost",
            Self::EdgeBehind => "edge-behind",
            Self::DiscoveryFailed => "discovery-failed",
            Self::ConfigNotApplied => "config-not-applied",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        ENTRIES.iter().map(|entry| entry.kind).find(|kind| kind.name() == name)
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(self) -> Severity {
        self.entry().severity
    }

    /// Its page of the playbook, below `base` where there is one.
    #[must_use]
    pub fn page(self, base: Option<&str>) -> String {
        let base = base.unwrap_or("docs").trim_end_matches('/');
        format!("{base}/playbook/{self}.html")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_entry() {
        for entry in catalogue() {
            assert_eq!(entry.kind.entry(), entry);
            assert_eq!(Kind::from_name(entry.kind.name()), Some(entry.kind));
            assert_eq!(serde_json::to_value(entry.kind).unwrap(), entry.kind.name());
            assert!(entry.meaning.ends_with('.') && !entry.threshold.ends_with('.'));
        }
        assert!(catalogue().is_sorted_by_key(|entry| (entry.severity, entry.kind)));
        // Adding a kind makes this match incomplete, and one without an entry shows here.
        let kinds: std::collections::BTreeSet<_> =
            catalogue().iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds.len(), Kind::ConfigNotApplied as usize + 1);
    }

    #[test]
    fn pages_are_below_the_playbook() {
        assert_eq!(Kind::Drift.page(None), "docs/playbook/drift.html");
        let base = Some("https://wiki.example/lb/");
        assert_eq!(Kind::AllDown.page(base), "https://wiki.example/lb/playbook/all-down.html");
    }
}
