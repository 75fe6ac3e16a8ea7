//! The listener for readers: metrics, the dashboard, and the API's answers, over HTTP.
//!
//! Nothing can be changed by it, and nobody is asked who they are; it listens on the loopback unless the
//! configuration says otherwise. However many readers there are, the controller is asked once for all of
//! them (`source`).

mod dashboard;
pub mod metrics;
mod source;
mod stream;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    time::sleep,
};
use tracing::{info, warn};

pub use self::source::Source;
use self::stream::Live;
use crate::{
    api::{self, Problem},
    controller::Command,
    events::Events,
};

/// How soon an address is tried again that could not be listened on.
const AGAIN: Duration = Duration::from_secs(5);

/// Says where to listen, and learns what came of it.
#[derive(Clone, Debug)]
pub struct Handle {
    wanted: watch::Sender<Option<SocketAddr>>,
    outcome: Arc<Mutex<Outcome>>,
}

/// What came of listening.
#[derive(Clone, Debug, Default)]
struct Outcome {
    at: Option<SocketAddr>,
    trouble: Option<String>,
}

/// A listener that is not served yet.
#[derive(Debug)]
pub struct Listener {
    wanted: watch::Receiver<Option<SocketAddr>>,
    outcome: Arc<Mutex<Outcome>>,
}

/// A listener, and who moves it; it is nowhere yet.
#[must_use]
pub fn listener() -> (Handle, Listener) {
    let (wanted, watched) = watch::channel(None);
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    (Handle { wanted, outcome: Arc::clone(&outcome) }, Listener { wanted: watched, outcome })
}

impl Handle {
    /// Moves the listener to an address; `None`: nowhere.
    pub fn listen(&self, address: Option<SocketAddr>) {
        self.wanted.send_if_modified(|wanted| std::mem::replace(wanted, address) != address);
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).at
    }

    /// Why it does not listen where it should, and the way out.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).trouble.clone()
    }
}

impl Listener {
    /// Serves readers wherever the [`Handle`] says, until that is gone. An address that cannot be
    /// listened on is tried again and again: what balances does not wait for what is looked at.
    pub async fn serve(mut self, commands: mpsc::WeakSender<Command>, events: Events) {
        let router = router(Source::new(commands), events);
        loop {
            let wanted = *self.wanted.borrow_and_update();
            let Some(address) = wanted else {
                self.note(Outcome::default());
                if self.wanted.changed().await.is_err() {
                    return;
                }
                continue;
            };
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    info!("metrics and dashboard at http://{address}/");
                    self.note(Outcome { at: Some(address), trouble: None });
                    let (stop, stopped) = oneshot::channel::<()>();
                    let stopped = async { drop(stopped.await) };
                    let serving = tokio::spawn(api::serve_on(listener, router.clone(), stopped));
                    let moved = self.wanted.changed().await;
                    drop(stop);
                    if moved.is_err() {
                        // The daemon ends, and does not wait for readers.
                        return serving.abort();
                    }
                }
                Err(error) => {
                    let trouble = format!(
                        "cannot listen on {address} for metrics and the dashboard: {error}; free it, or \
                         set listen in [http]"
                    );
                    if self.note(Outcome { at: None, trouble: Some(trouble.clone()) }) {
                        warn!("{trouble}");
                    }
                    tokio::select! {
                        () = sleep(AGAIN) => {}
                        moved = self.wanted.changed() => if moved.is_err() { return },
                    }
                }
            }
        }
    }

    /// Notes what came of listening; tells whether that is another trouble than before.
    fn note(&self, outcome: Outcome) -> bool {
        let mut noted = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = noted.trouble != outcome.trouble;
        *noted = outcome;
        is_new
    }
}

fn router(source: Source, events: Events) -> Router {
    let live = Live::new(source.clone(), events.clone());
    Router::new()
        .route("/metrics", get(metrics::serve))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/v1/status", get(status))
        .route("/v1/counters", get(counters))
        .route("/v1/alerts", get(alerts))
        .route("/v1/fleet", get(fleet))
        .with_state(source)
        .route("/v1/stream", get(stream::serve).with_state(live))
        .merge(api::events::routes(events))
        .merge(dashboard::routes())
        .fallback(async |request: Request| {
            let detail = format!("there is no {} here", request.uri().path());
            Problem::new(StatusCode::NOT_FOUND, detail)
        })
        .layer(middleware::from_fn(read_only))
}

/// Lets readers through and nobody else, whatever they ask for.
async fn read_only(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let detail = "nothing can be changed here; use `evenkeel`, or the API on its Unix socket";
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).into_response();
    ([(header::ALLOW, "GET, HEAD")], problem).into_response()
}

/// Whether the controller answers.
async fn healthz(State(source): State<Source>) -> Result<&'static str, Problem> {
    source.readiness().await.map(|_| "ok\n")
}

/// Whether the data path is at work on every interface, and is what it should be.
async fn readyz(State(source): State<Source>) -> Result<&'static str, Problem> {
    let wrong = source.readiness().await?;
    if wrong.is_empty() {
        return Ok("ok\n");
    }
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, wrong.join("; ")))
}

async fn status(State(source): State<Source>) -> Result<Response, Problem> {
    Ok(Json(&*source.status().await?).into_response())
}

async fn alerts(State(source): State<Source>) -> Result<Response, Problem> {
    Ok(Json(source.alerts().await?).into_response())
}

async fn fleet(State(source): State<Source>) -> Result<Response, Problem> {
    Ok(Json(source.fleet().await?).into_response())
}

async fn counters(State(source): State<Source>) -> Result<Response, Problem> {
    Ok(Json(&*source.counters().await?).into_response())
}
