//! The daemon: `evenkeel run`, from the configuration file to the signal that ends it.
//!
//! Ending it, however it ends, leaves the data path at work.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use aya_log::EbpfLogger;
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::UnixListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};
use tracing::{error, info, warn};

use crate::{
    api::{self, Peer},
    config::{Config, HostFacts, Invalid, Loaded, Severity},
    controller::{
        Command, ConfigurationCommand, Connections, Controller, Manner, Setup,
        configuration::pending,
    },
    loader::{self, Attachments, Datapath, Manner as LoadManner, Pins},
};

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

/// Takes the lock that a running daemon holds on its data path.
///
/// # Errors
///
/// Where another process holds it.
pub fn lock(state_dir: &Path) -> Result<File> {
    fs::create_dir_all(state_dir)
        .with_context(|| format!("make directory {}", state_dir.display()))?;
    let path = state_dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            fs::write(&path, std::process::id().to_string())
                .with_context(|| format!("write {}", path.display()))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            bail!(
                "a daemon (process {}) works with {} already; stop it first, or choose another \
                 --state-dir",
                holder.trim(),
                state_dir.display()
            )
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock {}", path.display()))
        }
    }
}

/// Runs the daemon until SIGTERM or SIGINT; `manner` is how it loads the data path.
///
/// # Errors
///
/// [`Invalid`] for the configuration; other errors name what failed.
pub async fn run(paths: Paths, manner: LoadManner) -> Result<()> {
    // From now on, so that a reload that comes too early does not end the daemon.
    let reloads = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    let _lock = lock(&paths.state_dir)?;
    let pins = Pins::new(&paths.bpffs);
    let attached = pins.linked_interfaces()?;
    let check = || check_here(&paths.config, &attached);
    pending::recover(&paths.state_dir, &paths.config, || check().map(drop))?;
    let loaded = check()?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let listener = api::bind(&paths.socket).await?;
    pins.prepare()?;
    let mut datapath = loader::load(&pins, &loaded.config.tables, manner)?;
    if let Some(replacement) = &datapath.replacement {
        replacement.announce();
    } else if datapath.taken_over {
        info!(pins = %paths.bpffs.display(), "data path taken over, connections and counters kept");
        if datapath.sizes != loaded.config.tables {
            warn!(
                "[tables] asks for other sizes than the tables at work have ({:?}); they keep \
                 theirs until `evenkeel detach` and a new start",
                datapath.sizes
            );
        }
    }

    info!("the tables take about {} MB of kernel memory", loader::memory(&datapath.sizes) >> 20);
    if let Some(logger) = datapath.drops.take() {
        log_drops(logger).context("listen to the program's log")?;
    }
    let fresh = !datapath.taken_over;
    let result = control(&paths, loaded, datapath, &pins, (listener, reloads)).await;
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
    pins: &Pins,
    (listener, reloads): (UnixListener, Signal),
) -> Result<(), StartFailed> {
    let Datapath { programs, tables, connections, sizes, program, replacement, .. } = datapath;
    let node = loaded.config.node.clone();
    let mut attachments = Attachments::new(&program, pins, node.interfaces.clone(), node.xdp_mode)
        .map_err(StartFailed::BeforeTraffic)?;
    if replacement.is_none() {
        // Before the tables are written: over empty tables the program passes everything.
        attachments.attach().await.map_err(StartFailed::BeforeTraffic)?;
    }
    let setup = Setup {
        path: paths.config.clone(),
        state_dir: paths.state_dir.clone(),
        loaded,
        sizes,
        interfaces: node.interfaces,
        connections: Arc::new(Connections {
            table: connections,
            programs,
            capacity: sizes.connections,
        }),
    };
    let mut controller =
        Controller::new(Box::new(tables), setup).map_err(StartFailed::BeforeTraffic)?;
    controller.settle().await;
    if let Some(replacement) = replacement {
        // The old data path serves until the new one knows who is up.
        controller.judge_all().await;
        let done = replacement.commit();
        done.map_err(StartFailed::BeforeTraffic)?;
        attachments.attach().await.map_err(StartFailed::Later)?;
        info!("the data path is replaced");
    }
    controller.follow_interfaces(attachments.keep().await);
    let (commands, queue) = mpsc::channel(64);
    let stop = stop_signal().map_err(StartFailed::Later)?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        socket = %paths.socket.display(),
        "ready"
    );
    let control = tokio::spawn(controller.run(queue));
    // Without a sender of its own: the controller ends with the API.
    tokio::spawn(reload_on(reloads, commands.downgrade()));
    let served = api::serve(listener, commands, stop).await;
    // The last sender went with the server, so the controller ends.
    let ended = control.await.context("the controller ended by itself");
    drop(fs::remove_file(&paths.socket));
    info!("stopped; the data path goes on (`evenkeel detach` removes it)");
    served.and(ended).map_err(StartFailed::Later)
}

/// Takes up the configuration file at every SIGHUP.
async fn reload_on(mut signals: Signal, commands: mpsc::WeakSender<Command>) {
    while signals.recv().await.is_some() {
        let Some(commands) = commands.upgrade() else { return };
        let (reply, answer) = oneshot::channel();
        let reload = ConfigurationCommand::Reload(Manner::default(), Peer::named("signal"), reply);
        if commands.send(Command::Configuration(reload)).await.is_err() {
            return;
        }
        match answer.await {
            Ok(Ok(applied)) => {
                info!("reload: {}", applied.message);
                applied.warnings.iter().for_each(|warning| warn!("{warning}"));
            }
            Ok(Err(refused)) => {
                error!("reload refused; what is at work goes on");
                refused.to_string().lines().for_each(|line| error!("{line}"));
            }
            Err(_) => return,
        }
    }
}

/// Resolves at SIGTERM or SIGINT.
fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Removes a data path: detaches every interface and unpins everything. Returns the interfaces.
///
/// # Errors
///
/// Where a daemon still works with it, or a pin cannot be removed.
pub fn detach(paths: &Paths) -> Result<Vec<String>> {
    let _lock = lock(&paths.state_dir)?;
    Pins::new(&paths.bpffs).remove_all()
}
