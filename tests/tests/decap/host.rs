//! A backend that holds the service's addresses on its loopback, and clients that talk to it
//! through an edge. The edge is a thread that wraps their packets, since not every kernel has
//! tunnel devices; the backend's kernel and the clients' are real.

use std::{
    ffi::CString,
    io::{Read as _, Write as _},
    mem,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{
    frame::{IPV4, IPV6},
    netns::{Namespace, cable},
    process::Process,
    topology::{VIP4, VIP6},
    wait::{PATIENCE, eventually},
};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    command::binary,
    tunnel::{OURS, TUNNELS, Tunnel},
};

const TCP_PORT: u16 = 80;
const UDP_PORT: u16 = 53;
const EDGE_MAC: &str = "02:00:00:00:00:01";
const BACKEND_MAC: &str = "02:00:00:00:00:11";
const EDGE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const BACKEND: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
/// Long enough for an answer that comes, and short enough to wait for one that does not.
const REPLY: Duration = Duration::from_millis(500);

/// A socket that sends and receives whole frames of one interface.
struct FrameSocket(OwnedFd);

impl FrameSocket {
    /// Opens one inside the calling thread's namespace.
    fn open(interface: &str) -> Result<Self> {
        let everything = u16::try_from(libc::ETH_P_ALL)?.to_be();
        // SAFETY: a system call without pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, everything.into()) };
        ensure!(fd >= 0, "open a packet socket: {}", std::io::Error::last_os_error());
        // SAFETY: the kernel has just made this descriptor for us, and nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let name = CString::new(interface)?;
        // SAFETY: all zeros are a value of this plain structure.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET)?;
        address.sll_protocol = everything;
        // SAFETY: the name ends with a zero and outlives the call.
        address.sll_ifindex = i32::try_from(unsafe { libc::if_nametoindex(name.as_ptr()) })?;
        let timeout = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
        // SAFETY: the pointers are to structures of the sizes given, which outlive the calls.
        let done = unsafe {
            libc::bind(fd, (&raw const address).cast(), u32::try_from(size_of_val(&address))?) == 0
                && libc::setsockopt(
                    fd,
                    libc::SOL_SOCKET,
                    libc::SO_RCVTIMEO,
                    (&raw const timeout).cast(),
                    u32::try_from(size_of_val(&timeout))?,
                ) == 0
        };
        ensure!(done, "bind to {interface}: {}", std::io::Error::last_os_error());
        Ok(Self(socket))
    }

    /// The next frame, if one comes soon.
    fn receive<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let fd = self.0.as_raw_fd();
        // SAFETY: the buffer has as many bytes as are given.
        let length = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        buffer.get(..usize::try_from(length).ok()?)
    }

    fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: the frame has as many bytes as are given.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        let error = std::io::Error::last_os_error();
        ensure!(usize::try_from(sent) == Ok(frame.len()), "send {} bytes: {error}", frame.len());
        Ok(())
    }
}

/// How the edge wraps what clients send.
#[derive(Clone, Copy, Debug)]
struct Manner {
    tunnel: Tunnel,
    /// The outer source, where it is not the tunnel's usual.
    from: Option<IpAddr>,
    tos: u8,
    tag: Option<u16>,
}

/// The frame for the backend around the packet of `frame`, if that is for the service.
fn wrap(frame: &[u8], manner: Manner) -> Option<Vec<u8>> {
    let packet = frame.get(14..)?;
    let is_ours = match u16::from_be_bytes([frame[12], frame[13]]) {
        IPV4 => packet.get(16..20)? == VIP4.octets(),
        IPV6 => packet.get(24..40)? == VIP6.octets(),
        _ => false,
    };
    let outer = manner.tunnel.around(packet).macs(EDGE, BACKEND).tos(manner.tos);
    let outer = match manner.from {
        Some(from) => outer.from(from, 50_123),
        None => outer,
    };
    let outer = match manner.tag {
        Some(tag) => outer.vlan(0x8100, tag),
        None => outer,
    };
    is_ours.then(|| outer.build())
}

/// A client, an edge and a backend, one after the other. Answers go from the backend to the client
/// through the edge's kernel.
struct Row {
    client: Namespace,
    backend: Namespace,
    // Before the edge, so that the thread has ended when the namespace goes.
    wrapper: Wrapper,
    _edge: Namespace,
}

struct Wrapper {
    manner: Arc<Mutex<Manner>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Drop for Wrapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Row {
    fn new() -> Result<Self> {
        let (client, edge, backend) =
            (Namespace::new("client")?, Namespace::new("edge")?, Namespace::new("backend")?);
        cable((&edge, "front", EDGE_MAC), (&client, "eth0", "02:00:00:00:00:64"))?;
        cable((&edge, "back", EDGE_MAC), (&backend, "eth0", BACKEND_MAC))?;
        // What a client sends has to fit with the outer headers around it, and be finished: a
        // packet socket sees it as the device would.
        client.offloads("eth0", &["tx", "off", "tso", "off", "gso", "off"])?;
        client.ip("link set eth0 mtu 1400\n\
             addr add 198.51.100.2/24 dev eth0\naddr add 2001:db8:1::2/64 dev eth0\n\
             route add default via 198.51.100.1\nroute add default via 2001:db8:1::1")?;
        edge.sysctl("net/ipv4/ip_forward", "1")?;
        edge.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        for key in ["all", "default", "front", "back"] {
            edge.sysctl(&format!("net/ipv4/conf/{key}/rp_filter"), "0")?;
        }
        // The edge's own kernel keeps out of it.
        edge.ip("addr add 198.51.100.1/24 dev front\naddr add 2001:db8:1::1/64 dev front\n\
             addr add 10.0.0.1/24 dev back\naddr add fd00::1/64 dev back\n\
             route add blackhole 192.0.2.10\nroute add blackhole 2001:db8:ffff::10")?;
        backend.ip("addr add 10.0.0.11/24 dev eth0\naddr add fd00::11/64 dev eth0\n\
             addr add 192.0.2.10/32 dev lo\naddr add 2001:db8:ffff::10/128 dev lo\n\
             route add default via 10.0.0.1\nroute add default via fd00::1")?;
        // The strict filter that tunnel devices have trouble with may stay on.
        for key in ["all", "eth0"] {
            backend.sysctl(&format!("net/ipv4/conf/{key}/rp_filter"), "1")?;
        }
        let (front, back) =
            edge.run(|| Ok((FrameSocket::open("front")?, FrameSocket::open("back")?)))?;
        let manner = Manner { tunnel: TUNNELS[0], from: None, tos: 0, tag: None };
        let (manner, stop) = (Arc::new(Mutex::new(manner)), Arc::new(AtomicBool::new(false)));
        let (shared, stopped) = (Arc::clone(&manner), Arc::clone(&stop));
        let thread = edge.spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                let Some(frame) = front.receive(&mut buffer) else { continue };
                let manner = *shared.lock().unwrap();
                if let Some(frame) = wrap(frame, manner) {
                    back.send(&frame)?;
                }
            }
            Ok(())
        })?;
        serve(&backend)?;
        let wrapper = Wrapper { manner, stop, thread: Some(thread) };
        Ok(Self { client, backend, wrapper, _edge: edge })
    }

    fn wraps(&self, change: impl FnOnce(&mut Manner)) {
        let mut manner = self.wrapper.manner.lock().unwrap();
        *manner = Manner { tunnel: TUNNELS[0], from: None, tos: 0, tag: None };
        change(&mut manner);
    }

    /// Sends a datagram to the service and takes its answer.
    fn datagram(&self, service: IpAddr, payload: &[u8]) -> Result<()> {
        let any = if service.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = self.client.run(|| Ok(UdpSocket::bind(any)?))?;
        socket.set_read_timeout(Some(REPLY))?;
        socket.connect((service, UDP_PORT))?;
        socket.send(payload)?;
        let mut answer = vec![0; 65_536];
        let length = socket.recv(&mut answer).context("no answer")?;
        ensure!(answer[..length] == *payload, "another answer");
        Ok(())
    }

    /// Sends much over a connection to the service and takes it back.
    fn stream(&self, service: IpAddr) -> Result<()> {
        let server = SocketAddr::new(service, TCP_PORT);
        let mut stream = self.client.run(|| Ok(TcpStream::connect_timeout(&server, PATIENCE)?))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (mut writer, copy) = (stream.try_clone()?, sent.clone());
        let writing = std::thread::spawn(move || {
            writer.write_all(&copy)?;
            writer.shutdown(std::net::Shutdown::Write)
        });
        let mut received = Vec::new();
        stream.read_to_end(&mut received)?;
        writing.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        ensure!(received == sent, "{} bytes came back of {}", received.len(), sent.len());
        Ok(())
    }
}

/// Echoes datagrams and streams on the service's addresses, for as long as this process lives.
fn serve(backend: &Namespace) -> Result<()> {
    for address in OURS {
        let (socket, listener) = backend.run(|| {
            let socket = UdpSocket::bind((address, UDP_PORT))?;
            Ok((socket, TcpListener::bind((address, TCP_PORT))?))
        })?;
        std::thread::spawn(move || -> std::io::Result<()> {
            let mut buffer = vec![0; 65_536];
            loop {
                let (length, client) = socket.recv_from(&mut buffer)?;
                socket.send_to(&buffer[..length], client)?;
            }
        });
        std::thread::spawn(move || -> std::io::Result<()> {
            for stream in listener.incoming() {
                let mut stream = stream?;
                std::io::copy(&mut stream.try_clone()?, &mut stream)?;
            }
            Ok(())
        });
    }
    Ok(())
}

/// The command at work on the backend.
struct Decap {
    process: Process,
    // Its output is in it.
    _directory: TempDir,
}

impl Decap {
    fn start(row: &Row, more: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = row.backend.command(binary());
        command.args(["decap", "--interface", "eth0", "--from", "198.18.0.0/16"]);
        command.args(["--from", "100::/64", "--address", "192.0.2.10"]);
        command.args(["--address", "2001:db8:ffff::10"]).args(more);
        let mut process = Process::start("decap", command, directory.path())?;
        eventually("decap is ready", PATIENCE, || {
            if let Some(status) = process.ended()? {
                return Ok(Err(status));
            }
            ensure!(process.output().contains(" ready"), "{}", process.tail());
            Ok(Ok(()))
        })?
        .map_err(|status| anyhow::anyhow!("it ended ({status}): {}", process.tail()))?;
        Ok(Self { process, _directory: directory })
    }

    /// Ends it by a signal and returns all that it wrote.
    fn stop(mut self, signal: Signal) -> Result<String> {
        self.process.signal(signal)?;
        let status = self.process.wait(PATIENCE)?;
        ensure!(status.success(), "{status}: {}", self.process.tail());
        Ok(self.process.output())
    }
}

/// The number beside a counter's name in the last table of an output.
fn packets(output: &str, counter: &str) -> u64 {
    let line = output.lines().rev().find(|line| line.starts_with(counter));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap_or_else(|| panic!("no {counter} in {output}")).replace(',', "").parse().unwrap()
}

fn attached(row: &Row) -> bool {
    let output = row.backend.command("ip").args(["link", "show", "eth0"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().contains("xdp")
}

fn every_tunnel_serves(mode: &str) {
    let row = Row::new().unwrap();
    for service in OURS {
        assert!(row.datagram(service, b"nobody unwraps").is_err(), "{service}");
    }
    let decap = Decap::start(&row, &["--xdp-mode", mode]).unwrap();
    assert!(attached(&row));
    for tunnel in TUNNELS {
        row.wraps(|manner| manner.tunnel = tunnel);
        for service in OURS {
            for payload in [&b""[..], b"a", &[7; 1200]] {
                let answer = row.datagram(service, payload);
                answer.with_context(|| format!("{service} by {tunnel:?}")).unwrap();
            }
            row.stream(service).with_context(|| format!("{service} by {tunnel:?}")).unwrap();
        }
    }
    // A mark of the way arrives inside without breaking a checksum; ECT(1) changes nothing.
    row.wraps(|manner| manner.tos = 1);
    row.datagram(OURS[0], b"marked").unwrap();
    // Congestion that the packet cannot tell of, and a stranger.
    row.wraps(|manner| manner.tos = 3);
    row.datagram(OURS[0], b"dropped").unwrap_err();
    row.wraps(|manner| manner.from = Some("203.0.113.9".parse().unwrap()));
    row.datagram(OURS[0], b"refused").unwrap_err();

    let output = decap.stop(Signal::TERM).unwrap();
    assert!(output.contains(&format!("mode=\"{mode}\"")), "{output}");
    assert!(packets(&output, "unwrapped-ipip") > 400, "{output}");
    assert!(packets(&output, "unwrapped-gue") > 400, "{output}");
    // The backend hears its neighbours, too.
    assert!(packets(&output, "pass-not-tunnel") > 0, "{output}");
    assert_eq!(packets(&output, "drop-refused-source"), 1, "{output}");
    assert_eq!(packets(&output, "drop-congestion"), 1, "{output}");
    for never in ["drop-malformed-outer", "drop-malformed-inner", "drop-internal"] {
        assert_eq!(packets(&output, never), 0, "{output}");
    }
    assert!(!attached(&row), "nothing stays behind");
    row.wraps(|_| {});
    assert!(row.datagram(OURS[0], b"nobody unwraps").is_err());
}

#[test]
fn every_tunnel_serves_in_native_mode() {
    every_tunnel_serves("native");
}

#[test]
fn every_tunnel_serves_in_generic_mode() {
    every_tunnel_serves("generic");
}

#[test]
fn a_tag_stays_for_the_host_to_judge() {
    let row = Row::new().unwrap();
    let decap = Decap::start(&row, &[]).unwrap();
    // The host takes a tag of VLAN 0, which says a priority alone (IEEE 802.1Q), and has no VLAN 8.
    for (tag, is_known) in [(0x6000, true), (0x6008, false)] {
        row.wraps(|manner| manner.tag = Some(tag));
        for service in OURS {
            let answer = row.datagram(service, b"tagged");
            assert_eq!(answer.is_ok(), is_known, "{service}, tag {tag:#x}: {answer:?}");
        }
    }
    let output = decap.stop(Signal::INT).unwrap();
    assert_eq!(packets(&output, "unwrapped-ipip"), 4, "{output}");
}

#[test]
fn counters_are_told_as_they_grow_and_as_json() {
    let row = Row::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("counters.json");
    let mut command = row.backend.command("sh");
    // JSON goes to standard output alone.
    let line = "json=$1; shift; exec \"$@\" >\"$json\"";
    command.args(["-c", line, "sh"]).arg(&json).arg(binary());
    command.args(["decap", "--interface", "eth0", "--from", "198.18.7.9", "--counters", "1s"]);
    command.args(["--address", "192.0.2.10", "--address", "192.0.2.99", "-o", "json"]);
    let mut process = Process::start("decap", command, directory.path()).unwrap();
    let documents = || -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(&json)?;
        Ok(serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>()?)
    };
    row.wraps(|manner| manner.tunnel = TUNNELS[2]);
    eventually("a document tells of what was unwrapped", PATIENCE, || {
        row.datagram(OURS[0], b"counted")?;
        let last = documents()?.pop().context("no document yet")?;
        ensure!(last["packets"]["unwrapped-gue"].as_u64() > Some(0), "{last}");
        Ok(())
    })
    .unwrap();
    row.wraps(|manner| manner.from = Some("198.18.7.10".parse().unwrap()));
    row.datagram(OURS[0], b"refused").unwrap_err();
    process.signal(Signal::INT).unwrap();
    assert!(process.wait(PATIENCE).unwrap().success(), "{}", process.tail());
    let documents = documents().unwrap();
    assert!(documents.len() >= 2, "{documents:?}");
    let last = documents.last().unwrap();
    assert_eq!(last["interfaces"], serde_json::json!([{"name": "eth0", "mode": "native"}]));
    assert_eq!(last["packets"]["drop-refused-source"], 1, "{last}");
    assert_eq!(last["packets"].as_object().unwrap().len(), 12, "every counter, zero or not");
    let told = process.output();
    assert!(told.contains("--address 192.0.2.99"), "an address that the host has not: {told}");
    assert!(!told.contains("--address 192.0.2.10"), "{told}");
}

#[test]
fn a_kill_takes_the_program_off_the_interface() {
    let row = Row::new().unwrap();
    let mut decap = Decap::start(&row, &[]).unwrap();
    row.datagram(OURS[1], b"served").unwrap();
    decap.process.kill().unwrap();
    eventually("the program is off", PATIENCE, || {
        ensure!(!attached(&row), "it is still there");
        Ok(())
    })
    .unwrap();
    // And a new one can take its place.
    let again = Decap::start(&row, &[]).unwrap();
    row.datagram(OURS[1], b"served again").unwrap();
    drop(again);
}
