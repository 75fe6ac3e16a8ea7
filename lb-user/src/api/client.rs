//! The client that the command line uses: one request on the Unix socket.

use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, task::AbortHandle, time::sleep};

use super::{
    access::{ADMINS, READERS},
    problem::Problem,
    stream::Stream,
};

/// How long a client waits until a busy daemon accepts its connection, and how often it tries.
const TURN: Duration = Duration::from_secs(30);
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// A daemon's API.
pub struct Client {
    socket: PathBuf,
}

/// Why a request was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no daemon answers on {socket} ({error}); start one with `evenkeel run`, or name its \
         socket with --socket"
    )]
    NoDaemon {
        /// The socket that was tried.
        socket: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The socket is not for this user.
    #[error(
        "the daemon's socket {socket} is not open to you: be root, or a member of group {READERS} to \
         read or {ADMINS} to change (a new membership counts from the next login)"
    )]
    Denied {
        /// The socket that was tried.
        socket: PathBuf,
    },
    /// The daemon refused.
    #[error("{0}")]
    Problem(Problem),
    /// The daemon answered something else.
    #[error("the daemon's answer could not be read: {0}")]
    Garbled(String),
}

impl Client {
    /// The API on a socket.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// `GET`s a path.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.send(Method::GET, path, None::<&()>).await
    }

    /// Connects; waits for its turn where many do at the same time.
    async fn connect(&self) -> io::Result<UnixStream> {
        let began = Instant::now();
        loop {
            match UnixStream::connect(&self.socket).await {
                // The socket's backlog is full.
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && began.elapsed() < TURN =>
                {
                    sleep(BETWEEN_TRIES).await;
                }
                connected => return connected,
            }
        }
    }

    /// `GET`s a path whose answer is a stream of server-sent events.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn stream(&self, path: &str) -> Result<Stream, ClientError> {
        let (response, connection) = self.request(Method::GET, path, None::<&()>).await?;
        if response.status().is_success() {
            return Ok(Stream::new(response.into_body(), connection));
        }
        Err(refusal(response, &connection).await)
    }

    /// Sends a request with a JSON body, where there is one.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn send<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let (response, connection) = self.request(method, path, body).await?;
        if !response.status().is_success() {
            return Err(refusal(response, &connection).await);
        }
        let body = response.into_body().collect().await.map_err(|error| garbled(&error))?;
        connection.abort();
        serde_json::from_slice(&body.to_bytes()).map_err(|error| garbled(&error))
    }

    /// `GET`s a path that answers with lines of JSON, and hands them to `each` as they come, until it breaks
    /// off or fails.
    ///
    /// # Errors
    ///
    /// [`ClientError`], or what `each` failed with.
    pub async fn lines<T: DeserializeOwned>(
        &self,
        path: &str,
        mut each: impl FnMut(T) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<()> {
        let (response, connection) = self.request(Method::GET, path, None::<&()>).await?;
        if !response.status().is_success() {
            return Err(refusal(response, &connection).await.into());
        }
        let mut answer = response.into_body();
        let mut begun = Vec::new();
        while let Some(frame) = answer.frame().await {
            let frame = frame.map_err(|error| garbled(&error))?;
            let Ok(piece) = frame.into_data() else { continue };
            begun.extend_from_slice(&piece);
            let whole = begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            for line in begun[..whole].split(|byte| *byte == b'\n').filter(|l| !l.is_empty()) {
                let line = serde_json::from_slice(line).map_err(|error| garbled(&error))?;
                if each(line)?.is_break() {
                    connection.abort();
                    return Ok(());
                }
            }
            begun.drain(..whole);
        }
        Ok(())
    }

    /// Sends a request, and returns its answer's head with the connection that it comes by.
    async fn request<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<(Response<Incoming>, AbortHandle), ClientError> {
        let stream = self.connect().await.map_err(|error| {
            let socket = self.socket.clone();
            match error.kind() {
                io::ErrorKind::PermissionDenied => ClientError::Denied { socket },
                _ => ClientError::NoDaemon { socket, error },
            }
        })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| garbled(&error))?;
        let connection = tokio::spawn(connection).abort_handle();
        let mut request = Request::builder().method(method).uri(path).header(HOST, "evenkeel");
        let mut bytes = Bytes::new();
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json");
            bytes = serde_json::to_vec(body).map_err(|error| garbled(&error))?.into();
        }
        let request = request.body(Full::new(bytes)).map_err(|error| garbled(&error))?;
        let response = sender.send_request(request).await.map_err(|error| garbled(&error))?;
        Ok((response, connection))
    }
}

fn garbled(error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Garbled(error.to_string())
}

/// What an answer says that is no success.
async fn refusal(response: Response<Incoming>, connection: &AbortHandle) -> ClientError {
    let status = response.status();
    let body = match response.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return garbled(&error),
    };
    connection.abort();
    match serde_json::from_slice(&body) {
        Ok(problem) => ClientError::Problem(problem),
        Err(_) => garbled(&format!("status {status}")),
    }
}
