//! Where the outage plays: three servers, each an nginx with the shop behind it, and the balancer with the
//! configuration of then, or of now.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use evenkeel_tests::{
    evenkeel::{Balancer, Outcome},
    servers::{Nginx, Shop, pages_at_once},
    settings::{Service, Settings},
    topology::{Family, Lab, Wiring},
};
use tempfile::TempDir;

use super::super::{
    ensure_gone,
    interrupt::Interrupt,
    screen::Screen,
    stage::{LeftBehind, SERVICE},
};

/// Memory of each server's shop for pages, in MiB.
pub(crate) const MEMORY: usize = 80;
/// How many are in the shop at once: more than one server can serve, and fewer than two can.
pub(super) const VISITORS: usize = 24;
/// New connections that one server takes at once, so that its memory suffices.
const MOST: usize = pages_at_once(MEMORY) - 2;

/// As in the demo: fast, and shallow, as it was: it asks nginx, and not the shop.
const PROBE: &str = "kind = \"http\"\npath = \"/healthz\"\ninterval = \"200ms\"\n\
                     timeout = \"200ms\"\n";

/// Everything that runs. Fields are dropped in order: the balancer detaches first.
pub(super) struct Stage {
    pub(super) balancer: Balancer,
    /// web-01, web-02 and the spare.
    pub(super) nginx: Vec<Nginx>,
    pub(super) shops: Vec<Shop>,
    pub(super) lab: Lab,
    directory: TempDir,
}

impl Stage {
    /// Builds it with the configuration of then.
    pub(super) fn build(screen: &mut Screen, interrupt: &Interrupt) -> Result<Self> {
        screen.step("Lay the cables, start three servers and the balancer")?;
        screen.progress("making namespaces")?;
        let lab = Lab::new(Wiring::Direct, 3).context("build the namespaces")?;
        lab.take_turned_frames()?;
        interrupt.check()?;
        let directory = tempfile::Builder::new().prefix("evenkeel-outage-").tempdir()?;
        screen.progress("starting nginx and the shop on each server")?;
        let path = directory.path();
        let nginx = |host| Nginx::start(host, path, path);
        let nginx = lab.backends.iter().map(nginx).collect::<Result<_>>()?;
        let shop = |host| Shop::start(host, &["demo-shop"], path);
        let shops = lab.backends.iter().map(shop).collect::<Result<_>>()?;
        screen.line(&format!(
            "  each server: nginx, and behind it a shop with {MEMORY} MiB of memory (RLIMIT_AS), enough for \
             {} visitors at once",
            pages_at_once(MEMORY)
        ))?;
        let service = Service::web(SERVICE, Family::V4)
            .backend(&lab.backends[0], 1)
            .backend(&lab.backends[1], 1)
            .probed(PROBE);
        let settings = Settings::new(&lab).with(service);
        screen.progress("loading the XDP program")?;
        let balancer = Balancer::start(&lab, &settings).context("start the balancer")?;
        screen.line(&format!(
            "  evenkeel balances {} over web-01 and web-02; the third server stands by, unused",
            Family::V4.service(80)
        ))?;
        Ok(Self { balancer, nginx, shops, lab, directory })
    }

    /// The shop of web-01 is restarted, as somebody did in the end.
    pub(super) fn restart_shop(&mut self, number: usize) -> Result<()> {
        let host = &self.lab.backends[number];
        // The old one has the port until it is gone.
        drop(self.shops.remove(number));
        self.shops.insert(number, Shop::start(host, &["demo-shop"], self.directory.path())?);
        Ok(())
    }

    /// The configuration of now: what a server carries, how many there shall be, and a spare.
    pub(super) fn text(&self, servers: usize) -> String {
        let limit = format!("capacity = {MOST}\nmax_connections = {MOST}");
        let mut text = Settings::new(&self.lab).to_string();
        let peak = format!("expected_connections = {VISITORS}");
        let mut service = Service::web(SERVICE, Family::V4).line(peak).probed(PROBE);
        if servers > 2 {
            service = service.line("min_active = 2").backup(&self.lab.backends[2]);
        }
        for host in &self.lab.backends[..servers] {
            service = service.backend(host, 1);
        }
        // Each server's lines go under its own header.
        let service = service.to_string().replace("weight = 1", &format!("weight = 1\n{limit}"));
        text.push_str(&service);
        text
    }

    /// Writes a candidate beside the configuration.
    pub(super) fn candidate(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.balancer.scratch().join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Runs a command of `evenkeel`.
    pub(super) fn evenkeel(&self, arguments: &[&str]) -> Result<Outcome> {
        self.balancer
            .cli(arguments)
            .with_context(|| format!("run evenkeel {}", arguments.join(" ")))
    }

    /// What `status` calls a backend's state; nothing where it has no such backend.
    pub(super) fn state(&self, backend: &str) -> Result<String> {
        let status = self.balancer.backend_status(SERVICE, backend)?;
        Ok(status["state"].as_str().unwrap_or_default().to_owned())
    }

    /// Takes everything down and looks whether it is gone.
    pub(super) fn take_down(self, screen: &mut Screen) -> Result<()> {
        let _ = screen.progress("taking everything down");
        let hosts = self.lab.backends.iter().chain([&self.lab.client, &self.lab.edge]);
        let mut places: Vec<PathBuf> = hosts.map(|host| host.namespace.path()).collect();
        places.push(self.balancer.bpffs_path().to_owned());
        places.push(self.balancer.scratch().to_owned());
        places.push(self.directory.path().to_owned());
        drop(self);
        places.iter().try_for_each(|place| ensure_gone(place)).context(LeftBehind)?;
        screen.line("Namespaces, program and pins are taken down; nothing is left behind.")
    }
}
