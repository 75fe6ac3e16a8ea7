//! The connection table over the API: listed, counted, and cut.
//!
//! A walk is a thread of its own, of the lowest priority, and asks the controller for names alone. A
//! listing goes out as it is read, a line of JSON for each connection; where the reader is slow the walk
//! waits. So a listing takes no more memory for a million connections than for a thousand, unless it is
//! sorted: then the first so many are held.

mod lines;
mod query;

use std::{net::IpAddr, ops::ControlFlow, sync::Arc, thread, time::Duration};

use anyhow::Context as _;
use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::timeout,
};
use tracing::info;

use self::lines::Lines;
pub use self::query::Wish;
use super::{
    Peer, Problem,
    server::{Commands, ask},
};
use crate::{
    config::{Forwarding, Protocol},
    connections::{By, Directory, Filter, Group, Refused, Tally, Top},
    controller::{Command, Connections},
    dataplane::{Connection, Stage},
    events::{Events, Kind, Note},
};

/// Walks under way at once.
const WALKS: usize = 4;
/// How long a request waits for its turn.
const TURN: Duration = Duration::from_secs(5);
/// Pieces of a listing that wait for its reader.
const PIECES: usize = 4;
/// The lowest priority of a thread.
const NICEST: i32 = 19;

/// A line of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// A connection.
    Connection(Row),
    /// The last line of a listing that is whole.
    End(End),
    /// The last line of one that is not: what went wrong.
    Error(String),
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its service's name.
    pub service: String,
    /// Its backend's name.
    pub backend: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// The client's address and port.
    pub client: String,
    /// The address and port that the client talks to: the service's.
    pub destination: String,
    /// The address and port that the backend talks to; absent where it sees the client's packets as they are
    /// (`dsr`, `ipip`, `gue`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The backend's address and port.
    pub server: String,
    /// How its packets are forwarded.
    pub forwarding: Forwarding,
    /// How far it is.
    pub state: Stage,
    /// Seconds since the client's last packet, give or take two.
    pub idle_seconds: u64,
}

/// The end of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Connections listed.
    pub shown: u64,
    /// Connections that were asked for; absent where the listing stopped at its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<u64>,
}

/// `GET /v1/connections/count`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// What they are counted by.
    pub by: By,
    /// Connections in all.
    pub total: u64,
    /// The largest groups, the largest first.
    pub counts: Vec<GroupCount>,
    /// Connections of the groups that are not shown.
    pub others: u64,
    /// Whether every group was told apart; otherwise those that were met late are among the others.
    pub complete: bool,
}

/// The connections of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCount {
    /// The service's name, by backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The backend's name, by backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The client's address, by client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The state, by state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Stage>,
    /// How many there are.
    pub connections: u64,
}

/// `DELETE /v1/connections`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flushed {
    /// What was done, for people.
    pub message: String,
    /// Connections cut.
    pub cut: u64,
}

/// What the routes work with.
#[derive(Clone)]
struct Table {
    commands: Commands,
    connections: Arc<Connections>,
    events: Events,
    turns: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

/// The routes. `stopped` tells when the daemon stops.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(
    commands: Commands,
    connections: Arc<Connections>,
    events: Events,
    stopped: watch::Receiver<bool>,
) -> Router<S> {
    let turns = Arc::new(Semaphore::new(WALKS));
    Router::new()
        .route("/v1/connections", get(list).delete(flush))
        .route("/v1/connections/count", get(count))
        .with_state(Table { commands, connections, events, turns, stopped })
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let status = match refused {
            Refused::Unknown(_) => StatusCode::NOT_FOUND,
            Refused::Malformed(_) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, refused.to_string())
    }
}

impl Table {
    async fn filter(&self, wish: &Wish) -> Result<(Directory, Filter), Problem> {
        let directory = ask(&self.commands, Command::Directory).await?;
        let filter = Filter::new(&wish.asked(), &directory)?;
        Ok((directory, filter))
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let turn = timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await;
        turn.ok().and_then(Result::ok).ok_or_else(|| {
            let detail = format!(
                "{WALKS} others are reading the connection table; try again when one has finished"
            );
            Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
        })
    }

    /// Does `work` in a thread of its own, of the lowest priority.
    fn start(&self, work: impl FnOnce(&Connections) + Send + 'static) -> Result<(), Problem> {
        let connections = Arc::clone(&self.connections);
        let work = move || {
            // To the kernel a priority is each thread's own (setpriority(2)). Without it all is as right.
            let _ = rustix::process::setpriority_process(None, NICEST);
            work(&connections);
        };
        let thread = thread::Builder::new().name("connections".into()).spawn(work);
        thread.context("start a thread").map(drop).map_err(|error| Problem::internal(&error))
    }

    /// The same, for its result.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connections) -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = self.turn().await?;
        let (reply, result) = oneshot::channel();
        self.start(move |connections| {
            let _ = reply.send(work(connections));
            drop(turn);
        })?;
        let result = result.await.context("the walk over the connection table ended early");
        result.flatten().map_err(|error| Problem::internal(&error))
    }
}

async fn list(
    State(table): State<Table>,
    wish: Result<Query<Wish>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(wish) = wish?;
    let order = wish.list()?;
    let (directory, filter) = table.filter(&wish).await?;
    let turn = table.turn().await?;
    let (out, pieces) = mpsc::channel(PIECES);
    let mut lines = Lines::new(out, Handle::current(), table.stopped.clone());
    table.start(move |connections| {
        let listed = match order.sort {
            None => stream_all(connections, &directory, &filter, order.limit, &mut lines),
            Some(sort) => {
                let mut top = Top::new(sort, order.reverse, order.limit, &directory);
                sorted(connections, &filter, &mut top, &lines).map(|matched| {
                    let first = top.sorted();
                    let shown = first.len() as u64;
                    let all = first.iter().try_for_each(|connection| {
                        lines.push(&Line::Connection(row(connection, &directory)))
                    });
                    all.is_continue().then_some(End { shown, matched: Some(matched) })
                })
            }
        };
        match listed {
            Ok(Some(end)) => lines.finish(&Line::End(end)),
            // Nobody reads any more.
            Ok(None) => {}
            Err(error) => lines.finish(&Line::Error(format!("{error:#}"))),
        }
        drop(turn);
    })?;
    let pieces = stream::unfold(pieces, |mut pieces| async {
        pieces.recv().await.map(|piece| (Ok::<_, std::convert::Infallible>(piece), pieces))
    });
    let kind = [(CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(pieces)).into_response())
}

/// Lists connections as they are met; `None` where nobody reads any more.
fn stream_all(
    connections: &Connections,
    directory: &Directory,
    filter: &Filter,
    limit: usize,
    lines: &mut Lines,
) -> anyhow::Result<Option<End>> {
    let (mut shown, mut whole, mut read) = (0, true, true);
    connections.browse(|connection| {
        if !filter.matches(connection) {
            return lines.wanted();
        }
        if shown == limit as u64 {
            whole = false;
            return ControlFlow::Break(());
        }
        shown += 1;
        let pushed = lines.push(&Line::Connection(row(connection, directory)));
        read = pushed.is_continue();
        pushed
    })?;
    Ok(read.then_some(End { shown, matched: whole.then_some(shown) }))
}

/// Finds the first connections in an order; returns how many were looked at.
fn sorted(
    connections: &Connections,
    filter: &Filter,
    top: &mut Top<'_>,
    lines: &Lines,
) -> anyhow::Result<u64> {
    let mut matched = 0;
    connections.browse(|connection| {
        if filter.matches(connection) {
            matched += 1;
            top.offer(connection);
        }
        lines.wanted()
    })?;
    Ok(matched)
}

fn row(connection: &Connection, directory: &Directory) -> Row {
    let unknown = || "?".to_owned();
    let backend = directory.backend(connection.backend);
    let service = directory.service(connection.service);
    Row {
        service: service.map_or_else(unknown, str::to_owned),
        backend: backend.map_or_else(unknown, |backend| backend.name.clone()),
        protocol: connection.protocol,
        client: connection.client.to_string(),
        destination: connection.destination.to_string(),
        source: connection.source.map(|source| source.to_string()),
        server: connection.server.map_or_else(
            || backend.map_or_else(unknown, |backend| backend.address.clone()),
            |server| server.to_string(),
        ),
        forwarding: connection.forwarding,
        state: connection.stage,
        idle_seconds: connection.idle.as_secs(),
    }
}

async fn count(
    State(table): State<Table>,
    wish: Result<Query<Wish>, QueryRejection>,
) -> Result<Json<Count>, Problem> {
    let Query(wish) = wish?;
    let (by, limit) = wish.count()?;
    let (directory, filter) = table.filter(&wish).await?;
    let tally = table.work(move |connections| {
        let mut tally = Tally::new(by);
        connections.browse(|connection| {
            if filter.matches(connection) {
                tally.add(connection);
            }
            ControlFlow::Continue(())
        })?;
        Ok(tally)
    });
    let tally = tally.await?;
    let counts: Vec<_> =
        tally.largest(limit).into_iter().map(|found| group(found, &directory)).collect();
    let shown: u64 = counts.iter().map(|group| group.connections).sum();
    let (total, complete) = (tally.total(), tally.others() == 0);
    Ok(Json(Count { by, total, counts, others: total - shown, complete }))
}

fn group((group, connections): (Group, u64), directory: &Directory) -> GroupCount {
    let count = GroupCount { connections, ..GroupCount::default() };
    match group {
        Group::Backend(id) => {
            let named = directory.backend(id);
            let unknown = || Some(format!("id {}", id.0));
            GroupCount {
                service: named.map(|named| named.service.clone()).or_else(|| Some("?".to_owned())),
                backend: named.map(|named| named.name.clone()).or_else(unknown),
                ..count
            }
        }
        Group::Client(client) => GroupCount { client: Some(client), ..count },
        Group::State(state) => GroupCount { state: Some(state), ..count },
    }
}

async fn flush(
    State(table): State<Table>,
    peer: Peer,
    wish: Result<Query<Wish>, QueryRejection>,
) -> Result<Json<Flushed>, Problem> {
    let Query(wish) = wish?;
    wish.flush()?;
    let (_, filter) = table.filter(&wish).await?;
    let events = table.events.clone();
    let ended = table.work(move |connections| {
        let ended = connections.end_picked(|connection| filter.matches(connection));
        // Told here, so that it is also told where nobody waits for the answer any more.
        match &ended {
            Ok(0) => info!(%peer, "no connection of {wish} to cut"),
            ended => {
                events.tell(told(&wish, &peer, ended.as_ref().ok().copied()));
            }
        }
        ended
    });
    let cut = ended.await?;
    let message = match cut {
        0 => "no connection matches; none was cut".to_owned(),
        1 => "1 connection cut".to_owned(),
        cut => format!("{cut} connections cut"),
    };
    Ok(Json(Flushed { message, cut }))
}

/// What the events say of a flush; `cut`: how many connections, or `None` where it failed on the way.
fn told(wish: &Wish, peer: &Peer, cut: Option<u64>) -> Note {
    let message = match cut {
        Some(1) => format!("1 connection of {wish} cut"),
        Some(cut) => format!("{cut} connections of {wish} cut"),
        None => format!("cutting the connections of {wish} failed; some may be cut"),
    };
    let note = Note::new(Kind::Connections, message).by(peer);
    let note = if cut.is_none() { note.warning() } else { note };
    // A backend may be named with its service, like `web/web-01`.
    let named =
        wish.backend.as_deref().map(|backend| backend.split_once('/').unwrap_or(("", backend)));
    match (wish.service.as_deref(), named) {
        (Some(service), Some((_, backend))) => note.backend(service, backend),
        (None, Some((service, backend))) if !service.is_empty() => note.backend(service, backend),
        (Some(service), None) => note.service(service),
        _ => note,
    }
}
