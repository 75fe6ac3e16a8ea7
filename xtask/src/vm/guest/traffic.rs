//! Servers and clients. A server says its name first and then echoes what comes, over TCP as over UDP,
//! so that a client knows who served it and that every byte came through both ways.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{netns::Namespace, topology::Family};

use super::stage::{NAT_PORT, SERVICE_PORT};

/// A lost packet costs a second, and then two; an emulated processor is slow as well.
const DEADLINE: Duration = Duration::from_secs(15);
const DATAGRAM: usize = 65_536;

/// How many served whom.
pub(super) type Shares = BTreeMap<String, u64>;

/// The threads that answer on one host. They end with the machine.
pub(super) struct Server;

impl Server {
    /// Answers on the service's port of the virtual addresses, and on [`NAT_PORT`] of any other.
    pub(super) fn start(namespace: &Namespace, name: &str) -> Result<Self> {
        for port in [SERVICE_PORT, NAT_PORT] {
            let listener = namespace.run(|| {
                TcpListener::bind(("::", port)).with_context(|| format!("listen on port {port}"))
            })?;
            let name = name.to_owned();
            thread::spawn(move || accept(&listener, &name));
        }
        // A socket with an address has answers carry it as their source; the kernel chooses for others.
        let virtual_addresses = Family::BOTH.map(|family| family.service(SERVICE_PORT));
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), NAT_PORT);
        for address in virtual_addresses.into_iter().chain([any]) {
            let socket = namespace.run(|| {
                UdpSocket::bind(address).with_context(|| format!("listen on UDP {address}"))
            })?;
            let name = name.to_owned();
            thread::spawn(move || answer(&socket, &name));
        }
        Ok(Self)
    }
}

fn accept(listener: &TcpListener, name: &str) {
    while let Ok((stream, _)) = listener.accept() {
        let name = name.to_owned();
        // The client may go whenever it likes; that ends the conversation and no more.
        thread::spawn(move || converse(stream, &name));
    }
}

fn converse(mut stream: TcpStream, name: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(format!("{name}\n").as_bytes())?;
    let mut incoming = stream.try_clone()?;
    io::copy(&mut incoming, &mut stream)?;
    stream.shutdown(Shutdown::Both)
}

fn answer(socket: &UdpSocket, name: &str) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        // An ICMP error about an earlier answer is no reason to end.
        let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
        let _ = socket.send_to(&[name.as_bytes(), b"\n", &buffer[..length]].concat(), client);
    }
}

/// Makes `count` connections, one after the other, and sends `payload` bytes over each.
pub(super) fn tcp(
    client: &Namespace,
    service: SocketAddr,
    count: u64,
    payload: usize,
) -> Result<Shares> {
    shares(client, count, || converse_with(service, payload).context("over TCP"))
}

/// The same by datagrams, each from a port of its own.
pub(super) fn udp(
    client: &Namespace,
    service: SocketAddr,
    count: u64,
    payload: usize,
) -> Result<Shares> {
    shares(client, count, || ask(service, payload).context("over UDP"))
}

fn shares(
    client: &Namespace,
    count: u64,
    mut served_by: impl FnMut() -> Result<String> + Send,
) -> Result<Shares> {
    client.run(|| {
        let mut shares = Shares::new();
        for number in 1..=count {
            let name = served_by().with_context(|| format!("number {number} of {count}"))?;
            *shares.entry(name).or_default() += 1;
        }
        Ok(shares)
    })
}

fn converse_with(service: SocketAddr, payload: usize) -> Result<String> {
    let stream = TcpStream::connect_timeout(&service, DEADLINE).context("connect")?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut outgoing = stream.try_clone()?;
    let mut incoming = BufReader::new(stream);
    let mut name = String::new();
    incoming.read_line(&mut name).context("read the server's name")?;
    let sent = noise(payload);
    let mut echo = Vec::with_capacity(payload);
    // Both at once: a server that echoes stops reading when nobody reads what it wrote.
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            outgoing.write_all(&sent).context("send")?;
            outgoing.shutdown(Shutdown::Write).context("end sending")
        });
        incoming.read_to_end(&mut echo).context("read the echo")?;
        writer.join().map_err(|_| anyhow::anyhow!("the sending thread panicked"))?
    })
    .with_context(|| format!("{} of {payload} bytes came back", echo.len()))?;
    ensure!(echo == sent, "{} bytes came back for {payload}, or others", echo.len());
    Ok(name.trim_end().to_owned())
}

fn ask(service: SocketAddr, payload: usize) -> Result<String> {
    let any = if service.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(service)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    let sent = noise(payload);
    socket.send(&sent).context("send a datagram")?;
    let mut buffer = vec![0; DATAGRAM];
    let length = socket.recv(&mut buffer).context("wait for the answer")?;
    let (name, echo) = buffer[..length]
        .iter()
        .position(|&byte| byte == b'\n')
        .map(|end| (&buffer[..end], &buffer[end + 1..length]))
        .context("an answer without a name")?;
    ensure!(echo == sent, "the answer is not what was sent");
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// Bytes that are the same every time and hardly repeat.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
