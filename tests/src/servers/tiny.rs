//! A web server in a hundred lines, as threads of this process inside a backend's namespace. The
//! demo needs no other; it can crash and come back like a real one.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use rustix::net::shutdown;

use super::PORT;
use crate::topology::Host;

/// A tiny web server: `/healthz` answers `ok`, every other path the backend's name. Dropping it
/// is a crash: the listener goes, and open connections are cut.
#[derive(Debug)]
pub struct TinyWeb {
    shared: Arc<Shared>,
    listener: TcpListener,
    acceptor: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    requests: AtomicU64,
    probes: AtomicU64,
    is_sick: AtomicBool,
    open: Mutex<HashMap<u64, TcpStream>>,
}

impl TinyWeb {
    /// Starts it on `host`, on [`PORT`], over both families.
    pub fn start(host: &Host) -> Result<Self> {
        let listener = host.namespace.run(|| {
            TcpListener::bind(("::", PORT))
                .with_context(|| format!("listen on port {PORT} of {}", host.name))
        })?;
        let shared = Arc::new(Shared {
            name: host.name.clone(),
            requests: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            is_sick: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let (accepting, state) = (listener.try_clone()?, Arc::clone(&shared));
        let acceptor = host.namespace.spawn(move || {
            accept(&accepting, &state);
            Ok(())
        })?;
        Ok(Self { shared, listener, acceptor: Some(acceptor) })
    }

    /// How many requests it has answered, health probes left out.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// From now on `/healthz` answers 503 (sick) or 200; everything else goes on.
    pub fn set_sick(&self, is_sick: bool) {
        self.shared.is_sick.store(is_sick, Ordering::Relaxed);
    }

    /// How many requests for `/healthz` it has answered.
    #[must_use]
    pub fn probes(&self) -> u64 {
        self.shared.probes.load(Ordering::Relaxed)
    }
}

impl Drop for TinyWeb {
    fn drop(&mut self) {
        // Wakes the acceptor out of its call; it sees that the listener is done.
        let _ = shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for (_, stream) in self.shared.open().drain() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut number = 0;
    while let Ok((stream, _)) = listener.accept() {
        number += 1;
        let Ok(handle) = stream.try_clone() else { continue };
        shared.open().insert(number, handle);
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // The client may go away whenever it likes; that ends the conversation and no more.
            let _ = converse(stream, &shared);
            shared.open().remove(&number);
        });
    }
}

fn converse(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let (mut path, mut close) = (None, false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if path.is_none() {
                path = Some(line.split(' ').nth(1).unwrap_or("/").to_owned());
            }
            close |= line.eq_ignore_ascii_case("connection: close");
        }
        let is_probe = path.as_deref() == Some("/healthz");
        let counter = if is_probe { &shared.probes } else { &shared.requests };
        let is_sick = is_probe && shared.is_sick.load(Ordering::Relaxed);
        let status = if is_sick { "503 Service Unavailable" } else { "200 OK" };
        let body = if is_probe { "ok\n".to_owned() } else { format!("{}\n", shared.name) };
        let connection = if close { "close" } else { "keep-alive" };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: {connection}\r\n\r\n{body}",
            body.len()
        );
        counter.fetch_add(1, Ordering::Relaxed);
        stream.get_mut().write_all(answer.as_bytes())?;
        if close {
            return Ok(());
        }
    }
}
