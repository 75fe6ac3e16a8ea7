//! The configuration as a whole over the API: plan, apply, confirm, reload, history, rollback. Their
//! JSON is what `-o json` prints, too; fields are only ever added.

use std::{path::PathBuf, time::Duration};

use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, Path as UrlPath, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::StatusCode,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use super::{
    Peer, Problem,
    fleet::{Spread, carry_out},
    model::Changed,
    server::{Body, Commands, ask},
};
use crate::{
    config::Config,
    controller::{Command, ConfigurationCommand as Ask, Entry, Manner, OnDisk},
    plan::Diff,
    verify,
};

/// Bytes of a request: far more than the largest configuration has.
const LONGEST_REQUEST: usize = 64 << 20;

/// `POST /v1/configuration/plan`: a text that might become the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The text.
    pub text: String,
    /// How messages name it. Files that it names are looked for beside the daemon's own file.
    #[serde(default = "candidate")]
    pub file: PathBuf,
}

/// `POST /v1/configuration`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// The text.
    pub text: String,
    /// How messages name it.
    #[serde(default = "candidate")]
    pub file: PathBuf,
    /// Rolls back unless confirmed within so many seconds; absent: needs no confirmation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_seconds: Option<u64>,
    /// Whether a service may be left with fewer active backends than its `min_active`.
    #[serde(default)]
    pub force: bool,
    /// Whether it is not verified first.
    #[serde(default)]
    pub unverified: bool,
}

/// `?force=true&unverified=true` of `POST /v1/configuration/reload`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// As of [`Apply`].
    #[serde(default)]
    pub force: bool,
    /// As of [`Apply`].
    #[serde(default)]
    pub unverified: bool,
}

/// `POST /v1/configuration/rollback`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The number in the history to go back to; absent: the one before the last change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// As of [`Apply`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_seconds: Option<u64>,
    /// As of [`Apply`].
    #[serde(default)]
    pub force: bool,
}

/// What a text would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What it was compared with: `running`, or the path of a file.
    pub against: String,
    /// The changes. Shares are by who is active now, and count new backends as up.
    #[serde(flatten)]
    pub diff: Diff,
    /// Why `apply` would refuse it; empty where it would not.
    pub refused: Vec<String>,
    /// What is legal but dangerous about it.
    pub warnings: Vec<String>,
}

/// The answer to a change of the whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// What was done, for people.
    pub message: String,
    /// Its number in the history; absent where nothing changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// The changes.
    #[serde(flatten)]
    pub diff: Diff,
    /// The confirmation that it waits for; absent where it needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Confirmation>,
    /// What is legal but dangerous about the configuration now.
    pub warnings: Vec<String>,
    /// Which edges have it; absent where it is this host's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Spread>,
}

/// A change that is rolled back unless somebody confirms it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// The change's number in the history.
    pub number: u64,
    /// Until when, RFC 3339 in UTC.
    pub until: String,
    /// Seconds until then.
    pub seconds_left: u64,
    /// Who made the change.
    pub who: Peer,
    /// The change.
    pub what: String,
}

/// The configuration file is not what is at work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edited {
    /// The file: the configuration, or a file of prefixes that it names.
    pub file: String,
    /// Since when the daemon has known, RFC 3339 in UTC.
    pub since: String,
    /// What is with it, like `was edited`.
    pub what: String,
}

/// `GET /v1/history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryList {
    /// The entries, the oldest first. The last one is at work.
    pub entries: Vec<Entry>,
}

/// `GET /v1/history/N`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
    /// The configuration, byte for byte.
    pub text: String,
    /// The number of the entry before; absent where it is the oldest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_number: Option<u64>,
    /// The configuration of the entry before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_text: Option<String>,
}

fn candidate() -> PathBuf {
    PathBuf::from("candidate.toml")
}

/// The routes of this file.
pub(super) fn routes() -> Router<Commands> {
    Router::new()
        .route("/v1/configuration", post(apply))
        .route("/v1/configuration/plan", post(plan))
        .route("/v1/configuration/confirm", post(confirm))
        .route("/v1/configuration/reload", post(reload))
        .route("/v1/configuration/rollback", post(rollback))
        .route("/v1/history", get(history))
        .route("/v1/history/{number}", get(entry))
        .layer(DefaultBodyLimit::max(LONGEST_REQUEST))
}

async fn plan(
    State(commands): State<Commands>,
    Body(candidate): Body<Candidate>,
) -> Result<Json<Plan>, Problem> {
    Ok(Json(ask(&commands, |reply| Command::Configuration(Ask::Plan(candidate, reply))).await??))
}

async fn apply(
    State(commands): State<Commands>,
    peer: Peer,
    Body(Apply { text, file, confirm_seconds, force, unverified }): Body<Apply>,
) -> Result<Json<Applied>, Problem> {
    let candidate = Candidate { text, file };
    if !unverified {
        verify(&commands, &candidate).await?;
    }
    let manner = Manner { confirm: confirm_seconds.map(Duration::from_secs), force };
    let command =
        |reply| Command::Configuration(Ask::Apply(candidate.clone(), manner, peer.clone(), reply));
    // Verified above, or not at all, as was asked.
    carry_out(&commands, true, command).await.map(Json)
}

/// Tries a candidate on the real program, quickly.
async fn verify(commands: &Commands, candidate: &Candidate) -> Result<(), Problem> {
    let asked = candidate.clone();
    let check = |reply| Command::Configuration(Ask::Check(asked, reply));
    let config = ask(commands, check).await??;
    let file = candidate.file.display().to_string();
    let way_out = format!("see `evenkeel verify {file}`, or use --no-verify");
    verify_config(config, &file, &way_out).await
}

/// The same for a configuration that `file` names; `way_out` says what can be done if it fails.
pub(super) async fn verify_config(
    config: Config,
    file: &str,
    way_out: &str,
) -> Result<(), Problem> {
    let run = move || {
        let options = verify::Options::of(&config).quick(&config);
        verify::run(&config, &options, |_| ())
    };
    let failed = |error: &anyhow::Error| {
        let detail = format!("{file} could not be verified: {error:#}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    };
    let report = tokio::task::spawn_blocking(run)
        .await
        .map_err(anyhow::Error::from)
        .and_then(|verified| verified)
        .map_err(|error| failed(&error))?;
    if report.passed {
        return Ok(());
    }
    let lines: Vec<_> = report
        .problems()
        .map(|(place, problem)| {
            let colon = if place.is_empty() { "" } else { ": " };
            format!("  {place}{colon}{}", problem.message)
        })
        .collect();
    let detail = format!(
        "{file} fails its verification, nothing was changed:\n{}\n{way_out}",
        lines.join("\n")
    );
    Err(Problem::new(StatusCode::PRECONDITION_FAILED, detail))
}

async fn confirm(State(commands): State<Commands>, peer: Peer) -> Result<Json<Changed>, Problem> {
    let command = |reply| Command::Configuration(Ask::Confirm(peer.clone(), reply));
    carry_out(&commands, false, command).await.map(Json)
}

async fn reload(
    State(commands): State<Commands>,
    peer: Peer,
    wish: Result<Query<Reload>, QueryRejection>,
) -> Result<Json<Applied>, Problem> {
    let Query(wish) = wish?;
    Ok(Json(take_up(&commands, wish, peer).await?))
}

/// Verifies the configuration file and takes it up, as a request or a signal asks.
pub(crate) async fn take_up(
    commands: &Commands,
    Reload { force, unverified }: Reload,
    peer: Peer,
) -> Result<Applied, Problem> {
    let read = |reply| Command::Configuration(Ask::Read(reply));
    let OnDisk { candidate, is_at_work } = ask(commands, read).await??;
    if !unverified && !is_at_work {
        verify(commands, &candidate).await?;
    }
    let manner = Manner { confirm: None, force };
    let command =
        |reply| Command::Configuration(Ask::Reload(candidate.clone(), manner, peer.clone(), reply));
    carry_out(commands, true, command).await
}

async fn rollback(
    State(commands): State<Commands>,
    peer: Peer,
    Body(Rollback { to, confirm_seconds, force }): Body<Rollback>,
) -> Result<Json<Applied>, Problem> {
    let manner = Manner { confirm: confirm_seconds.map(Duration::from_secs), force };
    let command = |reply| Command::Configuration(Ask::Rollback(to, manner, peer.clone(), reply));
    // It was at work, and seconds count.
    carry_out(&commands, true, command).await.map(Json)
}

async fn history(State(commands): State<Commands>) -> Result<Json<HistoryList>, Problem> {
    Ok(Json(ask(&commands, |reply| Command::Configuration(Ask::History(reply))).await??))
}

async fn entry(
    State(commands): State<Commands>,
    number: Result<UrlPath<u64>, PathRejection>,
) -> Result<Json<HistoryEntry>, Problem> {
    let UrlPath(number) = number?;
    let command = |reply| Command::Configuration(Ask::Entry(number, reply));
    Ok(Json(ask(&commands, command).await??))
}
