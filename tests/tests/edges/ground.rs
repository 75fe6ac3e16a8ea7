//! The ground: a fleet with a server on every backend and a balancer on every edge, and what the router knows.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{
    decap::Decap,
    evenkeel::Balancer,
    modes::Mode,
    netns::succeeded,
    process::Process,
    servers::{Nginx, PORT, big_file},
    settings::{HTTP_PROBE, Service, Settings},
    topology::{Family, Fleet, Host},
    wait::{PATIENCE, eventually},
};
use serde_json::Value;
use tempfile::TempDir;

/// Megabytes of a download.
const BIG: usize = 48;
/// Backends at the start.
const BACKENDS: usize = 3;

/// Where documented configurations are.
pub fn documented(name: &str) -> String {
    format!("{}/../docs/announce/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The fields are dropped in order: balancers detach first.
pub struct Ground {
    pub balancers: Vec<Balancer>,
    /// Routing daemons and the like.
    pub speakers: Vec<Process>,
    _nginx: Vec<Nginx>,
    _decaps: Vec<Decap>,
    pub fleet: Fleet,
    directory: TempDir,
}

impl Ground {
    /// Starts servers and balancers on a fleet, with these lines before the services and these of the service.
    pub fn new(mut fleet: Fleet, mode: Mode, announce: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("evenkeel-edges-").tempdir()?;
        let files = directory.path().join("files");
        fs::create_dir(&files)?;
        big_file(&files.join("big"), BIG)?;
        // One stands by, to be added later.
        fleet.add_backend()?;
        let mut decaps = Vec::new();
        if mode.answers_directly() {
            fleet.backends.iter().try_for_each(Host::hold_virtual_addresses)?;
        }
        if matches!(mode, Mode::Ipip(_)) {
            for host in &fleet.backends {
                let inside = |family| fleet.inside(0, family);
                decaps.push(Decap::start_for("decap-ipip", inside, host, directory.path())?);
            }
        }
        let start = |host| Nginx::start(host, directory.path(), &files);
        let nginx = fleet.backends.iter().map(start).collect::<Result<_>>()?;
        let text = text(&fleet, mode, announce);
        let mut balancers = Vec::new();
        for edge in &fleet.edges {
            let mut balancer = Balancer::prepare_on(edge, &text)?;
            balancer.run()?;
            balancers.push(balancer);
        }
        Ok(Self {
            balancers,
            speakers: Vec::new(),
            _nginx: nginx,
            _decaps: decaps,
            fleet,
            directory,
        })
    }

    /// A directory for the speakers' own files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The arguments of `backend add` for the one that stands by.
    pub fn spare(&self) -> (String, String) {
        let host = &self.fleet.backends[BACKENDS];
        (host.name.clone(), host.address(Family::V4, PORT).to_string())
    }

    /// Adds that backend on an edge.
    pub fn add_spare(&self, edge: usize) -> Result<()> {
        let (name, address) = self.spare();
        let arguments = ["backend", "add", "web", &name, &address];
        self.balancers[edge].cli(&arguments)?.success().map(drop)
    }

    /// Waits until the router sends to these edges, and no others.
    pub fn await_ways(&self, family: Family, edges: &[usize]) -> Result<()> {
        let address = |edge: &usize| self.fleet.edges[*edge].address(family, 0).ip().to_string();
        let mut wanted: Vec<_> = edges.iter().map(address).collect();
        wanted.sort();
        eventually(&format!("the router sends to {wanted:?}"), PATIENCE, || {
            let ways = self.ways(family)?;
            ensure!(ways == wanted, "it sends to {ways:?}");
            Ok(())
        })
    }

    /// The next hops of the router's way to the services' address.
    pub fn ways(&self, family: Family) -> Result<Vec<String>> {
        let mut command = self.fleet.router.namespace.command("ip");
        let version = if family == Family::V6 { "-6" } else { "-4" };
        command.args([version, "-json", "route", "show", &family.vip().to_string()]);
        let text = succeeded("ip route show", command.output().context("run ip")?)?;
        let routes: Value = serde_json::from_str(&text).unwrap_or_default();
        let mut ways = Vec::new();
        for route in routes.as_array().into_iter().flatten() {
            let hops = route["nexthops"].as_array();
            let hops = hops.map_or_else(|| vec![route], |hops| hops.iter().collect());
            let gateways = hops.into_iter().filter_map(|hop| hop["gateway"].as_str());
            ways.extend(gateways.map(str::to_owned));
        }
        ways.sort();
        Ok(ways)
    }

    /// Connections that each edge was given so far, taken over ones too.
    pub fn connections(&self, edge: usize) -> Result<u64> {
        let names = self.balancers[edge].backends("web")?;
        let count = |name: &String| Ok(self.balancers[edge].counters("web", name)?.connections);
        names.iter().map(count).sum()
    }
}

/// The configuration, the same on every edge.
fn text(fleet: &Fleet, mode: Mode, announce: &str) -> String {
    let forwarding = match mode {
        Mode::Nat | Mode::Transparent => "nat",
        Mode::Dsr => "dsr",
        Mode::Ipip(_) => "ipip",
        Mode::Gue(_) => "gue",
    };
    let services = [("web", Family::V4), ("web6", Family::V6)].map(|(name, family)| {
        let service = Service::web(name, family).at_port(PORT).probed(HTTP_PROBE);
        let service = service.forwarding(forwarding).line("scheduler = \"maglev\"");
        fleet.backends[..BACKENDS].iter().fold(service, |service, host| service.backend(host, 1))
    });
    let interfaces = vec!["front".to_owned(), "back".to_owned()];
    let settings = Settings { interfaces, services: services.to_vec() };
    // A table of the file stands before the services.
    settings.to_string().replacen("\n[[service]]", &format!("\n{announce}\n[[service]]"), 1)
}
