//! One attempt against one backend, under one deadline.
//!
//! It says whether the backend answered as asked. It must not know what was seen before: streaks
//! are the verdict's, and repetition is the monitor's.

use std::{fmt, future::Future, io, pin::pin, time::Duration};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{CONNECTION, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{
    HttpProbe, ProbeKind, ProbeSpec,
    spec::{StatusSet, Timing},
};

/// How much of a body is searched for the expected text, in bytes.
pub const BODY_LIMIT: usize = 64 * 1024;

/// Keeps an absurd timeout from overflowing the clock.
const LONGEST_TIMEOUT: Duration = Duration::from_hours(1);

const AGENT: &str = concat!("evenkeel/", env!("CARGO_PKG_VERSION"));

/// How far an attempt had come when its time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The TCP handshake.
    Connecting,
    /// The request is sent; the response's head has not come.
    AwaitingResponse,
    /// The head has come; the body has not ended.
    ReadingBody,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "while connecting",
            Self::AwaitingResponse => "while waiting for the response",
            Self::ReadingBody => "while reading the body",
        })
    }
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// The deadline passed.
    #[error("timed out after {}ms {stage}", timeout.as_millis())]
    Timeout {
        /// The deadline of the whole attempt.
        timeout: Duration,
        /// What it was waiting for.
        stage: Stage,
    },
    /// No TCP connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The connection broke, or what came back is not HTTP.
    #[error("HTTP exchange failed: {0}")]
    Exchange(#[source] hyper::Error),
    /// The probe's path or host does not make a valid request.
    #[error("cannot build the request: {0}")]
    Request(#[source] hyper::http::Error),
    /// The status is not among the expected ones.
    #[error("answered {got}, expected {expected}")]
    Status {
        /// What came back.
        got: StatusCode,
        /// What would have passed.
        expected: StatusSet,
    },
    /// The body does not contain the expected text.
    #[error("the body's first {searched} bytes do not contain {expected:?}")]
    Body {
        /// What was looked for.
        expected: String,
        /// How many bytes were looked at.
        searched: usize,
    },
}

/// Makes one attempt and answers how long it took.
///
/// # Errors
/// Whatever kept the backend from answering as asked within the timeout.
pub async fn attempt(spec: &ProbeSpec) -> Result<Duration, ProbeFailure> {
    let started = Instant::now();
    let deadline = Deadline::new(started, spec.timing);
    let stream = deadline
        .limit(Stage::Connecting, TcpStream::connect(spec.target))
        .await?
        .map_err(ProbeFailure::Connect)?;
    match &spec.kind {
        ProbeKind::Tcp => drop(stream),
        ProbeKind::Http(probe) => {
            let host = probe.host.clone().unwrap_or_else(|| spec.target.to_string());
            request(stream, probe, &host, &deadline).await?;
        }
    }
    Ok(started.elapsed())
}

/// The moment by which the whole attempt must be over.
struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    fn new(started: Instant, timing: Timing) -> Self {
        let timeout = timing.timeout.min(LONGEST_TIMEOUT);
        Self { at: started + timeout, timeout }
    }

    async fn limit<T>(
        &self,
        stage: Stage,
        work: impl Future<Output = T>,
    ) -> Result<T, ProbeFailure> {
        timeout_at(self.at, work)
            .await
            .map_err(|_| ProbeFailure::Timeout { timeout: self.timeout, stage })
    }
}

async fn request(
    stream: TcpStream,
    probe: &HttpProbe,
    host: &str,
    deadline: &Deadline,
) -> Result<(), ProbeFailure> {
    let request = Request::builder()
        .method(probe.method.clone())
        .uri(Uri::try_from(&probe.path).map_err(|error| ProbeFailure::Request(error.into()))?)
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(ProbeFailure::Request)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(ProbeFailure::Exchange)?;

    let mut exchange = pin!(async {
        let response = deadline
            .limit(Stage::AwaitingResponse, sender.send_request(request))
            .await?
            .map_err(ProbeFailure::Exchange)?;
        judge(response, probe, deadline).await
    });
    // The connection is driven here and not in a task of its own, so that nothing outlives an
    // attempt that is cut short. It may end first: what it has read is still to be judged.
    tokio::select! {
        biased;
        verdict = &mut exchange => return verdict,
        _ = connection => {}
    }
    exchange.await
}

async fn judge(
    response: Response<Incoming>,
    probe: &HttpProbe,
    deadline: &Deadline,
) -> Result<(), ProbeFailure> {
    let status = response.status();
    if !probe.expect_status.contains(status.as_u16()) {
        return Err(ProbeFailure::Status { got: status, expected: probe.expect_status.clone() });
    }
    match &probe.expect_body {
        None => Ok(()),
        Some(text) => {
            deadline.limit(Stage::ReadingBody, expect_text(response.into_body(), text)).await?
        }
    }
}

/// Reads as much of the body as it takes to find `text`, and no more than [`BODY_LIMIT`].
async fn expect_text(mut body: Incoming, text: &str) -> Result<(), ProbeFailure> {
    let mut read: Vec<u8> = Vec::new();
    while !contains(&read, text.as_bytes()) {
        let frame = if read.len() < BODY_LIMIT { body.frame().await } else { None };
        let Some(frame) = frame else {
            return Err(ProbeFailure::Body { expected: text.to_owned(), searched: read.len() });
        };
        if let Ok(data) = frame.map_err(ProbeFailure::Exchange)?.into_data() {
            let room = BODY_LIMIT - read.len();
            read.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    Ok(())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests;
