//! The balancer's other half on a backend: `evenkeel decap`, which takes tunnels' packets apart.
//!
//! Known by its command line alone.

use std::{collections::BTreeMap, net::IpAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Deserializer, Value};

use crate::{
    evenkeel::binary,
    netns::succeeded,
    pages::forwarding,
    process::Process,
    topology::{Family, Host, Lab},
    wait::{PATIENCE, eventually},
};

const START: Duration = Duration::from_secs(30);
/// The balancer of the page.
const EDGE4: &str = "10.0.0.1";
const EDGE6: &str = "fd00::1";

/// A running `evenkeel decap` on a backend's `eth0`. Dropping it detaches it.
#[derive(Debug)]
pub struct Decap {
    process: Process,
}

impl Decap {
    /// Starts it on a backend of `lab` by the command of a block of docs/forwarding.md, with the lab's
    /// own balancer in the place of the page's, and waits until it is attached. `directory` gets its log.
    pub fn start(block: &str, lab: &Lab, host: &Host, directory: &Path) -> Result<Self> {
        Self::start_for(block, |family| lab.inside(family), host, directory)
    }

    /// The same where the balancer's addresses towards the backends are as `inside` says.
    pub fn start_for(
        block: &str,
        inside: impl Fn(Family) -> IpAddr,
        host: &Host,
        directory: &Path,
    ) -> Result<Self> {
        let lines = forwarding(block)?;
        let line = lines.first().context("no command")?;
        let mut words = line.split_whitespace();
        ensure!(words.next() == Some("evenkeel"), "{block} begins with {line}");
        let mut command = host.namespace.command(binary()?);
        let own = |word: &str| match word {
            EDGE4 => inside(Family::V4).to_string(),
            EDGE6 => inside(Family::V6).to_string(),
            word => word.to_owned(),
        };
        command.args(words.map(own)).args(["-o", "json"]);
        let mut process = Process::start(&format!("decap-{}", host.name), command, directory)?;
        eventually(&format!("decap on {} is attached", host.name), START, || {
            ensure!(process.ended()?.is_none(), "it ended: {}", process.tail());
            let mut show = host.namespace.command("ip");
            show.args(["link", "show", "dev", "eth0"]);
            let shown = succeeded("ip link show", show.output()?)?;
            ensure!(shown.contains("prog/xdp"), "no program yet: {shown}");
            Ok(())
        })?;
        Ok(Self { process })
    }

    /// Asks it to end (`SIGTERM`) and tells what became of the packets, by the counters' names.
    pub fn finish(mut self) -> Result<BTreeMap<String, u64>> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.wait(PATIENCE)?;
        let output = self.process.output();
        ensure!(status.success(), "decap ended with {status}:\n{output}");
        // The report is the last thing printed; what was logged may stand before or after it.
        let begin = output.rfind("\n{\n").map(|at| at + 1);
        let begin = begin.or_else(|| output.starts_with("{\n").then_some(0));
        let begin = begin.with_context(|| format!("no report in {output}"))?;
        let mut reports = Deserializer::from_str(&output[begin..]).into_iter::<Value>();
        let report = reports.next().context("no report")??;
        let packets = report["packets"].as_object();
        let packets = packets.with_context(|| format!("no packets in {report}"))?;
        let count = |(name, count): (&String, &Value)| {
            Ok((name.clone(), count.as_u64().with_context(|| format!("{name} is {count}"))?))
        };
        packets.iter().map(count).collect()
    }
}
