//! A program whose exit code is the answer, run with as little as it needs.
//!
//! It gets a user without privileges, a session of its own without a terminal, and an environment of
//! a few variables. Whatever it started ends with it: the whole process group is killed while its
//! leader still holds the group's number, so that no stranger can have it.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::unistd::User;
use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, setsid},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::unix::pipe::Receiver,
    sync::{Semaphore, SemaphorePermit},
    task::spawn_blocking,
};

use super::{super::ExecProbe, Deadline, ProbeFailure, Stage, said};

/// Programs that run at once, over all probes.
const MOST_AT_ONCE: usize = 32;
/// Bytes of the first line that are kept.
const LONGEST_LINE: usize = 512;
/// Where programs that the probe's own program calls are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static TURNS: Semaphore = Semaphore::const_new(MOST_AT_ONCE);

/// Why a program did not pass.
#[derive(Debug, thiserror::Error)]
pub enum ExecFailure {
    /// There is no such user.
    #[error("cannot run {program} as {user:?}: {why}")]
    User {
        /// The program.
        program: String,
        /// The user.
        user: String,
        /// What is wrong with the user.
        why: String,
    },
    /// The program could not be started, or not be watched.
    #[error("cannot run {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// It ended with another exit code than 0.
    #[error("exit code {code}{}", colon(.line))]
    Code {
        /// The exit code.
        code: i32,
        /// The first line that it wrote.
        line: String,
    },
    /// A signal ended it.
    #[error("ended by signal {signal}{}", colon(.line))]
    Killed {
        /// The signal's number.
        signal: i32,
        /// The first line that it wrote.
        line: String,
    },
}

fn colon(line: &str) -> String {
    if line.is_empty() { String::new() } else { format!(": {line}") }
}

/// Waits until there are fewer than [`MOST_AT_ONCE`] programs.
pub(super) async fn turn() -> Option<SemaphorePermit<'static>> {
    // Nobody closes it.
    TURNS.acquire().await.ok()
}

/// A program to run.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// The program by its absolute path, and its arguments.
    pub(crate) command: Vec<String>,
    /// The user that it runs as.
    pub(crate) user: String,
    /// What it finds in its environment besides the path.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// What it can read from its standard input; `None`: nothing.
    pub(crate) input: Option<Vec<u8>>,
}

/// Runs the probe's program and judges its end.
pub(super) async fn run(
    target: SocketAddr,
    probe: &ExecProbe,
    deadline: &Deadline,
) -> Result<(), ProbeFailure> {
    let mut environment = vec![
        ("EVENKEEL_ADDRESS", target.ip().to_string()),
        ("EVENKEEL_PORT", target.port().to_string()),
    ];
    environment.extend(probe.environment.iter().cloned());
    let (command, user) = (probe.command.clone(), probe.user.clone());
    let task = Task { command, user, environment, input: None };
    Ok(deadline.limit(Stage::Running, execute(task)).await??)
}

/// Runs a program to its end, which must be exit code 0. Dropping the future kills it, and all that it
/// started.
pub(crate) async fn execute(task: Task) -> Result<(), ExecFailure> {
    let program = task.command.first().cloned().unwrap_or_default();
    let failed = |source| ExecFailure::Start { program: program.clone(), source };
    let running = start(task).await?;
    let (line, status) = running.finish().await.map_err(failed)?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(ExecFailure::Code { code, line }),
        (None, signal) => Err(ExecFailure::Killed { signal: signal.unwrap_or_default(), line }),
    }
}

/// Starts the program. Looking a user up and starting a program can take a while each, so that is
/// done aside; a program whose probe is gone by then is killed when it is dropped.
async fn start(task: Task) -> Result<Running, ExecFailure> {
    let program = task.command.first().cloned().unwrap_or_default();
    let lost = |source| ExecFailure::Start { program: program.clone(), source };
    let started = spawn_blocking(move || spawn(&task)).await;
    let (running, out, err) = started.map_err(|error| lost(io::Error::other(error)))??;
    Running::watch(running, out, err).map_err(lost)
}

fn spawn(task: &Task) -> Result<(Group, OwnedFd, OwnedFd), ExecFailure> {
    let [program, arguments @ ..] = task.command.as_slice() else {
        let source = io::Error::from(io::ErrorKind::InvalidInput);
        return Err(ExecFailure::Start { program: String::new(), source });
    };
    let unusable = |why: String| {
        let (program, user) = (program.clone(), task.user.clone());
        ExecFailure::User { program, user, why }
    };
    let user = User::from_name(&task.user)
        .map_err(|error| unusable(error.to_string()))?
        .ok_or_else(|| unusable("there is no such user".to_owned()))?;
    if user.uid.is_root() {
        return Err(unusable("programs run without privileges".to_owned()));
    }
    let failed = |source| ExecFailure::Start { program: program.clone(), source };
    let input = match &task.input {
        None => Stdio::null(),
        Some(input) => readable(input).map_err(failed)?.into(),
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .envs(task.environment.iter().map(|(key, value)| (key, value)))
        .current_dir("/")
        // From root these drop the supplementary groups, too.
        .gid(user.gid.as_raw())
        .uid(user.uid.as_raw())
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: between fork and exec only two system calls are made; nothing allocates or locks.
    unsafe {
        command.pre_exec(|| {
            // A session of its own is a process group of its own, without a terminal.
            setsid()?;
            // Nor does a set-user-ID program give it more than it has.
            rustix::thread::set_no_new_privs(true)?;
            Ok(())
        });
    }
    let mut child = command.spawn().map_err(failed)?;
    let pipes = child.stdout.take().zip(child.stderr.take());
    let group = Group { child, ended: false };
    let (out, err) = pipes.ok_or_else(|| failed(io::Error::from(io::ErrorKind::BrokenPipe)))?;
    Ok((group, out.into(), err.into()))
}

/// A file in memory that holds `input`: unlike a pipe it takes all of it at once, whether it is read or not.
fn readable(input: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
    file.write_all(input)?;
    file.rewind()?;
    Ok(file)
}

/// A program that runs.
struct Running {
    group: Group,
    /// Readable once the program has ended.
    end: AsyncFd<OwnedFd>,
    out: Receiver,
    err: Receiver,
}

impl Running {
    fn watch(group: Group, out: OwnedFd, err: OwnedFd) -> io::Result<Self> {
        let process = Pid::from_child(&group.child);
        let end = pidfd_open(process, PidfdFlags::NONBLOCK)?;
        // SAFETY: an owned descriptor stays the same one until it is dropped, with the registration.
        let end = unsafe { AsyncFd::register_with_interest(end, Interest::READABLE)? };
        let (out, err) = (Receiver::from_owned_fd(out)?, Receiver::from_owned_fd(err)?);
        Ok(Self { group, end, out, err })
    }

    /// Waits for the program's end and ends what it left behind. Answers the first line of its
    /// output, or else of its errors, and how it ended.
    async fn finish(mut self) -> io::Result<(String, ExitStatus)> {
        let (mut out, mut err) = (Line::default(), Line::default());
        loop {
            tokio::select! {
                ended = self.end.readable() => {
                    drop(ended?);
                    break;
                }
                readable = self.out.readable(), if out.open => {
                    readable?;
                    out.take(|buffer| self.out.try_read(buffer))?;
                }
                readable = self.err.readable(), if err.open => {
                    readable?;
                    err.take(|buffer| self.err.try_read(buffer))?;
                }
            }
        }
        let status = self.group.end()?;
        out.drain(&self.out)?;
        err.drain(&self.err)?;
        let words = if out.bytes.is_empty() { err.bytes } else { out.bytes };
        Ok((if words.is_empty() { String::new() } else { said(&words) }, status))
    }
}

/// A process group with its leader. Dropping it kills them all.
struct Group {
    child: Child,
    ended: bool,
}

impl Group {
    /// Kills the group, then waits for the leader, which must have ended or been killed.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.kill();
        self.child.wait()
    }

    fn kill(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        match kill_process_group(Pid::from_child(&self.child), Signal::KILL) {
            // Its last process may have ended before.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => tracing::warn!("cannot end what a program started: {error}"),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.kill();
        // One that the kernel holds up is waited for aside.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let process = Pid::from_child(&self.child);
            std::thread::spawn(move || {
                rustix::process::waitpid(Some(process), rustix::process::WaitOptions::empty())
            });
        }
    }
}

/// The first line that comes out of a pipe, in part.
struct Line {
    bytes: Vec<u8>,
    whole: bool,
    open: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: Vec::new(), whole: false, open: true }
    }
}

impl Line {
    /// Reads once; what is past the line or too long is forgotten. Answers whether there may be more.
    fn take(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<bool> {
        let mut buffer = [0; 4_096];
        let read = match read(&mut buffer) {
            Ok(0) => {
                self.open = false;
                return Ok(false);
            }
            Ok(read) => &buffer[..read],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        if !self.whole {
            // Blank lines at the start say nothing.
            let read = if self.bytes.is_empty() { read.trim_ascii_start() } else { read };
            let end = read.iter().position(|byte| *byte == b'\n');
            let line = &read[..end.unwrap_or(read.len())];
            let room = LONGEST_LINE - self.bytes.len();
            self.bytes.extend_from_slice(&line[..line.len().min(room)]);
            self.whole = end.is_some();
        }
        Ok(true)
    }

    /// Reads what an ended program left in the pipe: what one pipe holds, and no more, since somebody
    /// may have left the group and write on.
    fn drain(&mut self, pipe: &Receiver) -> io::Result<()> {
        // The runtime may not know yet that there is something, so the kernel is asked.
        let mut reads = 0..16;
        while self.open && !self.whole && reads.next().is_some() {
            if !self.take(|buffer| Ok(rustix::io::read(pipe, buffer)?))? {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
