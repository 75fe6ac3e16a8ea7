//! Events over HTTP: asked for page by page, or followed as server-sent events. The handlers know the
//! events alone, so any listener can have these routes.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::sse::{Event as Message, KeepAlive, Sse},
    routing::get,
};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Problem;
use crate::events::{Events, Filter, Followed, Follower, KEPT, Page};

/// How many may follow at once: each keeps a connection.
const MOST_FOLLOWERS: usize = 64;
/// How many events are answered with where nobody says how many.
const USUAL: usize = 100;

/// `?after=…&limit=…&service=…&backend=…&kind=…&since=…`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Those after the event with this id; absent: the last ones, or for a stream those to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// How many at the most: 1 to 4096, and 100 where it is absent. Without meaning for a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// About this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// About a backend of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// From this time on, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

impl Asked {
    fn filter(self) -> Result<Filter, Problem> {
        let wrong = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        let kind = self.kind.map(|kind| kind.parse()).transpose();
        let kind = kind.map_err(|error: crate::events::NotAKind| wrong(error.to_string()))?;
        let since = self.since.map(|since| {
            humantime::parse_rfc3339(&since).map_err(|error| {
                wrong(format!("{since:?} is no time as 2026-01-31T12:00:00Z is: {error}"))
            })
        });
        // As events have it, so that they compare.
        let since =
            since.transpose()?.map(|time| humantime::format_rfc3339_millis(time).to_string());
        Ok(Filter { service: self.service, backend: self.backend, kind, since })
    }
}

/// What the handlers know.
#[derive(Clone)]
struct Served {
    events: Events,
    room: Arc<Semaphore>,
}

/// The routes, for a router with any state.
pub fn routes<S: Clone + Send + Sync + 'static>(events: Events) -> Router<S> {
    let room = Arc::new(Semaphore::new(MOST_FOLLOWERS));
    Router::new()
        .route("/v1/events", get(page))
        .route("/v1/events/stream", get(follow))
        .with_state(Served { events, room })
}

async fn page(
    State(served): State<Served>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Query(asked) = asked?;
    let (after, limit) = (asked.after, asked.limit.unwrap_or(USUAL));
    if !(1..=KEPT).contains(&limit) {
        let detail = format!("limit is {limit}, and has to be 1 to {KEPT}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    Ok(Json(served.events.page(after, limit, &asked.filter()?)))
}

async fn follow(
    State(served): State<Served>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>>>, Problem> {
    let Query(asked) = asked?;
    // What a browser sends when it comes back counts more than what its page asked for at first.
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse().ok());
    let after = last.or(asked.after);
    let follower = served.events.follow(after, asked.filter()?);
    let room = served.room.try_acquire_owned().map_err(|_| {
        let detail = format!("{MOST_FOLLOWERS} follow the events already; try again later");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })?;
    Ok(Sse::new(messages(follower, room)).keep_alive(KeepAlive::default()))
}

/// What a follower gets, as messages; the room is kept for as long as the stream is.
fn messages(
    follower: Follower,
    room: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Message, Infallible>> {
    stream::unfold((follower, room), async |(mut follower, room)| {
        let message = message(&follower.next().await?);
        Some((Ok(message), (follower, room)))
    })
}

/// An event, or how many were missed, as a message.
pub fn message(followed: &Followed) -> Message {
    let message = match followed {
        Followed::Event(event) => {
            Message::default().event("event").id(event.id.to_string()).json_data(&**event)
        }
        Followed::Missed(count) => {
            Message::default().event("missed").json_data(Missed { count: *count })
        }
    };
    // Made of texts and numbers, which JSON has.
    message.unwrap_or_default()
}

/// `event: missed` of a stream: events were forgotten before they could be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// How many; null where that is not known.
    pub count: Option<u64>,
}
