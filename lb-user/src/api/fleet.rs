//! The edges that share a store: how each is, changes on their way through it, and differences that are settled.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{
        Path as UrlPath, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::StatusCode,
    routing::{delete, get, post},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    Peer, configuration,
    configuration::Applied,
    model::Changed,
    problem::Problem,
    server::{Commands, ask},
};
use crate::{
    config::Config,
    controller::{Command, FleetCommand, Outcome, Proposed, Refused, Settled, Trial},
    store::{Disagreement, EdgeSeen, Failure, Refusal, Report, Store, Way},
};

/// How often a change is made anew that another edge's change came in between of.
const ATTEMPTS: u32 = 50;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(100);
/// How long this edge may take to follow what it wrote, beside the time that a request may take.
const FOLLOWING: Duration = Duration::from_secs(10);

/// `GET /v1/fleet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fleet {
    /// The store, as this edge sees it.
    pub store: StoreStatus,
    /// Every edge that is known, by name.
    pub edges: Vec<Edge>,
    /// Backends that edges see differently.
    pub disagreements: Vec<Disagreement>,
}

/// The store that edges share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Its kind: `etcd`.
    pub kind: String,
    /// Its members.
    pub endpoints: Vec<String>,
    /// What its keys begin with.
    pub prefix: String,
    /// This edge's name.
    pub edge: String,
    /// The revision that is at work here; 0: none yet.
    pub revision: i64,
    /// The newest revision that was seen; 0: none yet.
    pub newest: i64,
    /// Whether a member answers.
    pub connected: bool,
    /// The one that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// Since when, RFC 3339.
    pub since: String,
    /// Why none does, or why the others do not hear of this edge; absent: all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The revision that is not taken here; absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
}

/// An edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// Whether it is the one that is asked.
    pub here: bool,
    /// Whether it is there.
    pub alive: bool,
    /// Whether the store has a newer revision than it.
    pub behind: bool,
    /// What it says.
    #[serde(flatten)]
    pub report: Report,
}

/// Which edges have a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// Its revision.
    pub revision: i64,
    /// Edges where it is at work.
    pub applied: Vec<String>,
    /// Edges where it is not, or not yet.
    pub missing: Vec<Missing>,
}

/// An edge that has not applied a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Its name.
    pub edge: String,
    /// Why.
    pub why: String,
}

/// An answer to a change.
pub(super) trait Carried {
    /// Notes what became of it here and on the other edges.
    fn note(&mut self, settled: Settled, fleet: Spread);

    /// Adds a warning.
    fn warn(&mut self, warning: String);
}

impl Carried for Changed {
    fn note(&mut self, settled: Settled, fleet: Spread) {
        self.cut = settled.cut;
        self.fleet = Some(fleet);
    }

    fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }
}

impl Carried for Applied {
    fn note(&mut self, settled: Settled, fleet: Spread) {
        self.number = settled.number;
        if let Some(number) = settled.number {
            self.message = format!("change {number}: {}", self.message);
        }
        self.fleet = Some(fleet);
    }

    fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }
}

/// The routes.
pub(super) fn routes() -> Router<Commands> {
    Router::new()
        .route("/v1/fleet", get(show))
        .route("/v1/store/pull", post(pull))
        .route("/v1/store/push", post(push))
        .route("/v1/store/edges/{edge}", delete(forget))
}

/// `?force=true` of a pull.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    #[serde(default)]
    force: bool,
}

async fn show(State(commands): State<Commands>) -> Result<Json<Fleet>, Problem> {
    Ok(Json(ask(&commands, |reply| Command::Fleet(FleetCommand::Show(reply))).await??))
}

async fn pull(
    State(commands): State<Commands>,
    peer: Peer,
    wish: Result<Query<Wish>, QueryRejection>,
) -> Result<Json<Changed>, Problem> {
    let Query(Wish { force }) = wish?;
    settle(&commands, Way::Pull, force, &peer).await
}

async fn push(State(commands): State<Commands>, peer: Peer) -> Result<Json<Changed>, Problem> {
    settle(&commands, Way::Push, false, &peer).await
}

async fn settle(
    commands: &Commands,
    way: Way,
    force: bool,
    peer: &Peer,
) -> Result<Json<Changed>, Problem> {
    let command = |reply| Command::Fleet(FleetCommand::Settle(way, force, peer.clone(), reply));
    carry_out(commands, false, command).await.map(Json)
}

async fn forget(
    State(commands): State<Commands>,
    edge: Result<UrlPath<String>, PathRejection>,
) -> Result<Json<Changed>, Problem> {
    let UrlPath(edge) = edge?;
    let store = ask(&commands, |reply| Command::Fleet(FleetCommand::Store(reply))).await??;
    let seen = store.state().edges.get(&edge).cloned();
    let absent = || {
        let known: Vec<_> = store.state().edges.keys().cloned().collect();
        let detail = format!("there is no edge {edge:?}; the edges are: {}", known.join(", "));
        Problem::new(StatusCode::NOT_FOUND, detail)
    };
    if seen.ok_or_else(absent)?.alive {
        let detail = format!("edge {edge} is there; stop its daemon first");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    if !store.forget(&edge).await.map_err(|error| Problem::internal(&error))? {
        return Err(absent());
    }
    let message = format!("edge {edge} is forgotten; it is known again once it is back");
    Ok(Json(Changed { message, ..Changed::default() }))
}

/// Has the controller do something. Where edges share it, it is verified (unless that was done already), written
/// to the store, and awaited on every edge; a change that came in between is let through first.
pub(super) async fn carry_out<T: Carried>(
    commands: &Commands,
    verified: bool,
    command: impl Fn(oneshot::Sender<Result<Outcome<T>, Refused>>) -> Command,
) -> Result<T, Problem> {
    let mut attempt = 0;
    let again = async |attempt: &mut u32, problem: Problem| {
        *attempt += 1;
        if *attempt >= ATTEMPTS {
            return Err(problem);
        }
        sleep(BETWEEN_ATTEMPTS).await;
        Ok(())
    };
    loop {
        let (proposed, mut answer) = match ask(commands, &command).await? {
            Ok(Outcome::Done(answer)) => return Ok(answer),
            Ok(Outcome::Propose(proposed, answer)) => (*proposed, answer),
            Err(refused @ Refused::Behind(_)) => {
                again(&mut attempt, refused.into()).await?;
                continue;
            }
            Err(refused) => return Err(refused.into()),
        };
        let Proposed { store, proposal, trial } = proposed;
        if let Some(trial) = trial.filter(|_| !verified)
            && let Some(warning) = try_out(trial, &store.keys().services()).await?
        {
            answer.warn(warning);
        }
        let revision = match store.write(proposal).await {
            Ok(revision) => revision,
            Err(failure @ Failure::Conflict) => {
                again(&mut attempt, failure.into()).await?;
                continue;
            }
            Err(failure) => return Err(failure.into()),
        };
        let (settled, spread) = spread(commands, &store, revision).await;
        answer.note(settled, spread);
        return Ok(answer);
    }
}

/// Verifies what a change makes of the configuration; what has to be warned of. A service without backends has nothing
/// to share out yet. And where what is at work fails as well, the change may be what mends it.
async fn try_out(trial: Trial, key: &str) -> Result<Option<String>, Problem> {
    let filled = |mut config: Config| {
        config.services.retain(|service| !service.backends.is_empty());
        (!config.services.is_empty()).then_some(config)
    };
    let verify = async |config| {
        let way_out = "where it is right all the same, `evenkeel apply --no-verify` takes the whole from a file";
        configuration::verify_config(config, key, way_out).await
    };
    let Some(config) = filled(trial.config) else { return Ok(None) };
    let Err(problem) = verify(config).await else { return Ok(None) };
    let Some(before) = trial.before.and_then(filled) else { return Err(problem) };
    let failed = |problem: &Problem| problem.status == StatusCode::PRECONDITION_FAILED.as_u16();
    match verify(before).await {
        Err(before) if failed(&before) && failed(&problem) => {
            let lines = problem.detail.lines().filter(|line| line.starts_with(' '));
            let found = lines.map(str::trim).collect::<Vec<_>>().join("; ");
            Ok(Some(format!("it fails its verification, as what was at work before does: {found}")))
        }
        _ => Err(problem),
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let status = match failure {
            Failure::Conflict => StatusCode::CONFLICT,
            Failure::Unavailable(_) | Failure::Unknown(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, failure.to_string())
    }
}

/// Waits until every edge has a revision, but not for ever.
async fn spread(commands: &Commands, store: &Store, revision: i64) -> (Settled, Spread) {
    let here = ask(commands, |reply| Command::Fleet(FleetCommand::Settled(revision, reply)));
    let limit = store.settings().timeout;
    let late =
        || Settled { refused: Some("it has not taken it yet".to_owned()), ..Settled::default() };
    let settled = match timeout(limit + FOLLOWING, here).await {
        Ok(Ok(settled)) => settled,
        _ => late(),
    };
    let mut changes = store.watch();
    let deadline = Instant::now() + limit;
    let others = loop {
        let edges = changes.borrow_and_update().edges.clone();
        let others: Vec<_> = edges
            .values()
            .filter(|seen| seen.report.name != store.edge())
            .map(|seen| (seen.report.name.clone(), missing(seen, revision)))
            .collect();
        let is_awaited = |found: &(String, Option<Lack>)| matches!(found.1, Some(Lack::Awaited(_)));
        if !others.iter().any(is_awaited)
            || !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(())))
        {
            break others;
        }
    };
    let mut spread = Spread { revision, ..Spread::default() };
    let own = settled.refused.clone().map(Lack::Final);
    let mut edges: Vec<_> = std::iter::once((store.edge().to_owned(), own)).chain(others).collect();
    edges.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (edge, lack) in edges {
        match lack {
            None => spread.applied.push(edge),
            Some(Lack::Awaited(why) | Lack::Final(why)) => {
                spread.missing.push(Missing { edge, why });
            }
        }
    }
    (settled, spread)
}

/// Why an edge does not have a revision.
enum Lack {
    /// It may have it in a moment.
    Awaited(String),
    /// It will not by waiting.
    Final(String),
}

fn missing(EdgeSeen { report, alive }: &EdgeSeen, revision: i64) -> Option<Lack> {
    if report.revision >= revision {
        return None;
    }
    let at = report.revision;
    Some(match &report.refused {
        _ if !alive => Lack::Final(format!(
            "it is not heard; it was at revision {at} ({})",
            if report.at.is_empty() { "it never said when" } else { &report.at }
        )),
        Some(refused) if refused.revision >= revision => Lack::Final(refused.why.clone()),
        _ => Lack::Awaited(format!("it is at revision {at} still")),
    })
}
