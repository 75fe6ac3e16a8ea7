//! The load that the faults meet.

use std::{thread, time::Duration};

use anyhow::ensure;
use evenkeel_tests::{
    load::{Load, Pattern},
    stage::Stage,
    topology::{Family, Host},
    wait::{PATIENCE, eventually},
};

/// Requests that are made before and after a fault, at the least.
const WHILE: u64 = 200;
/// Connections that are kept.
const KEPT: usize = 4;

/// Loads of both families: a connection for each request, and connections that are kept.
pub struct Loads {
    fresh: Load,
    kept: Load,
}

impl Loads {
    pub fn start(stage: &Stage) -> Self {
        let fresh = Pattern::default();
        let kept = Pattern { keep_alive: true, threads: KEPT, ..fresh };
        let loads = Self {
            fresh: Load::start(stage.client(), Family::V4.service(80), fresh).unwrap(),
            kept: Load::start(stage.client(), Family::V6.service(80), kept).unwrap(),
        };
        loads.proceed();
        loads
    }

    pub fn proceed(&self) {
        self.fresh.proceed(WHILE).unwrap();
        self.kept.proceed(WHILE).unwrap();
    }

    /// Waits until no request comes through any more.
    pub fn stall(&self) {
        let made = || self.fresh.requests() + self.kept.requests();
        eventually("nothing comes through", PATIENCE, || {
            let before = made();
            thread::sleep(Duration::from_millis(100));
            let more = made() - before;
            ensure!(more == 0, "{more} more requests were answered");
            Ok(())
        })
        .unwrap();
    }

    /// Fails where a single request failed, or a kept connection had to be opened anew.
    pub fn flawless(self, stage: &Stage) {
        self.fresh.stop().unwrap().flawless().unwrap();
        self.kept.stop().unwrap().flawless().unwrap();
        let count = |host: &Host| stage.balancer.counters("web6", &host.name).unwrap().connections;
        let opened: u64 = stage.lab.backends.iter().map(count).sum();
        assert_eq!(opened, KEPT as u64, "the kept connections were kept");
    }
}
