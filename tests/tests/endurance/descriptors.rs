//! A daemon that has no file descriptor left, because clients of its API hold them all: it judges no backend by
//! that, does not spin, and answers again.

use std::{fs, os::unix::net::UnixStream, time::Instant};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{
    evenkeel::Balancer,
    load::{Load, Pattern},
    servers::TinyWeb,
    settings::{Service, Settings},
    topology::{Family, Lab, Wiring},
    wait::{PATIENCE, eventually},
};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// Often enough that a backend would be out after a fraction of a second.
const PROBE: &str = "kind = \"http\"\npath = \"/healthz\"\ninterval = \"100ms\"\n\
                     timeout = \"100ms\"\nrise = 2\nfall = 3\n";
/// Descriptors that the daemon has left.
const LEFT: u64 = 10;
/// Clients that connect and ask nothing.
const IDLE: usize = 30;

fn pid(balancer: &Balancer) -> Pid {
    Pid::from_raw(balancer.process_id().unwrap().cast_signed()).unwrap()
}

/// Clock ticks of CPU time that the daemon has used (`proc_pid_stat(5)`).
fn ticks(balancer: &Balancer) -> Result<u64> {
    let path = format!("/proc/{}/stat", balancer.process_id()?);
    let stat = fs::read_to_string(path)?;
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

#[test]
fn without_descriptors_no_backend_is_judged_and_the_api_returns() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let _servers: Vec<_> = lab.backends.iter().map(|host| TinyWeb::start(host).unwrap()).collect();
    let web = Service::web("web", Family::V4).backends(&lab).probed(PROBE);
    let balancer = Balancer::start(&lab, &Settings::new(&lab).with(web)).unwrap();
    for backend in ["web-01", "web-02"] {
        balancer.await_active("web", backend, true).unwrap();
    }
    // It may have what the host grants.
    let limits = fs::read_to_string(format!("/proc/{}/limits", pid(&balancer))).unwrap();
    let hard = getrlimit(Resource::Nofile).maximum.unwrap().to_string();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some(&*hard), "{line}");

    let load = Load::start(&lab.client.namespace, Family::V4.service(80), Pattern::default());
    let load = load.unwrap();
    load.proceed(50).unwrap();
    let before = balancer.log().len();
    let open = fs::read_dir(format!("/proc/{}/fd", pid(&balancer))).unwrap().count() as u64;
    let few = Rlimit { current: Some(open + LEFT), ..getrlimit(Resource::Nofile) };
    let usual = prlimit(Some(pid(&balancer)), Resource::Nofile, few).unwrap();
    let idle: Vec<_> =
        (0..IDLE).map(|_| UnixStream::connect(balancer.socket_path()).unwrap()).collect();
    eventually("probes lack a socket", PATIENCE, || {
        let log = balancer.log();
        ensure!(log.contains("this host lacks what a probe needs"), "{log}");
        Ok(())
    })
    .unwrap();
    let (began, used) = (Instant::now(), ticks(&balancer).unwrap());
    load.proceed(500).unwrap();
    let (wall, used) = (began.elapsed(), ticks(&balancer).unwrap() - used);
    // A hundred ticks a second: a loop that spins takes them all.
    let share = f64::from(u32::try_from(used).unwrap()) / (wall.as_secs_f64() * 100.0);
    assert!(share < 0.6, "it spins: {used} ticks in {wall:?}");

    // The clients go on holding what they have, and are shown out.
    let status = eventually("it answers again", PATIENCE, || balancer.status()).unwrap();
    for number in 0..2 {
        let backend = &status["services"][0]["backends"][number];
        assert!(backend["health"] == "up" && backend["active"] == true, "{backend}");
    }
    let log = &balancer.log()[before..];
    assert!(!log.contains("backend is down"), "{log}");
    let accepting = log.matches("cannot accept a connection").count();
    assert!(accepting <= IDLE, "{accepting} lines: {log}");
    drop(idle);
    prlimit(Some(pid(&balancer)), Resource::Nofile, usual).unwrap();
    load.proceed(50).unwrap();
    load.stop().unwrap().flawless().unwrap();
}

#[test]
fn a_client_that_asks_nothing_does_not_keep_the_daemon_from_ending() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let mut balancer = Balancer::start(&lab, &Settings::web(&lab)).unwrap();
    let _idle: Vec<_> =
        (0..IDLE).map(|_| UnixStream::connect(balancer.socket_path()).unwrap()).collect();
    balancer.status().unwrap();
    balancer.terminate().unwrap();
}
