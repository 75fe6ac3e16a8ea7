//! The connections to the API: accepted, bounded in number and in what they may take.
//!
//! Each costs a file descriptor, which probes need too. So there is a most, and whoever connects and asks
//! nothing makes room before long.

use std::{io, pin::pin, time::Duration};

use anyhow::Result;
use axum::{Router, extract::ConnectInfo};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::process::{Resource, getrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::peer::Credentials;

/// The most connections at once; the others wait.
const MOST: usize = 512;
/// Of the files that the process may have open, the part that they may take.
const PART: u64 = 4;
/// How long a client may take from its connection, or its last answer, to the end of a request's head.
const HEAD: Duration = Duration::from_secs(5);
/// How long requests may take that are under way when the daemon stops.
const LAST: Duration = Duration::from_secs(30);
/// How soon the next one is accepted where the system had none to give.
const AGAIN: Duration = Duration::from_millis(200);

/// What connections come in by.
pub trait Incoming: Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, and the router as this one sees it.
    fn next(
        &self,
        router: &Router,
    ) -> impl Future<Output = io::Result<(Self::Stream, Router)>> + Send;
}

impl Incoming for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn next(&self, router: &Router) -> io::Result<(Self::Stream, Router)> {
        let (stream, _) = self.accept().await?;
        let credentials = ConnectInfo(Credentials::of(&stream));
        Ok((stream, router.clone().layer(axum::Extension(credentials))))
    }
}

impl Incoming for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn next(&self, router: &Router) -> io::Result<(Self::Stream, Router)> {
        let (stream, _) = self.accept().await?;
        Ok((stream, router.clone()))
    }
}

/// Serves connections until `stop` resolves; requests under way are finished.
///
/// # Errors
///
/// None yet; what cannot be accepted is tried again.
pub async fn serve_on(
    listener: impl Incoming,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let most = most();
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    let mut is_short = false;
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.next(&router), if connections.len() < most => match accepted {
                Ok((stream, router)) => {
                    is_short = false;
                    let _ = connections.spawn(answer(stream, router, stopped.clone()));
                }
                Err(error) => {
                    if !is_short {
                        warn!("cannot accept a connection to the API, and go on trying: {error}");
                    }
                    is_short = true;
                    sleep(AGAIN).await;
                }
            },
        }
    }
    drop((listener, router));
    let _ = stopping.send(true);
    let finished = timeout(LAST, async { while connections.join_next().await.is_some() {} }).await;
    if finished.is_err() {
        warn!("{} requests were under way for too long, and are cut", connections.len());
        connections.shutdown().await;
    }
    Ok(())
}

/// How many connections there may be at once.
fn most() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files / PART).unwrap_or(MOST).clamp(1, MOST)
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(router);
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let stops = async { drop(stopped.wait_for(|stopped| *stopped).await) };
    let early = tokio::select! {
        ended = &mut connection => Some(ended),
        () = stops => None,
    };
    let ended = if let Some(ended) = early {
        ended
    } else {
        connection.as_mut().graceful_shutdown();
        connection.await
    };
    if let Err(error) = ended {
        let error = io::Error::other(error);
        debug!("a connection to the API ended: {error}");
    }
}
