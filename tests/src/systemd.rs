//! A host with systemd as its first process, in one of the lab's network namespaces: this machine's files
//! under a layer of the test's own, so that units, users and packages can be installed for real.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::{
    evenkeel::{Outcome, binary},
    netns::{Namespace, unique_name},
    process::Process,
    wait::{PATIENCE, eventually},
};

/// Where the unified hierarchy of control groups is, alone or beside the older ones (cgroups(7)).
const HIERARCHIES: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// A running host. Dropping it ends every process of it and forgets its files.
#[derive(Debug)]
pub struct Host {
    init: u32,
    // In this order: the group can go when nobody is in it.
    _processes: Process,
    _group: Group,
    _directory: TempDir,
}

/// A control group of the test's own.
#[derive(Debug)]
struct Group(PathBuf);

impl Group {
    fn new() -> Result<Self> {
        let has_processes = |path: &&&str| Path::new(path).join("cgroup.procs").exists();
        let root = HIERARCHIES.iter().find(has_processes).context("no unified control groups")?;
        let path = Path::new(root).join(unique_name());
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let _ = eventually("the control group empties", PATIENCE, || Ok(remove(&self.0)?));
    }
}

/// Removes a control group and those below it.
fn remove(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

impl Host {
    /// Boots a host whose network is `namespace`, with the balancer's binary in its place, and waits until
    /// its systemd answers.
    pub fn boot(namespace: &Namespace) -> Result<Self> {
        Self::boot_with(namespace, Some(binary()?))
    }

    /// The same without the balancer.
    pub fn boot_bare(namespace: &Namespace) -> Result<Self> {
        Self::boot_with(namespace, None)
    }

    fn boot_with(namespace: &Namespace, binary: Option<PathBuf>) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("evenkeel-host-").tempdir()?;
        let group = Group::new()?;
        let mut command = namespace.command("bash");
        let enter = "echo $$ > \"$1\" && exec unshare --mount --pid --fork --kill-child --cgroup \
                     --uts --ipc --propagation private bash -c \"$2\" boot \"$3\" \"$4\"";
        command.args(["-c", enter, "enter"]);
        command.arg(group.0.join("cgroup.procs")).arg(include_str!("systemd/boot.sh"));
        command.arg(directory.path()).arg(binary.unwrap_or_default());
        let mut processes = Process::start("systemd", command, directory.path())?;
        let init = eventually("systemd's process is there", PATIENCE, || {
            ensure!(processes.ended()?.is_none(), "it ended: {}", processes.tail());
            let id = processes.id();
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
            Ok(children.trim().parse()?)
        })?;
        let host = Self { init, _processes: processes, _group: group, _directory: directory };
        eventually("systemd answers", PATIENCE, || {
            let state = host.run(&["systemctl", "is-system-running"])?;
            ensure!(state.stdout.trim() == "running", "{state:?}");
            Ok(())
        })?;
        Ok(host)
    }

    /// A command that runs on the host, as root.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.init.to_string());
        command.args(["--all", "--root", "--wd", "--"]).args(arguments);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        command
    }

    /// Runs a command there.
    pub fn run(&self, arguments: &[&str]) -> Result<Outcome> {
        let output = self.command(arguments).output().context("run on the host")?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ok(Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }

    /// Runs a command there that has to succeed, and returns what it printed.
    pub fn done(&self, arguments: &[&str]) -> Result<String> {
        self.run(arguments)?.success().with_context(|| arguments.join(" "))
    }

    /// Writes a file there.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let script = "mkdir -p \"$(dirname \"$1\")\" && cat > \"$1\"";
        let mut command = self.command(&["sh", "-c", script, "write", path]);
        command.stdin(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().context("no standard input")?.write_all(bytes)?;
        let status = child.wait()?;
        if !status.success() {
            bail!("write {path}: {status}");
        }
        Ok(())
    }
}
