//! One attempt against one backend, under one deadline.
//!
//! It says whether the backend answered as asked. It must not know what was seen before: streaks
//! are the verdict's, and repetition is the monitor's.

mod exec;
mod grpc;
mod http;
mod tls;
mod udp;

use std::{fmt, future::Future, io, net::SocketAddr, time::Duration};

use hyper::StatusCode;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

pub(crate) use self::exec::{Task, execute};
pub use self::{exec::ExecFailure, grpc::GrpcFailure, tls::TlsFailure, udp::UdpFailure};
use super::{
    GrpcProbe, HttpProbe, ProbeKind, ProbeSpec, TlsCheck,
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
    /// The TLS handshake.
    Handshake,
    /// The request is sent; the response's head has not come.
    AwaitingResponse,
    /// The head has come; the body has not ended.
    ReadingBody,
    /// The datagram is sent; no answer has come.
    AwaitingAnswer,
    /// The program runs.
    Running,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "while connecting",
            Self::Handshake => "during the TLS handshake",
            Self::AwaitingResponse => "while waiting for the response",
            Self::ReadingBody => "while reading the body",
            Self::AwaitingAnswer => "while waiting for the answer",
            Self::Running => "while the program ran",
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
    /// No TLS connection.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// No datagram came back that passes.
    #[error(transparent)]
    Udp(#[from] UdpFailure),
    /// The gRPC health service did not say that it serves.
    #[error(transparent)]
    Grpc(#[from] GrpcFailure),
    /// The program did not end with exit code 0.
    #[error(transparent)]
    Exec(#[from] ExecFailure),
}

impl ProbeFailure {
    /// Whether this host, and not the backend, kept the attempt from being made: it has no socket, no
    /// port, no process or no memory left.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        const OURS: [i32; 6] = [
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOMEM,
            libc::ENOBUFS,
            libc::EADDRNOTAVAIL,
            libc::EAGAIN,
        ];
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            let number = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
            if number.is_some_and(|number| OURS.contains(&number)) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// Makes one attempt and answers how long it took.
///
/// # Errors
/// Whatever kept the backend from answering as asked within the timeout.
pub async fn attempt(spec: &ProbeSpec) -> Result<Duration, ProbeFailure> {
    // Whoever waits for its turn to run a program has not begun.
    let _turn = match &spec.kind {
        ProbeKind::Exec(_) => Some(exec::turn().await),
        _ => None,
    };
    let started = Instant::now();
    let (deadline, target) = (Deadline::new(started, spec.timing), spec.target);
    // There is a task for each backend, and it is as large as the largest of these: those that need
    // much are put on the heap while they last.
    match &spec.kind {
        ProbeKind::Tcp => drop(connect(target, &deadline).await?),
        ProbeKind::Http(probe) => Box::pin(ask_http(target, probe, None, &deadline)).await?,
        ProbeKind::Https { exchange, tls } => {
            Box::pin(ask_http(target, exchange, Some(tls), &deadline)).await?;
        }
        ProbeKind::Udp(probe) => Box::pin(udp::exchange(target, probe, &deadline)).await?,
        ProbeKind::Grpc(probe) => Box::pin(ask_grpc(target, probe, &deadline)).await?,
        ProbeKind::Exec(probe) => Box::pin(exec::run(target, probe, &deadline)).await?,
    }
    Ok(started.elapsed())
}

async fn connect(target: SocketAddr, deadline: &Deadline) -> Result<TcpStream, ProbeFailure> {
    let connecting = deadline.limit(Stage::Connecting, TcpStream::connect(target)).await?;
    let stream = connecting.map_err(ProbeFailure::Connect)?;
    // What follows goes out in small pieces. Without it they come later, and no worse.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn ask_http(
    target: SocketAddr,
    probe: &HttpProbe,
    tls: Option<&TlsCheck>,
    deadline: &Deadline,
) -> Result<(), ProbeFailure> {
    let stream = connect(target, deadline).await?;
    let (host, authority) = (probe.host.as_deref(), authority(probe.host.as_ref(), target));
    match tls {
        None => http::request(stream, probe, &authority, deadline).await,
        Some(tls) => {
            let stream = tls::connect(stream, target, tls, host, "http/1.1", deadline).await?;
            http::request(stream, probe, &authority, deadline).await
        }
    }
}

async fn ask_grpc(
    target: SocketAddr,
    probe: &GrpcProbe,
    deadline: &Deadline,
) -> Result<(), ProbeFailure> {
    let stream = connect(target, deadline).await?;
    let (host, authority) = (probe.host.as_deref(), authority(probe.host.as_ref(), target));
    match &probe.tls {
        None => grpc::check(stream, probe, &authority, deadline).await,
        Some(tls) => {
            let stream = tls::connect(stream, target, tls, host, "h2", deadline).await?;
            grpc::check(stream, probe, &authority, deadline).await
        }
    }
}

/// Whom a request is addressed to.
fn authority(host: Option<&String>, target: SocketAddr) -> String {
    host.cloned().unwrap_or_else(|| target.to_string())
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

/// What a backend said, short and printable, for people.
pub(super) fn said(bytes: &[u8]) -> String {
    const MOST: usize = 120;
    let text = String::from_utf8_lossy(bytes);
    let mut words: String = text.trim().chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.trim().chars().nth(MOST).is_some() {
        words.push('…');
    }
    format!("\"{words}\"")
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests;
