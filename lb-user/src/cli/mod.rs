//! The command line: arguments, and which function answers which command.

mod alerts;
mod change;
mod configuration;
mod connections;
mod counters;
mod decap;
mod doctor;
mod events;
mod explain;
mod generate;
mod journal;
mod lifecycle;
mod node;
mod output;
mod place;
mod probe;
mod query;
mod read;
mod reference;
mod status;
mod store;
mod verify;

use std::{path::PathBuf, pin::Pin, time::Duration};

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use self::probe::ProbeArgs;
use crate::{
    admin::Span,
    api::Client,
    config::{Endpoint, Forwarding, Overload, Protocol, Scheduler, Tier},
    daemon::{self, Paths},
    loader::Manner,
    top,
};

/// An XDP layer-4 load balancer: shares connections equally, keeps watch over the servers behind
/// it, and answers from the kernel.
#[derive(Debug, Parser)]
#[command(name = "evenkeel", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    places: Places,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Places")]
struct Places {
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/evenkeel/evenkeel.toml")]
    config: PathBuf,
    /// Unix socket of the daemon's API
    #[arg(long, global = true, value_name = "PATH", default_value = "/run/evenkeel/evenkeel.sock")]
    socket: PathBuf,
    /// Directory of the daemon's state
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/evenkeel")]
    state_dir: PathBuf,
    /// Directory on bpffs where programs, links and maps are pinned
    #[arg(long, global = true, value_name = "DIR", default_value = "/sys/fs/bpf/evenkeel")]
    bpffs: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load, attach and control the data path; stay in the foreground
    ///
    /// SIGTERM and Ctrl-C end the daemon and leave the data path at work; the next `run` takes it
    /// over with its connections and counters.
    Run {
        /// Log every packet that the program drops, with its reason and addresses
        #[arg(long)]
        log_drops: bool,
        /// Replace a data path whose tables have another layout, as another version made it
        ///
        /// New tables are made beside those at work and filled, then the interfaces are swapped to them:
        /// no connection attempt fails. Open connections go on where their table's layout is still the
        /// same, and are cut where it is not; the refusal without this option says which. Without effect
        /// where the layout is this version's.
        #[arg(long)]
        replace_data_path: bool,
    },
    /// Show on one screen how everything is, what is wrong first
    ///
    /// Alerts, notices, backends that people took out, then the services. Those that are well are a line
    /// each where the screen has no room for their backends; `-o wide` shows every backend.
    ///
    /// With --fleet the edges that share a store stand side by side: their revisions, services, shares and
    /// alerts, and the backends that they see differently.
    Status {
        /// Every edge that shares the store of this one
        #[arg(long)]
        fleet: bool,
        #[command(flatten)]
        format: Format,
    },
    /// List, show, add, set and remove services
    #[command(subcommand)]
    Service(ServiceCommand),
    /// List, add, remove and weigh backends; take them out for a while and back
    #[command(subcommand)]
    Backend(BackendCommand),
    /// Drain this node, as one of several edges, and have it back
    #[command(subcommand)]
    Node(node::Command),
    /// Show the store that edges share their services in, and settle differences with it
    #[command(subcommand)]
    Store(store::Command),
    /// Say in one line whether traffic may come to this node, for keepalived and the like
    ///
    /// The exit code is 0 where it may, and 1 where not: no daemon answers, the node is drained, something is
    /// wrong with it, or the service (none named: every one) has fewer active backends than `min_active`.
    Healthcheck(node::HealthcheckArgs),
    /// Tell ExaBGP what to announce: for the `run` of a `process` in its configuration
    ///
    /// Writes commands of ExaBGP's text API to standard output, until ExaBGP ends it.
    Exabgp,
    /// Show what passed to and from each backend, and what became of every packet
    Counters(counters::CountersArgs),
    /// Show what is wrong, since when, by which numbers, and where to read what to do
    ///
    /// The most severe comes first. The exit code is 0 whether there are alerts or not; `-o wide` has the
    /// numbers, what cleared within the last hour, and how deliveries go.
    Alerts(Format),
    /// List, count and cut connections
    #[command(subcommand)]
    Connections(connections::Command),
    /// Show what changed: membership, states, configuration and health, with who and why
    ///
    /// With --follow it goes on as things happen, also over a restart of the daemon, until Ctrl-C.
    Events(events::EventsArgs),
    /// Watch services and backends in the terminal; take backends out and back
    ///
    /// Shares against fair shares, rates, handshake times, states, alerts and the last events. `?` tells the
    /// keys, `q` quits. Only what changed is sent to the terminal.
    Top {
        /// Time between two readings
        #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = counters::pause)]
        interval: f64,
    },
    /// Tell which backend a client's next connection to a service gets, and why
    ///
    /// Asks the running program, by its own tables, and changes nothing in them.
    Explain(explain::ExplainArgs),
    /// Check a configuration file and this host, changing nothing
    Check {
        /// File to check instead of --config's
        file: Option<PathBuf>,
        #[command(flatten)]
        format: Format,
    },
    #[command(flatten)]
    Configuration(configuration::Command),
    /// Try a configuration on the real program with synthetic connections, attached nowhere
    ///
    /// Says how the connections to each service are shared out, and how they are with each backend down
    /// in turn. Needs root, but no daemon and none of the configuration's interfaces; a balancer that
    /// runs is not disturbed. The exit code is 4 where the result is beyond the thresholds of [verify].
    Verify(verify::VerifyArgs),
    /// Unwrap the edges' IPIP and GUE packets on a backend; stay in the foreground
    ///
    /// Packets from the edges for the addresses given are taken out of their tunnel before the host
    /// sees them, so that it needs no tunnel device. All else is left to the host. SIGTERM and
    /// Ctrl-C end it and take the program off the interfaces.
    Decap(decap::DecapArgs),
    /// Remove the data path: detach every interface, drop connections and counters
    Detach,
    /// Examine this host: what disturbs the balancer or slows it down, and what to do about it
    ///
    /// Reads the configuration if there is one, and changes nothing. Without root it says what it could not
    /// see. The exit code is 1 where there is a problem; warnings and notes leave it at 0.
    Doctor(Format),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write every command's to a directory
    Man(generate::ManArgs),
    /// Write the documentation's reference pages
    #[command(hide = true)]
    Reference(reference::ReferenceArgs),
}

#[derive(Debug, Subcommand)]
enum ServiceCommand {
    /// List the services
    List(Format),
    /// Show one service with its backends
    Show {
        /// Name of the service
        service: String,
        #[command(flatten)]
        format: Format,
    },
    /// Add a service, in the running data path and the configuration file
    Add {
        /// Name of the service
        service: String,
        /// Virtual address and port, like `192.0.2.10:80`, `[2001:db8::10]:80`, or `192.0.2.10:*`
        /// for every port
        address: Endpoint,
        #[command(flatten)]
        traffic: Traffic,
        #[command(flatten)]
        probe: Box<ProbeArgs>,
    },
    /// Set a service's scheduler, in the running data path and the configuration file
    ///
    /// Open connections stay where they are.
    Set {
        /// Name of the service
        service: String,
        /// round-robin, least-connections, maglev, source-hash or random
        #[arg(long)]
        scheduler: Scheduler,
        /// Slots of the table of maglev and source-hash: a prime
        #[arg(long, value_name = "SLOTS")]
        table_size: Option<u32>,
    },
    /// Remove a service with its backends, in the running data path and the configuration file
    Remove {
        /// Name of the service
        service: String,
        /// Cut open connections instead of letting them finish
        #[arg(long)]
        now: bool,
    },
}

/// What a new service does with connections.
#[derive(Args, Debug)]
struct Traffic {
    /// tcp or udp
    #[arg(long, default_value = "tcp")]
    protocol: Protocol,
    /// round-robin, least-connections, maglev, source-hash or random
    #[arg(long, default_value = "round-robin")]
    scheduler: Scheduler,
    /// Slots of the table of maglev and source-hash: a prime [default: 65537]
    #[arg(long, value_name = "SLOTS")]
    table_size: Option<u32>,
    /// nat, dsr, ipip or gue
    #[arg(long, default_value = "nat")]
    forwarding: Forwarding,
    /// Keep the client's address (nat): the backends must route through this host
    #[arg(long)]
    no_snat: bool,
    /// UDP port of the backends for gue [default: 6080]
    #[arg(long, value_name = "PORT")]
    gue_port: Option<u16>,
    /// For how long after its last new connection a client keeps its backend, like `10m`
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    sticky: Option<Duration>,
    /// What becomes of new connections when every backend is full: reject or drop
    #[arg(long, default_value = "reject")]
    overload: Overload,
}

#[derive(Debug, Subcommand)]
enum BackendCommand {
    /// List the backends of all services or of one
    List {
        /// Name of the service
        service: Option<String>,
        #[command(flatten)]
        format: Format,
    },
    /// Add a backend, in the running data path and the configuration file
    Add {
        /// Name of the service
        service: String,
        /// Name of the backend
        backend: String,
        /// Its address and port, like `10.0.0.11:8080` or `[fd00::11]:8080`; `10.0.0.11:*` keeps
        /// the port that the client asked for
        address: Endpoint,
        /// Its share of new connections, relative to the other weights
        #[arg(long, default_value_t = 1)]
        weight: u16,
        /// primary, or backup: it joins while fewer than `min_active` primaries are active
        #[arg(long, default_value = "primary")]
        tier: Tier,
        /// Open connections that it takes at the most [default: any number]
        #[arg(long, value_name = "COUNT")]
        max_connections: Option<u32>,
    },
    /// Remove a backend, in the running data path and the configuration file
    Remove {
        /// Name of the service
        service: String,
        /// Name of the backend
        backend: String,
        /// Cut open connections instead of letting them finish
        #[arg(long)]
        now: bool,
        /// Even if fewer active backends than `min_active` stay
        #[arg(long)]
        force: bool,
    },
    /// Let a backend finish: no new connections until the time is up
    ///
    /// Open connections go on, and probes, too. When the time is up the backend returns by itself, once it is
    /// healthy.
    Drain(TakeOut),
    /// Take a backend out at once: no connections and no probes until the time is up
    ///
    /// Open connections are cut; `drain` first where they shall finish. When the time is up the backend
    /// returns by itself, once its probes pass.
    Maintain(TakeOut),
    /// Bring a backend back before its time is up
    Resume {
        /// Its name, in every service that has it; or SERVICE/BACKEND
        #[arg(value_name = "[SERVICE/]BACKEND")]
        backend: String,
    },
    /// Wait until a backend has no connection left, or gets new ones
    Wait {
        /// Its name, in every service that has it; or SERVICE/BACKEND
        #[arg(value_name = "[SERVICE/]BACKEND")]
        backend: String,
        /// What to wait for
        #[arg(long, value_enum)]
        until: Until,
        /// How long at the most; exit code 1 when it is over
        #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Set a backend's weight, in the running data path and the configuration file
    Weight {
        /// Name of the service
        service: String,
        /// Name of the backend
        backend: String,
        /// From 1, relative to the other weights
        weight: u16,
    },
}

/// How a backend is taken out.
#[derive(Args, Debug)]
struct TakeOut {
    /// Its name, in every service that has it; or SERVICE/BACKEND
    #[arg(value_name = "[SERVICE/]BACKEND")]
    backend: String,
    /// For how long, like 30m or 2h; or `forever`, until somebody resumes it
    #[arg(long = "for", value_name = "TIME")]
    span: Span,
    /// Why, for whoever finds it
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Even if fewer active backends than `min_active` stay
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Until {
    /// It is taken out, and its last connection has ended
    Drained,
    /// It gets new connections
    Active,
}

#[derive(Args, Clone, Copy, Debug)]
struct Format {
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table
    #[default]
    Table,
    /// A table with more columns
    Wide,
    /// JSON
    Json,
}

/// Arguments that contradict each other or what there is.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(String);

impl Cli {
    /// Does what the arguments say.
    ///
    /// # Errors
    ///
    /// `main` decides the exit code by the type of the error.
    pub fn run(self) -> Result<()> {
        let Places { config, socket, state_dir, bpffs } = self.places;
        let paths = Paths { config, socket, state_dir, bpffs };
        let client = Client::new(&paths.socket);
        let asked: Pin<Box<dyn Future<Output = Result<()>>>> = match self.command {
            // Before there are threads: it drops privileges, which are each thread's own.
            Command::Run { log_drops, replace_data_path } => {
                log();
                return daemon::run(paths, Manner { log_drops, replace: replace_data_path });
            }
            Command::Check { file, format } => {
                return read::check(file.as_deref(), &paths, format.output);
            }
            Command::Verify(args) => return verify::verify(&args, &paths.config),
            Command::Detach => return change::detach(&paths),
            Command::Completions { shell } => return generate::completions(shell),
            Command::Man(args) => return generate::man(&args),
            Command::Reference(args) => return reference::write(&args),
            Command::Doctor(format) => Box::pin(doctor::show(&paths, format.output)),
            Command::Status { fleet: true, format } => {
                Box::pin(store::fleet(&client, format.output))
            }
            Command::Status { format, .. } => Box::pin(status::show(&client, format.output)),
            Command::Store(command) => Box::pin(store::run(&client, command)),
            Command::Alerts(format) => Box::pin(alerts::show(&client, format.output)),
            Command::Node(command) => Box::pin(node::run(&client, command)),
            Command::Healthcheck(args) => {
                let client = &client;
                Box::pin(async move { node::healthcheck(client, &args).await })
            }
            Command::Exabgp => Box::pin(node::exabgp(&client)),
            Command::Service(ServiceCommand::List(format)) => {
                Box::pin(read::services(&client, format.output))
            }
            Command::Service(ServiceCommand::Show { service, format }) => {
                let client = &client;
                Box::pin(async move { read::service(client, &service, format.output).await })
            }
            Command::Service(command) => Box::pin(change::service(&client, command)),
            Command::Backend(BackendCommand::List { service, format }) => {
                let client = &client;
                Box::pin(
                    async move { read::backends(client, service.as_deref(), format.output).await },
                )
            }
            Command::Backend(command) => Box::pin(change::backend(&client, command)),
            Command::Counters(args) => {
                let client = &client;
                Box::pin(async move { counters::show(client, &args).await })
            }
            Command::Top { interval } => {
                let interval = Duration::from_secs_f64(interval);
                Box::pin(top::run(&paths.socket, interval, output::may_colour()))
            }
            Command::Events(args) => {
                let client = &client;
                Box::pin(async move { events::show(client, &args).await })
            }
            Command::Explain(args) => {
                let client = &client;
                Box::pin(async move { explain::show(client, &args).await })
            }
            Command::Connections(command) => Box::pin(connections::run(&client, command)),
            Command::Configuration(command) => {
                Box::pin(configuration::run(&client, command, &paths.config))
            }
            Command::Decap(args) => {
                log();
                Box::pin(decap::unwrap(args))
            }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = runtime.block_on(asked);
        runtime.shutdown_background();
        result
    }
}

/// Logs to the journal, with the fields of each line as its own, where stderr goes there anyway; else to
/// stderr. `RUST_LOG` chooses what.
fn log() {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into());
    let filter = match std::env::var("RUST_LOG") {
        Ok(wanted) => filter.parse_lossy(wanted),
        // Each attempt of Kubernetes' client that fails is told by us, once.
        Err(_) => filter.parse_lossy("info,kube_client=off"),
    };
    if let Some(journal) = journal::layer() {
        return tracing_subscriber::registry().with(filter).with(journal).init();
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()) && output::may_colour())
        .with_target(false)
        .init();
}
