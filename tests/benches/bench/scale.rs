//! How the controller copes with many services and backends: how long it starts, starts again over what is at
//! work, and changes something; and what memory it and its tables take.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{
    evenkeel::Balancer,
    servers::PORT,
    settings::Settings,
    topology::{Family, Lab, Wiring},
    unix::ask,
    wait::eventually,
};
use serde_json::{Value, json};

use crate::report::Spread;

/// Services, and backends of each.
const SIZES: [(usize, usize); 3] = [(1, 1_000), (100, 10), (4_096, 16)];
/// What a change of the configuration may take where there are 1,000 backends.
const TARGET: Duration = Duration::from_millis(50);
/// What a start may take, so that one that hangs ends.
const LONGEST_START: Duration = Duration::from_mins(10);

/// Every size that was measured.
pub struct Scale(Vec<Size>);

/// One size.
struct Size {
    services: usize,
    backends: usize,
    /// Until the API answers: with tables and programs to load, and over those that are at work.
    start: Duration,
    restart: Duration,
    /// Bytes that the controller has resident, and that the kernel's tables take.
    resident: u64,
    tables: u64,
    /// The times of changes, by what was changed.
    changes: Vec<(&'static str, Vec<Duration>)>,
    status: Duration,
}

/// Measures all sizes.
pub fn measure(quick: bool) -> Result<Scale> {
    let changes = if quick { 5 } else { 25 };
    let measure = |(services, each)| {
        let size = one(services, each, changes);
        eprintln!("{services} services of {each} backends each");
        size.with_context(|| format!("{services} services of {each} backends"))
    };
    SIZES.into_iter().map(measure).collect::<Result<_>>().map(Scale)
}

/// The configuration: all backends on the lab's two hosts, told apart by their ports.
fn configuration(lab: &Lab, services: usize, each: usize) -> Result<String> {
    let mut text = Settings::new(lab).to_string();
    let all = (services * each).next_power_of_two();
    write!(text, "\n[tables]\nservices = {services}\nbackends = {}\n", all.max(2048))?;
    for service in 0..services {
        let address = Family::V4.service(u16::try_from(1024 + service)?);
        write!(text, "\n[[service]]\nname = \"service-{service}\"\naddress = \"{address}\"\n")?;
        for backend in 0..each {
            let host = &lab.backends[backend % lab.backends.len()];
            let address = host.address(Family::V4, PORT + u16::try_from(backend)?);
            writeln!(
                text,
                "[[service.backend]]\nname = \"web-{backend}\"\naddress = \"{address}\""
            )?;
        }
    }
    Ok(text)
}

fn one(services: usize, each: usize, count: usize) -> Result<Size> {
    let lab = Lab::new(Wiring::Switched, 2)?;
    let mut balancer = Balancer::prepare(&lab, &configuration(&lab, services, each)?)?;
    let start = start(&mut balancer)?;
    balancer.terminate()?;
    let restart = self::start(&mut balancer)?;
    let (resident, tables) = memory(balancer.process_id()?)?;

    let socket = balancer.socket_path();
    let service = "/v1/services/service-0/backends";
    let mut changes = Vec::new();
    let mut change =
        |what, method: &str, path: &dyn Fn(usize) -> String, body: &dyn Fn(usize) -> String| {
            let times = (0..count).map(|turn| timed(&socket, method, &path(turn), &body(turn)));
            changes.push((what, times.collect::<Result<Vec<_>>>()?));
            anyhow::Ok(())
        };
    let weight = |turn| format!("{{\"weight\": {}}}", 2 + turn);
    change("weight", "PATCH", &|_| format!("{service}/web-1"), &weight)?;
    // A table that is full has no room for one more.
    if (services * each) < 65_536 {
        let host = lab.backends[0].v4;
        let new =
            |turn| format!(r#"{{"name": "new-{turn}", "address": "{host}:{}"}}"#, 1000 + turn);
        change("add", "POST", &|_| service.to_owned(), &new)?;
        change("remove", "DELETE", &|turn| format!("{service}/new-{turn}"), &|_| String::new())?;
    }
    let status = timed(&socket, "GET", "/v1/status", "")?;
    Ok(Size {
        services,
        backends: services * each,
        start,
        restart,
        resident,
        tables,
        changes,
        status,
    })
}

/// Starts the daemon, and waits until it answers.
fn start(balancer: &mut Balancer) -> Result<Duration> {
    let began = Instant::now();
    balancer.launch()?;
    let socket = balancer.socket_path();
    eventually("it answers", LONGEST_START, || timed(&socket, "GET", "/v1/history", ""))?;
    Ok(began.elapsed())
}

/// Sends a request that has to succeed, and tells how long it took.
fn timed(socket: &Path, method: &str, path: &str, body: &str) -> Result<Duration> {
    let began = Instant::now();
    let (status, answer) = ask(socket, method, path, body)?;
    ensure!(status == 200, "{method} {path}: {status} {answer}");
    Ok(began.elapsed())
}

/// What a process has resident, and what the tables take that it has open, in bytes (`proc(5)`: each
/// descriptor of a table tells in its `fdinfo`).
fn memory(process: u32) -> Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let kilobytes = field(&status, "VmRSS:").context("no VmRSS")?;
    let mut tables = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{process}/fdinfo"))? {
        // One that was closed meanwhile is no table.
        let info = fs::read_to_string(entry?.path()).unwrap_or_default();
        if let Some((id, bytes)) = field(&info, "map_id:").zip(field(&info, "memlock:")) {
            tables.insert(id, bytes);
        }
    }
    Ok((kilobytes * 1024, tables.values().sum()))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn spread(times: &[Duration]) -> Spread {
    Spread::of(times.iter().map(|time| milliseconds(*time)))
}

impl Scale {
    /// As JSON. Times in milliseconds, memory in bytes.
    pub fn json(&self) -> Value {
        let size = |size: &Size| {
            let changes: BTreeMap<_, _> =
                size.changes.iter().map(|(what, times)| (*what, spread(times).json())).collect();
            json!({
                "services": size.services, "backends": size.backends,
                "start": milliseconds(size.start), "restart": milliseconds(size.restart),
                "resident": size.resident, "tables": size.tables,
                "changes": changes, "status": milliseconds(size.status),
            })
        };
        json!({ "target": milliseconds(TARGET), "sizes": self.0.iter().map(size).collect::<Vec<_>>() })
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "ms to start, to start over what is at work, to answer `status` and to make a change \
             (target with 1,000 backends: {:.0}); MB of the controller and of the kernel's tables",
            milliseconds(TARGET)
        )?;
        write!(
            f,
            "{:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}  changes: median (least-most)",
            "services", "backends", "start", "restart", "status", "MB", "tables"
        )?;
        for size in &self.0 {
            let Size { services, backends, resident, tables, .. } = size;
            let [start, restart, status] =
                [size.start, size.restart, size.status].map(milliseconds);
            write!(
                f,
                "\n{services:>8} {backends:>8} {start:>8.0} {restart:>8.0} {status:>8.1} {:>8} {:>8} ",
                resident >> 20,
                tables >> 20
            )?;
            for (what, times) in &size.changes {
                let Spread { median, least, most } = spread(times);
                write!(f, " {what} {median:.1} ({least:.1}-{most:.1})")?;
            }
        }
        Ok(())
    }
}
