//! One HTTP/1.1 request over a stream, and the judgement of its answer.

use std::pin::pin;

use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, Response, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{CONNECTION, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{super::HttpProbe, AGENT, BODY_LIMIT, Deadline, ProbeFailure, Stage, contains};

pub(super) async fn request<S>(
    stream: S,
    probe: &HttpProbe,
    host: &str,
    deadline: &Deadline,
) -> Result<(), ProbeFailure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
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
