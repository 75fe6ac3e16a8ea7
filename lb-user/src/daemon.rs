//! The daemon: `evenkeel run`, from the configuration file to the signal that ends it.
//!
//! Ending it, however it ends, leaves the data path at work.
//!
//! What needs every privilege is done first, by one thread: opening the socket, loading the program, opening
//! the pinned tables. Then the daemon drops what it needs no more, and only then it serves.

mod manager;
mod privileges;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya_log::EbpfLogger;
use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{Signal as Hangups, SignalKind, signal},
    sync::mpsc,
    time::timeout,
};
use tracing::{error, info, warn};

use crate::{
    admin::store as exceptions,
    alerts,
    announce::{self, Announcer},
    api::{
        self, Peer, Socket,
        configuration::{Reload, take_up},
    },
    config::{Config, HostFacts, Invalid, Loaded, Severity, sweep_unfinished},
    controller::{Command, Connections, Controller, Setup, configuration::pending},
    discovery,
    events::{Events, Kind, Note},
    http,
    loader::{self, Attachments, Datapath, Explain, Grip, Manner, Pins},
    lock,
    store::{Kept, Store, kept},
};

/// How a start goes that finds a data path at work.
const TAKEN_OVER: &str = "data path taken over, connections and counters kept";
/// How long a daemon that stops waits for its last events to be stored.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where a daemon's things are.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The configuration file.
    pub config: PathBuf,
    /// The API's socket.
    pub socket: PathBuf,
    /// The directory of the state.
    pub state_dir: PathBuf,
    /// The directory of the pins.
    pub bpffs: PathBuf,
}

/// Hands on what the program says of dropped packets to the log, for as long as the daemon lives.
fn log_drops(logger: EbpfLogger<&'static dyn log::Log>) -> Result<()> {
    // SAFETY: the logger owns its map's descriptor, and gives out the same one until it is dropped.
    let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE)? };
    tokio::spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
    Ok(())
}

/// Reads the configuration and checks it against this host. Warnings are in the result.
///
/// # Errors
///
/// [`Invalid`] with every diagnostic; other errors where the host cannot be asked.
pub fn check(path: &Path) -> Result<Loaded> {
    check_here(path, &[])
}

/// The same, where these interfaces may be missing: the data path at work has them.
fn check_here(path: &Path, may_be_missing: &[String]) -> Result<Loaded> {
    let mut loaded = Config::load(path)?;
    let facts = HostFacts::read().context("read this host's interfaces")?;
    let facts = facts.with_interfaces(may_be_missing);
    let mut found = loaded.check_host(&facts);
    if found.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        found.extend(loaded.warnings);
        found.sort_by_key(|diagnostic| diagnostic.position);
        return Err(Invalid { diagnostics: found }.into());
    }
    loaded.warnings.extend(found);
    loaded.warnings.sort_by_key(|diagnostic| diagnostic.position);
    Ok(loaded)
}

/// Takes the lock that a running daemon holds on its state.
///
/// # Errors
///
/// Where another process holds it: says which.
pub fn lock(state_dir: &Path) -> Result<File> {
    fs::create_dir_all(state_dir)
        .with_context(|| format!("make directory {}", state_dir.display()))?;
    lock::take(state_dir, "--state-dir")
}

/// Lets this process open as many files as it may: each probe under way needs a socket.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if limit != raised
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        warn!("cannot raise the limit of open files from {:?}: {error}", limit.current);
    }
}

/// Runs the daemon until SIGTERM or SIGINT; `manner` is how it loads the data path.
///
/// # Errors
///
/// [`Invalid`] for the configuration; other errors name what failed.
pub fn run(paths: Paths, manner: Manner) -> Result<()> {
    // Held back from now on, so that a reload that comes too early does not end the daemon.
    hangups().thread_block().context("hold back SIGHUP")?;
    raise_limit();
    let prepared = prepare(paths, manner)?;
    let state = |name| prepared.paths.state_dir.join(name);
    privileges::keep_needed([&prepared.paths.config, &state("history"), &state("events")])?;
    prepared.events.keep()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(prepared));
    runtime.shutdown_background();
    result
}

fn hangups() -> SigSet {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGHUP);
    signals
}

/// A daemon that has loaded, and serves nobody yet.
struct Prepared {
    paths: Paths,
    loaded: Loaded,
    socket: Socket,
    datapath: Datapath,
    events: Events,
    pins: Pins,
    pins_lock: File,
    _state_lock: File,
}

fn prepare(paths: Paths, manner: Manner) -> Result<Prepared> {
    let state_lock = lock(&paths.state_dir)?;
    let state = &paths.state_dir;
    let alerts = alerts::path(state);
    let (exceptions, kept) = (exceptions::path(state), kept::path(state));
    let discovered = discovery::store::path(state);
    for file in [&paths.config, &exceptions, &pending::file(state), &alerts, &kept, &discovered] {
        sweep_unfinished(file);
    }
    let events = Events::open(&paths.state_dir);
    let pins = Pins::new(&paths.bpffs);
    let attached = pins.linked_interfaces()?;
    let check = || check_here(&paths.config, &attached);
    pending::recover(&paths.state_dir, &paths.config, &events, || check().map(drop))?;
    let loaded = check()?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let socket = api::bind(&paths.socket)?;
    let pins_lock = pins.lock()?;
    pins.prepare()?;
    let datapath = loader::load(&pins, &loaded.config.tables, manner)?;
    if let Some(replacement) = &datapath.replacement {
        replacement.announce();
    } else if datapath.taken_over {
        info!(pins = %paths.bpffs.display(), "{TAKEN_OVER}");
        if datapath.sizes != loaded.config.tables {
            warn!(
                "[tables] asks for other sizes than the tables at work have ({:?}); they keep \
                 theirs until `evenkeel detach` and a new start",
                datapath.sizes
            );
        }
    }
    Ok(Prepared {
        paths,
        loaded,
        socket,
        datapath,
        events,
        pins,
        pins_lock,
        _state_lock: state_lock,
    })
}

async fn serve(prepared: Prepared) -> Result<()> {
    let Prepared { paths, loaded, socket, mut datapath, events, pins, pins_lock, _state_lock } =
        prepared;
    let reloads = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    hangups().thread_unblock().context("take SIGHUP")?;
    info!("the tables take about {} MB of kernel memory", loader::memory(&datapath.sizes) >> 20);
    if let Some(logger) = datapath.drops.take() {
        log_drops(logger).context("listen to the program's log")?;
    }
    let fresh = !datapath.taken_over;
    let served = (socket, reloads, events.clone());
    // On the heap: a controller is large.
    let result = Box::pin(control(&paths, loaded, datapath, (&pins, pins_lock), served)).await;
    events.close(LAST_WORDS);
    if fresh && let Err(StartFailed::BeforeTraffic(_)) = &result {
        // Nothing was balanced yet: leave no trace.
        drop(pins.remove_all());
    }
    result.map_err(StartFailed::into_error)
}

/// How far a daemon came that failed.
enum StartFailed {
    /// No service was ready.
    BeforeTraffic(anyhow::Error),
    /// The data path was at work.
    Later(anyhow::Error),
}

impl StartFailed {
    fn into_error(self) -> anyhow::Error {
        match self {
            Self::BeforeTraffic(error) | Self::Later(error) => error,
        }
    }
}

/// Attaches the program and controls the data path until a signal ends the daemon.
async fn control(
    paths: &Paths,
    loaded: Loaded,
    datapath: Datapath,
    (pins, pins_lock): (&Pins, File),
    (socket, reloads, events): (Socket, Hangups, Events),
) -> Result<(), StartFailed> {
    let Datapath { programs, tables, connections, sizes, taken_over, program, replacement, .. } =
        datapath;
    let node = loaded.config.node.clone();
    let mut attachments = Attachments::new(&program, pins, node.interfaces.clone(), node.xdp_mode)
        .map_err(StartFailed::BeforeTraffic)?;
    if replacement.is_none() {
        // Before the tables are written: over empty tables the program passes everything.
        attachments.attach().await.map_err(StartFailed::BeforeTraffic)?;
    }
    let grip = Grip::take(pins.clone(), pins_lock).map_err(StartFailed::BeforeTraffic)?;
    let (http, readers) = http::listener();
    let announcer = Announcer::start(&paths.state_dir);
    let (store, told) = join_store(paths, &loaded);
    if let Some(told) = told {
        events.tell(Note::new(Kind::Trouble, told).warning());
    }
    let leaving = store.as_ref().map(|(store, _)| store.clone());
    let (explain, capacity) = (Explain::new(pins.clone()), sizes.connections);
    let connections = Arc::new(Connections { table: connections, programs, explain, capacity });
    let table = Arc::clone(&connections);
    let setup = Setup {
        http,
        grip,
        path: paths.config.clone(),
        state_dir: paths.state_dir.clone(),
        loaded,
        sizes,
        interfaces: node.interfaces,
        events: events.clone(),
        connections,
        announcer: announcer.clone(),
        store,
    };
    let mut controller =
        Controller::new(Box::new(tables), setup).map_err(StartFailed::BeforeTraffic)?;
    if !taken_over || replacement.is_some() {
        // Otherwise nobody waits for it: what was at work goes on.
        controller.settle().await;
    }
    let mut over = if taken_over { TAKEN_OVER } else { "a new data path" };
    if let Some(replacement) = replacement {
        over = "a new data path, in the place of one with another layout";
        // The old data path serves until the new one knows who is up.
        controller.judge_all().await;
        let done = replacement.commit();
        done.map_err(StartFailed::BeforeTraffic)?;
        attachments.attach().await.map_err(StartFailed::Later)?;
        controller.hold_pins_anew().map_err(StartFailed::Later)?;
        info!("the data path is replaced");
    }
    controller.follow_interfaces(attachments.keep(events.clone()).await);
    let (commands, queue) = mpsc::channel(64);
    let stop = stop_signal(events.clone(), announcer).map_err(StartFailed::Later)?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        socket = %paths.socket.display(),
        "ready"
    );
    let version = env!("CARGO_PKG_VERSION");
    events.note(Note::new(Kind::Started, format!("evenkeel {version} started: {over}")));
    let control = tokio::spawn(controller.run(queue));
    tokio::spawn(readers.serve(commands.downgrade(), events.clone()));
    // Without a sender of its own: the controller ends with the API.
    tokio::spawn(reload_on(reloads, commands.downgrade()));
    tokio::spawn(manager::tell(commands.downgrade()));
    let served = api::serve(socket, commands, events, table, stop).await;
    // The last sender went with the server, so the controller ends.
    let ended = control.await.context("the controller ended by itself");
    if let Some(store) = leaving {
        // Its name is free at once; that it is gone is told by its report, which stays.
        drop(timeout(LAST_WORDS, store.leave()).await);
    }
    drop(fs::remove_file(&paths.socket));
    info!("stopped; the data path goes on (`evenkeel detach` removes it)");
    served.and(ended).map_err(StartFailed::Later)
}

/// Begins to talk to the store, where edges share one; what was taken from it last comes along.
fn join_store(paths: &Paths, loaded: &Loaded) -> (Option<(Store, Kept)>, Option<String>) {
    let Some(settings) = loaded.config.store.clone() else { return (None, None) };
    let (kept, told) = Kept::recover(&paths.state_dir);
    let edge = settings.edge();
    info!(edge, prefix = settings.prefix, "services are shared with other edges in etcd");
    (Some((Store::start(settings, kept.id.clone()), kept)), told)
}

/// Takes up the configuration file at every SIGHUP.
async fn reload_on(mut signals: Hangups, commands: mpsc::WeakSender<Command>) {
    while signals.recv().await.is_some() {
        let Some(commands) = commands.upgrade() else { return };
        match take_up(&commands, Reload::default(), Peer::named("signal")).await {
            Ok(applied) => {
                info!("reload: {}", applied.message);
                applied.warnings.iter().for_each(|warning| warn!("{warning}"));
            }
            Err(refused) => {
                error!("reload refused; what is at work goes on");
                refused.to_string().lines().for_each(|line| error!("{line}"));
            }
        }
    }
}

/// Resolves at SIGTERM or SIGINT, once what is announced is withdrawn; those who follow the events are told,
/// and sent home.
fn stop_signal(
    events: Events,
    announcer: Announcer,
) -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    Ok(async move {
        let signal = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        manager::stopping();
        // While the data path, and whoever asks, is served: traffic leaves before anything else does.
        announcer.stop().await;
        let message = format!("evenkeel stops at {signal}; the data path goes on");
        events.note(Note::new(Kind::Stopped, message).because(signal));
        events.end();
    })
}

/// Removes a data path: detaches every interface and unpins everything. Returns the interfaces.
///
/// # Errors
///
/// Where a daemon still works with it, or a pin cannot be removed.
pub fn detach(paths: &Paths) -> Result<Vec<String>> {
    let _lock = lock(&paths.state_dir)?;
    let pins = Pins::new(&paths.bpffs);
    let _pins_lock = if pins.root().exists() { Some(pins.lock()?) } else { None };
    // First: nobody shall send here what is not balanced any more.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for address in runtime.block_on(announce::clean_up(&paths.state_dir))? {
        info!(%address, "withdrawn: a daemon that crashed had left it announced");
    }
    pins.remove_all()
}
