//! Where the demo plays: the namespaces, two tiny web servers, the balancer. And that nothing of it
//! stays behind.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use evenkeel_tests::{
    evenkeel::Balancer,
    load::{Report, requests},
    netns::Namespace,
    servers::TinyWeb,
    settings::{Service, Settings},
    topology::{Family, Lab, Wiring},
};

use super::{ensure_gone, interrupt::Interrupt, screen::Screen};

/// The only service.
pub(super) const SERVICE: &str = "web";

/// Probes that tell the story fast. `rise` and `fall` are the defaults.
const PROBE: &str = "kind = \"http\"\npath = \"/healthz\"\ninterval = \"200ms\"\n\
                     timeout = \"200ms\"\nrise = 2\nfall = 3\n";

/// How many ask at once, and how many requests they make between two looks at the clock.
const ASKERS: u64 = 8;
const PORTION: u64 = 50;

/// What counts, in the order of the lab's backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Requests that the servers answered.
    pub(super) served: [u64; 2],
    /// Connections that the balancer counted.
    pub(super) balanced: [u64; 2],
}

/// Something that the demo made is still there.
#[derive(Debug)]
pub(super) struct LeftBehind;

impl std::fmt::Display for LeftBehind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the demo could not take everything down; the next one sweeps it away")
    }
}

/// Everything that runs. Fields are dropped in order: the balancer detaches first.
pub(super) struct Stage {
    pub(super) balancer: Balancer,
    web_01: TinyWeb,
    /// It crashes.
    web_02: Option<TinyWeb>,
    /// What earlier lives of web-02 served.
    served_before: u64,
    pub(super) lab: Lab,
}

impl Stage {
    /// Builds it, step by step.
    pub(super) fn build(screen: &mut Screen, interrupt: &Interrupt) -> Result<Self> {
        screen.step("Lay the cables, start two web servers and the balancer")?;
        screen.progress("making namespaces")?;
        let lab = Lab::new(Wiring::Direct, 2).context("build the namespaces")?;
        interrupt.check()?;
        let hosts = [&lab.client, &lab.edge, &lab.backends[0], &lab.backends[1]];
        let names = hosts.map(|host| host.namespace.name());
        screen.line(&format!("  namespaces: {}", names.join(", ")))?;
        let web_01 = TinyWeb::start(&lab.backends[0])?;
        let web_02 = Some(TinyWeb::start(&lab.backends[1])?);

        let service = Service::web(SERVICE, Family::V4).backends(&lab).probed(PROBE);
        let settings = Settings::new(&lab).with(service);
        screen.progress("loading the XDP program")?;
        let balancer = Balancer::start(&lab, &settings).context("start the balancer")?;
        screen.line(&format!(
            "  evenkeel balances {}, attached to {}",
            Family::V4.service(80),
            settings.interfaces.join(", ")
        ))?;
        Ok(Self { balancer, web_01, web_02, served_before: 0, lab })
    }

    pub(super) fn client(&self) -> &Namespace {
        &self.lab.client.namespace
    }

    /// Ends web-02 without a word, as a crash does.
    pub(super) fn crash_web_02(&mut self) {
        if let Some(server) = self.web_02.take() {
            self.served_before += server.requests();
        }
    }

    /// Starts web-02 anew.
    pub(super) fn restart_web_02(&mut self) -> Result<()> {
        self.web_02 = Some(TinyWeb::start(&self.lab.backends[1])?);
        Ok(())
    }

    /// Makes `count` requests from the client, each on a connection of its own.
    pub(super) fn ask(
        &self,
        count: u64,
        screen: &mut Screen,
        interrupt: &Interrupt,
    ) -> Result<Report> {
        let mut report = Report::default();
        let mut done = 0;
        while done < count {
            interrupt.check()?;
            screen.progress(&format!("{done} of {count} connections"))?;
            let portion = PORTION.min(count - done);
            report.add(requests(self.client(), Family::V4.service(80), portion, ASKERS)?);
            done += portion;
        }
        Ok(report)
    }

    /// Whether the balancer gives new connections to a backend.
    pub(super) fn is_active(&self, backend: &str) -> Result<bool> {
        Ok(self.balancer.backend_status(SERVICE, backend)?["active"] == true)
    }

    /// Everything that was counted so far.
    pub(super) fn tally(&self) -> Result<Tally> {
        // An attempt that another backend was given is that one's connection.
        let connections = |backend| -> Result<u64> {
            let counters = self.balancer.counters(SERVICE, backend)?;
            Ok(counters.connections - counters.redispatched)
        };
        let web_02 = self.web_02.as_ref().map_or(0, TinyWeb::requests);
        Ok(Tally {
            served: [self.web_01.requests(), self.served_before + web_02],
            balanced: [connections("web-01")?, connections("web-02")?],
        })
    }

    /// Takes everything down and looks whether it is gone.
    pub(super) fn take_down(self, screen: &mut Screen) -> Result<()> {
        // The reader of a closed pipe is gone; that must not keep anything alive.
        let _ = screen.progress("taking everything down");
        let hosts = self.lab.backends.iter().chain([&self.lab.client, &self.lab.edge]);
        let mut places: Vec<PathBuf> = hosts.map(|host| host.namespace.path()).collect();
        places.push(self.balancer.bpffs_path().to_owned());
        places.push(self.balancer.scratch().to_owned());
        drop(self);
        places.iter().try_for_each(|place| ensure_gone(place)).context(LeftBehind)?;
        screen.line("Namespaces, program and pins are taken down; nothing is left behind.")
    }
}
