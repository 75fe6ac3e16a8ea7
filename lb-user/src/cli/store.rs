//! The edges that share a store: `evenkeel store` and `evenkeel status --fleet`.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Subcommand;
use comfy_table::Cell;
use hyper::Method;

use super::{Format, Output, change, output};
use crate::{
    api::{
        Client,
        model::{Edge, Fleet, Spread, StoreStatus},
    },
    store::ServiceReport,
};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show whether the store answers, and which revision is at work here
    Status(Format),
    /// Take the store's services in the place of those at work here
    ///
    /// For an edge that joins others, or whose file was edited meanwhile. What was put into the store by hand is
    /// verified first, and goes live on every edge then.
    Pull {
        /// Even if fewer active backends of a service than its `min_active` stay
        #[arg(long)]
        force: bool,
    },
    /// Write the services at work here over those of the store, for every edge
    ///
    /// For a store whose value no edge takes, that was emptied, or that went back.
    Push,
    /// Forget an edge that is gone for good
    Forget {
        /// Its name
        edge: String,
    },
}

/// Does what `evenkeel store` is asked for.
pub async fn run(client: &Client, command: Command) -> Result<()> {
    match command {
        Command::Status(format) => {
            let fleet: Fleet = client.get("/v1/fleet").await?;
            if format.output == Output::Json {
                return output::json(&fleet.store);
            }
            output::print(&described(&fleet.store))
        }
        Command::Pull { force } => {
            let path = format!("/v1/store/pull?force={force}");
            change::send(client, Method::POST, path, None::<&()>).await
        }
        Command::Push => change::send(client, Method::POST, "/v1/store/push", None::<&()>).await,
        Command::Forget { edge } => {
            let path = format!("/v1/store/edges/{}", change::segment(&edge)?);
            change::send(client, Method::DELETE, path, None::<&()>).await
        }
    }
}

/// Shows every edge side by side.
pub async fn fleet(client: &Client, format: Output) -> Result<()> {
    let fleet: Fleet = client.get("/v1/fleet").await?;
    if format == Output::Json {
        return output::json(&fleet);
    }
    output::print(&shown(&fleet, format))
}

/// Says which edges have a change, and which have not.
pub fn spread(fleet: Option<&Spread>) -> Result<()> {
    let Some(Spread { revision, applied, missing }) = fleet else { return Ok(()) };
    let by = if applied.is_empty() { "no edge".to_owned() } else { applied.join(", ") };
    output::print(&format!("revision {revision}: applied by {by}\n"))?;
    for missing in missing {
        eprintln!("warning: not applied by {}: {}", missing.edge, missing.why);
    }
    Ok(())
}

fn described(store: &StoreStatus) -> String {
    let mut text = String::new();
    let StoreStatus { kind, prefix, edge, revision, newest, since, .. } = store;
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{kind} {prefix}, this edge is {edge}");
    let _ = match (&store.member, &store.problem) {
        (Some(member), None) => writeln!(text, "{member} answers since {since}"),
        (Some(member), Some(problem)) => {
            writeln!(text, "{member} answers since {since}: {problem}")
        }
        (None, problem) => {
            let problem = problem.as_deref().unwrap_or("none was asked yet");
            writeln!(text, "no member answers since {since}: {problem}")
        }
    };
    let _ = match (revision, newest) {
        (0, 0) => writeln!(text, "no revision was taken yet"),
        (revision, newest) if revision == newest => {
            writeln!(text, "revision {revision} is at work, the newest that was seen")
        }
        (revision, newest) => {
            writeln!(text, "revision {revision} is at work, and {newest} the newest that was seen")
        }
    };
    if let Some(refused) = &store.refused {
        let _ = writeln!(text, "revision {} is not taken: {}", refused.revision, refused.why);
    }
    text
}

fn shown(fleet: &Fleet, format: Output) -> String {
    let mut text = described(&fleet.store);
    let mut table = output::table(&["EDGE", ">REVISION", "STATE", "VERSION", ">ALERTS", "AT"]);
    for edge in &fleet.edges {
        let mark = if edge.here { " (here)" } else { "" };
        table.add_row([
            Cell::new(format!("{}{mark}", edge.report.name)),
            Cell::new(edge.report.revision),
            Cell::new(state(edge)),
            Cell::new(&edge.report.version),
            Cell::new(edge.report.alerts.len()),
            Cell::new(&edge.report.at),
        ]);
    }
    let _ = write!(text, "\n{}", output::rendered(&table));
    let mut table =
        output::table(&["SERVICE", "EDGE", ">ACTIVE", "DOWN", ">INDEX (1m)", "SHARES (1m)"]);
    let mut names: Vec<_> =
        fleet.edges.iter().flat_map(|edge| &edge.report.services).map(|s| &s.name).collect();
    names.sort_unstable();
    names.dedup();
    for name in &names {
        for edge in fleet.edges.iter().filter(|edge| edge.alive) {
            let Some(service) = edge.report.services.iter().find(|service| service.name == **name)
            else {
                continue;
            };
            table.add_row([
                Cell::new(name),
                Cell::new(&edge.report.name),
                Cell::new(format!("{} of {}", service.active, service.backends)),
                Cell::new(if service.down.is_empty() {
                    "-".into()
                } else {
                    listed(&service.down, format)
                }),
                Cell::new(service.index.map_or("-".to_owned(), |index| format!("{index:.2}"))),
                Cell::new(shares(service, format)),
            ]);
        }
    }
    if !names.is_empty() {
        let _ = write!(text, "\n{}", output::rendered(&table));
    }
    if !fleet.disagreements.is_empty() {
        text.push('\n');
    }
    for found in &fleet.disagreements {
        let _ = writeln!(
            text,
            "{}/{} is down for {} and not for {}",
            found.service,
            found.backend,
            found.down.join(", "),
            found.up.join(", ")
        );
    }
    let alerts: Vec<_> = fleet
        .edges
        .iter()
        .flat_map(|edge| edge.report.alerts.iter().map(move |alert| (edge, alert)))
        .collect();
    if !alerts.is_empty() {
        text.push('\n');
    }
    for (edge, alert) in alerts {
        let _ = writeln!(text, "{}: {}: {}", edge.report.name, alert.severity, alert.summary);
    }
    text
}

fn state(edge: &Edge) -> String {
    match &edge.report.refused {
        _ if !edge.alive => "not heard".to_owned(),
        Some(refused) => format!("does not take {}: {}", refused.revision, refused.why),
        None if edge.behind => "behind".to_owned(),
        None => "follows".to_owned(),
    }
}

/// The first names, or all of them.
fn listed(names: &[String], format: Output) -> String {
    const MOST: usize = 4;
    if format == Output::Wide || names.len() <= MOST {
        return names.join(", ");
    }
    format!("{} and {} more", names[..MOST].join(", "), names.len() - MOST)
}

fn shares(service: &ServiceReport, format: Output) -> String {
    let each: Vec<_> = service
        .shares
        .iter()
        .map(|(name, share)| format!("{name} {:.1}%", share * 100.0))
        .collect();
    if each.is_empty() { "-".to_owned() } else { listed(&each, format) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        alerts::Severity,
        store::{AlertReport, Disagreement, Refusal, Report},
    };

    fn store() -> StoreStatus {
        StoreStatus {
            kind: "etcd".into(),
            endpoints: vec!["http://10.0.0.1:2379".into()],
            prefix: "/evenkeel".into(),
            edge: "edge-1".into(),
            revision: 7,
            newest: 7,
            connected: true,
            member: Some("http://10.0.0.1:2379".into()),
            since: "2026-01-02T03:04:05Z".into(),
            problem: None,
            refused: None,
        }
    }

    #[test]
    fn the_store_is_described_in_a_few_lines() {
        assert_eq!(
            described(&store()),
            "etcd /evenkeel, this edge is edge-1\n\
             http://10.0.0.1:2379 answers since 2026-01-02T03:04:05Z\n\
             revision 7 is at work, the newest that was seen\n"
        );
        let refused = Some(Refusal { revision: 9, why: "it is poisoned".into() });
        let problem = Some("connection refused".to_owned());
        let lost = StoreStatus { member: None, problem, newest: 9, refused, ..store() };
        assert_eq!(
            described(&lost),
            "etcd /evenkeel, this edge is edge-1\n\
             no member answers since 2026-01-02T03:04:05Z: connection refused\n\
             revision 7 is at work, and 9 the newest that was seen\n\
             revision 9 is not taken: it is poisoned\n"
        );
    }

    #[test]
    fn edges_stand_side_by_side() {
        let service = |down: &[&str]| ServiceReport {
            name: "web".into(),
            active: 2 - down.len(),
            backends: 2,
            down: down.iter().map(|&name| name.to_owned()).collect(),
            index: Some(1.0),
            connections: 10,
            shares: [("a".to_owned(), 0.5), ("b".to_owned(), 0.5)].into(),
        };
        let edge = |name: &str, here, alive, down: &[&str]| Edge {
            here,
            alive,
            behind: false,
            report: Report {
                name: name.into(),
                version: "0.1.0".into(),
                revision: 7,
                services: vec![service(down)],
                alerts: vec![AlertReport {
                    id: "backend-down/web/b".into(),
                    severity: Severity::Warning,
                    summary: "b is down".into(),
                }],
                ..Report::default()
            },
        };
        let edges = vec![edge("edge-1", true, true, &[]), edge("edge-2", false, true, &["b"])];
        let disagreement = Disagreement {
            service: "web".into(),
            backend: "b".into(),
            up: vec!["edge-1".into()],
            down: vec!["edge-2".into()],
        };
        let fleet = Fleet { store: store(), edges, disagreements: vec![disagreement] };
        let text = shown(&fleet, Output::Table);
        for part in [
            "edge-1 (here)",
            "follows",
            "1 of 2",
            "a 50.0%, b 50.0%",
            "web/b is down for edge-2 and not for edge-1\n",
            "edge-2: warning: b is down\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
