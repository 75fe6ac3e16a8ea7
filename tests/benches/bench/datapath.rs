//! The data path under measurement: the real program over tables of its own, attached nowhere.
//!
//! Its tables are filled as the controller would fill them; connections are opened by the packets
//! that open them. The wrapper program that restores the packet is loaded beside it.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::{
    Ebpf,
    maps::{Array, MapData, ProgramArray},
    programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp},
};
use evenkeel::{
    config::{PortRange, Protocol},
    dataplane::Dataplane as _,
    loader::{Datapath, Sizes, load_unpinned},
    plan::{BackendEntry, BackendId, ServiceId, ServiceKey},
};
use evenkeel_tests::{
    frame::{ACK, Frame, Parsed, SYN, parse},
    topology::{VIP4, VIP6},
};
use lb_common::net::Hop;

/// The bytes of every frame: what the wrapper restores.
pub const FRAME: usize = 80;

/// Backends of each service whose connections are established before the measurement.
pub const BACKENDS: u8 = 16;

/// The port of the service whose connections are opened while time is taken.
pub const FRESH_PORT: u16 = 8080;

/// The kernel gives a test-run's packet to the loopback interface, in every namespace the first.
const LOOPBACK: u32 = 1;

/// A wrapper's plan, as `lb-ebpf/src/bin/bench.rs` reads it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Plan {
    frame: [u8; FRAME],
    turn: u64,
    clients: u64,
    stride: u64,
    address_at: u64,
    port_at: u64,
}

// SAFETY: `repr(C)`, of bytes and words, in an order that leaves no padding.
unsafe impl aya::Pod for Plan {}

/// Whose packets a run sends.
#[derive(Clone, Copy)]
pub struct Clients {
    /// How many take turns; zero for the one in the frame.
    pub count: u64,
    /// The step from one to the next; shares no factor with `count`.
    pub stride: u64,
}

/// Which program a run measures.
#[derive(Clone, Copy)]
pub enum Target {
    /// One that does nothing.
    Empty,
    /// The balancer.
    Balancer,
}

/// The programs, loaded and ready.
pub struct Bench {
    datapath: Datapath,
    wrapper: Ebpf,
    plan: Array<MapData, Plan>,
    targets: ProgramArray<MapData>,
    fresh: BackendId,
}

impl Bench {
    /// Loads both objects and fills the tables.
    pub fn new(wrapper: &Path, connections: u32) -> Result<Self> {
        let sizes = Sizes { connections, services: 4096, backends: 16_384 };
        let mut datapath = load_unpinned(&sizes)
            .with_context(|| format!("load the program with room for {connections} connections"))?;
        let fresh = fill(&mut datapath)?;

        let object = fs::read(wrapper).with_context(|| format!("read {}", wrapper.display()))?;
        let mut wrapper = Ebpf::load(&object).context("load the wrapper's maps")?;
        for name in ["restore", "empty"] {
            program(&mut wrapper, name)?.load().with_context(|| format!("load {name}"))?;
        }
        let plan = Array::try_from(wrapper.take_map("PLAN").context("no map PLAN")?)?;
        let targets = wrapper.take_map("TARGET").context("no map TARGET")?;
        let targets = ProgramArray::try_from(targets)?;
        Ok(Self { datapath, wrapper, plan, targets, fresh })
    }

    /// Runs the balancer on one frame. Returns the frame as it left.
    pub fn send(&self, frame: &[u8]) -> Result<Parsed> {
        let mut out = vec![0; frame.len()];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        };
        self.datapath.programs.balancer()?.test_run(options).context("run the balancer")?;
        read(&out)
    }

    /// Opens a client's connection: the handshake over TCP, a datagram each way over UDP. `first`
    /// is the client's first packet. Returns the backend's packet.
    pub fn open(&self, first: &Frame) -> Result<Frame> {
        let sent = first.build();
        let to_backend = self.send(&sent)?;
        ensure!(
            to_backend.destination != read(&sent)?.destination,
            "the first packet opened nothing"
        );
        let answer = first
            .clone()
            .from(to_backend.destination, to_backend.destination_port)
            .to(to_backend.source, to_backend.source_port);
        let tcp = to_backend.protocol == evenkeel_tests::frame::TCP;
        self.send(&if tcp { answer.clone().flags(SYN | ACK) } else { answer.clone() }.build())?;
        self.send(&if tcp { first.clone().flags(ACK) } else { first.clone() }.build())?;
        Ok(answer)
    }

    /// Says what the following runs send.
    pub fn prepare(&mut self, frame: &[u8], clients: Clients) -> Result<()> {
        let frame: [u8; FRAME] = frame.try_into().context("every frame has the same length")?;
        let ipv4 = frame[12..14] == [0x08, 0x00];
        let (address_at, port_at) = if ipv4 { (28, 34) } else { (36, 54) };
        let Clients { count, stride } = clients;
        let turn = self.plan.get(&0, 0)?.turn;
        let plan = Plan { frame, turn, clients: count, stride, address_at, port_at };
        Ok(self.plan.set(0, plan, 0)?)
    }

    /// Lets the runs start with the first client again.
    pub fn rewind(&mut self) -> Result<()> {
        let plan = Plan { turn: 0, ..self.plan.get(&0, 0)? };
        Ok(self.plan.set(0, plan, 0)?)
    }

    /// Runs the wrapper and the target `repeat` times. Returns the mean time of one run, by the
    /// kernel's clock, in whole nanoseconds.
    pub fn run(&mut self, target: Target, repeat: u32) -> Result<Duration> {
        let empty = self.wrapper.program("empty").context("no program empty")?;
        let empty: &Xdp = empty.try_into()?;
        let fd: &ProgramFd = match target {
            Target::Empty => empty.fd()?,
            Target::Balancer => self.datapath.programs.balancer()?.fd()?,
        };
        self.targets.set(0, fd, 0).context("point the wrapper at its target")?;
        let restore = self.wrapper.program("restore").context("no program restore")?;
        let restore: &Xdp = restore.try_into()?;
        let options =
            TestRunOptions { data_in: Some(&[0; FRAME]), repeat, ..TestRunOptions::new() };
        let result = restore.test_run(options).context("run the wrapper")?;
        ensure!(result.return_value != 0, "the wrapper could not restore the packet and jump");
        Ok(result.duration)
    }

    /// Packets of each verdict so far.
    pub fn verdicts(&self) -> Result<BTreeMap<&'static str, u64>> {
        Ok(self.datapath.tables.verdicts()?.into_iter().collect())
    }

    /// Ends the connections of the service at [`FRESH_PORT`].
    pub fn clear_fresh(&self) -> Result<()> {
        let expire = self.datapath.programs.expire()?;
        self.datapath.connections.cut(expire, self.fresh)?;
        Ok(())
    }
}

fn read(frame: &[u8]) -> Result<Parsed> {
    parse(frame).map_err(|error| anyhow!("read a frame back: {error}"))
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = object.program_mut(name).with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}

/// Services over TCP and UDP in both families, and the one whose connections are always new.
fn fill(datapath: &mut Datapath) -> Result<BackendId> {
    let services = [
        (SocketAddr::new(VIP4.into(), 80), Protocol::Tcp, BACKENDS),
        (SocketAddr::new(VIP4.into(), 53), Protocol::Udp, 1),
        (SocketAddr::new(VIP6.into(), 80), Protocol::Tcp, 1),
        // One backend: emptying the table takes a walk over it for each.
        (SocketAddr::new(VIP4.into(), FRESH_PORT), Protocol::Tcp, 1),
    ];
    let tables = &mut datapath.tables;
    let sources = |v4: bool| (1..=8).map(move |n| source(v4, n));
    let vips = [IpAddr::from(VIP4), IpAddr::from(VIP6)];
    let ours = vips.into_iter().chain(sources(true)).chain(sources(false));
    tables.write_filter(&ours.collect())?;
    for vip in vips {
        tables.write_address(vip, true)?;
    }
    let mut next = 0;
    for (id, (address, protocol, count)) in (0..).map(ServiceId).zip(services) {
        let mut ring = Vec::new();
        for number in 1..=count {
            let backend = BackendId(next);
            next += 1;
            let entry = BackendEntry {
                hop: Hop {
                    interface: LOOPBACK,
                    source: [2, 0, 0, 0, 0, 1],
                    destination: [2, 0, 0, 0, 0x10, number],
                },
                sources: sources(address.is_ipv4()).collect(),
                ports: PortRange { low: 1024, high: 32_767 },
                ..BackendEntry::new(
                    format!("service-{}", id.0),
                    format!("backend-{number}"),
                    server(address, number),
                    protocol,
                )
            };
            tables.write_backend(backend, &entry)?;
            ring.push(backend);
        }
        tables.write_ring(id, &ring)?;
        tables.write_service(ServiceKey { address, protocol }, id)?;
    }
    Ok(BackendId(next - 1))
}

/// NAT's source address number `n`.
fn source(v4: bool, n: u8) -> IpAddr {
    if v4 {
        Ipv4Addr::new(10, 0, 0, n).into()
    } else {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into()).into()
    }
}

/// Backend `number` of the service at `address`.
fn server(address: SocketAddr, number: u8) -> SocketAddr {
    SocketAddr::new(source(address.is_ipv4(), 100 + number), address.port())
}
