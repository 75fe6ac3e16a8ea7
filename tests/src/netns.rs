//! Network namespaces: made, entered, and taken down with everything that runs in them.
//!
//! Names carry the maker's process id (`evk-PID-N-ROLE`), so that tests run beside one another
//! and whatever a killed test left behind is recognised and swept away by the next one. Knows
//! nothing about what the namespaces are for.

use std::{
    fs::{self, File},
    io::Write as _,
    os::{
        fd::AsFd as _,
        unix::{fs::MetadataExt as _, process::CommandExt as _},
    },
    panic,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    fs::{FlockOperation, flock},
    mount::{MountFlags, mount},
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

const NAMESPACES: &str = "/run/netns";
/// Ticks a second in `/proc`, the same on every architecture that the program runs on.
const USER_HZ: u64 = 100;
const BPFFS: &str = "/sys/fs/bpf";
const PREFIX: &str = "evk-";

/// A name that no other test on this machine uses: `evk-PID-N`.
#[must_use]
pub fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A network namespace of our own. Dropping it ends the processes inside and removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes a namespace called `evk-PID-N-ROLE`, with its loopback up.
    pub fn new(role: &str) -> Result<Self> {
        prepare_host()?;
        let name = format!("{}-{role}", unique_name());
        let lock = lock()?;
        netns("add", &name).inspect_err(|_| {
            // Broken off half-way it leaves a name without a namespace.
            let _ = netns("del", &name);
        })?;
        drop(lock);
        let path = Path::new(NAMESPACES).join(&name);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let namespace = Self { name, file };
        // Duplicate address detection would keep every IPv6 address unusable for a second.
        namespace.sysctl("net/ipv6/conf/all/accept_dad", "0")?;
        namespace.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The name under which `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it, for `nsenter --net=PATH`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.name)
    }

    /// A command that runs inside. `nsenter`, because `ip netns exec` would mount a fresh `/sys`
    /// and hide bpffs. It replaces itself by the program, so the process id is the program's.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// Processor time that the namespace's processes took so far, with that of children of theirs that ended.
    pub fn processor_time(&self) -> Result<Duration> {
        let own = fs::metadata(Path::new(NAMESPACES).join(&self.name))?;
        let ticks = processes_in(own.dev(), own.ino()).into_iter().filter_map(ticks).sum::<u64>();
        Ok(Duration::from_millis(ticks * 1000 / USER_HZ))
    }

    /// Runs `work` on a thread of this process that has entered the namespace. Sockets made
    /// there stay in it, wherever they are used afterwards.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                self.enter()?;
                work()
            });
            worker.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked))
        })
    }

    /// Packets that its interfaces lost so far, in both directions (`proc_pid_net(5)`).
    pub fn lost(&self) -> Result<u64> {
        let devices = self.run(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
        let lost = |line: &str| {
            let (_, numbers) = line.split_once(':')?;
            let mut numbers = numbers.split_whitespace().map(str::parse::<u64>);
            let received = numbers.nth(3)?.ok()?;
            let sent = numbers.nth(7)?.ok()?;
            Some(received + sent)
        };
        devices.lines().skip(2).map(|line| lost(line).with_context(|| line.to_owned())).sum()
    }

    /// Starts a thread of this process that lives inside the namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let file = self.file.try_clone().context("duplicate the namespace's descriptor")?;
        let name = self.name.clone();
        Ok(thread::Builder::new().name(name.clone()).spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("enter namespace {name}"))?;
            work()
        })?)
    }

    /// Runs lines of `ip` commands inside (without the word `ip`).
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut command = self.command("ip");
        command.args(["-batch", "-"]);
        ip(command, lines).with_context(|| format!("in namespace {}", self.name))
    }

    /// Sets a kernel parameter, named by its path below `/proc/sys`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.run(|| {
            fs::write(Path::new("/proc/sys").join(key), value)
                .with_context(|| format!("set {key} to {value} in {}", self.name))
        })
    }

    /// Switches offloads of `device`, as in `ethtool -K DEVICE tx off gro on`.
    pub fn offloads(&self, device: &str, settings: &[&str]) -> Result<()> {
        let output = self.command("ethtool").arg("-K").arg(device).args(settings).output();
        succeeded("ethtool", output.context("run ethtool: is it installed?")?).map(drop)
    }

    /// Has the packets of a flow that `device` receives handled by one CPU, as a network card with
    /// several queues would (the kernel's `networking/scaling.rst`, Receive Packet Steering).
    ///
    /// A veth has them handled wherever they were sent. So a server may meet a client's last packet of
    /// the handshake and its request on two CPUs at once; Linux, which at that moment replaces the
    /// request's socket by the connection's, finds neither and resets the client (seen on 6.18, once in
    /// some hundred thousand connections of a busy machine).
    pub fn steer(&self, device: &str) -> Result<()> {
        let cpus = thread::available_parallelism()?.get();
        let mask = u32::MAX >> (u32::BITS as usize).saturating_sub(cpus);
        let queues = format!("/sys/class/net/{device}/queues/rx-*/rps_cpus");
        let each = format!("for queue in {queues}; do echo {mask:x} > $queue || exit 1; done");
        // Unlike `nsenter` it shows the namespace's own `/sys`.
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "sh", "-c", &each]);
        ip(command, "")
    }

    /// The process ids of what runs inside, this process's own threads left out.
    #[must_use]
    pub fn processes(&self) -> Vec<Pid> {
        self.file.metadata().map(|own| processes_in(own.dev(), own.ino())).unwrap_or_default()
    }

    fn enter(&self) -> Result<()> {
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("enter namespace {}", self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let end_processes = || {
            for process in self.processes() {
                let _ = kill_process(process, Signal::KILL);
            }
        };
        end_processes();
        // A second time, for a Ctrl-C that hit the first one before it stood apart.
        let removed = netns("del", &self.name).or_else(|_| netns("del", &self.name));
        if let Err(error) = removed
            && self.path().exists()
        {
            eprintln!("namespace {} stays behind: {error:#}", self.name);
        }
        // A command that had just been started was not inside yet when they were ended. Without the name
        // no further one gets in.
        end_processes();
    }
}

/// Joins two namespaces by a virtual cable and sets both ends up. Each end is a device name and,
/// if it matters, its MAC address.
pub fn cable(
    (left, left_device, left_mac): (&Namespace, &str, &str),
    (right, right_device, right_mac): (&Namespace, &str, &str),
) -> Result<()> {
    left.ip(&format!(
        "link add {left_device} address {left_mac} type veth \
         peer name {right_device} address {right_mac} netns {}\n\
         link set {left_device} up",
        right.name
    ))?;
    right.ip(&format!("link set {right_device} up"))
}

/// A directory below bpffs that no other test uses; made by whoever pins there.
#[must_use]
pub fn bpffs_directory() -> PathBuf {
    Path::new(BPFFS).join(unique_name())
}

/// What a command wrote to its standard output, or an error with what it said.
pub fn succeeded(what: &str, output: Output) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    bail!(
        "{what} failed ({}): {}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    )
}

fn netns(verb: &str, name: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["netns", verb, name]);
    ip(command, "")
}

fn ip(mut command: Command, lines: &str) -> Result<()> {
    // A Ctrl-C at the terminal is for its maker, who needs `ip` to clean up.
    command.process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("run ip: is iproute2 installed?")?;
    if let Some(mut stdin) = child.stdin.take() {
        // `ip` without a batch ends without reading; that is no error of ours.
        let _ = stdin.write_all(lines.as_bytes());
    }
    let output = child.wait_with_output()?;
    succeeded(&format!("{command:?} {lines}"), output).map(drop)
}

/// Mounts bpffs where it is missing and sweeps what dead tests left, once per process.
fn prepare_host() -> Result<()> {
    static ONCE: Once = Once::new();
    ensure!(
        rustix::process::geteuid().is_root(),
        "these tests make network namespaces and load programs: run them as root"
    );
    let mut outcome = Ok(());
    ONCE.call_once(|| {
        outcome = lock().and_then(|_lock| {
            mount_bpffs()?;
            sweep();
            Ok(())
        });
    });
    outcome
}

/// One harness at a time changes what all of them share.
fn lock() -> Result<File> {
    let path = std::env::temp_dir().join("evenkeel-tests.lock");
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    flock(&file, FlockOperation::LockExclusive)
        .with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

fn mount_bpffs() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some(BPFFS)) {
        return Ok(());
    }
    mount("bpf", BPFFS, "bpf", MountFlags::empty(), None)
        .with_context(|| format!("mount bpffs at {BPFFS}"))
}

/// Removes namespaces and pins whose makers are gone. Best effort: a leftover is litter, and no
/// reason to fail the test that found it.
fn sweep() {
    for name in orphans(NAMESPACES) {
        if let Ok(own) = fs::metadata(Path::new(NAMESPACES).join(&name)) {
            for process in processes_in(own.dev(), own.ino()) {
                let _ = kill_process(process, Signal::KILL);
            }
        }
        let _ = netns("del", &name);
    }
    for name in orphans(BPFFS) {
        let path = Path::new(BPFFS).join(name);
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
}

fn orphans(directory: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| maker(name).is_some_and(|pid| !is_alive(pid))).collect()
}

fn maker(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn processes_in(device: u64, inode: u64) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|&pid| pid.cast_unsigned() != std::process::id())
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|own| (own.dev(), own.ino()) == (device, inode))
        })
        .filter_map(Pid::from_raw)
        .collect()
}

/// Ticks that a process and its children that ended took: utime, stime, cutime and cstime of
/// `/proc/PID/stat` (`proc_pid_stat(5)`).
fn ticks(process: Pid) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    // The name before may hold anything, brackets too.
    let (_, fields) = stat.rsplit_once(')')?;
    Some(
        fields
            .split_whitespace()
            .skip(11)
            .take(4)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum(),
    )
}

#[cfg(test)]
mod tests {
    use super::{is_alive, maker};

    #[test]
    fn a_name_tells_its_maker() {
        assert_eq!(maker("evk-123-0-edge"), Some(123));
        assert_eq!(maker("evk-77-4"), Some(77));
        assert_eq!(maker("other-123"), None);
        assert!(is_alive(std::process::id()));
    }
}
