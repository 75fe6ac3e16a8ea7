//! A real etcd cluster of three members, each a namespace of its own on the management network, and `etcdctl` on a host
//! that nobody cuts off.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    netns::succeeded,
    process::Process,
    topology::{Host, Management},
    wait::{PATIENCE, eventually},
};

/// How many members there are.
const MEMBERS: u8 = 3;
/// The number of the host that `etcdctl` runs on.
const OPERATOR: u8 = 100;
/// Every member keeps its data in memory where that can be had: `fsync` is not what is tested.
const MEMORY: &str = "/dev/shm";

/// What a cluster asks of its clients, besides being reachable.
#[derive(Clone, Debug)]
pub struct Security {
    /// Who signed the certificates, in PEM.
    pub authority: PathBuf,
    /// The members' certificate and key.
    pub server: [PathBuf; 2],
    /// A client's.
    pub client: [PathBuf; 2],
    /// Names and passwords; the first is `root`. The others may read and write below their prefix alone.
    pub users: Vec<User>,
}

/// Who may log in.
#[derive(Clone, Debug)]
pub struct User {
    /// The name, and that of its role.
    pub name: String,
    /// The password.
    pub password: String,
    /// Where it may read and write; of no meaning for `root`.
    pub prefix: String,
}

/// The cluster. Dropping it ends and removes all of it.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    operator: Host,
    security: Option<Security>,
    /// Whether who talks to it has to log in.
    guarded: bool,
    directory: TempDir,
    /// What the members are on, for others to join.
    pub network: Management,
}

#[derive(Debug)]
struct Member {
    process: Option<Process>,
    host: Host,
}

impl Etcd {
    /// Starts a cluster that trusts everybody, and waits until each member answers.
    pub fn start() -> Result<Self> {
        Self::start_with(None)
    }

    /// Starts one with TLS, client certificates and users.
    pub fn start_secure(security: Security) -> Result<Self> {
        let mut etcd = Self::start_with(Some(security))?;
        etcd.add_users()?;
        Ok(etcd)
    }

    fn start_with(security: Option<Security>) -> Result<Self> {
        let network = Management::new()?;
        let mut directory = tempfile::Builder::new();
        directory.prefix("evenkeel-etcd-");
        let directory = directory.tempdir_in(MEMORY).or_else(|_| directory.tempdir())?;
        let host = |number| {
            let host = network.host(&name(number), number)?;
            Ok(Member { process: None, host })
        };
        let members = (1..=MEMBERS).map(host).collect::<Result<_>>()?;
        let operator = network.host("operator", OPERATOR)?;
        let mut etcd = Self { members, operator, security, guarded: false, directory, network };
        for member in 0..etcd.members.len() {
            etcd.launch(member)?;
        }
        etcd.await_quorum()?;
        Ok(etcd)
    }

    /// Where clients reach the members, in order.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.members.len()).map(|member| self.url(member, 2379)).collect()
    }

    /// Kills a member (`SIGKILL`).
    pub fn kill(&mut self, member: usize) -> Result<()> {
        self.members[member].process.take().context("this member does not run")?.kill()
    }

    /// Starts a member again that was killed, with its data, and waits until the cluster answers.
    pub fn restart(&mut self, member: usize) -> Result<()> {
        self.launch(member)?;
        self.await_quorum()
    }

    /// Kills every member.
    pub fn kill_all(&mut self) -> Result<()> {
        (0..self.members.len()).try_for_each(|member| self.kill(member))
    }

    /// Takes away all that a cluster has written of which nobody runs: it begins anew.
    pub fn wipe(&self) -> Result<()> {
        ensure!(self.running().next().is_none(), "members run");
        for member in &self.members {
            fs::remove_dir_all(self.directory.path().join(&member.host.name))?;
        }
        Ok(())
    }

    /// Starts all of them again.
    pub fn restart_all(&mut self) -> Result<()> {
        (0..self.members.len()).try_for_each(|member| self.launch(member))?;
        self.await_quorum()
    }

    /// Cuts a member from the other two, or mends it. Everybody else still reaches it.
    pub fn isolate(&self, member: usize, isolated: bool) -> Result<()> {
        let numbered = |index: usize| (&self.members[index].host.namespace, number(index));
        for other in (0..self.members.len()).filter(|&other| other != member) {
            self.network.sever([numbered(member), numbered(other)], isolated)?;
        }
        Ok(())
    }

    /// Stops a member where it stands (`SIGSTOP`), or has it go on: its sockets stay open and nothing comes from them.
    pub fn freeze(&self, member: usize, frozen: bool) -> Result<()> {
        use rustix::process::Signal;
        let process = self.members[member].process.as_ref().context("this member does not run")?;
        process.signal(if frozen { Signal::STOP } else { Signal::CONT })
    }

    /// The member that leads.
    pub fn leader(&self) -> Result<usize> {
        for member in self.running() {
            let Ok(status) = self.status(member) else { continue };
            let (own, leader) = (&status["header"]["member_id"], &status["leader"]);
            if own == leader && leader.as_u64() != Some(0) {
                return Ok(member);
            }
        }
        bail!("nobody leads")
    }

    /// Writes a value.
    pub fn put(&self, key: &str, value: &str) -> Result<()> {
        self.control(&["put", "--", key, value]).map(drop)
    }

    /// Reads one; nothing if there is none.
    pub fn get(&self, key: &str) -> Result<Option<String>> {
        let answer = self.control(&["get", "--", key])?;
        let value = answer.strip_prefix(&format!("{key}\n"));
        Ok(value.map(|value| value.strip_suffix('\n').unwrap_or(value).to_owned()))
    }

    /// The names of all keys below a prefix.
    pub fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let answer = self.control(&["get", "--prefix", "--keys-only", "--", prefix])?;
        Ok(answer.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// Deletes a key.
    pub fn delete(&self, key: &str) -> Result<()> {
        self.control(&["del", "--", key]).map(drop)
    }

    /// Forgets every revision but the last, on every member.
    pub fn compact(&self) -> Result<()> {
        let revision = self.status(self.leader()?)?["header"]["revision"].to_string();
        self.control(&["compact", "--physical", &revision]).map(drop)
    }

    /// A directory of the cluster's own, for a test's files about it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Runs `etcdctl` against all members that run, and tells what it printed.
    pub fn control(&self, arguments: &[&str]) -> Result<String> {
        let endpoints: Vec<_> = self.running().map(|member| self.url(member, 2379)).collect();
        ensure!(!endpoints.is_empty(), "no member runs");
        self.control_at(&endpoints.join(","), arguments)
    }

    fn control_at(&self, endpoints: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.operator.namespace.command("etcdctl");
        command.args(["--endpoints", endpoints, "--command-timeout", "3s", "--dial-timeout", "1s"]);
        command.env("ETCDCTL_API", "3");
        if let Some(security) = &self.security {
            let [certificate, key] = &security.client;
            command.arg("--cacert").arg(&security.authority);
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
            if let Some(root) = security.users.first().filter(|_| self.guarded) {
                command.arg("--user").arg(format!("{}:{}", root.name, root.password));
            }
        }
        let output = command.args(arguments).output().context("run etcdctl: is it installed?")?;
        succeeded(&format!("etcdctl {}", arguments.join(" ")), output)
    }

    fn status(&self, member: usize) -> Result<Value> {
        let endpoint = self.url(member, 2379);
        let text = self.control_at(&endpoint, &["endpoint", "status", "--write-out", "json"])?;
        let status: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        Ok(status[0]["Status"].clone())
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.members.len()).filter(|&member| self.members[member].process.is_some())
    }

    /// Waits until every member that runs answers a read that the majority confirms.
    fn await_quorum(&self) -> Result<()> {
        for member in self.running() {
            let endpoint = self.url(member, 2379);
            eventually(&format!("{} answers", name(number(member))), PATIENCE, || {
                self.control_at(&endpoint, &["get", "nothing"])
            })
            .with_context(|| {
                let process = self.members[member].process.as_ref();
                process.map(Process::tail).unwrap_or_default()
            })?;
        }
        Ok(())
    }

    fn launch(&mut self, member: usize) -> Result<()> {
        let command = self.command(member);
        let member = &mut self.members[member];
        ensure!(member.process.is_none(), "{} runs already", member.host.name);
        let process = Process::start(&member.host.name, command, self.directory.path())?;
        member.process = Some(process);
        Ok(())
    }

    fn command(&self, member: usize) -> Command {
        let peers: Vec<_> = (0..self.members.len())
            .map(|peer| {
                format!("{}=http://{}:2380", name(number(peer)), self.members[peer].host.v4)
            })
            .collect();
        let host = &self.members[member].host;
        let (clients, peer) = (self.url(member, 2379), format!("http://{}:2380", host.v4));
        let mut command = host.namespace.command("etcd");
        command.arg("--data-dir").arg(self.directory.path().join(&host.name));
        for (option, value) in [
            ("--name", &*host.name),
            ("--listen-client-urls", &clients),
            ("--advertise-client-urls", &clients),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", &peers.join(",")),
            ("--initial-cluster-state", "new"),
            // Elections are quick, so that tests are.
            ("--heartbeat-interval", "50"),
            ("--election-timeout", "500"),
            ("--bcrypt-cost", "4"),
            ("--logger", "zap"),
            ("--log-level", "error"),
        ] {
            command.arg(option).arg(value);
        }
        if let Some(security) = &self.security {
            let [certificate, key] = &security.server;
            command.arg("--cert-file").arg(certificate).arg("--key-file").arg(key);
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&security.authority);
        }
        command
    }

    fn add_users(&mut self) -> Result<()> {
        let Some(security) = self.security.clone() else { return Ok(()) };
        for (index, User { name, password, prefix }) in security.users.iter().enumerate() {
            self.control(&["user", "add", &format!("{name}:{password}")])?;
            if index > 0 {
                self.control(&["role", "add", name])?;
                let grant =
                    ["role", "grant-permission", "--prefix=true", name, "readwrite", prefix];
                self.control(&grant)?;
            }
            self.control(&["user", "grant-role", name, name])?;
        }
        self.control(&["auth", "enable"])?;
        self.guarded = true;
        Ok(())
    }

    fn url(&self, member: usize, port: u16) -> String {
        let scheme = if self.security.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{port}", self.members[member].host.v4)
    }
}

fn number(member: usize) -> u8 {
    u8::try_from(member + 1).unwrap_or(u8::MAX)
}

fn name(number: u8) -> String {
    format!("etcd-{number}")
}
