//! From what a run counted to what is right and wrong with it. Pure: nothing here runs anything.

use super::{
    engine::Run,
    load::{self, Carrier, Limit, LimitedBy, Spread},
    report::{Failure, Problem, ProblemKind, ServiceReport, Share, Split},
};
use crate::{
    config::{Config, Endpoint, Forwarding, Scheduler, Service, Verify},
    plan::{BackendEntry, BackendId},
    statistics::Sample,
};

/// A backend that takes part in a run.
type Member<'t> = (BackendId, &'t BackendEntry);

/// What a service's runs are judged by.
#[derive(Clone, Copy)]
pub struct Judge<'a> {
    pub config: &'a Config,
    pub service: &'a Service,
    pub verify: &'a Verify,
}

/// What is wrong with the host as a whole.
pub fn host(config: &Config) -> Vec<Problem> {
    let room = config.tables.connections;
    let full = |(family, v4): (&str, bool)| {
        let own = config.services.iter().filter(|service| service.address.is_ipv4() == v4);
        let sum: u64 = own.filter_map(|service| service.expected_connections).map(u64::from).sum();
        (sum > u64::from(room)).then(|| Problem {
            kind: ProblemKind::Table,
            backend: None,
            message: format!(
                "the {family} services expect {sum} connections, and the table holds {room}; raise \
                 `connections` in [tables]"
            ),
        })
    };
    [("IPv4", true), ("IPv6", false)].into_iter().filter_map(full).collect()
}

/// The report with its verdict.
pub fn conclude(mut report: ServiceReport) -> ServiceReport {
    report.passed =
        report.problems.is_empty() && report.failures.iter().all(|failure| failure.passed);
    report
}

impl Judge<'_> {
    /// The report of a service's run with all backends up; failures are to be added.
    pub fn balance(&self, members: &[Member<'_>], run: &Run) -> ServiceReport {
        let Service { name, protocol, scheduler, forwarding, expected_connections, .. } =
            self.service;
        let (balance, spread) = self.split(members, run, None);
        let mut problems = self.uneven(&balance, run);
        problems.extend(self.overloaded(&balance, spread.as_ref(), members, run));
        if run.sent == 0 {
            problems.push(Problem {
                kind: ProblemKind::Refused,
                backend: None,
                message:
                    "the prefixes of the node and the service let no client in; see `allow` and \
                          `deny`"
                        .to_owned(),
            });
        }
        ServiceReport {
            name: name.clone(),
            address: Endpoint(self.service.address).to_string(),
            protocol: *protocol,
            scheduler: *scheduler,
            forwarding: *forwarding,
            expected_connections: *expected_connections,
            passed: false,
            problems,
            warnings: self.warnings(&balance, members, run),
            balance,
            failures: Vec::new(),
            failures_left_out: 0,
        }
    }

    /// What the others do without the backend `gone`; `before`: with it.
    pub fn failure(
        &self,
        gone: &str,
        survivors: &[Member<'_>],
        run: &Run,
        before: &Split,
    ) -> Failure {
        let (split, spread) = self.split(survivors, run, Some(before));
        let mut problems = Vec::new();
        if self.verify.survive > 0 {
            if survivors.is_empty() {
                problems.extend(self.service.expected_connections.map(|expected| Problem {
                    kind: ProblemKind::Overload,
                    backend: None,
                    message: format!(
                        "nobody is left to carry the {expected} expected connections; add a backend"
                    ),
                }));
            } else {
                problems.extend(self.uneven(&split, run));
                problems.extend(self.overloaded(&split, spread.as_ref(), survivors, run));
            }
        }
        Failure { backend: gone.to_owned(), passed: problems.is_empty(), problems, split }
    }

    /// Whether shares are what the weights say, to a connection.
    fn is_exact(&self) -> bool {
        self.service.scheduler == Scheduler::RoundRobin && self.service.sticky.is_none()
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of connections")]
    fn draws(&self, run: &Run) -> f64 {
        if self.service.draws_clients() && run.sent > 0 {
            run.clients as f64 / run.sent as f64
        } else {
            1.0
        }
    }

    fn split(
        &self,
        members: &[Member<'_>],
        run: &Run,
        before: Option<&Split>,
    ) -> (Split, Option<Spread>) {
        let (weights, counts) = numbers(members, run);
        let sample = Sample { weights: &weights, counts: &counts, draws: self.draws(run) };
        let carriers = self.carriers(members, &sample, run);
        // As measured: only what is wrong has to be beyond chance.
        let plain: Vec<_> =
            carriers.iter().map(|carrier| Carrier { noise: 0.0, ..*carrier }).collect();
        let expected = self.service.expected_connections;
        let spread = expected.map(|expected| load::spread(expected.into(), &carriers));
        let limited = carriers.iter().any(|c| c.limit.is_some() || c.max_connections.is_some());
        let measures = sample.expected().into_iter().zip(sample.shares()).zip(sample.over_fair());
        let mut backends = Vec::new();
        for (index, ((_, entry), ((expected_share, share), over_fair))) in
            members.iter().zip(measures).enumerate()
        {
            let known =
                before.and_then(|split| split.backends.iter().find(|b| b.name == entry.name));
            backends.push(Share {
                name: entry.name.clone(),
                weight: entry.weight,
                connections: counts[index],
                expected_share,
                share,
                over_fair,
                gained: before.map(|_| share - known.map_or(0.0, |known| known.share)),
                load: spread.as_ref().map(|spread| whole(spread.loads[index])),
                max_connections: entry.max_connections,
                limit: carriers[index].limit,
            });
        }
        let split = Split {
            connections: run.sent,
            clients: run.clients,
            backends,
            max_over_fair: sample.max_over_fair(),
            variation: sample.variation(),
            p: sample.p(),
            refused: run.refused.clone(),
            can_carry: limited.then(|| load::most(&plain)).flatten(),
        };
        (split, spread)
    }

    fn carriers(&self, members: &[Member<'_>], sample: &Sample<'_>, run: &Run) -> Vec<Carrier> {
        let shares = sample.expected().into_iter().zip(sample.shares());
        let carrier = |((_, entry), (expected, share)): (&Member<'_>, (f64, f64))| {
            let max_connections = entry.max_connections.map(u64::from);
            let limit = self.limit(entry);
            // A connection more or less is where the run ended, and no imbalance.
            #[expect(clippy::cast_precision_loss, reason = "counts of connections")]
            let turn = members.len() as f64 / run.sent.max(1) as f64;
            if self.is_exact() && (share - expected).abs() <= turn {
                return Carrier { share: expected, noise: 0.0, max_connections, limit };
            }
            Carrier { share, noise: sample.noise(share), max_connections, limit }
        };
        members.iter().zip(shares).map(carrier).collect()
    }

    /// What a backend cannot carry more than: what is least of all that is said.
    fn limit(&self, entry: &BackendEntry) -> Option<Limit> {
        let capacity = self.service.backend(&entry.name).and_then(|backend| backend.capacity);
        let capacity = capacity
            .map(|capacity| Limit { connections: capacity.into(), by: LimitedBy::Capacity });
        let full_nat = self.service.forwarding == Forwarding::Nat && self.service.snat;
        let ports = full_nat.then(|| {
            let nat = &self.config.nat;
            let own = |ip: &&std::net::IpAddr| ip.is_ipv4() == entry.address.is_ipv4();
            let sources = nat.source_addresses.iter().filter(own).count().max(1) as u64;
            let each = u64::from(nat.source_ports.high - nat.source_ports.low) + 1;
            Limit { connections: each * sources, by: LimitedBy::SourcePorts }
        });
        capacity.into_iter().chain(ports).min_by_key(|limit| limit.connections)
    }

    /// What is wrong with how connections were shared out.
    fn uneven(&self, split: &Split, run: &Run) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut say = |kind, backend: Option<&str>, message: String| {
            problems.push(Problem { kind, backend: backend.map(str::to_owned), message });
        };
        if split.refused() > 0 {
            let verdicts: Vec<_> =
                split.refused.iter().map(|(name, count)| format!("{count} {name}")).collect();
            let verdicts = verdicts.join(", ");
            let sent = split.connections;
            let hint = if split.backends.is_empty() { "; the service has no backend" } else { "" };
            say(
                ProblemKind::Refused,
                None,
                format!(
                    "{} of {sent} connections went to no backend: {verdicts}{hint}",
                    split.refused()
                ),
            );
        }
        let weights: Vec<f64> = split.backends.iter().map(|b| f64::from(b.weight)).collect();
        let counts: Vec<u64> = split.backends.iter().map(|backend| backend.connections).collect();
        let sample = Sample { weights: &weights, counts: &counts, draws: self.draws(run) };
        let most = self.verify.max_over_fair;
        for (index, backend) in split.backends.iter().enumerate() {
            if sample.exceeds(index, most.get()) {
                let message = format!(
                    "backend {:?} has {:.3} of its fair share ({:.2}% where {:.2}% is fair), more than \
                     max_over_fair = {most}",
                    backend.name,
                    backend.over_fair,
                    backend.share * 100.0,
                    backend.expected_share * 100.0
                );
                say(ProblemKind::Imbalance, Some(&backend.name), message);
            }
        }
        if let Some(most) = self.verify.max_variation
            && split.variation > most.get()
        {
            let message = format!(
                "the shares vary by {:.4}, more than max_variation = {most}",
                split.variation
            );
            say(ProblemKind::Variation, None, message);
        }
        if let Some(least) = self.verify.min_p
            && split.p < least.get()
        {
            let message = format!(
                "chance alone strays so far with a probability of {:.2e}, less than min_p = {least}",
                split.p
            );
            say(ProblemKind::Chance, None, message);
        }
        problems
    }

    /// What is wrong with what the backends would carry at the peak.
    fn overloaded(
        &self,
        split: &Split,
        spread: Option<&Spread>,
        members: &[Member<'_>],
        run: &Run,
    ) -> Vec<Problem> {
        let (Some(spread), Some(expected)) = (spread, self.service.expected_connections) else {
            return Vec::new();
        };
        let (weights, counts) = numbers(members, run);
        let sample = Sample { weights: &weights, counts: &counts, draws: self.draws(run) };
        let carriers = self.carriers(members, &sample, run);
        let mut problems = Vec::new();
        for ((carrier, load), backend) in carriers.iter().zip(&spread.loads).zip(&split.backends) {
            let Some(limit) =
                carrier.limit.filter(|_| carrier.is_overloaded(*load, expected.into()))
            else {
                continue;
            };
            let (why, remedy) = match limit.by {
                LimitedBy::Capacity => {
                    ("its capacity is", "add backends, lower its weight, or raise its capacity")
                }
                LimitedBy::SourcePorts => (
                    "NAT's source ports towards it are",
                    "add source_addresses in [nat], or widen source_ports",
                ),
            };
            problems.push(Problem {
                kind: ProblemKind::Overload,
                backend: Some(backend.name.clone()),
                message: format!(
                    "backend {:?} would have {} of the {expected} expected connections, and {why} {}; \
                     {remedy}",
                    backend.name,
                    whole(*load),
                    limit.connections
                ),
            });
        }
        let refused = whole(spread.refused);
        if refused > 0 && !members.is_empty() {
            problems.push(Problem {
                kind: ProblemKind::Overload,
                backend: None,
                message: format!(
                    "{refused} of the {expected} expected connections are refused: every backend has its \
                     max_connections; raise them, or add backends"
                ),
            });
        }
        problems
    }

    /// What could not be judged, or is worth knowing.
    fn warnings(&self, split: &Split, members: &[Member<'_>], run: &Run) -> Vec<String> {
        let mut warnings = Vec::new();
        let stated = self.service.backends.iter().any(|b| b.capacity.is_some());
        let limited = self.service.backends.iter().any(|b| b.max_connections.is_some());
        if self.service.expected_connections.is_none() && (stated || limited) {
            let what = if stated { "capacity" } else { "max_connections" };
            warnings.push(format!(
                "expected_connections is not stated: whether {what} is enough is not judged"
            ));
        }
        if let [(_, only)] = members {
            warnings.push(format!("nobody takes over when backend {:?} fails", only.name));
        }
        let (weights, counts) = numbers(members, run);
        let sample = Sample { weights: &weights, counts: &counts, draws: self.draws(run) };
        let drawn = !self.is_exact() && self.service.scheduler != Scheduler::LeastConnections;
        let most = self.verify.max_over_fair;
        if drawn && members.len() > 1 && run.sent > 0 {
            let enough = whole(sample.enough(most.get()));
            let clients = if split.clients == 1 { "client" } else { "clients" };
            if enough > run.sent {
                let all = u64::from(Verify::MOST_CONNECTIONS);
                let remedy = if enough <= all {
                    format!("; --connections {} are enough", enough.next_multiple_of(1_000))
                } else {
                    String::new()
                };
                warnings.push(format!(
                    "{} connections from {} {clients} are few: within chance, a share may be off by more \
                     than max_over_fair = {most} allows{remedy}",
                    split.connections, split.clients
                ));
            }
        }
        warnings
    }
}

fn numbers(members: &[Member<'_>], run: &Run) -> (Vec<f64>, Vec<u64>) {
    let weights = members.iter().map(|(_, entry)| f64::from(entry.weight)).collect();
    let counts = members.iter().map(|(id, _)| run.opened.get(id).copied().unwrap_or(0)).collect();
    (weights, counts)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, from zero on"
)]
const fn whole(number: f64) -> u64 {
    number.round().max(0.0) as u64
}

#[cfg(test)]
mod tests;
