//! The balancer under test: its daemon in the edge's namespace, its command line, its API.
//!
//! Known by its contract alone. Every path is its own, so that balancers run side by side, and
//! dropping one detaches it and removes its pins, whatever state the test left it in.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    netns::bpffs_directory,
    process::Process,
    settings::Settings,
    topology::{Host, Lab},
    wait::{PATIENCE, eventually},
};

/// Loading the program and attaching it takes a second on a slow machine.
const START: Duration = Duration::from_secs(30);

/// How a command of the command line ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// The standard output of a command that has to succeed.
    pub fn success(self) -> Result<String> {
        ensure!(self.code == 0, "exit code {}: {}{}", self.code, self.stderr, self.stdout);
        Ok(self.stdout)
    }
}

/// What the balancer's counters say of one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendCounters {
    /// Connections since the start.
    pub connections: u64,
    /// Attempts that it refused or did not answer, and another backend was given.
    pub redispatched: u64,
    /// Connections open now.
    pub open: u64,
    /// Packets towards the backend.
    pub packets_in: u64,
    /// Packets towards the client.
    pub packets_out: u64,
    /// Bytes towards the backend.
    pub bytes_in: u64,
    /// Bytes towards the client.
    pub bytes_out: u64,
}

/// An answer of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The content type, as sent.
    pub content_type: String,
    /// The body; null if it is no JSON.
    pub body: Value,
}

/// One instance of the balancer.
#[derive(Debug)]
pub struct Balancer {
    daemon: Option<Process>,
    binary: PathBuf,
    namespace: PathBuf,
    directory: TempDir,
    bpffs: PathBuf,
    run_arguments: Vec<String>,
    environment: Vec<(String, OsString)>,
}

impl Balancer {
    /// Writes the configuration, starts the daemon on the lab's edge, and waits until it answers.
    pub fn start(lab: &Lab, settings: &Settings) -> Result<Self> {
        let mut balancer = Self::prepare(lab, &settings.to_string())?;
        balancer.run()?;
        Ok(balancer)
    }

    /// Writes the configuration and starts nothing.
    pub fn prepare(lab: &Lab, configuration: &str) -> Result<Self> {
        Self::prepare_on(&lab.edge, configuration)
    }

    /// The same on any host.
    pub fn prepare_on(host: &Host, configuration: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("evenkeel-").tempdir()?;
        let balancer = Self {
            daemon: None,
            binary: binary()?,
            namespace: host.namespace.path(),
            directory,
            bpffs: bpffs_directory(),
            run_arguments: Vec::new(),
            environment: Vec::new(),
        };
        balancer.configure(configuration)?;
        Ok(balancer)
    }

    /// Has every later start take these arguments of `evenkeel run`, too, instead of those from before.
    pub fn run_with(&mut self, arguments: &[&str]) {
        self.run_arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    }

    /// Sets a variable of the environment of every later start.
    pub fn set_environment(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// Has every later command be of another program, as a package's upgrade does.
    pub fn install(&mut self, binary: PathBuf) {
        self.binary = binary;
    }

    /// Starts the daemon and does not wait: whoever calls wants to meet it on its way.
    pub fn begin(&self) -> Result<Process> {
        Process::start("daemon", self.run_command(), self.directory.path())
    }

    /// Starts the daemon (again) and waits until it answers.
    pub fn run(&mut self) -> Result<()> {
        let mut process = Process::start("daemon", self.run_command(), self.directory.path())?;
        let answers = eventually("the daemon answers", START, || {
            if let Some(status) = process.ended()? {
                // No use in waiting longer; the caller learns why below.
                return Ok(Err(status));
            }
            self.status().map(Ok)
        });
        match answers {
            Ok(Ok(_)) => {}
            Ok(Err(status)) => bail!("the daemon ended ({status}):\n{}", process.tail()),
            Err(error) => return Err(error.context(process.tail())),
        }
        self.daemon = Some(process);
        Ok(())
    }

    /// Starts the daemon and does not wait until it answers.
    pub fn launch(&mut self) -> Result<()> {
        ensure!(self.daemon.is_none(), "a daemon runs already");
        let process = Process::start("daemon", self.run_command(), self.directory.path())?;
        self.daemon = Some(process);
        Ok(())
    }

    /// The daemon's process id.
    pub fn process_id(&self) -> Result<u32> {
        Ok(self.daemon.as_ref().context("no daemon runs")?.id())
    }

    /// Has the next daemon pin below this directory, which is on a BPF file system.
    pub fn pin_below(&mut self, directory: &Path) {
        directory.clone_into(&mut self.bpffs);
    }

    /// Runs `evenkeel run` with other places, such as `--socket PATH`, where it has to end by itself.
    pub fn run_elsewhere(&self, places: &[(&str, &Path)]) -> Result<Outcome> {
        let mut command = self.command(&["run"]);
        let (socket, state) = (self.socket_path(), self.state_path());
        let usual: [(&str, &Path); 3] =
            [("--socket", &socket), ("--state-dir", &state), ("--bpffs", &self.bpffs)];
        command.arg("--config").arg(self.config_path());
        for (option, path) in usual {
            let other = places.iter().find(|(other, _)| *other == option);
            command.arg(option).arg(other.map_or(path, |(_, path)| path));
        }
        let mut process = Process::start("elsewhere", command, self.directory.path())?;
        let status = process.wait(PATIENCE)?;
        let (code, stderr) = (status.code().unwrap_or(-1), process.output());
        Ok(Outcome { code, stdout: String::new(), stderr })
    }

    /// Runs `evenkeel run` with a configuration that it has to refuse, and tells how it ended.
    pub fn run_refused(&self) -> Result<Outcome> {
        let mut process = Process::start("refused", self.run_command(), self.directory.path())?;
        let status = process.wait(PATIENCE)?;
        Ok(Outcome {
            code: status.code().unwrap_or(-1),
            stdout: String::new(),
            stderr: process.output(),
        })
    }

    /// Kills the daemon with `SIGKILL`.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.take().context("no daemon runs")?.kill()
    }

    /// Asks the daemon to stop (`SIGTERM`) and waits; it has to end with exit code 0.
    pub fn terminate(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("no daemon runs")?;
        daemon.signal(Signal::TERM)?;
        let status = daemon.wait(PATIENCE)?;
        ensure!(status.success(), "the daemon ended with {status}:\n{}", daemon.tail());
        Ok(())
    }

    /// Sends the daemon a signal that does not end it.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.daemon.as_ref().context("no daemon runs")?.signal(signal)
    }

    /// Everything the daemon has written.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("daemon.log")).unwrap_or_default()
    }

    /// Its configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.directory.path().join("evenkeel.toml")
    }

    /// Its API socket.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        self.directory.path().join("evenkeel.sock")
    }

    /// Its state directory.
    #[must_use]
    pub fn state_path(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// The directory of its pins.
    #[must_use]
    pub fn bpffs_path(&self) -> &Path {
        &self.bpffs
    }

    /// The program that is run.
    #[must_use]
    pub fn binary_path(&self) -> &Path {
        &self.binary
    }

    /// A directory that is the test's to fill, removed with the balancer.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// Writes the configuration file.
    pub fn configure(&self, text: &str) -> Result<()> {
        fs::write(self.config_path(), text).context("write the configuration")
    }

    /// Reads the configuration file.
    pub fn configuration(&self) -> Result<String> {
        fs::read_to_string(self.config_path()).context("read the configuration")
    }

    /// A command of `evenkeel` in the edge's namespace, as given.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.display())).arg("--").arg(&self.binary);
        command.args(arguments);
        command
    }

    /// Runs a command that talks to the daemon.
    pub fn cli(&self, arguments: &[&str]) -> Result<Outcome> {
        let mut command = self.command(arguments);
        command.arg("--socket").arg(self.socket_path());
        outcome(command)
    }

    /// Runs `evenkeel check` on a file.
    pub fn check(&self, file: &Path) -> Result<Outcome> {
        let mut command = self.command(&["check"]);
        command.arg(file);
        outcome(command)
    }

    /// Runs `evenkeel detach`.
    pub fn detach(&self) -> Result<Outcome> {
        let mut command = self.command(&["detach"]);
        command.arg("--state-dir").arg(self.state_path()).arg("--bpffs").arg(&self.bpffs);
        outcome(command)
    }

    /// Runs a reading command with `-o json`.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let arguments = [arguments, &["-o", "json"]].concat();
        let text = self.cli(&arguments)?.success().with_context(|| arguments.join(" "))?;
        serde_json::from_str(&text).with_context(|| format!("not JSON alone: {text}"))
    }

    /// `evenkeel status -o json`.
    pub fn status(&self) -> Result<Value> {
        self.json(&["status"])
    }

    /// What `status` says of one backend.
    pub fn backend_status(&self, service: &str, backend: &str) -> Result<Value> {
        find(&self.status()?, service, backend)
    }

    /// The names of a service's backends, in order, as `status` tells them.
    pub fn backends(&self, service: &str) -> Result<Vec<String>> {
        let status = self.status()?;
        let backends = named(&status["services"], service)?["backends"].as_array();
        let backends = backends.with_context(|| format!("{service} has no list of backends"))?;
        backends
            .iter()
            .map(|backend| Ok(backend["name"].as_str().context("a backend without name")?.into()))
            .collect()
    }

    /// What `counters` says of one backend.
    pub fn counters(&self, service: &str, backend: &str) -> Result<BackendCounters> {
        let found = find(&self.json(&["counters"])?, service, backend)?;
        let number = |path: &str| {
            let value = found.pointer(path).and_then(Value::as_u64);
            value.with_context(|| format!("no number at {path} of {found}"))
        };
        Ok(BackendCounters {
            connections: number("/connections/total")?,
            redispatched: number("/failures/redispatched")?,
            open: number("/connections/open")?,
            packets_in: number("/packets/in")?,
            packets_out: number("/packets/out")?,
            bytes_in: number("/bytes/in")?,
            bytes_out: number("/bytes/out")?,
        })
    }

    /// The count of one verdict, by its name; 0 if it is not listed.
    pub fn verdict(&self, name: &str) -> Result<u64> {
        Ok(self.json(&["counters"])?["verdicts"][name].as_u64().unwrap_or(0))
    }

    /// Waits until `status` shows a backend's `active` as given.
    pub fn await_active(&self, service: &str, backend: &str, active: bool) -> Result<()> {
        let what = format!("{service}/{backend} is {}active", if active { "" } else { "not " });
        eventually(&what, PATIENCE, || {
            let status = self.backend_status(service, backend)?;
            ensure!(status["active"] == active, "it is {status}");
            Ok(())
        })
    }

    /// Sends a request to the API, by curl over the Unix socket.
    pub fn api(&self, method: &str, path: &str, body: Option<&str>) -> Result<ApiAnswer> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "10", "--unix-socket"]);
        command.arg(self.socket_path());
        command.args(["--request", method, "--write-out", "\n%{http_code} %{content_type}"]);
        if let Some(body) = body {
            command.args(["--header", "Content-Type: application/json", "--data-binary", body]);
        }
        let text = outcome({
            command.arg(format!("http://localhost{path}"));
            command
        })?
        .success()?;
        let (body, summary) = text.rsplit_once('\n').context("curl's summary is missing")?;
        let (status, content_type) = summary.split_once(' ').context("curl's summary is short")?;
        Ok(ApiAnswer {
            status: status.parse()?,
            content_type: content_type.to_owned(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        })
    }

    fn run_command(&self) -> Command {
        let mut command = self.command(&["run"]);
        command.arg("--config").arg(self.config_path());
        command.arg("--socket").arg(self.socket_path());
        command.arg("--state-dir").arg(self.state_path());
        command.arg("--bpffs").arg(&self.bpffs).args(&self.run_arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // The daemon first, so that it does not bring back what is taken away.
        drop(self.daemon.take());
        if !self.bpffs.exists() {
            return;
        }
        if let Err(error) = self.detach().and_then(Outcome::success) {
            eprintln!("detach: {error:#}");
        }
        // Removing the pins lets go of links too, should `detach` be what is broken.
        let _ = fs::remove_dir_all(&self.bpffs);
    }
}

/// The binary under test: `EVENKEEL_BIN`, or what `cargo build` put beside this executable.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("EVENKEEL_BIN") {
        return Ok(path.into());
    }
    let own = env::current_exe().context("find this executable")?;
    beside(&own, "evenkeel").with_context(|| {
        format!("no evenkeel beside {}: run `cargo build`, or set EVENKEEL_BIN", own.display())
    })
}

/// The same source with another layout of the kernel's tables, as `cargo xtask test` builds it.
pub fn next_version() -> Result<PathBuf> {
    let current = binary()?;
    beside(&current, "evenkeel-next").with_context(|| {
        format!(
            "no evenkeel-next beside {}: run `cargo build --workspace --bin evenkeel-next --features \
             lb-user/next-layout`",
            current.display()
        )
    })
}

/// A program in the directory of another, or in the one above.
fn beside(program: &Path, name: &str) -> Option<PathBuf> {
    let mut candidates = program.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    candidates.find(|path| path.is_file())
}

/// The Debian package that `cargo xtask deb --debug` made.
pub fn package() -> Result<PathBuf> {
    let own = env::current_exe().context("find this executable")?;
    let target = own.ancestors().nth(3).context("no target directory")?;
    let path = target.join("debian/evenkeel-debug.deb");
    ensure!(path.is_file(), "no {}: run `cargo xtask deb --debug`", path.display());
    Ok(path)
}

fn outcome(mut command: Command) -> Result<Outcome> {
    let output =
        command.output().with_context(|| format!("run {}", command.get_program().display()))?;
    Ok(Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).context("the output is not UTF-8")?,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn find(document: &Value, service: &str, backend: &str) -> Result<Value> {
    let backends = &named(&document["services"], service)?["backends"];
    named(backends, backend).cloned().with_context(|| format!("in service {service}"))
}

fn named<'a>(list: &'a Value, name: &str) -> Result<&'a Value> {
    let items = list.as_array().with_context(|| format!("no list: {list}"))?;
    let item = items.iter().find(|item| item["name"] == name);
    item.with_context(|| format!("no {name} in {list}"))
}
