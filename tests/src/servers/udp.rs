//! A UDP echo on a backend, and the client that talks to it.

use std::{
    collections::HashSet,
    net::{Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::PORT;
use crate::{
    topology::{Family, Host},
    wait::eventually,
};

const POLL: Duration = Duration::from_millis(50);
const REPLY: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_millis(300);

/// Answers every datagram with the backend's name, a blank, and what came. Dropping it stops it.
#[derive(Debug)]
pub struct UdpEcho {
    stop: Arc<AtomicBool>,
    datagrams: Arc<AtomicU64>,
    server: Option<JoinHandle<Result<usize>>>,
}

/// An answer of [`UdpEcho`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpReply {
    /// The backend that answered.
    pub backend: String,
    /// What came back.
    pub payload: Vec<u8>,
}

impl UdpEcho {
    /// Starts it on `host`, on [`PORT`], over both families.
    pub fn start(host: &Host) -> Result<Self> {
        Self::at(host, (Ipv6Addr::UNSPECIFIED, PORT).into())
    }

    /// Starts it on one address of `host`, which its answers then come from.
    pub fn at(host: &Host, address: SocketAddr) -> Result<Self> {
        let socket = host.namespace.run(|| {
            UdpSocket::bind(address)
                .with_context(|| format!("listen on UDP {address} of {}", host.name))
        })?;
        socket.set_read_timeout(Some(POLL))?;
        let (stop, datagrams) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&datagrams));
        let name = host.name.clone();
        let server = host.namespace.spawn(move || {
            let mut buffer = vec![0; 65_536];
            let mut sources = HashSet::new();
            while !stopped.load(Ordering::Relaxed) {
                // A time-out is the moment to look at `stopped`; an ICMP error is no reason to end.
                let Ok((length, source)) = socket.recv_from(&mut buffer) else { continue };
                sources.insert(source);
                counted.fetch_add(1, Ordering::Relaxed);
                let mut answer = format!("{name} ").into_bytes();
                answer.extend_from_slice(&buffer[..length]);
                let _ = socket.send_to(&answer, source);
            }
            Ok(sources.len())
        })?;
        Ok(Self { stop, datagrams, server: Some(server) })
    }

    /// How many datagrams it has received.
    #[must_use]
    pub fn datagrams(&self) -> u64 {
        self.datagrams.load(Ordering::Relaxed)
    }

    /// Stops it and tells how many different source addresses and ports it has seen.
    pub fn finish(mut self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        let server = self.server.take().context("the echo server has stopped before")?;
        server.join().map_err(|_| anyhow::anyhow!("the echo server panicked"))?
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// A socket for asking a service of the given family; make it inside the client's namespace.
pub fn client_socket(family: Family, server: SocketAddr) -> Result<UdpSocket> {
    let any = if family == Family::V4 { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server).with_context(|| format!("connect to {server}"))?;
    socket.set_read_timeout(Some(REPLY))?;
    Ok(socket)
}

/// Like [`ask`], but sends again when no answer comes soon: the first large datagrams of a path
/// may teach its MTU and be lost.
pub fn ask_again(socket: &UdpSocket, payload: &[u8]) -> Result<UdpReply> {
    socket.set_read_timeout(Some(SOON))?;
    let reply = eventually("a datagram is answered", REPLY, || ask(socket, payload));
    socket.set_read_timeout(Some(REPLY))?;
    reply
}

/// Sends `payload` and waits for the answer, which must contain the same.
pub fn ask(socket: &UdpSocket, payload: &[u8]) -> Result<UdpReply> {
    socket.send(payload).context("send a datagram")?;
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer).context("wait for the answer")?;
    let answer = &buffer[..length];
    let blank = answer.iter().position(|&byte| byte == b' ').context("an answer without a name")?;
    ensure!(&answer[blank + 1..] == payload, "the answer is not what was sent");
    Ok(UdpReply {
        backend: String::from_utf8_lossy(&answer[..blank]).into_owned(),
        payload: answer[blank + 1..].to_vec(),
    })
}
