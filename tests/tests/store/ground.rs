//! The ground: edges side by side with a balancer each, a cluster that they are joined to, and a client for each edge.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{
    evenkeel::{Balancer, Outcome},
    load::{Load, Pattern, Report, requests},
    servers::{Etcd, TinyWeb},
    settings::{Service, Settings},
    topology::{Family, Fleet, Host},
    wait::{PATIENCE, eventually},
};
use serde_json::Value;

/// The first edge's number on the management network.
const FIRST: u8 = 11;
/// Tables of the default size take a second to be made.
pub const TABLES: &str =
    "[tables]\nconnections = 8192\nunconfirmed = 4096\nclients = 1024\nprefixes = 1024\n";
/// How long a request to etcd may take.
pub const TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two looks of [`patiently`].
const BETWEEN: Duration = Duration::from_millis(200);
/// How many requests are "under load for a while".
pub const WHILE: u64 = 20;

/// The fields are dropped in order: balancers detach first.
pub struct Ground {
    pub edges: Vec<Balancer>,
    pub etcd: Etcd,
    pub visitors: Vec<Host>,
    _servers: Vec<TinyWeb>,
    pub fleet: Fleet,
}

impl Ground {
    /// Edges that are joined to the cluster and do not run yet, and a server on each of these backends.
    pub fn prepare(etcd: Etcd, edges: u8, backends: usize) -> Result<Self> {
        let fleet = Fleet::side_by_side(edges, backends)?;
        let servers = fleet.backends.iter().map(TinyWeb::start).collect::<Result<_>>()?;
        let visitors = (0..usize::from(edges)).map(|edge| fleet.visitor(edge));
        let visitors = visitors.collect::<Result<_>>()?;
        for (number, host) in (FIRST..).zip(&fleet.edges) {
            etcd.network.join(&host.namespace, &host.name, number)?;
        }
        Ok(Self { edges: Vec::new(), etcd, visitors, _servers: servers, fleet })
    }

    /// The usual one: `web` with the first two backends, the same in every edge's file; all edges follow the store.
    pub fn new(edges: u8, backends: usize) -> Result<Self> {
        let mut ground = Self::prepare(Etcd::start()?, edges, backends)?;
        ground.start_all(&ground.web())?;
        ground.await_together()?;
        Ok(ground)
    }

    /// Starts the next edge with this configuration.
    pub fn start(&mut self, text: &str) -> Result<()> {
        let mut balancer = Balancer::prepare_on(&self.fleet.edges[self.edges.len()], text)?;
        balancer.run()?;
        self.edges.push(balancer);
        Ok(())
    }

    /// Starts all edges at the same moment, with these services: each of them finds the store empty, and one fills it.
    pub fn start_all(&mut self, services: &Service) -> Result<()> {
        let texts: Vec<_> =
            (0..self.fleet.edges.len()).map(|edge| self.text(edge, services)).collect();
        let start = |(host, text): (&Host, &String)| {
            let mut balancer = Balancer::prepare_on(host, text)?;
            balancer.run()?;
            Ok(balancer)
        };
        self.edges = thread::scope(|scope| {
            let edges = self.fleet.edges.iter().zip(&texts);
            let starting: Vec<_> = edges.map(|edge| scope.spawn(move || start(edge))).collect();
            starting.into_iter().map(|edge| edge.join().unwrap()).collect::<Result<_>>()
        })?;
        Ok(())
    }

    /// `web` with the first two backends, not probed: what is added takes part at once.
    #[must_use]
    pub fn web(&self) -> Service {
        let [first, second, ..] = &self.fleet.backends[..] else { panic!("two backends") };
        Service::web("web", Family::V4).backend(first, 1).backend(second, 1)
    }

    /// An edge's configuration with these services.
    #[must_use]
    pub fn text(&self, edge: usize, services: &Service) -> String {
        self.text_at(edge, &self.etcd.endpoints(), "", services)
    }

    /// The same with other endpoints, and more lines before the services.
    #[must_use]
    pub fn text_at(
        &self,
        edge: usize,
        endpoints: &[String],
        more: &str,
        services: &Service,
    ) -> String {
        let interfaces = vec!["front".to_owned(), "back".to_owned()];
        let settings = Settings { interfaces, services: vec![services.clone()] };
        let name = &self.fleet.edges[edge].name;
        let endpoints = endpoints.join("\", \"");
        let store = format!(
            "# This edge's own part.\n[store]\nkind = \"etcd\"\nendpoints = [\"{endpoints}\"]\nedge = \"{name}\"\n\
             timeout = \"{}s\"\n{more}\n{TABLES}\n[alerts]\nraise_after = \"200ms\"\nclear_after = \"200ms\"\n",
            TIMEOUT.as_secs(),
        );
        settings.to_string().replacen("\n[[service]]", &format!("\n{store}\n[[service]]"), 1)
    }

    /// The arguments of `backend add` for a backend that is in no configuration.
    #[must_use]
    pub fn spare(&self, backend: usize) -> [String; 5] {
        let host = &self.fleet.backends[backend];
        let address = host.address(Family::V4, evenkeel_tests::servers::PORT).to_string();
        ["backend".into(), "add".into(), "web".into(), host.name.clone(), address]
    }

    /// Runs a command on an edge.
    pub fn cli(&self, edge: usize, arguments: &[impl AsRef<str>]) -> Outcome {
        let arguments: Vec<_> = arguments.iter().map(AsRef::as_ref).collect();
        self.edges[edge].cli(&arguments).unwrap()
    }

    /// Runs one that has to succeed, and tells what it printed.
    #[track_caller]
    pub fn done(&self, edge: usize, arguments: &[impl AsRef<str>]) -> String {
        self.cli(edge, arguments).success().unwrap()
    }

    /// Runs commands on several edges at the same moment.
    pub fn at_once(&self, commands: &[(usize, Vec<&str>)]) -> Vec<Outcome> {
        thread::scope(|scope| {
            let mut running = Vec::new();
            for (edge, arguments) in commands {
                let balancer = &self.edges[*edge];
                running.push(scope.spawn(move || balancer.cli(arguments).unwrap()));
            }
            running.into_iter().map(|command| command.join().unwrap()).collect()
        })
    }

    /// Makes requests by way of an edge, and tells who answered how many.
    #[track_caller]
    pub fn shares(&self, edge: usize, count: u64) -> Vec<(String, u64)> {
        let report = self.ask(edge, count).unwrap();
        report.flawless().unwrap();
        report.by_backend.into_iter().collect()
    }

    /// Makes requests by way of an edge.
    pub fn ask(&self, edge: usize, count: u64) -> Result<Report> {
        requests(&self.visitors[edge].namespace, Family::V4.service(80), count, 4)
    }

    /// Requests by way of every edge, until they are stopped.
    pub fn load(&self) -> Vec<Load> {
        // They go on all the time, beside daemons that start and programs that are verified.
        let pause = Duration::from_millis(20);
        let pattern = Pattern { threads: 2, pause, ..Pattern::default() };
        let start = |visitor: &Host| {
            let load = Load::start(&visitor.namespace, Family::V4.service(80), pattern).unwrap();
            load.proceed(WHILE).unwrap();
            load
        };
        self.visitors.iter().map(start).collect()
    }

    /// What an edge tells of the fleet.
    pub fn view(&self, edge: usize) -> Result<Value> {
        self.edges[edge].json(&["status", "--fleet"])
    }

    /// Waits until every edge sees every other one alive and at the same revision, which is told.
    pub fn await_together(&self) -> Result<u64> {
        let mut revision = 0;
        for edge in 0..self.edges.len() {
            patiently(&format!("edge {edge} sees all edges together"), || {
                let view = self.view(edge)?;
                let seen = view["edges"].as_array().context("no edges")?;
                ensure!(seen.len() == self.edges.len(), "{view:#}");
                let wanted = view["store"]["revision"].as_u64().context("no revision")?;
                let together = |edge: &Value| edge["alive"] == true && edge["revision"] == wanted;
                ensure!(view["store"]["connected"] == true && wanted > 0, "{view:#}");
                ensure!(seen.iter().all(together), "{view:#}");
                revision = wanted;
                Ok(())
            })
            .with_context(|| self.edges[edge].log())?;
        }
        Ok(revision)
    }

    /// The ids of the alerts that are raised on an edge.
    pub fn alerts(&self, edge: usize) -> Result<Vec<String>> {
        let alerts = self.edges[edge].json(&["alerts"])?;
        let alerts = alerts["alerts"].as_array().context("no alerts")?;
        Ok(alerts.iter().filter_map(|alert| alert["id"].as_str().map(str::to_owned)).collect())
    }

    /// Waits until an alert is raised on an edge, or is not.
    #[track_caller]
    pub fn await_alert(&self, edge: usize, id: &str, raised: bool) {
        patiently(&format!("{id} is raised: {raised}"), || {
            let alerts = self.alerts(edge)?;
            ensure!(alerts.iter().any(|alert| alert == id) == raised, "{alerts:?}");
            Ok(())
        })
        .with_context(|| self.edges[edge].log())
        .unwrap();
    }

    /// Waits until a service on an edge has these backends.
    #[track_caller]
    pub fn await_backends(&self, edge: usize, names: &[&str]) {
        patiently(&format!("edge {edge} has {names:?}"), || {
            let found = self.edges[edge].backends("web")?;
            ensure!(found == names, "it has {found:?}");
            Ok(())
        })
        .with_context(|| self.edges[edge].log())
        .unwrap();
    }

    /// Waits until edges have found the way to a backend that was added: a moment later it takes part.
    #[track_caller]
    pub fn await_reached(&self, edges: &[usize], backend: &str) {
        for edge in edges {
            self.edges[*edge].await_active("web", backend, true).unwrap();
        }
    }

    /// Cuts an edge from the cluster, or mends it. Clients and backends are reached all the time.
    pub fn cut(&self, edge: usize, cut: bool) {
        self.etcd.network.link(&self.fleet.edges[edge].name, !cut).unwrap();
    }

    /// Writes a file for `apply`: an edge's configuration as it is, with one thing in another's place.
    pub fn candidate(&self, edge: usize, from: &str, to: &str) -> String {
        let balancer = &self.edges[edge];
        let text = balancer.configuration().unwrap();
        assert!(text.contains(from), "{text}");
        let path = balancer.scratch().join("candidate.toml");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// Waits for a condition that a command has to be started for: not as often as the machine can start one.
pub fn patiently<T>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    eventually(what, PATIENCE, || attempt().inspect_err(|_| thread::sleep(BETWEEN)))
}

/// Stops all loads; not one request may have failed.
#[track_caller]
pub fn flawless(loads: Vec<Load>) {
    for load in loads {
        load.proceed(WHILE).unwrap();
        load.stop().unwrap().flawless().unwrap();
    }
}
