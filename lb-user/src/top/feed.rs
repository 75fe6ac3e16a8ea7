//! Where the numbers come from: a task that asks the daemon again and again, and one for each change.
//!
//! What could not be had is news, too: the screen says since when nobody answers, and this goes on trying.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::Method;
use tokio::{
    sync::{Notify, mpsc::UnboundedSender},
    time::timeout,
};

use crate::{
    api::{
        Client, ClientError,
        model::{AdminRequest, Changed, Counters, Status},
    },
    events::{Event, Page},
};

/// A daemon that takes longer to answer does not answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A change may have to wait for others.
const CHANGE: Duration = Duration::from_mins(1);
/// Events that are asked for at a time.
const AT_A_TIME: usize = 200;

/// What the daemon told at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When it was told.
    pub at: Instant,
    /// The status with its windows and alerts.
    pub status: Status,
    /// The counters.
    pub counters: Counters,
    /// What happened since the reading before, oldest first.
    pub events: Vec<Event>,
}

/// What there is to take in.
#[derive(Debug)]
pub enum News {
    /// The daemon answered.
    Reading(Box<Reading>),
    /// It did not; why.
    Silence(String),
    /// What became of a change.
    Changed(Result<Changed, String>),
}

/// Asks a daemon.
#[derive(Debug)]
pub struct Feed {
    socket: PathBuf,
    /// The last event that is known.
    last: Option<u64>,
    /// Asks at once.
    hurry: Arc<Notify>,
}

impl Feed {
    /// Asks the daemon on a socket.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, last: None, hurry: Arc::default() }
    }

    /// One reading.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn read(&mut self) -> Result<Reading, ClientError> {
        let client = Client::new(&self.socket);
        let status = client.get("/v1/status").await?;
        let counters = client.get("/v1/counters").await?;
        let at = Instant::now();
        Ok(Reading { at, status, counters, events: self.events(&client).await })
    }

    /// What happened since the last time; at first the last that happened. A daemon that keeps no events has
    /// none to tell.
    async fn events(&mut self, client: &Client) -> Vec<Event> {
        let after = self.last.map_or_else(String::new, |last| format!("&after={last}"));
        let path = format!("/v1/events?limit={AT_A_TIME}{after}");
        let Ok(Page { events, .. }) = client.get(&path).await else { return Vec::new() };
        self.last = events.last().map(|event| event.id).or(self.last);
        events
    }

    /// Asks every `interval` until nobody listens any more.
    pub async fn run(mut self, interval: Duration, news: UnboundedSender<News>) {
        let hurry = self.hurry.clone();
        loop {
            let read = timeout(PATIENCE, self.read()).await;
            let told = match read {
                Ok(Ok(reading)) => News::Reading(Box::new(reading)),
                Ok(Err(error)) => News::Silence(error.to_string()),
                Err(_) => News::Silence(format!("no answer within {} s", PATIENCE.as_secs())),
            };
            if news.send(told).is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = hurry.notified() => {}
            }
        }
    }

    /// What makes changes and has them looked at right after.
    #[must_use]
    pub fn changer(&self) -> Changer {
        Changer { socket: self.socket.clone(), hurry: self.hurry.clone() }
    }
}

/// Makes changes.
#[derive(Clone, Debug)]
pub struct Changer {
    socket: PathBuf,
    hurry: Arc<Notify>,
}

impl Changer {
    /// Asks for a change and tells what became of it.
    pub async fn change(self, request: AdminRequest, news: UnboundedSender<News>) {
        let client = Client::new(&self.socket);
        let asked = client.send(Method::PUT, "/v1/admin", Some(&request));
        let answer = match timeout(CHANGE, asked).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!(
                "no answer within {} s; whether it was done, the table shows",
                CHANGE.as_secs()
            )),
        };
        self.hurry.notify_one();
        // Nobody listens where the user has left meanwhile.
        let _ = news.send(News::Changed(answer));
    }
}
