//! `GET /v1/explain`: which backend a client's next connection gets, and why.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    routing::get,
};
use serde::{Deserialize, Serialize};

use super::{
    Problem,
    server::{Commands, ask},
};
use crate::{
    config::shown,
    controller::{Command, Connections},
    explain::{self, Explanation, Facts},
};

/// The client's port where none is asked about: the first of the ephemeral ones (RFC 6335).
const ASSUMED_PORT: u16 = 49_152;

/// The query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The client's address, or its address and port.
    pub client: String,
    /// The service's name.
    pub service: String,
    /// The port that the client connects to, of a service that has every port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

#[derive(Clone)]
struct Asking {
    commands: Commands,
    connections: Arc<Connections>,
}

/// The route.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(
    commands: Commands,
    connections: Arc<Connections>,
) -> Router<S> {
    let asking = Asking { commands, connections };
    Router::new().route("/v1/explain", get(explain)).with_state(asking)
}

fn wrong(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

async fn explain(
    State(asking): State<Asking>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Explanation>, Problem> {
    let Query(Asked { client, service, port }) = asked?;
    let (client, assumed) = client_of(&client)?;
    let facts = ask(&asking.commands, |reply| Command::Standing(service, reply)).await??;
    let destination = destination(&facts, client, port)?;
    // The first question loads the program, which takes the kernel its time.
    let protocol = facts.protocol;
    let put = move || asking.connections.explain(client, destination, protocol);
    let answer = tokio::task::spawn_blocking(put).await.context("put the question").flatten();
    let explained = answer
        .and_then(|answer| explain::explain(&answer, &facts, client, destination, assumed))
        .map_err(|error| Problem::internal(&error))?;
    Ok(Json(explained))
}

/// The client's end, and whether its port is assumed.
fn client_of(text: &str) -> Result<(SocketAddr, bool), Problem> {
    if let Ok(client) = text.parse::<SocketAddr>() {
        return Ok((client, false));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address: IpAddr = bare.parse().map_err(|_| {
        wrong(format!(
            "{text:?} is no client; write its address, like 198.51.100.7 or 2001:db8::7, or with its \
             port, like 198.51.100.7:40000 or [2001:db8::7]:40000"
        ))
    })?;
    Ok((SocketAddr::new(address, ASSUMED_PORT), true))
}

/// The end that the client talks to.
fn destination(
    facts: &Facts,
    client: SocketAddr,
    port: Option<u16>,
) -> Result<SocketAddr, Problem> {
    let (name, address) = (&facts.service, facts.address);
    if client.is_ipv4() != address.is_ipv4() {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let shown = shown(address);
        return Err(wrong(format!(
            "service {name} is at {shown}: its clients have {family} addresses, and {} is none",
            client.ip()
        )));
    }
    match (address.port(), port) {
        (0, Some(port)) if port != 0 => Ok(SocketAddr::new(address.ip(), port)),
        (0, _) => Err(wrong(format!(
            "service {name} has every port; say which one the client connects to, with --port"
        ))),
        (own, Some(port)) if own != port => {
            Err(wrong(format!("service {name} is at port {own}, not {port}; leave out --port")))
        }
        _ => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_read_with_and_without_a_port() {
        for (text, expected) in [
            ("198.51.100.7", ("198.51.100.7:49152", true)),
            ("198.51.100.7:40000", ("198.51.100.7:40000", false)),
            ("2001:db8::7", ("[2001:db8::7]:49152", true)),
            ("[2001:db8::7]", ("[2001:db8::7]:49152", true)),
            ("[2001:db8::7]:80", ("[2001:db8::7]:80", false)),
        ] {
            let (client, assumed) = client_of(text).unwrap();
            assert_eq!((&*client.to_string(), assumed), expected, "{text}");
        }
        assert!(client_of("198.51.100.7:").unwrap_err().detail.contains("198.51.100.7:40000"));
    }
}
