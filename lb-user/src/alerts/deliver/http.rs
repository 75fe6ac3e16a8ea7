//! One POST of JSON, over HTTP or HTTPS: a connection of its own, so that nothing is kept of a server that
//! hangs, and renewed certificates and tokens count at once.

use std::error::Error as _;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT},
};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde::Serialize;
use tokio::{fs, time::timeout};

use super::Failure;
use crate::{config::alerts::Endpoint, health::tls_client};

/// Bytes of an answer that are read.
const MOST_ANSWER: usize = 64 << 10;
/// Characters of an answer that are told.
const MOST_TOLD: usize = 120;

/// Posts `body` to `url`, the endpoint's or one below it.
pub(super) async fn post(
    endpoint: &Endpoint,
    url: &str,
    body: &impl Serialize,
) -> Result<(), Failure> {
    let body = serde_json::to_vec(body).map_err(|error| Failure::Never(error.to_string()))?;
    let span = humantime::format_duration(endpoint.timeout);
    timeout(endpoint.timeout, send(endpoint, url, body))
        .await
        .unwrap_or_else(|_| Err(Failure::Later(format!("no answer within {span}"))))
}

async fn send(endpoint: &Endpoint, url: &str, body: Vec<u8>) -> Result<(), Failure> {
    let later = Failure::Later;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("evenkeel/", env!("CARGO_PKG_VERSION")));
    for (name, value) in &endpoint.headers {
        request = request.header(name, value);
    }
    if let Some(file) = &endpoint.bearer_token_file {
        let wrong = |error: String| later(format!("bearer_token_file {}: {error}", file.display()));
        let token = fs::read_to_string(file).await.map_err(|error| wrong(error.to_string()))?;
        let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
        let mut value = value.map_err(|_| wrong("holds no token".to_owned()))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| Failure::Never(error.to_string()))?;
    let trust = tls_client(&endpoint.tls).await.map_err(|error| later(error.to_string()))?;
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(trust).https_or_http().enable_http1().build();
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    let answer = client.request(request).await.map_err(|error| later(told(&error)))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let text = Limited::new(answer.into_body(), MOST_ANSWER).collect().await;
    let text = text.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let text: String = String::from_utf8_lossy(&text)
        .trim()
        .chars()
        .take(MOST_TOLD)
        .flat_map(char::escape_debug)
        .collect();
    let colon = if text.is_empty() { "" } else { ": " };
    let told = format!("it answers {status}{colon}{text}");
    Err(match status {
        // As it is, it will not be taken tomorrow either. A wrong token, or a path that is not served yet,
        // may be put right.
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY => Failure::Never(told),
        _ => Failure::Later(told),
    })
}

/// An error with what it comes of: the first alone says "client error".
fn told(error: &hyper_util::client::legacy::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            let colon = if text.is_empty() { "" } else { ": " };
            text.extend([colon, said.as_str()]);
        }
        cause = error.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}
