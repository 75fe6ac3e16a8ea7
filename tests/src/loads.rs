//! The load that a fault meets: a connection for each request over IPv4, and connections that are kept over
//! IPv6.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    load::{Load, Pattern, Report},
    stage::Stage,
    topology::{Family, Host},
    wait::{PATIENCE, eventually},
};

/// Requests that are made before and after a fault, at the least.
const WHILE: u64 = 200;
/// Connections that are kept.
const KEPT: usize = 4;

/// Both loads, on the services `web` and `web6` of [`crate::settings::Settings::web`].
#[derive(Debug)]
pub struct Loads {
    fresh: Load,
    kept: Load,
}

impl Loads {
    /// Starts them, and returns once they are under way.
    pub fn start(stage: &Stage) -> Result<Self> {
        let fresh = Pattern::default();
        let kept = Pattern { keep_alive: true, threads: KEPT, ..fresh };
        let loads = Self {
            fresh: Load::start(stage.client(), Family::V4.service(80), fresh)?,
            kept: Load::start(stage.client(), Family::V6.service(80), kept)?,
        };
        loads.proceed()?;
        Ok(loads)
    }

    /// Waits until both have made some more requests.
    pub fn proceed(&self) -> Result<()> {
        self.fresh.proceed(WHILE)?;
        self.kept.proceed(WHILE)
    }

    /// Waits until no request comes through any more.
    pub fn stall(&self) -> Result<()> {
        let made = || self.fresh.requests() + self.kept.requests();
        eventually("nothing comes through", PATIENCE, || {
            let before = made();
            thread::sleep(Duration::from_millis(100));
            let more = made() - before;
            ensure!(more == 0, "{more} more requests were answered");
            Ok(())
        })
    }

    /// Stops them. Fails where a single request failed, or a kept connection had to be opened anew. Returns
    /// what those with a connection for each request saw.
    pub fn flawless(self, stage: &Stage) -> Result<Report> {
        let (fresh, kept) = (self.fresh.stop()?, self.kept.stop()?);
        fresh.flawless()?;
        kept.flawless()?;
        let opened = connections(stage, "web6")?;
        ensure!(opened == KEPT as u64, "{KEPT} connections were kept, and {opened} opened");
        Ok(fresh)
    }
}

/// Connections to a service since its data path was made.
pub fn connections(stage: &Stage, service: &str) -> Result<u64> {
    let count = |host: &Host| Ok(stage.balancer.counters(service, &host.name)?.connections);
    stage.lab.backends.iter().map(count).sum()
}
