//! What the dashboard lives on: the status, rates and events, as server-sent events (HTML standard, 9.2).
//!
//! One producer asks the controller, for however many look on, and only while somebody does.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use axum::{
    extract::State,
    http::StatusCode,
    response::sse::{Event as Message, KeepAlive, Sse},
};
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use super::Source;
use crate::{
    api::{
        Problem, events,
        model::{BackendCounters, Counters},
    },
    events::{Events, Filter, Follower},
    overview::Rate,
};

/// How many may look on at once: each keeps a connection.
const MOST: usize = 64;
/// Time from one status to the next, at the least.
const PERIOD: Duration = Duration::from_secs(1);
/// Asking and writing down may take this part of the time at the most.
const DUTY: u32 = 20;

/// The producer, and who is told.
#[derive(Clone)]
pub struct Live {
    source: Source,
    events: Events,
    messages: broadcast::Sender<Arc<Frame>>,
    is_running: Arc<AtomicBool>,
    room: Arc<Semaphore>,
}

/// A message, made once for all.
struct Frame {
    name: &'static str,
    data: String,
}

/// `event: rates`: what came since the message before, a second.
#[derive(Debug, Serialize)]
struct Rates<'a> {
    /// When it was read, as RFC 3339 has it.
    at: String,
    /// Seconds that it is taken over.
    seconds: f64,
    /// By the names of services and their backends.
    services: BTreeMap<&'a str, BTreeMap<&'a str, Rate>>,
}

impl Live {
    /// Over what the controller says and the events.
    #[must_use]
    pub fn new(source: Source, events: Events) -> Self {
        Self {
            source,
            events,
            messages: broadcast::Sender::new(8),
            is_running: Arc::default(),
            room: Arc::new(Semaphore::new(MOST)),
        }
    }

    /// What is produced from now on.
    fn subscribe(&self) -> broadcast::Receiver<Arc<Frame>> {
        let receiver = self.messages.subscribe();
        if !self.is_running.swap(true, Ordering::SeqCst) {
            tokio::spawn(self.clone().produce());
        }
        receiver
    }

    async fn produce(self) {
        let mut before: Option<(Instant, Arc<Counters>)> = None;
        loop {
            if self.messages.receiver_count() == 0 {
                self.is_running.store(false, Ordering::SeqCst);
                // Somebody may have come in between, and have found it running.
                let is_needed = self.messages.receiver_count() > 0;
                if !is_needed || self.is_running.swap(true, Ordering::SeqCst) {
                    return;
                }
            }
            let began = Instant::now();
            // What cannot be asked now can be the next time; the page says that nothing comes.
            if let (Ok(status), Ok(counters)) =
                (self.source.status().await, self.source.counters().await)
            {
                self.send("status", &*status);
                if let Some((then, old)) = &before {
                    let seconds = began.duration_since(*then).as_secs_f64();
                    self.send("rates", &Rates::between(old, &counters, seconds));
                }
                before = Some((began, counters));
            }
            tokio::time::sleep(PERIOD.max(began.elapsed() * DUTY)).await;
        }
    }

    fn send(&self, name: &'static str, data: &impl Serialize) {
        if let Ok(data) = serde_json::to_string(data) {
            // Nobody may be there any more.
            let _ = self.messages.send(Arc::new(Frame { name, data }));
        }
    }
}

impl<'a> Rates<'a> {
    fn between(old: &Counters, new: &'a Counters, seconds: f64) -> Self {
        let mut known = BTreeMap::new();
        for service in &old.services {
            for backend in &service.backends {
                known.insert((&*service.name, &*backend.name), backend);
            }
        }
        let services = new.services.iter().map(|service| {
            let rate = |backend: &'a BackendCounters| {
                let old = known.get(&(&*service.name, &*backend.name));
                let rate = old.map(|old| Rate::between(old, backend, seconds));
                (&*backend.name, rate.unwrap_or_default())
            };
            (&*service.name, service.backends.iter().map(rate).collect())
        });
        Self {
            at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            seconds,
            services: services.collect(),
        }
    }
}

/// Answers who looks on.
pub(super) async fn serve(
    State(live): State<Live>,
) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>>>, Problem> {
    let room = Arc::clone(&live.room).try_acquire_owned().map_err(|_| {
        let detail = format!("{MOST} look on already; try again later");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })?;
    let follower = live.events.follow(None, Filter::default());
    let messages = messages(live.subscribe(), follower, room);
    Ok(Sse::new(messages).keep_alive(KeepAlive::default()))
}

/// What one gets who looks on; the room is kept for as long as the stream is.
fn messages(
    frames: broadcast::Receiver<Arc<Frame>>,
    follower: Follower,
    room: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Message, Infallible>> {
    stream::unfold((frames, follower, room), async |(mut frames, mut follower, room)| {
        let message = loop {
            tokio::select! {
                frame = frames.recv() => match frame {
                    Ok(frame) => break Message::default().event(frame.name).data(&frame.data),
                    // Who is slow gets the newest, and not all.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                event = follower.next() => break events::message(&event?),
            }
        };
        Some((Ok(message), (frames, follower, room)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::ServiceCounters;

    fn counters(connections: u64, refused: u64) -> Counters {
        let mut backend = BackendCounters { name: "a".to_owned(), ..BackendCounters::default() };
        backend.connections.total = connections;
        backend.failures.refused = refused;
        let service = ServiceCounters {
            name: "web".to_owned(),
            address: String::new(),
            protocol: crate::config::Protocol::Tcp,
            backends: vec![backend],
        };
        Counters {
            services: vec![service],
            controller: crate::api::model::LoopTimes::default(),
            verdicts: BTreeMap::new(),
            removed: Vec::new(),
        }
    }

    #[test]
    fn rates_are_what_came_in_a_second() {
        let (old, new) = (counters(10, 1), counters(30, 4));
        let rates = Rates::between(&old, &new, 2.0);
        let rate = rates.services["web"]["a"];
        assert_eq!((rate.connections, rate.errors), (10.0, 1.5));
        // Its counters began anew.
        let again = Rates::between(&new, &old, 2.0);
        assert_eq!(again.services["web"]["a"], Rate::default());
    }
}
