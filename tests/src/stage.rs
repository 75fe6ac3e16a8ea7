//! The usual stage of a behaviour test: a lab, an nginx on every backend, and the balancer.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{
    evenkeel::Balancer,
    load::{Report, requests},
    netns::Namespace,
    servers::Nginx,
    settings::Settings,
    topology::{Family, Lab, Wiring},
};

/// How many ask at once where a test makes a given number of requests.
const ASKERS: u64 = 8;

/// A lab with everything running. The fields are dropped in order: the balancer detaches first.
#[derive(Debug)]
pub struct Stage {
    /// The balancer on the lab's edge.
    pub balancer: Balancer,
    /// The nginx of each backend, in the lab's order.
    pub nginx: Vec<Nginx>,
    /// The namespaces.
    pub lab: Lab,
    directory: TempDir,
}

impl Stage {
    /// Builds the lab, starts nginx on every backend and then the balancer, with the settings
    /// that `settings` makes for the lab.
    pub fn new(
        wiring: Wiring,
        backends: usize,
        settings: impl FnOnce(&Lab) -> Settings,
    ) -> Result<Self> {
        let lab = Lab::new(wiring, backends)?;
        let settings = settings(&lab);
        Self::on(lab, &settings)
    }

    /// The same on a lab that stands already.
    pub fn on(lab: Lab, settings: &Settings) -> Result<Self> {
        Self::on_text(lab, &settings.to_string())
    }

    /// The same with a configuration as text.
    pub fn on_text(lab: Lab, configuration: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("evenkeel-stage-").tempdir()?;
        fs::create_dir(directory.path().join("files")).context("make the files directory")?;
        let files = directory.path().join("files");
        let start = |host| Nginx::start(host, directory.path(), &files);
        let nginx = lab.backends.iter().map(start).collect::<Result<_>>()?;
        let mut balancer = Balancer::prepare(&lab, configuration)?;
        balancer.run()?;
        Ok(Self { balancer, nginx, lab, directory })
    }

    /// Ends the balancer with all its connections and starts it anew with other settings.
    pub fn start_over(&mut self, settings: &Settings) -> Result<()> {
        self.balancer.terminate()?;
        self.balancer.detach()?.success()?;
        self.balancer.configure(&settings.to_string())?;
        self.balancer.run()
    }

    /// What nginx serves below `/files/` and `/slow/`.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.directory.path().join("files")
    }

    /// A directory for the test's own files.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// The client's namespace.
    #[must_use]
    pub fn client(&self) -> &Namespace {
        &self.lab.client.namespace
    }

    /// Makes `count` requests to port 80 of the family's virtual address, each on a connection of
    /// its own.
    pub fn ask(&self, family: Family, count: u64) -> Result<Report> {
        self.ask_at(family.service(80), count)
    }

    /// The same at another address and port.
    pub fn ask_at(&self, server: SocketAddr, count: u64) -> Result<Report> {
        requests(self.client(), server, count, ASKERS)
    }
}
