//! Who asks: the user at the other end of the Unix socket, as the kernel says (`SO_PEERCRED`).

use std::{convert::Infallible, fmt};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::request::Parts,
};
use nix::unistd::{Uid, User};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use super::groups;

/// The user who asked for something. Displays as `deploy (uid 1000)`, or `uid 1000` where the host
/// has no name for it.
///
/// As an argument of a handler it is the user of the process that connected: its effective uid at
/// that moment, which the kernel noted and nobody can claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The user's number; `None` where nobody asked by the socket, or the kernel did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The user's name, or what else asked, like `signal`; `None` where the host has no name for
    /// the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl Peer {
    /// The user with this number, by the name that the host has for it. May wait for a directory
    /// service.
    #[must_use]
    pub fn of(uid: u32) -> Self {
        // A directory that does not answer is no reason to know less than the number.
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
        Self { uid: Some(uid), user }
    }

    /// What is no user: `signal`, `daemon`.
    #[must_use]
    pub fn named(what: &str) -> Self {
        Self { uid: None, user: Some(what.to_owned()) }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.user, self.uid) {
            (Some(user), Some(uid)) => write!(f, "{user} (uid {uid})"),
            (Some(user), None) => f.write_str(user),
            (None, Some(uid)) => write!(f, "uid {uid}"),
            (None, None) => f.write_str("unknown"),
        }
    }
}

/// What the kernel says of a connection. The name is looked up only when somebody wants it: that may
/// take its time, and readers do not need it.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    /// The user's number; `None` where the kernel did not tell.
    pub(super) uid: Option<u32>,
    groups: Vec<u32>,
}

impl Credentials {
    /// A user with these groups.
    #[cfg(test)]
    pub(super) fn new(uid: Option<u32>, groups: &[u32]) -> Self {
        Self { uid, groups: groups.to_vec() }
    }

    /// Whether the process has a group.
    pub(super) fn is_in(&self, group: u32) -> bool {
        self.groups.contains(&group)
    }
}

impl Credentials {
    /// Those of whoever is at the other end.
    pub(super) fn of(stream: &UnixStream) -> Self {
        // What the kernel does not tell, nobody has.
        let mut groups = groups::of_peer(stream).unwrap_or_default();
        let credentials = stream.peer_cred().ok();
        groups.extend(credentials.map(|credentials| credentials.gid()));
        Self { uid: credentials.map(|credentials| credentials.uid()), groups }
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let credentials = parts.extensions.get::<ConnectInfo<Credentials>>();
        let uid = credentials.and_then(|ConnectInfo(credentials)| credentials.uid);
        let Some(uid) = uid else { return Ok(Self { uid: None, user: None }) };
        let named = tokio::task::spawn_blocking(move || Self::of(uid)).await;
        Ok(named.unwrap_or(Self { uid: Some(uid), user: None }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::{Router, routing::get};
    use tokio::net::UnixListener;

    use super::*;
    use crate::api::{Client, connections};

    #[test]
    fn a_peer_reads_by_name_where_it_has_one() {
        assert_eq!(Peer::of(0).to_string(), "root (uid 0)");
        assert_eq!(Peer::of(u32::MAX - 7).to_string(), format!("uid {}", u32::MAX - 7));
        assert_eq!(Peer::named("signal").to_string(), "signal");
    }

    #[tokio::test]
    async fn the_kernel_says_who_connects() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let router = Router::new().route("/", get(async |peer: Peer| axum::Json(peer)));
        tokio::spawn(connections::serve_on(listener, router, std::future::pending()));
        let client = Client::new(&socket);
        let asked = tokio::time::timeout(Duration::from_secs(30), client.get::<Peer>("/"));
        assert_eq!(asked.await.unwrap().unwrap(), Peer::of(Uid::effective().as_raw()));
    }
}
