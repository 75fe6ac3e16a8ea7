//! `evenkeel doctor`: what of this host disturbs the balancer or slows it down, and the way out.
//!
//! Facts are read first, by `host` and `links`; each check is a pure function over facts and the
//! configuration, in the file of its concern. Nothing is changed: the one program that is loaded, to see
//! whether the kernel takes it, is attached nowhere and goes at once.

mod backends;
mod host;
mod interface;
mod kernel;
mod links;
mod memory;
mod netdev;
mod offloads;
mod places;
mod ports;
mod routing;

use serde::Serialize;

pub use self::host::Facts;
use crate::daemon::Paths;

/// How bad a finding is. Ordered, worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing has to be done.
    Note,
    /// It could not be looked at.
    Unseen,
    /// It costs speed, or hurts in circumstances that the finding names.
    Warning,
    /// Traffic is lost, or the daemon cannot start.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The check's name, such as `rp-filter`; docs/doctor.md explains each.
    pub check: &'static str,
    /// What was looked at: an interface, a service, a path; empty for the whole host.
    pub subject: String,
    /// What was found.
    pub message: String,
    /// What to do; absent where nothing has to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// All findings, the worst first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many are problems.
    pub problems: usize,
    /// How many are warnings.
    pub warnings: usize,
    /// How many are notes.
    pub notes: usize,
    /// How many things could not be looked at.
    pub unseen: usize,
    /// How many are as they should be.
    pub ok: usize,
    /// The findings.
    pub findings: Vec<Finding>,
}

/// There is a problem; the exit code is 1.
#[derive(Debug, thiserror::Error)]
#[error("{} found on this host", counted(*problems, "problem"))]
pub struct Ill {
    /// How many.
    pub problems: usize,
}

/// Looks at this host.
///
/// # Errors
///
/// Where netlink cannot be opened. Whatever else cannot be read is a finding.
pub async fn examine(paths: &Paths) -> anyhow::Result<Report> {
    Ok(judge(&Facts::read(paths).await?))
}

/// What the facts mean.
#[must_use]
pub fn judge(facts: &Facts) -> Report {
    let config = facts.config.as_ref();
    let mut findings = vec![configuration(facts)];
    findings.extend(kernel::check(&facts.kernel));
    findings.extend(memory::check(&facts.memory));
    let many = facts.interfaces.len() > 1;
    let mode = config.map(|config| config.node.xdp_mode).unwrap_or_default();
    for link in &facts.interfaces {
        findings.extend(interface::check(link, mode, facts.cpus, many));
        findings.extend(offloads::check(link, mode));
    }
    findings.extend(routing::check(&facts.routing, config));
    if let Some(config) = config {
        let names: Vec<_> = facts.interfaces.iter().map(|link| link.name.as_str()).collect();
        findings.extend(backends::check(config, &facts.next_hops, &names));
        let largest = facts.interfaces.iter().map(|link| link.mtu).max().unwrap_or(0);
        findings.extend(backends::check_mtu(config, &facts.next_hops, largest));
    }
    findings.extend(ports::check(&facts.ports, config));
    findings.extend(places::check(&facts.places));
    Report::new(findings)
}

fn configuration(facts: &Facts) -> Finding {
    let path = facts.config_path.display().to_string();
    let found = |level, message| Finding::new(level, "configuration", path.clone(), message);
    match (&facts.config, &facts.invalid) {
        (Some(config), _) => {
            let services = counted(config.services.len(), "service");
            found(Level::Ok, format!("valid, with {services}"))
        }
        (None, Some(message)) if facts.unreadable => {
            found(Level::Unseen, message.clone()).remedy("run as root")
        }
        (None, Some(message)) => found(Level::Problem, message.clone())
            .remedy("see `evenkeel check`; what it says of services and backends is not examined"),
        (None, None) => found(Level::Note, "there is none: only the host is examined".to_owned()),
    }
}

/// A number of things.
fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

impl Finding {
    fn new(
        level: Level,
        check: &'static str,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { level, check, subject: subject.into(), message: message.into(), remedy: None }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl Report {
    /// Sorts findings and counts them.
    #[must_use]
    pub fn new(mut findings: Vec<Finding>) -> Self {
        // Stable: findings of one level stay in the order of the concerns.
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        Self {
            problems: count(Level::Problem),
            warnings: count(Level::Warning),
            notes: count(Level::Note),
            unseen: count(Level::Unseen),
            ok: count(Level::Ok),
            findings,
        }
    }

    /// Fails where there is a problem.
    ///
    /// # Errors
    ///
    /// [`Ill`].
    pub fn verdict(&self) -> Result<(), Ill> {
        if self.problems == 0 { Ok(()) } else { Err(Ill { problems: self.problems }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_comes_first_and_decides() {
        let finding = |level| Finding::new(level, "test", "", "found");
        let report = Report::new([Level::Ok, Level::Warning, Level::Unseen].map(finding).into());
        assert_eq!(report.findings[0].level, Level::Warning);
        assert_eq!((report.ok, report.warnings, report.unseen), (1, 1, 1));
        assert!(report.verdict().is_ok());
        let report = Report::new([Level::Ok, Level::Problem].map(finding).into());
        assert_eq!(report.findings[0].level, Level::Problem);
        assert_eq!(report.verdict().unwrap_err().to_string(), "1 problem found on this host");
    }
}
