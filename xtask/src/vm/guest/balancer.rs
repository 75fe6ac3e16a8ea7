//! The balancer on the edge: configured, started, asked, stopped. It has the machine for itself, so
//! every path is the one that it has by default.

use std::{fmt::Write as _, fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use evenkeel_tests::{
    netns::{Namespace, succeeded},
    process::Process,
    topology::Family,
    wait::eventually,
};
use serde_json::Value;

use super::stage::{EDGE_INTERFACES, SERVICE_PORT, Stage, ensure_native};

const CONFIGURATION: &str = "/etc/evenkeel/evenkeel.toml";
const LOGS: &str = "/tmp";
/// Loading takes seconds where the processor is emulated.
const START: Duration = Duration::from_mins(2);
/// Lines of the daemon's log that a failure shows. The verifier is talkative.
const LOG_TAIL: usize = 200;

/// A service, for both protocols.
pub(super) struct Service {
    /// Of its virtual address.
    pub(super) family: Family,
    /// How its packets get to the backends.
    pub(super) forwarding: &'static str,
    /// The backends' addresses, in the stage's order.
    pub(super) backends: Vec<SocketAddr>,
}

impl Service {
    /// What the balancer calls it.
    fn name(&self, protocol: &str) -> String {
        match self.family {
            Family::V4 => format!("{protocol}4"),
            Family::V6 => format!("{protocol}6"),
        }
    }
}

/// A running balancer. Dropping it stops it and removes its data path.
pub(super) struct Balancer<'a> {
    daemon: Process,
    edge: &'a Namespace,
    names: Vec<String>,
}

impl<'a> Balancer<'a> {
    /// Starts it with these services, attached to all interfaces of the edge in native mode.
    pub(super) fn start(stage: &'a Stage, services: &[Service]) -> Result<Self> {
        let names: Vec<_> = stage.backends.iter().map(|backend| backend.name.clone()).collect();
        fs::write(CONFIGURATION, configuration(services, &names))
            .with_context(|| format!("write {CONFIGURATION}"))?;
        let _ = fs::remove_file(Path::new(LOGS).join("daemon.log"));
        let mut command = stage.edge.command("evenkeel");
        command.arg("run");
        let daemon = Process::start("daemon", command, Path::new(LOGS))?;
        let mut balancer = Self { daemon, edge: &stage.edge, names };
        match balancer.await_ready().and_then(|()| {
            EDGE_INTERFACES.iter().try_for_each(|interface| ensure_native(balancer.edge, interface))
        }) {
            Ok(()) => Ok(balancer),
            Err(error) => {
                println!("{}", balancer.describe());
                Err(error)
            }
        }
    }

    fn await_ready(&mut self) -> Result<()> {
        let answers = eventually("the daemon answers", START, || {
            if let Some(status) = self.daemon.ended()? {
                return Ok(Err(status));
            }
            let status = self.json(&["status"])?;
            let services = status["services"].as_array().context("a status without services")?;
            for service in services {
                let backends =
                    service["backends"].as_array().context("a service without backends")?;
                ensure!(
                    backends.iter().all(|backend| backend["active"] == true),
                    "not every backend is active: {service}"
                );
            }
            Ok(Ok(()))
        })?;
        if let Err(status) = answers {
            let log = self.daemon.output();
            let last = log.lines().last().unwrap_or_default();
            bail!("the daemon ended ({status}), its log with: {last}");
        }
        Ok(())
    }

    /// Connections that each backend got over a protocol of a service, in the stage's order.
    pub(super) fn connections(&self, service: &Service, protocol: &str) -> Result<Vec<u64>> {
        let counters = self.json(&["counters"])?;
        let name = service.name(protocol);
        let services = counters["services"].as_array().context("counters without services")?;
        let found = services.iter().find(|candidate| candidate["name"] == name);
        let found = found.with_context(|| format!("no counters of {name}: {counters}"))?;
        let backends = found["backends"].as_array().context("a service without backends")?;
        let count = |wanted: &String| {
            let backend = backends.iter().find(|backend| backend["name"] == *wanted)?;
            backend.pointer("/connections/total")?.as_u64()
        };
        let counts: Option<Vec<u64>> = self.names.iter().map(count).collect();
        counts.with_context(|| format!("counters of {name} are incomplete: {found}"))
    }

    /// The packets dropped so far, by reason.
    pub(super) fn drops(&self) -> Result<Vec<(String, u64)>> {
        let counters = self.json(&["counters"])?;
        let verdicts = counters["verdicts"].as_object().context("counters without verdicts")?;
        let dropped = verdicts.iter().filter(|(name, _)| name.starts_with("drop"));
        Ok(dropped
            .map(|(name, count)| (name.clone(), count.as_u64().unwrap_or_default()))
            .filter(|(_, count)| *count > 0)
            .collect())
    }

    /// Everything that it can tell, for a failure's log.
    pub(super) fn describe(&self) -> String {
        let log = self.daemon.output();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
        let mut text = format!("--- the daemon's log\n{tail}\n");
        for arguments in [&["status"][..], &["counters", "-o", "wide"]] {
            let mut command = self.edge.command("evenkeel");
            command.args(arguments);
            let told = output(command).unwrap_or_else(|error| format!("{error:#}"));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "--- evenkeel {}\n{told}", arguments.join(" "));
        }
        text
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = self.edge.command("evenkeel");
        command.args(arguments).args(["-o", "json"]);
        let text = output(command)?;
        serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
    }
}

impl Drop for Balancer<'_> {
    fn drop(&mut self) {
        // At once: how it ends in order is not what is tried here.
        let mut detach = self.edge.command("evenkeel");
        detach.arg("detach");
        let stopped = self.daemon.kill().and_then(|()| output(detach));
        if let Err(error) = stopped {
            println!("stopping the balancer: {error:#}");
        }
    }
}

fn output(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    succeeded(&format!("{command:?}"), output)
}

fn configuration(services: &[Service], names: &[String]) -> String {
    let mut text = format!("[node]\ninterfaces = {EDGE_INTERFACES:?}\nxdp_mode = \"native\"\n");
    for service in services {
        for protocol in ["tcp", "udp"] {
            let name = service.name(protocol);
            let address = service.family.service(SERVICE_PORT);
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "\n[[service]]\nname = \"{name}\"\naddress = \"{address}\"\n\
                 protocol = \"{protocol}\"\nforwarding = \"{}\"\n",
                service.forwarding
            );
            for (name, address) in names.iter().zip(&service.backends) {
                let _ = write!(
                    text,
                    "[[service.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n"
                );
            }
        }
    }
    text
}
