//! Real programs, run as nobody. They need root, as the daemon does.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::health::{ProbeKind, ProbeSpec, Timing, attempt};

const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that everybody may write to, with a script in it.
struct Script {
    directory: TempDir,
    path: PathBuf,
}

impl Script {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let path = directory.path().join("check");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory, path }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The script's attempt; its argument is its directory.
    fn probe(&self, limit: Duration) -> ProbeSpec {
        let directory = self.directory.path().to_str().unwrap();
        probe(&[self.path.to_str().unwrap(), directory], ExecProbe::USER, limit)
    }

    async fn failure(&self) -> String {
        attempt(&self.probe(PATIENCE)).await.unwrap_err().to_string()
    }
}

fn probe(command: &[&str], user: &str, limit: Duration) -> ProbeSpec {
    let kind = ProbeKind::Exec(ExecProbe {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        user: user.to_owned(),
        environment: vec![("EVENKEEL_BACKEND", "web-01".to_owned())],
    });
    let timing = Timing { timeout: limit, ..Timing::default() };
    ProbeSpec { target: "192.0.2.7:8080".parse().unwrap(), kind, timing }
}

#[tokio::test]
async fn the_exit_code_decides_and_the_first_line_is_the_reason() {
    attempt(&Script::new("echo fine").probe(PATIENCE)).await.unwrap();
    for (text, expected) in [
        ("exit 3", "exit code 3"),
        ("echo; echo '  disk full '; echo more; exit 1", r#"exit code 1: "disk full""#),
        ("echo no such thing >&2; exit 2", r#"exit code 2: "no such thing""#),
        ("echo noise >&2; echo why; exit 2", r#"exit code 2: "why""#),
        ("printf 'a\\033[1mb'; exit 1", r#"exit code 1: "a\u{1b}[1mb""#),
        ("kill -KILL $$", "ended by signal 9"),
    ] {
        assert_eq!(Script::new(text).failure().await, expected, "{text}");
    }
    let long = Script::new("yes long | head -c 1000000 | tr '\\n' ' '; exit 1").failure().await;
    assert!(long.len() < 200 && long.starts_with("exit code 1: \"long long"), "{long}");
}

#[tokio::test]
async fn it_has_no_privileges_no_terminal_and_an_environment_of_its_own() {
    let script = Script::new(
        "cd \"$1\"\n\
         id -u > id; id -g >> id; id -G >> id\n\
         tr '\\0' '\\n' < /proc/$$/environ | sort > environment\n\
         echo $$ > process; cut -d' ' -f5-7 /proc/$$/stat >> process\n\
         grep -E '^(NoNewPrivs|CapEff|CapPrm|CapAmb)' /proc/$$/status > status\n\
         ls -l /proc/$$/fd > descriptors; readlink /proc/$$/fd/0 > stdin; pwd -P > here",
    );
    attempt(&script.probe(PATIENCE)).await.unwrap();
    let read = |name: &str| fs::read_to_string(script.file(name)).unwrap();
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let (uid, gid) = (nobody.uid.to_string(), nobody.gid.to_string());
    assert_eq!(read("id").lines().collect::<Vec<_>>(), [&uid, &gid, &gid]);
    let path = format!("PATH={PATH}");
    assert_eq!(
        read("environment").lines().collect::<Vec<_>>(),
        ["EVENKEEL_ADDRESS=192.0.2.7", "EVENKEEL_BACKEND=web-01", "EVENKEEL_PORT=8080", &path]
    );
    let process = read("process");
    let (pid, rest) = process.split_once('\n').unwrap();
    // Process group, session, and no terminal.
    assert_eq!(rest.trim(), format!("{pid} {pid} 0"));
    for line in read("status").lines() {
        let (name, value) = line.split_once(':').unwrap();
        let expected = if name == "NoNewPrivs" { "1" } else { "0000000000000000" };
        assert_eq!(value.trim(), expected, "{name}");
    }
    assert!(!read("descriptors").contains("socket:"), "{}", read("descriptors"));
    assert_eq!(read("stdin"), "/dev/null\n");
}

#[tokio::test]
async fn the_whole_group_dies_at_the_timeout() {
    let script = Script::new("cd \"$1\"; sleep 1000 & echo $! $$ > pids; wait");
    let failure = attempt(&script.probe(Duration::from_secs(3))).await.unwrap_err().to_string();
    assert_eq!(failure, "timed out after 3000ms while the program ran");
    assert_gone(&script.file("pids")).await;
}

#[tokio::test]
async fn an_attempt_that_is_given_up_leaves_nothing_behind() {
    let script = Script::new("cd \"$1\"; sleep 1000 & echo $! $$ > pids; wait");
    let spec = script.probe(Duration::from_hours(1));
    let running = tokio::spawn(async move { attempt(&spec).await.is_ok() });
    let begun = Instant::now();
    while fs::read_to_string(script.file("pids")).is_ok_and(|pids| pids.ends_with('\n')).eq(&false)
    {
        assert!(begun.elapsed() < PATIENCE, "it did not start");
        sleep(Duration::from_millis(10)).await;
    }
    running.abort();
    assert_gone(&script.file("pids")).await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_holds_nothing_up() {
    // The child keeps the output open, and writes without end.
    let script = Script::new("cd \"$1\"; yes & echo $! > pids; exit 0");
    timeout(PATIENCE, attempt(&script.probe(Duration::from_hours(1)))).await.unwrap().unwrap();
    assert_gone(&script.file("pids")).await;
}

/// Waits until none of the processes in the file runs; one that nobody has waited for is gone, too.
async fn assert_gone(pids: &Path) {
    let pids = fs::read_to_string(pids).unwrap();
    assert!(!pids.trim().is_empty());
    for pid in pids.split_whitespace() {
        let begun = Instant::now();
        loop {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{stat}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn what_cannot_run_says_why() {
    let data = Script::new("exit 0");
    fs::set_permissions(&data.path, fs::Permissions::from_mode(0o644)).unwrap();
    let data_path = data.path.to_str().unwrap();
    for (command, user, expected) in [
        ("/nowhere/check", "nobody", "cannot run /nowhere/check: No such file or directory"),
        (data_path, "nobody", "Permission denied"),
        ("/bin/true", "no-such-user-here", "as \"no-such-user-here\": there is no such user"),
        ("/bin/true", "root", "programs run without privileges"),
    ] {
        let spec = probe(&[command], user, PATIENCE);
        let failure = attempt(&spec).await.unwrap_err().to_string();
        assert!(failure.contains(expected), "{failure}");
    }
}

#[tokio::test]
async fn programs_wait_for_their_turn() {
    let most = u32::try_from(MOST_AT_ONCE).unwrap();
    let turns = TURNS.acquire_many(most).await.unwrap();
    let script = Script::new("touch \"$1\"/ran");
    let spec = script.probe(PATIENCE);
    let waiting = tokio::spawn(async move { attempt(&spec).await.is_ok() });
    sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished() && !script.file("ran").exists());
    drop(turns);
    assert!(waiting.await.unwrap() && script.file("ran").exists());
}
