//! The virtual machine: started, watched, and ended in time.
//!
//! It has six multi-queue network cards, joined in pairs by bridges in a network namespace that QEMU
//! has for itself: nothing leaves it, and it goes when QEMU does.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    kernel::Kernel,
    packages::Tools,
    report::{self, END, Scenario},
};

/// Pairs of network cards. The guest knows them by their addresses: `52:54:00:00:PAIR:END`.
pub(super) const PAIRS: u8 = 3;
pub(super) const PROCESSORS: u8 = 2;
/// A queue of each card for every processor's ordinary packets, and one for its XDP packets.
const QUEUES: u8 = 2 * PROCESSORS;
const MEMORY: &str = "2048M";

/// All scenarios take a few minutes on a processor that is emulated, and busy with other things too.
const LIMIT: Duration = Duration::from_mins(20);
const POLL: Duration = Duration::from_millis(100);
/// How many lines of the serial log are shown when something failed.
const TAIL: usize = 60;

/// Lays the cables (`a0` to `b0`, and so on) and becomes QEMU. Runs in a fresh namespace.
const CABLES: &str = "\
set -e
echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
for pair in $1; do
    ip link add cable$pair type bridge stp_state 0 forward_delay 0 mcast_snooping 0
    for end in a b; do
        ip tuntap add dev $end$pair mode tap multi_queue vnet_hdr
        ip link set dev $end$pair master cable$pair up
    done
    ip link set dev cable$pair up
done
shift
exec \"$@\"
";

/// What is to run, and where its words go.
pub(super) struct Machine<'a> {
    pub(super) tools: &'a Tools,
    pub(super) kernel: &'a Kernel,
    pub(super) initramfs: PathBuf,
    /// The console.
    pub(super) log: PathBuf,
    /// A line of JSON for each scenario.
    pub(super) results: PathBuf,
}

impl Machine<'_> {
    /// Boots it and waits until it powers itself off. Each scenario is shown as it ends.
    pub(super) fn run(&self, show: impl Fn(&Scenario)) -> report::Machine {
        let mut scenarios = Vec::new();
        let ended = self.watch(|line| {
            if let Some(scenario) = Scenario::read(line) {
                show(&scenario);
                scenarios.push(scenario);
            }
        });
        report::Machine { release: self.kernel.release.clone(), scenarios, ended }
    }

    /// Runs it; every line of the results is handed on.
    fn watch(&self, mut line: impl FnMut(&str)) -> Result<()> {
        for file in [&self.log, &self.results] {
            File::create(file).with_context(|| format!("create {}", file.display()))?;
        }
        let errors = self.log.with_extension("qemu");
        let output =
            File::create(&errors).with_context(|| format!("create {}", errors.display()))?;
        let child = self
            .command()
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("start QEMU")?;
        let mut qemu = Qemu(child);
        let deadline = Instant::now() + LIMIT;
        let mut seen = 0;
        let mut complete = false;
        loop {
            let ended = qemu.0.try_wait().context("wait for QEMU")?;
            let results = fs::read_to_string(&self.results).unwrap_or_default();
            // The last line may be half written.
            let whole = results.rfind('\n').map_or("", |end| &results[..=end]);
            for text in whole.lines().skip(seen) {
                line(text);
                seen += 1;
                complete = text == END;
            }
            match ended {
                Some(status) if !status.success() => {
                    let words = fs::read_to_string(&errors).unwrap_or_default();
                    bail!("QEMU failed ({status}): {}", words.trim_end());
                }
                Some(_) if !complete => bail!("the machine ended before its last scenario"),
                Some(_) => return Ok(()),
                None if Instant::now() > deadline => {
                    bail!("the machine did not end within {} s", LIMIT.as_secs())
                }
                None => thread::sleep(POLL),
            }
        }
    }

    /// The console's last lines.
    pub(super) fn tail(&self) -> String {
        let raw = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&raw);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    fn command(&self) -> Command {
        let pairs: Vec<_> = (0..PAIRS).map(|pair| pair.to_string()).collect();
        // Each of these becomes the next one, so that the process is QEMU in the end; the first has it
        // end with this program, however that ends.
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--net",
            "sh",
            "-c",
            CABLES,
            "cables",
            &pairs.join(" "),
        ]);
        command.arg(&self.tools.qemu).args(self.tools.qemu_arguments());
        command.envs(self.tools.qemu_environment());
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.args(["-machine", "q35", "-cpu", "max", "-m", MEMORY]);
        command.args(["-smp", &PROCESSORS.to_string()]);
        // Virtual machines inside of virtual ones hang too often; an emulated processor is the same
        // everywhere.
        command.args(["-accel", "tcg,thread=multi"]);
        command.arg("-kernel").arg(&self.kernel.image).arg("-initrd").arg(&self.initramfs);
        command.args(["-append", "console=ttyS0 panic=-1 quiet loglevel=4"]);
        for file in [&self.log, &self.results] {
            command.arg("-serial").arg(format!("file:{}", file.display()));
        }
        for pair in 0..PAIRS {
            for (number, end) in ["a", "b"].iter().enumerate() {
                let id = format!("{end}{pair}");
                command.arg("-netdev").arg(format!(
                    "tap,id={id},ifname={id},queues={QUEUES},script=no,downscript=no"
                ));
                // No ROM: nothing boots from it.
                command.arg("-device").arg(format!(
                    "virtio-net-pci,netdev={id},mq=on,vectors={},mac=52:54:00:00:{pair:02x}:\
                     {number:02x},romfile=",
                    2 * QUEUES + 2
                ));
            }
        }
        command
    }
}

/// QEMU, which does not outlive its owner.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
