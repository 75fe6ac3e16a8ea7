//! Servers for the tests of this module: real listeners on the loopback that answer by script.

pub(super) mod certificates;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::Mutex,
    task::JoinHandle,
};

/// What a server does with a connection once it has read the request's head.
#[derive(Clone, Debug)]
pub(super) enum Script {
    /// Say nothing and keep the connection open.
    Silence,
    /// Close at once.
    HangUp,
    /// Send this text as it stands.
    Say(String),
    /// Send the head, then one byte of body each 20 ms.
    Drip { head: String, body: String },
}

/// An HTTP answer with this status line and body.
pub(super) fn answer(status: &str, body: &str) -> Script {
    let length = body.len();
    Script::Say(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}"))
}

/// A listener that runs until it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(script: Script) -> Self {
        Self::start_at("127.0.0.1:0", script).await
    }

    pub(super) async fn start_at(address: &str, script: Script) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, script.clone(), Arc::clone(&seen)));
            }
        });
        Self { address, requests, task }
    }

    /// The heads of the requests that came, in order.
    pub(super) async fn requests(&self) -> Vec<String> {
        self.requests.lock().await.clone()
    }

    /// Stops listening and waits until the port is free.
    pub(super) async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address of the loopback where nothing listens.
pub(super) async fn refused() -> SocketAddr {
    let server = Server::start(Script::Silence).await;
    let address = server.address;
    server.stop().await;
    address
}

pub(super) async fn serve<S>(mut stream: S, script: Script, requests: Arc<Mutex<Vec<String>>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    requests.lock().await.push(String::from_utf8_lossy(&head).into_owned());
    match script {
        Script::Silence => std::future::pending().await,
        Script::HangUp => {}
        Script::Say(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
        }
        Script::Drip { head, body } => {
            let _ = stream.write_all(head.as_bytes()).await;
            for byte in body.into_bytes() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
            }
        }
    }
}
