//! The gRPC health checking protocol (`grpc.health.v1.Health/Check`), over HTTP/2.
//!
//! Two messages of one field each do not need a client of generated code: the framing is five
//! bytes, and `prost` knows the messages.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Request, Response,
    body::{Bytes, Incoming},
    client::conn::http2,
    header::{CONTENT_TYPE, HeaderValue, TE, USER_AGENT},
    rt::Executor,
};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
};

use super::{super::GrpcProbe, AGENT, Deadline, ProbeFailure, Stage, said};

/// The frame around a message: whether it is compressed, and its length (gRPC over HTTP/2).
const FRAME: usize = 5;
/// No answer of the health service comes near this many bytes.
const MOST: usize = 4_096;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, Copy, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Why a gRPC health check failed.
#[derive(Debug, thiserror::Error)]
pub enum GrpcFailure {
    /// What answers speaks HTTP, but not gRPC.
    #[error("answered {0}, which is not gRPC")]
    NotGrpc(String),
    /// The call ended with another status than OK.
    #[error("the call ended with status {code}{}", explained(*.code, .message))]
    Status {
        /// The status code.
        code: i32,
        /// What the server says about it.
        message: String,
    },
    /// The server has no such service.
    #[error("the server knows no service {0:?}")]
    UnknownService(String),
    /// The answer is no health message.
    #[error("the answer is no health message: {0}")]
    Malformed(String),
    /// The service says that it does not serve.
    #[error("the service is {0}")]
    NotServing(String),
}

fn explained(code: i32, message: &str) -> String {
    const UNIMPLEMENTED: i32 = 12;
    let known = if code == UNIMPLEMENTED { " (it has no health service)" } else { "" };
    let colon = if message.is_empty() { "" } else { ": " };
    format!("{known}{colon}{message}")
}

/// Asks once.
pub(super) async fn check<S>(
    stream: S,
    probe: &GrpcProbe,
    authority: &str,
    deadline: &Deadline,
) -> Result<(), ProbeFailure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let scheme = if probe.tls.is_some() { "https" } else { "http" };
    let service = probe.service.clone().unwrap_or_default();
    let request = Request::post(format!("{scheme}://{authority}/grpc.health.v1.Health/Check"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, AGENT)
        .header("grpc-timeout", format!("{}m", deadline.timeout.as_millis()))
        .body(Full::new(frame(&HealthCheckRequest { service: service.clone() })))
        .map_err(ProbeFailure::Request)?;
    let tasks = Tasks::default();
    let _ended = tasks.guard();
    let handshake = http2::handshake(tasks.clone(), TokioIo::new(stream));
    let (mut sender, connection) = deadline
        .limit(Stage::AwaitingResponse, handshake)
        .await?
        .map_err(ProbeFailure::Exchange)?;
    let mut exchange = pin!(async {
        let response = deadline
            .limit(Stage::AwaitingResponse, sender.send_request(request))
            .await?
            .map_err(ProbeFailure::Exchange)?;
        deadline.limit(Stage::ReadingBody, judge(response, &service)).await?
    });
    tokio::select! {
        biased;
        verdict = &mut exchange => return verdict,
        _ = connection => {}
    }
    exchange.await
}

async fn judge(response: Response<Incoming>, service: &str) -> Result<(), ProbeFailure> {
    const NOT_FOUND: i32 = 5;
    let (head, mut body) = response.into_parts();
    let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !head.status.is_success() || !kind.starts_with(b"application/grpc") {
        let what = format!("{} with content type {}", head.status, said(kind));
        return Err(GrpcFailure::NotGrpc(what).into());
    }
    let (mut message, mut trailers) = (Vec::new(), None);
    while let Some(part) = body.frame().await {
        match part.map_err(ProbeFailure::Exchange)?.into_data() {
            Ok(data) if message.len() + data.len() > MOST => {
                return Err(GrpcFailure::Malformed("it is too long".to_owned()).into());
            }
            Ok(data) => message.extend_from_slice(&data),
            Err(other) => trailers = other.into_trailers().ok(),
        }
    }
    // An answer without a message has its status in the head.
    let (code, words) = status(trailers.as_ref().unwrap_or(&head.headers));
    match code {
        Some(0) => Ok(serving(&message)?),
        Some(NOT_FOUND) => Err(GrpcFailure::UnknownService(service.to_owned()).into()),
        Some(code) => Err(GrpcFailure::Status { code, message: words }.into()),
        None => Err(GrpcFailure::NotGrpc("without a grpc-status".to_owned()).into()),
    }
}

fn status(headers: &HeaderMap) -> (Option<i32>, String) {
    let code = headers.get("grpc-status").and_then(|code| code.to_str().ok()?.parse().ok());
    let words = headers.get("grpc-message").map(|words| said(words.as_bytes()));
    (code, words.unwrap_or_default())
}

fn serving(body: &[u8]) -> Result<(), GrpcFailure> {
    let malformed = |what: &str| GrpcFailure::Malformed(what.to_owned());
    let (head, message) =
        body.split_at_checked(FRAME).ok_or_else(|| malformed("it is cut short"))?;
    if head[0] != 0 {
        return Err(malformed("it is compressed, which was not asked for"));
    }
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if u32::try_from(message.len()) != Ok(length) {
        return Err(malformed("its length is not what it says"));
    }
    let answer =
        HealthCheckResponse::decode(message).map_err(|error| malformed(&error.to_string()))?;
    let name = match answer.status {
        1 => return Ok(()),
        0 => "UNKNOWN".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => format!("in the unknown status {other}"),
    };
    Err(GrpcFailure::NotServing(name))
}

fn frame(message: &HealthCheckRequest) -> Bytes {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), &message].concat().into()
}

/// The tasks of a connection, which end with the attempt.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

struct Ended(Tasks);

impl Tasks {
    fn guard(&self) -> Ended {
        Ended(self.clone())
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

#[cfg(test)]
mod tests;
