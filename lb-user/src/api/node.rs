//! The node as one of several edges: whether it is well, drained, and what it announces.

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    routing::{get, put},
};
use serde::{Deserialize, Serialize};

use super::{
    Peer,
    model::{Changed, ExceptionStatus},
    problem::Problem,
    server::{Body, Commands, ask},
};
use crate::{
    admin::Span,
    config::AnnounceWay,
    controller::{Command, NodeWish},
};

/// This node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// What keeps it from balancing as it should; empty: nothing.
    #[serde(default)]
    pub problems: Vec<String>,
    /// Why, by whom and for how long it is drained; absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<ExceptionStatus>,
}

/// An address that is announced while it can be served here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The address.
    pub address: String,
    /// How it is announced.
    pub way: AnnounceWay,
    /// The same for people: where, or by which program.
    pub by: String,
    /// The services that have it.
    pub services: Vec<String>,
    /// Whether it shall be announced.
    pub wanted: bool,
    /// Whether it is.
    pub announced: bool,
    /// Why it shall be, or why not.
    pub why: String,
    /// Seconds since that changed, or the daemon started.
    pub seconds: u64,
    /// What keeps it from being so; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// `PUT /v1/node`: drains the node, or has it back where `for` is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRequest {
    /// Whether it shall be drained.
    pub drain: bool,
    /// For how long, like `30m`, or `forever`.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `GET /v1/fitness?service=NAME`: whether traffic may come here now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fitness {
    /// Whether it may.
    pub well: bool,
    /// Why, or why not.
    pub why: String,
}

/// `GET /v1/announced`: what ExaBGP shall announce now. Whoever asks is taken for its process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// The addresses.
    pub addresses: Vec<std::net::IpAddr>,
}

/// The routes.
pub(super) fn routes() -> Router<Commands> {
    Router::new()
        .route("/v1/node", put(administer))
        .route("/v1/fitness", get(fitness))
        .route("/v1/announced", get(announced))
}

async fn administer(
    State(commands): State<Commands>,
    by: Peer,
    Body(request): Body<NodeRequest>,
) -> Result<Json<Changed>, Problem> {
    let wrong = |detail: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
    let wish = match (request.drain, request.span, request.reason) {
        (false, None, None) => NodeWish::Resume,
        (false, ..) => {
            return Err(wrong("for and reason mean nothing without drain; leave them out"));
        }
        (true, Some(span), Some(reason)) => NodeWish::Drain(span, reason),
        (true, ..) => {
            return Err(wrong("say for how long, like \"30m\" or \"forever\", and the reason"));
        }
    };
    Ok(Json(ask(&commands, |reply| Command::Node(wish, by, reply)).await??))
}

/// `?service=NAME`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    service: Option<String>,
}

async fn fitness(
    State(commands): State<Commands>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Fitness>, Problem> {
    let Query(Asked { service }) = asked?;
    Ok(Json(ask(&commands, |reply| Command::Fitness(service, reply)).await??))
}

async fn announced(State(commands): State<Commands>) -> Result<Json<Announced>, Problem> {
    let addresses = ask(&commands, Command::Announced).await?;
    Ok(Json(Announced { addresses: addresses.into_iter().collect() }))
}
