//! `evenkeel decap` on the backends, in the place of the kernel's tunnel devices.

use std::{path::Path, time::Duration};

use anyhow::{Result, bail};
use evenkeel_tests::{process::Process, topology::Family, wait::eventually};

use super::stage::{Stage, ensure_native};

const INTERFACE: &str = "eth0";
const LOGS: &str = "/tmp";
/// Loading takes seconds where the processor is emulated.
const START: Duration = Duration::from_mins(2);

/// Where the edge's tunnels come from: the prefixes that its addresses vary in, and for GUE its own
/// addresses towards the backends.
const EDGES: [&str; 4] = ["198.18.0.0/16", "100::/64", "10.0.0.0/16", "fd00::/16"];

/// Running decapsulators, one on each backend. They detach as they end.
pub(super) struct Decapsulators {
    _processes: Vec<Process>,
}

impl Decapsulators {
    /// Starts them in native mode and waits until all are attached.
    pub(super) fn start(stage: &Stage) -> Result<Self> {
        let mut processes = Vec::new();
        for backend in &stage.backends {
            let mut command = backend.namespace.command("evenkeel");
            command.args(["decap", "--interface", INTERFACE, "--xdp-mode", "native"]);
            for family in Family::BOTH {
                command.args(["--address", &family.vip().to_string()]);
            }
            for edge in EDGES {
                command.args(["--from", edge]);
            }
            let name = format!("decap-{}", backend.name);
            let mut process = Process::start(&name, command, Path::new(LOGS))?;
            let attached = eventually(&format!("{name} is attached"), START, || {
                if let Some(status) = process.ended()? {
                    return Ok(Err(status));
                }
                ensure_native(&backend.namespace, INTERFACE).map(Ok)
            })?;
            if let Err(status) = attached {
                println!("{}", process.tail());
                bail!("{name} ended ({status})");
            }
            processes.push(process);
        }
        Ok(Self { _processes: processes })
    }
}
