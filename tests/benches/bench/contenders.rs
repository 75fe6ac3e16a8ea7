//! What is compared: ways from a client to two web servers, each with a lab of its own, all wired
//! alike, so that no contender meets another's connections in TIME-WAIT. Knows how requests are
//! sent through each, and nothing about rounds and reports.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use evenkeel_tests::{
    latency::{Sampling, Times},
    netns::Namespace,
    servers::{Nginx, PORT},
    settings::Settings,
    stage::Stage,
    topology::{Family, Lab, Wiring},
    wrk::{Summary, Wrk},
};
use tempfile::TempDir;

use crate::peers::Peer;

/// How the hosts hang together: nothing between the edge and either server.
const WIRING: Wiring = Wiring::Direct;

/// Web servers in every lab.
const SERVERS: usize = 2;

/// The service, or the front of a peer.
pub fn front() -> SocketAddr {
    Family::V4.service(80)
}

/// One way from the client to the servers.
pub struct Contender {
    /// Its name in reports.
    pub name: &'static str,
    /// The version of a peer, as its program tells it.
    pub version: Option<String>,
    way: Way,
}

enum Way {
    Nothing(Site),
    Evenkeel(Stage),
    Peer(Peer),
}

impl Contender {
    /// No balancer: the edge's kernel forwards, and the client asks both servers by their own
    /// addresses.
    pub fn nothing() -> Result<Self> {
        let way = Way::Nothing(Site::new()?);
        Ok(Self { name: "no balancer", version: None, way })
    }

    /// Ours.
    pub fn evenkeel() -> Result<Self> {
        let stage = Stage::new(WIRING, SERVERS, Settings::web).context("start the balancer")?;
        Ok(Self { name: "Evenkeel", version: None, way: Way::Evenkeel(stage) })
    }

    /// Another balancer.
    pub fn peer(peer: Peer) -> Self {
        Self { name: peer.name(), version: Some(peer.version().to_owned()), way: Way::Peer(peer) }
    }

    /// Lets `wrk` ask through it. Failures are errors, except a peer's: those are counted.
    pub fn load(&self, wrk: Wrk) -> Result<Summary> {
        let summary = match &self.way {
            Way::Nothing(site) => wrk.run_split(self.client(), site.servers()),
            Way::Evenkeel(_) => wrk.run(self.client(), front()),
            Way::Peer(_) => wrk.run(self.client(), front()).or_else(|error| {
                // It gives up when its very first connection fails.
                eprintln!("no request went through {}: {error:#}", self.name);
                Ok(Summary { connect_errors: 1, ..Summary::default() })
            }),
        };
        let summary = summary.with_context(|| self.describe())?;
        if self.has_to_be_flawless() {
            summary.flawless().with_context(|| self.describe())?;
        }
        self.forget()?;
        Ok(summary)
    }

    /// Times requests through it. Failures are errors, except a peer's: those are counted.
    pub fn time(&self, sampling: Sampling) -> Result<Times> {
        let times = match &self.way {
            Way::Nothing(site) => sampling.run(self.client(), &site.servers()),
            _ => sampling.run(self.client(), &[front()]),
        };
        let times = times.with_context(|| self.describe())?;
        if self.has_to_be_flawless() {
            times.flawless().with_context(|| self.describe())?;
        }
        self.forget()?;
        Ok(times)
    }

    /// A peer's failures belong to the result.
    fn has_to_be_flawless(&self) -> bool {
        !matches!(self.way, Way::Peer(_))
    }

    fn client(&self) -> &Namespace {
        match &self.way {
            Way::Nothing(site) => site.client(),
            Way::Evenkeel(stage) => stage.client(),
            Way::Peer(peer) => peer.site().client(),
        }
    }

    /// Empties the servers' logs, which would grow to gigabytes.
    fn forget(&self) -> Result<()> {
        let nginx = match &self.way {
            Way::Nothing(site) => &site.nginx,
            Way::Evenkeel(stage) => &stage.nginx,
            Way::Peer(peer) => &peer.site().nginx,
        };
        nginx.iter().try_for_each(Nginx::forget)
    }

    fn describe(&self) -> String {
        format!("requests through: {}", self.name)
    }
}

/// A lab with a web server on every backend and nothing on its edge.
pub struct Site {
    nginx: Vec<Nginx>,
    lab: Lab,
    directory: TempDir,
}

impl Site {
    /// Builds the lab and starts the servers.
    pub fn new() -> Result<Self> {
        let lab = Lab::new(WIRING, SERVERS)?;
        let directory = tempfile::Builder::new().prefix("evenkeel-bench-").tempdir()?;
        let files = directory.path();
        let start = |host| Nginx::start(host, files, files);
        let nginx = lab.backends.iter().map(start).collect::<Result<_>>()?;
        Ok(Self { nginx, lab, directory })
    }

    /// Where the requests come from.
    pub fn client(&self) -> &Namespace {
        &self.lab.client.namespace
    }

    /// Where a balancer stands.
    pub fn edge(&self) -> &Namespace {
        &self.lab.edge.namespace
    }

    /// The servers' own addresses.
    pub fn servers(&self) -> [SocketAddr; SERVERS] {
        let [first, second] = &*self.lab.backends else { unreachable!("the lab has two backends") };
        [first, second].map(|host| host.address(Family::V4, PORT))
    }

    /// The folder of everything that runs here.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file into the folder. Returns its path.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.directory().join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}
