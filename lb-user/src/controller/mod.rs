//! The controller: keeps the data path's tables true to configuration, health and routes.
//!
//! One task owns it all and takes one event at a time. Every event ends in the same place: plan the
//! tables anew and write the difference.

mod administer;
mod agents;
mod alerts;
mod announcing;
mod apply;
mod change;
mod condition;
pub mod configuration;
mod discovered;
mod fleet;
mod former;
mod guard;
mod history;
mod interfaces;
mod load;
mod look;
mod news;
mod node;
mod passive;
mod pins;
mod probes;
mod pulse;
mod ramp;
mod report;
mod retired;
mod start;
mod sweep;
mod ways;
mod windows;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::error;

pub(crate) use self::apply::Applier;
pub use self::{
    administer::{Administer, Wish},
    change::{Change, Refused},
    configuration::{ConfigurationCommand, Manner, OnDisk},
    fleet::{FleetCommand, Outcome, Proposed, Settled, Trial},
    history::Entry,
    node::NodeWish,
    sweep::Connections,
};
use self::{
    condition::{Clock, Condition},
    load::Meter,
    probes::BackendKey,
    retired::Retired,
    sweep::Swept,
    ways::Lost,
};
use crate::{
    admin::{AdminState, store as exceptions_file},
    alerts::Desk,
    announce::{self, Announcer},
    api::{
        Peer,
        model::{Alerts, Changed, Counters, Fitness, Status},
    },
    config::{HostFacts, Loaded},
    connections::Directory,
    discovery,
    events::{Events, Kind, Note},
    explain,
    health::{self, AgentChange, Agents, Health, Monitor},
    http,
    loader::{Grip, Interfaces, Sizes},
    nexthop::{self, Resolver},
    plan::{self, Facts, Tables, Way},
    store::{self, Kept, Store},
};

/// How long neighbours may take to answer before that is news, and before a daemon that starts goes
/// on without them.
const SETTLING: Duration = Duration::from_secs(1);

/// Something that is asked of the controller.
pub enum Command {
    /// How things stand, in one line.
    Summary(oneshot::Sender<String>),
    /// What keeps the data path from balancing as it should; empty: nothing.
    Readiness(oneshot::Sender<Vec<String>>),
    /// The state of everything.
    Status(oneshot::Sender<Result<Status>>),
    /// The counters.
    Counters(oneshot::Sender<Result<Counters>>),
    /// What is wrong, and what was lately.
    Alerts(oneshot::Sender<Alerts>),
    /// The names of services and backends by their ids.
    Directory(oneshot::Sender<Directory>),
    /// How a service stands.
    Standing(String, oneshot::Sender<Result<explain::Facts, Refused>>),
    /// A change of the configuration.
    Change(Box<Change>, Peer, oneshot::Sender<Result<Outcome<Changed>, Refused>>),
    /// A backend is taken out for a while, or back.
    Administer(Box<Administer>, oneshot::Sender<Result<Outcome<Changed>, Refused>>),
    /// The node is drained, or back.
    Node(NodeWish, Peer, oneshot::Sender<Result<Changed, Refused>>),
    /// Whether this node can serve a service; none named: any.
    Fitness(Option<String>, oneshot::Sender<Result<Fitness, Refused>>),
    /// What ExaBGP shall announce.
    Announced(oneshot::Sender<BTreeSet<IpAddr>>),
    /// What is asked about the configuration as a whole.
    Configuration(ConfigurationCommand),
    /// What is asked about the edges that share a store.
    Fleet(FleetCommand),
}

/// What a controller begins with.
pub struct Setup {
    /// The configuration file.
    pub path: PathBuf,
    /// The directory of the state.
    pub state_dir: PathBuf,
    /// What is in it.
    pub loaded: Loaded,
    /// The tables' sizes.
    pub sizes: Sizes,
    /// The interfaces.
    pub interfaces: Vec<String>,
    /// The connection tables.
    pub connections: Arc<Connections>,
    /// The grip on the pins.
    pub grip: Grip,
    /// The listener for readers.
    pub http: http::Handle,
    /// Where changes are noted.
    pub events: Events,
    /// Who announces addresses.
    pub announcer: Announcer,
    /// The store that edges share, and what was taken from it last.
    pub store: Option<(Store, Kept)>,
}

/// The controller.
pub struct Controller {
    path: PathBuf,
    loaded: Loaded,
    state_dir: PathBuf,
    sizes: Sizes,
    interfaces: Vec<String>,
    indices: interfaces::Indices,
    applier: Applier,
    connections: Arc<Connections>,
    timing: sweep::Shared,
    /// What the host has, as it was last seen.
    host: HostFacts,
    monitor: Monitor<BackendKey>,
    condition: Condition,
    meter: Meter,
    windows: windows::Windows,
    pulse: pulse::Pulse,
    clock: Clock,
    turn: look::Turn,
    last_look: Instant,
    /// When the next look is due, and how late one was since the last facts.
    look_due: Instant,
    look_late: Duration,
    alerts: Desk,
    balance: alerts::Balance,
    next_reminder: Instant,
    audit: look::Audit,
    pins: pins::Keeper,
    asked: Agents<BackendKey>,
    agents_wanted: HashSet<BackendKey>,
    resolver: Resolver,
    ways: HashMap<IpAddr, Way>,
    unresolved: BTreeMap<IpAddr, Lost>,
    retired: Retired,
    entries: u64,
    started: Instant,
    sources: Sources,
    events: Events,
    told: news::Told,
    configuration: configuration::Keeper,
    http: http::Handle,
    announcer: Announcer,
    announced: announce::Desk,
    formers: former::Formers,
    fleet: Option<fleet::Fleet>,
    discovery: discovered::Discovery,
}

/// Where what happens comes from.
struct Sources {
    health: mpsc::Receiver<health::Change<BackendKey>>,
    agents: mpsc::Receiver<AgentChange<BackendKey>>,
    next_hops: mpsc::Receiver<nexthop::Update>,
    swept: mpsc::Receiver<Swept>,
    discovered: mpsc::Receiver<discovery::News>,
    attached: Interfaces,
    store: watch::Receiver<store::State>,
}

/// What the controller handles, one at a time.
enum Event {
    Command(Command),
    Health(health::Change<BackendKey>),
    Agent(AgentChange<BackendKey>),
    NextHop(nexthop::Update),
    Swept(Swept),
    Discovered(discovery::News),
    Attached,
    Look,
    ConfigurationDue,
    AnnouncementDue,
    Store,
}

impl Controller {
    /// Takes over a data path and makes it what the configuration says. Must be called inside a
    /// runtime.
    ///
    /// # Errors
    ///
    /// Where the tables cannot be read or written, or have no room for the configuration.
    pub fn new(dataplane: Box<dyn crate::dataplane::Dataplane>, setup: Setup) -> Result<Self> {
        let Setup { path, loaded, state_dir, sizes, interfaces, connections, grip, .. } = setup;
        let Setup { http, events, announcer, store, .. } = setup;
        let (exceptions, unreadable) = exceptions_file::recover(&state_dir)?;
        if let Some(unreadable) = unreadable {
            events.tell(Note::new(Kind::Trouble, unreadable).error());
        }
        let clock = Clock::new();
        let (alerts, trouble) = Desk::resume(&state_dir, Instant::now(), clock.now());
        if let Some(trouble) = trouble {
            events.tell(Note::new(Kind::Trouble, trouble).warning());
        }
        let configuration = configuration::Keeper::open(&state_dir, &path, &loaded, &events)?;
        let (discovery, discovered) =
            discovered::Discovery::open(&state_dir, &loaded.config, sizes.backends, &events);
        let loaded = discovery.effective(loaded);
        let applier = Applier::new(dataplane).context("read the data path's tables")?;
        let told = news::Told::known(applier.held());
        let (health_changes, health_events) = mpsc::channel(1024);
        let (agent_changes, agent_events) = mpsc::channel(1024);
        let (updates, next_hops) = mpsc::channel(1024);
        let (found, swept) = mpsc::channel(1);
        let (tell_move, moves) = mpsc::channel(64);
        let (resolver, _) = Resolver::start(updates, tell_move);
        tokio::spawn(interfaces::follow_moves(Arc::clone(&connections), moves));
        let (_, attached) = watch::channel(Vec::new());
        let shared = store.as_ref().map_or_else(fleet::nobody, |(store, _)| store.watch());
        let timing = sweep::Shared::default();
        sweep::start(Arc::clone(&connections), Arc::clone(&timing), found)?;
        let mut controller = Self {
            condition: Condition {
                exceptions,
                health: start::known_health(&loaded, applier.held()),
                ..Condition::default()
            },
            meter: Meter::default(),
            windows: windows::Windows::default(),
            pulse: pulse::Pulse::default(),
            clock,
            turn: look::Turn::default(),
            last_look: Instant::now(),
            look_due: Instant::now(),
            look_late: Duration::ZERO,
            alerts,
            balance: alerts::Balance::default(),
            next_reminder: Instant::now(),
            audit: look::Audit::new(),
            pins: pins::Keeper::new(grip),
            state_dir,
            ways: start::known_ways(applier.held()),
            path,
            loaded,
            sizes,
            interfaces,
            indices: interfaces::Indices::new(),
            applier,
            connections,
            timing,
            host: HostFacts::read().context("read this host's interfaces")?,
            monitor: Monitor::new(health_changes),
            asked: Agents::new(agent_changes),
            agents_wanted: HashSet::new(),
            resolver,
            unresolved: BTreeMap::new(),
            retired: Retired::default(),
            entries: 0,
            started: Instant::now(),
            sources: Sources {
                health: health_events,
                agents: agent_events,
                next_hops,
                swept,
                discovered,
                attached,
                store: shared,
            },
            told,
            events,
            configuration,
            http,
            announcer,
            announced: announce::Desk::default(),
            formers: former::Formers::default(),
            fleet: store.map(|(store, kept)| fleet::Fleet::new(store, kept)),
            discovery,
        };
        controller.end_exceptions();
        controller.follow_configuration();
        let wanted = controller.plan(&controller.loaded)?;
        controller.applier.apply(&wanted).context("write the data path's tables")?;
        controller.note_retired();
        controller.note_timing();
        Ok(controller)
    }

    /// Handles events and commands until the commands' sender is gone.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut next_look = Instant::now();
        loop {
            let event = tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => Event::Command(command),
                    None => return self.finish(),
                },
                Some(change) = self.sources.health.recv() => Event::Health(change),
                Some(change) = self.sources.agents.recv() => Event::Agent(change),
                Some(update) = self.sources.next_hops.recv() => Event::NextHop(update),
                Some(swept) = self.sources.swept.recv() => Event::Swept(swept),
                Some(news) = self.sources.discovered.recv() => Event::Discovered(news),
                Ok(()) = self.sources.attached.changed() => Event::Attached,
                () = tokio::time::sleep_until(next_look.into()) => Event::Look,
                () = self.configuration.due() => Event::ConfigurationDue,
                () = announcing::due(&self.announced) => Event::AnnouncementDue,
                Ok(()) = self.sources.store.changed() => Event::Store,
                () = fleet::due(self.fleet.as_ref()) => Event::Store,
            };
            let began = Instant::now();
            if let Some(next) = self.handle(event).await {
                next_look = next;
            }
            self.pulse.note(began.elapsed());
        }
    }

    /// Has the last alerts stored, and says what ends with the daemon.
    fn finish(&mut self) {
        self.alerts.keep(&self.loaded.config.alerts, Instant::now());
        self.alerts.finish();
        self.discovery.finish();
        self.say_goodbye();
    }

    /// Handles an event, and those of its kind that wait; tells when to look again where it was a look.
    async fn handle(&mut self, event: Event) -> Option<Instant> {
        match event {
            Event::Command(command) => self.command(command).await,
            Event::Health(change) => {
                self.note_health(change);
                while let Ok(change) = self.sources.health.try_recv() {
                    self.note_health(change);
                }
                self.update();
            }
            Event::Agent(change) => {
                self.note_agent(change);
                while let Ok(change) = self.sources.agents.try_recv() {
                    self.note_agent(change);
                }
                self.update();
            }
            Event::NextHop(update) => {
                self.note_next_hop(update);
                while let Ok(update) = self.sources.next_hops.try_recv() {
                    self.note_next_hop(update);
                }
                self.update();
            }
            Event::Swept(swept) => self.note_swept(&swept),
            Event::Discovered(news) => self.note_discovered(news),
            Event::Attached => self.note_interfaces(),
            Event::Look => return Some(self.look()),
            Event::ConfigurationDue => self.configuration_due(),
            Event::AnnouncementDue => self.announce(Instant::now()),
            Event::Store => self.follow_store().await,
        }
        None
    }

    async fn command(&mut self, command: Command) {
        // A client that went away meanwhile needs no answer.
        match command {
            Command::Summary(reply) => drop(reply.send(self.summary())),
            Command::Readiness(reply) => drop(reply.send(self.readiness())),
            Command::Status(reply) => drop(reply.send(self.status())),
            Command::Counters(reply) => drop(reply.send(self.counters())),
            Command::Alerts(reply) => drop(reply.send(self.told_alerts())),
            Command::Directory(reply) => drop(reply.send(Directory::of(self.applier.held()))),
            Command::Standing(service, reply) => drop(reply.send(self.standing(&service))),
            Command::Administer(asked, reply) => {
                drop(reply.send(self.administer(*asked).await));
            }
            Command::Node(wish, peer, reply) => {
                drop(reply.send(self.administer_node(wish, &peer)));
            }
            Command::Fitness(service, reply) => {
                drop(reply.send(self.fitness(service.as_deref())));
            }
            Command::Announced(reply) => drop(reply.send(self.announcer.ask())),
            Command::Change(change, peer, reply) => {
                drop(reply.send(self.change(*change, &peer).await));
            }
            Command::Configuration(command) => self.configuration_command(command),
            Command::Fleet(command) => self.fleet_command(command).await,
        }
    }

    /// The tables for a configuration and what is known.
    fn plan(&self, loaded: &Loaded) -> Result<Tables, plan::PlanError> {
        let mut config = loaded.config.clone();
        config.tables = self.sizes;
        let facts = Facts {
            standings: self.condition.standings(&config, Instant::now()),
            ways: self.ways.clone(),
            least_mtu: self.host.least_mtu(&self.interfaces),
            host_addresses: self.host.addresses(),
            ages: self.formers.ages(Instant::now()),
        };
        plan::build(&config, &facts, self.applier.held())
    }

    /// Plans and writes the difference. What fails is said and tried again at the next event.
    fn update(&mut self) {
        let written = self
            .plan(&self.loaded)
            .map_err(anyhow::Error::from)
            .and_then(|wanted| self.applier.apply(&wanted));
        self.audit.is_behind = written.is_err();
        if let Err(error) = written {
            error!("the data path is behind: {error:#}");
        }
        self.formers.note(&self.applier, Instant::now());
        self.note_joined();
        self.note_retired();
        self.note_timing();
        self.tell_changes();
        self.announce(Instant::now());
    }

    /// Notes who gets new connections: from now on its share grows.
    fn note_joined(&mut self) {
        let now = Instant::now();
        let config = self.loaded.config.index();
        for entry in self.applier.held().backends.values().filter(|entry| entry.active) {
            let service = config.service(&entry.service);
            let over = service.and_then(|service| service.availability.slow_start);
            let key = (entry.service.clone(), entry.name.clone());
            self.condition.ramps.joined(&key, over, now);
        }
    }

    /// Starts and stops probes and resolutions as the configuration says.
    fn follow_configuration(&mut self) {
        let config = &self.loaded.config;
        self.discovery.follow(config);
        self.http.listen(config.http.listen);
        let Condition { health, exceptions, .. } = &self.condition;
        let mut probes =
            probes::wanted(config, |key| health.get(key).copied().unwrap_or(Health::Unknown));
        // Who is in maintenance is left alone, and is nothing but unknown when it returns.
        probes.retain(|(key, ..)| exceptions.state(key) != AdminState::Maintenance);
        let keys: HashSet<_> = probes.iter().map(|(key, ..)| key.clone()).collect();
        let mut agents = probes::agents(config);
        agents.retain(|(key, ..)| exceptions.state(key) != AdminState::Maintenance);
        self.monitor.set(probes);
        self.condition.health.retain(|key, _| keys.contains(key));
        self.agents_wanted = agents.iter().map(|(key, _)| key.clone()).collect();
        self.condition.agents.retain(|key, _| self.agents_wanted.contains(key));
        self.asked.set(agents);
        self.alerts.follow(&config.alerts, Instant::now());
        let configured = config.services.iter().flat_map(|service| &service.backends);
        let retiring = self.applier.held().backends.values().map(|entry| entry.address.ip());
        let targets = configured.map(|backend| backend.address.ip()).chain(retiring).collect();
        self.resolver.set_targets(targets);
    }
}
