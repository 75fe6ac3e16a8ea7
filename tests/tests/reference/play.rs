//! Plays a case: every step in the kernel and in the model, compared as it goes and at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
    time::{Duration, Instant},
};

use evenkeel_tests::{
    frame::{TCP, describe},
    model::{
        Action, Flow, Hint, Model, Outcome,
        world::{
            self, Access, Forwarding, Hop, Limit, Node, Ring, Scheduler, Service, Tells, Tunnel,
        },
    },
};

use crate::{
    kernel::{Entry, Kernel, ids},
    spec::{self, BACKENDS, Case, Mode, Packet, Rule, SERVICES, Step},
    world::{
        BACK_MAC, Interfaces, MTUS, ON_HOST, SERVICES_AT, id, prefixes, server_at, server_mac,
        source_at,
    },
};

/// The kernel's table holds so many connections.
pub const CONNECTIONS: u32 = 4;
/// The most places that a case can have.
pub const PLACES: u32 = 32;
/// A case takes less, or it is played again: a SYN's age counts.
const PATIENCE: Duration = Duration::from_millis(400);

/// `XDP_DROP`.
const DROP: u32 = 1;

/// Where a case goes differently.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The step, from zero; their number where it only shows at the end.
    pub step: usize,
    pub what: String,
}

/// What a case's packets got.
pub type Verdicts = BTreeMap<&'static str, u64>;

/// Plays cases.
pub struct Stage {
    pub kernel: Kernel,
    pub interfaces: Interfaces,
}

/// The tables' contents that a case builds up.
struct Scene<'a> {
    kernel: &'a mut Kernel,
    interfaces: Interfaces,
    model: Model,
    places: u32,
    services: BTreeMap<u8, Service>,
    backends: BTreeMap<(u8, u8), (spec::Backend, world::Backend)>,
    access: Access,
}

impl Stage {
    /// Plays a case; tells what its packets got, or where it goes differently.
    pub fn play(&mut self, case: &Case) -> Result<Verdicts, Difference> {
        for _ in 0..20 {
            let began = Instant::now();
            let played = self.play_once(case);
            if began.elapsed() < PATIENCE {
                return played;
            }
        }
        panic!("the machine is too busy: a case never took less than {PATIENCE:?}");
    }

    /// Fills the tables as a case's steps say; returns a model of them.
    pub fn set(&mut self, case: &Case, places: u32) -> Model {
        let mut scene = self.scene(places);
        for step in &case.steps {
            scene.step(step).unwrap();
        }
        scene.model
    }

    fn play_once(&mut self, case: &Case) -> Result<Verdicts, Difference> {
        let mut scene = self.scene((1 << case.places.min(5)).min(PLACES));
        for (at, step) in case.steps.iter().enumerate() {
            scene.step(step).map_err(|what| Difference { step: at, what })?;
        }
        let end = scene.compare().and_then(|()| scene.end());
        end.map_err(|what| Difference { step: case.steps.len(), what })?;
        Ok(scene.model.verdicts().clone())
    }

    /// Empty tables, with so many places in use.
    fn scene(&mut self, places: u32) -> Scene<'_> {
        self.kernel.clear(places.max(PLACES));
        let numbers =
            [self.interfaces.clients[0], self.interfaces.clients[1], self.interfaces.backends];
        let node = Node {
            places,
            entries: self.kernel.capacity(),
            access: Access::default(),
            interfaces: numbers.into_iter().zip(MTUS).collect(),
        };
        let mut scene = Scene {
            kernel: &mut self.kernel,
            interfaces: self.interfaces,
            model: Model::new(node),
            places,
            services: BTreeMap::new(),
            backends: BTreeMap::new(),
            access: Access::default(),
        };
        scene.write_node();
        scene
    }
}

impl Scene<'_> {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Service(spec) => self.service(spec),
            Step::Remove(service) => self.remove(service % SERVICES),
            Step::Backend(spec) => self.backend(spec),
            Step::Access(rules) => {
                self.access = access(rules);
                self.model.set_access(self.access.clone());
                self.write_node();
            }
            Step::Pass(milliseconds) => {
                let time = Duration::from_millis((*milliseconds).into());
                self.model.pass(time);
                self.kernel.age(time);
            }
            Step::Packet(packet) => return self.packet(packet),
        }
        Ok(())
    }

    fn write_node(&mut self) {
        let keeps = self.services.values().any(|service| service.keep_source);
        let least = MTUS.into_iter().min().unwrap_or_default();
        self.kernel.write_node(self.places, &self.access, keeps, least);
    }

    fn service(&mut self, spec: &spec::Service) {
        let number = spec.service % SERVICES;
        let (address, port, protocol) = SERVICES_AT[usize::from(number)];
        let interval = Duration::from_hours(1);
        let bucket = |burst: u8| Limit { interval, burst: u32::from(burst % 8) + 1 };
        let service = Service {
            address,
            port,
            protocol,
            scheduler: match spec.scheduler {
                spec::Scheduler::RoundRobin => Scheduler::RoundRobin,
                spec::Scheduler::LeastConnections => Scheduler::LeastConnections,
                spec::Scheduler::Maglev => Scheduler::Maglev,
                spec::Scheduler::SourceHash => Scheduler::SourceHash,
                spec::Scheduler::Random => Scheduler::Random,
            },
            forwarding: match spec.mode {
                Mode::Nat | Mode::Keep => Forwarding::Nat,
                Mode::Dsr => Forwarding::Dsr,
                Mode::Ipip => Forwarding::Ipip,
                Mode::Gue => Forwarding::Gue,
            },
            keep_source: spec.mode == Mode::Keep,
            tells: Tells { overload: spec.reject, no_backend: spec.reject_no_backend },
            sticky: spec.sticky.then_some(Duration::from_mins(10)),
            limit: spec.limit.map(bucket),
            client_limit: spec.client_limit.map(bucket),
            client_prefix: (24, 64),
            access: access(&spec.access),
            on_host: ON_HOST.contains(&address),
        };
        self.kernel.write_service(number.into(), &service);
        self.model.set_service(number.into(), service.clone());
        self.services.insert(number, service);
        self.write_node();
        // Where a backend is depends on how its service forwards.
        let own = self.backends.iter().filter(|((service, _), _)| *service == number);
        let own: Vec<_> = own.map(|(_, (spec, _))| spec.clone()).collect();
        for spec in own {
            self.backend(&spec);
        }
        self.write_addresses();
        self.write_ring(number);
    }

    fn remove(&mut self, number: u8) {
        let Some(service) = self.services.remove(&number) else { return };
        let last = !self.services.values().any(|other| other.address == service.address);
        self.kernel.remove_service(&service, last);
        self.model.remove_service(number.into());
        self.write_node();
        self.write_addresses();
        self.write_ring(number);
    }

    fn backend(&mut self, spec: &spec::Backend) {
        let (number, n) = (spec.service % SERVICES, spec.backend % BACKENDS);
        let v4 = SERVICES_AT[usize::from(number)].0.is_ipv4();
        let interface =
            if spec.one_nic { self.interfaces.clients[0] } else { self.interfaces.backends };
        let hop = Hop { interface, source: BACK_MAC, destination: server_mac(n) };
        let address = server_at(n, v4 != self.is_across(number, spec));
        let outside_v4 = address.is_ipv4();
        let tunnel = Tunnel {
            source: if outside_v4 { [198, 18, 0, 0].into() } else { "100::".parse().unwrap() },
            varying: if outside_v4 { 0x0000_ffff } else { u32::MAX },
            port: 6080,
        };
        let backend = world::Backend {
            service: number.into(),
            address,
            port: if spec.any_port { 0 } else { 8080 },
            hop: (!spec.lost).then_some(hop),
            mtu: spec.mtu.into(),
            active: spec.weight > 0,
            max_connections: spec.max_connections.into(),
            sources: (0..=spec.more_sources % 3).map(|n| source_at(n, v4)).collect(),
            first_port: 1024,
            ports: if spec.ports == 0 { 2000 } else { spec.ports.into() },
            tunnel: Some(tunnel),
        };
        self.kernel.write_backend(id(number, n), &backend, v4);
        self.model.set_backend(id(number, n), backend.clone());
        self.backends.insert((number, n), (spec.clone(), backend));
        self.write_addresses();
        self.write_ring(number);
    }

    /// Whether a backend is of the other family than its service: only tunnels can.
    fn is_across(&self, number: u8, spec: &spec::Backend) -> bool {
        let tunnels = [Forwarding::Ipip, Forwarding::Gue];
        let service = self.services.get(&number);
        spec.other_family && service.is_some_and(|service| tunnels.contains(&service.forwarding))
    }

    fn write_addresses(&mut self) {
        let mut ours: BTreeSet<IpAddr> =
            self.services.values().map(|service| service.address).collect();
        let mut our_sources = BTreeSet::new();
        for ((service, _), (_, backend)) in &self.backends {
            ours.extend(&backend.sources);
            if self.services.get(service).is_some_and(|service| service.keep_source) {
                our_sources.insert(backend.address);
            }
        }
        self.kernel.write_filter(&ours, &our_sources);
        self.model.set_addresses(ours, our_sources);
    }

    fn write_ring(&mut self, number: u8) {
        let own = self.backends.iter().filter(|((service, _), _)| *service == number);
        let mut ring = Ring::default();
        if self.services.contains_key(&number) {
            for ((_, n), (spec, _)) in own {
                ring.slots.extend((0..spec.weight % 8).map(|_| id(number, *n)));
                ring.members.extend((spec.weight % 8 > 0).then_some(id(number, *n)));
            }
        }
        self.kernel.write_ring(number.into(), &ring);
        self.model.set_ring(number.into(), ring);
    }

    fn packet(&mut self, packet: &Packet) -> Result<(), String> {
        let frame = packet.frame(&self.model);
        let ingress = packet.ingress(&self.interfaces);
        self.frame(&frame, ingress)
    }

    /// Runs a frame in both, and compares what becomes of it.
    fn frame(&mut self, frame: &[u8], ingress: u32) -> Result<(), String> {
        let flow = self.model.flow(frame);
        let (action, bytes) = self.kernel.run(ingress, frame);
        let is_looked_up =
            Model::addresses(frame).is_some_and(|(from, to)| self.kernel.looks_up(from, to));
        let chosen = flow.and_then(|flow| self.kernel.backend_of(&flow));
        // Where no source port was free, the ports that were tried tell whose they were.
        let tried = || {
            let moved = |id: &u32| self.kernel.ports_taken(*id) != self.model.ports_taken(*id);
            (action == DROP).then(|| (0..ids()).find(moved)).flatten()
        };
        let chosen = chosen.or_else(tried);
        let Outcome { verdict, action: expected, frame: mut right, unknown } =
            self.model.run(frame, ingress, Hint { chosen, is_looked_up });
        let mut got = bytes.clone();
        for bytes in [&mut got, &mut right] {
            if let Some(at) = unknown
                && let Some(field) = bytes.get_mut(at..at + 2)
            {
                field.fill(0);
            }
        }
        let mut what = String::new();
        let count = self.model.verdicts()[verdict];
        if self.kernel.verdict(verdict) != count {
            let given = self.kernel.given();
            let _ = writeln!(what, "verdicts: {given:?}, not {:?}", self.model.verdicts());
        }
        let code = match expected {
            Action::Drop => DROP,
            Action::Pass => 2,
            Action::Back => 3,
            Action::Away => 4,
        };
        if action != code {
            let _ = writeln!(what, "action {action}, not {code}");
        }
        if got != right {
            let differ =
                (0..got.len().max(right.len())).filter(|at| got.get(*at) != right.get(*at));
            let differ: Vec<usize> = differ.take(20).collect();
            let _ = writeln!(what, "bytes differ at {differ:?}");
        }
        if what.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{what}the model says {verdict}\n--- frame by interface {ingress}\n{}--- got\n{}\
             --- not\n{}",
            legible(frame),
            legible(&got),
            legible(&right)
        ))
    }

    /// Compares the tables.
    fn compare(&self) -> Result<(), String> {
        let given = self.kernel.given();
        if given != *self.model.verdicts() {
            return Err(format!("verdicts: {given:?}, not {:?}", self.model.verdicts()));
        }
        let mut expected = BTreeMap::new();
        for (flow, connection) in self.model.connections() {
            let entry = Entry {
                rewrite: (flow.destination, flow.source),
                client: connection.client,
                backend: connection.backend,
                service: connection.service,
                reverse: false,
                forwarding: connection.forwarding,
                attempts: connection.attempts,
                state: connection.state,
                place: connection.place,
                answer: connection.answer,
            };
            let Some(back) = connection.back else {
                // The flow's hash stands in the answer's place.
                let answer = 0;
                expected.insert(*flow, Entry { answer, ..entry });
                continue;
            };
            let there = (back.destination, back.source);
            expected.insert(back, Entry { reverse: true, answer: 0, ..entry.clone() });
            expected.insert(*flow, Entry { rewrite: there, ..entry });
        }
        let mut entries = self.kernel.entries();
        for (flow, entry) in &mut entries {
            if entry.forwarding != Forwarding::Nat {
                entry.answer = 0;
            }
            // Under DSR and in tunnels the rewrite is not used.
            if entry.forwarding != Forwarding::Nat {
                let back = flow.turned();
                entry.rewrite = (back.source, back.destination);
            }
        }
        let mut what = String::new();
        let flows: BTreeSet<&Flow> = entries.keys().chain(expected.keys()).collect();
        for flow in flows {
            let (is, should) = (entries.get(flow), expected.get(flow));
            if is != should {
                let _ = writeln!(what, "entry {flow:?} is\n  {is:?}, not\n  {should:?}");
            }
        }
        for id in 0..ids() {
            let (is, should) = (self.kernel.load(id), self.model.load(id));
            if self.kernel.ports_taken(id) != self.model.ports_taken(id) {
                let _ = writeln!(what, "backend {id} had another number of ports taken");
            }
            if is != should {
                let _ = writeln!(what, "backend {id} has\n  {is:?}, not\n  {should:?}");
            }
        }
        if what.is_empty() { Ok(()) } else { Err(what) }
    }

    /// Ends all connections, after which nobody has any.
    fn end(&self) -> Result<(), String> {
        let open = self.model.connections().count();
        let ended = usize::try_from(self.kernel.end_all()).unwrap();
        let left = self.kernel.entries();
        let mut what = String::new();
        if ended != open || !left.is_empty() {
            let _ = writeln!(what, "{ended} of {open} ended, left are {left:?}");
        }
        for id in 0..ids() {
            let load = self.kernel.load(id);
            if load.open != 0 || load.established != 0 || load.opened != load.closed {
                let _ = writeln!(what, "backend {id} has {load:?} after all ended");
            }
        }
        if what.is_empty() { Ok(()) } else { Err(what) }
    }
}

/// A frame in words and bytes, its payload cut.
fn legible(frame: &[u8]) -> String {
    let line = |line: &str| line.chars().take(200).chain(['\n']).collect();
    let bytes = format!("{:02x?}", &frame[..frame.len().min(200)]);
    let words: String = describe(frame).lines().map(line).collect::<Vec<String>>().concat();
    words + &bytes + "\n"
}

fn access(rules: &[Rule]) -> Access {
    let mut access = Access::default();
    let known = prefixes();
    let mut said = BTreeSet::new();
    for Rule(prefix, allowed) in rules {
        let at = usize::from(*prefix) % known.len();
        // One prefix is allowed or denied, not both.
        if said.insert(at) {
            if *allowed { &mut access.allow } else { &mut access.deny }.push(known[at]);
        }
    }
    access
}

/// Whether a service is of TCP.
pub fn is_tcp(service: u8) -> bool {
    SERVICES_AT[usize::from(service % SERVICES)].2 == TCP
}
