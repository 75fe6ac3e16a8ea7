//! The data path under measurement: the real program over tables of its own, attached nowhere.
//!
//! Its tables are filled as the controller would fill them; connections are opened by the packets
//! that open them. The wrapper program that restores the packet is loaded beside it.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, ProgramArray},
    programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp},
};
use evenkeel::{
    dataplane::{Dataplane as _, Lifetimes, Timing},
    loader::{Datapath, Sizes, load_unpinned},
    plan::BackendId,
};
use evenkeel_tests::frame::{ACK, Frame, Parsed, SYN, TCP, parse};

use crate::services::{self, DENIED};

/// The bytes of every frame: what the wrapper restores.
pub const FRAME: usize = 80;

/// Bytes that a tunnel puts in front of a packet, at the most.
const ENCAPSULATION: usize = 64;

/// Places for unconfirmed connections: as many as there are where nobody sets them, and more than
/// any scenario but a flood takes.
pub const UNCONFIRMED: u32 = 131_072;

/// A wrapper's plan, as `lb-ebpf/src/bin/bench/` reads it.
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
    /// The bare hot path that DESIGN.md calls the trial.
    Trial,
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
        let sizes = Sizes {
            connections,
            unconfirmed: UNCONFIRMED,
            clients: 65_536,
            fragments: 16_384,
            prefixes: DENIED.next_power_of_two(),
            services: 4096,
            backends: 16_384,
        };
        let mut datapath = load_unpinned(&sizes)
            .with_context(|| format!("load the program with room for {connections} connections"))?;
        let fresh = services::fill(&mut datapath.tables)?;

        let object = fs::read(wrapper).with_context(|| format!("read {}", wrapper.display()))?;
        let mut wrapper = EbpfLoader::new()
            .map_max_entries("FLOWS", connections)
            .load(&object)
            .context("load the wrapper's maps")?;
        for name in ["restore", "empty", "trial"] {
            program(&mut wrapper, name)?.load().with_context(|| format!("load {name}"))?;
        }
        let plan = Array::try_from(wrapper.take_map("PLAN").context("no map PLAN")?)?;
        let targets = wrapper.take_map("TARGET").context("no map TARGET")?;
        let targets = ProgramArray::try_from(targets)?;
        Ok(Self { datapath, wrapper, plan, targets, fresh })
    }

    /// Runs the balancer on one frame. Returns the bytes as they left.
    pub fn send(&self, frame: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; frame.len() + ENCAPSULATION];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        };
        let result =
            self.datapath.programs.balancer()?.test_run(options).context("run the balancer")?;
        out.truncate(result.data_size_out.try_into()?);
        Ok(out)
    }

    /// Opens a client's connection through NAT: the handshake over TCP, a datagram each way over UDP.
    /// `first` is the client's first packet. Returns the backend's packet.
    pub fn open(&self, first: &Frame) -> Result<Frame> {
        let sent = first.build();
        let to_backend = read(&self.send(&sent)?)?;
        ensure!(
            to_backend.destination != read(&sent)?.destination,
            "the first packet opened nothing"
        );
        let answer = first
            .clone()
            .from(to_backend.destination, to_backend.destination_port)
            .to(to_backend.source, to_backend.source_port);
        if to_backend.protocol == TCP {
            self.send(&answer.clone().numbers(ANSWER, 0).flags(SYN | ACK).build())?;
        } else {
            self.send(&answer.build())?;
        }
        self.send(&later(first).build())?;
        Ok(answer)
    }

    /// Opens a client's connection to a service whose answers go another way.
    pub fn open_one_way(&self, first: &Frame) -> Result<()> {
        self.send(&first.build())?;
        self.send(&later(first).build())?;
        Ok(())
    }

    /// Connections that are open and confirmed.
    pub fn established(&self) -> Result<u64> {
        let forever = Lifetimes {
            opening: Duration::MAX,
            established: Duration::MAX,
            closing: Duration::MAX,
            closed: Duration::MAX,
            time_wait: Duration::MAX,
            udp: Duration::MAX,
        };
        let timing = Timing { others: forever, ..Timing::default() };
        let Datapath { connections, programs, .. } = &self.datapath;
        let census = connections.sweep(programs.expire()?, &timing)?;
        Ok(census.open.values().map(|(_, established)| established).sum())
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
        let own = |name: &str| -> Result<&Xdp> {
            let program =
                self.wrapper.program(name).with_context(|| format!("no program {name}"))?;
            Ok(program.try_into()?)
        };
        let fd: &ProgramFd = match target {
            Target::Empty => own("empty")?.fd()?,
            Target::Trial => own("trial")?.fd()?,
            Target::Balancer => self.datapath.programs.balancer()?.fd()?,
        };
        self.targets.set(0, fd, 0).context("point the wrapper at its target")?;
        let restore = own("restore")?;
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

    /// Ends the connections that were opened while time was taken.
    pub fn clear_fresh(&self) -> Result<()> {
        let expire = self.datapath.programs.expire()?;
        self.datapath.connections.cut(expire, self.fresh)?;
        Ok(())
    }
}

/// The number of the backends' SYN.
const ANSWER: u32 = 5000;

/// The client's packet after its first, which shows that it got the answer.
pub fn later(first: &Frame) -> Frame {
    match read(&first.build()) {
        Ok(Parsed { protocol: TCP, .. }) => first.clone().numbers(1001, ANSWER + 1).flags(ACK),
        _ => first.clone(),
    }
}

fn read(frame: &[u8]) -> Result<Parsed> {
    parse(frame).map_err(|error| anyhow!("read a frame back: {error}"))
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = object.program_mut(name).with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}
