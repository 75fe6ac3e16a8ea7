//! A table of hundreds of thousands of connections under load: a listing shows all of them, disturbs nobody
//! and takes no memory of the daemon's.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr},
    os::unix::net::UnixStream,
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use evenkeel::dataplane::Raw;
use evenkeel_tests::{
    http,
    load::{Load, Pattern},
    settings::Settings,
    stage::Stage,
    topology::{Family, Lab, Wiring},
};
use lb_common::{
    connection::{Connection, Flow},
    names,
    net::{Addr4, Address as _, Be16, Ports},
};

/// Connections that the table is filled with.
const MANY: u32 = 200_000;
/// Kilobytes that the daemon may take more while all are listed: a tenth of what they would take as text.
const GROWTH: u64 = 8 << 10;

type Table = HashMap<MapData, Raw<Flow<Addr4>>, Raw<Connection<Addr4>>>;

/// Fills the table with copies of one established connection from other clients: both its entries, as the
/// program would have made them, in a hundredth of the time.
fn fill(stage: &Stage, of: std::net::SocketAddr) -> Result<()> {
    let pin = stage.balancer.bpffs_path().join("maps").join(names::CONNECTIONS_V4);
    let mut table = Table::try_from(Map::HashMap(MapData::from_pin(pin)?))?;
    let end = |address: std::net::SocketAddr| -> Result<(Addr4, Be16)> {
        Ok((Addr4::from_ip(address.ip()).context("IPv4")?, Be16::new(address.port())))
    };
    let key = Flow::new(end(of)?, end(Family::V4.service(80))?, 6);
    let Raw(forward) = table.get(&Raw(key), 0).context("the connection that is copied")?;
    let Raw(reverse) = table.get(&Raw(forward.partner(6)), 0).context("its other entry")?;
    for n in 0..MANY {
        // Clients and ports of their own, and sources that nobody else has.
        let [_, high, middle, low] = n.to_be_bytes();
        let client = IpAddr::from(Ipv4Addr::new(100, 64 + high, middle, low));
        let client = (Addr4::from_ip(client).context("IPv4")?, Be16::new(40_000));
        let source = Addr4::from_wire([100, 96 + high, middle, low]);
        let flow = Flow { source: client.0, ports: Ports::new(client.1, Be16::new(80)), ..key };
        let mut there = forward;
        there.rewrite.source = source;
        let mut back = reverse;
        back.rewrite.destination = client.0;
        back.rewrite.ports = Ports::new(Be16::new(80), client.1);
        table.insert(Raw(there.partner(6)), Raw(back), 0)?;
        table.insert(Raw(flow), Raw(there), 0)?;
    }
    Ok(())
}

/// The daemon's resident memory, in kilobytes; the most so far with `VmHWM`.
fn resident(stage: &Stage, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", stage.balancer.process_id()?))?;
    let line = status.lines().find(|line| line.starts_with(field)).context("no such field")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}

/// Has the kernel forget the most that the daemon took (proc(5), `clear_refs`).
fn forget_most(stage: &Stage) -> Result<()> {
    Ok(fs::write(format!("/proc/{}/clear_refs", stage.balancer.process_id()?), "5")?)
}

fn settings(lab: &Lab) -> String {
    format!("{}\n[tables]\nconnections = 300000\n", Settings::web(lab))
}

#[test]
fn a_large_table_is_listed_and_nobody_notices() {
    let lab = Lab::new(Wiring::Switched, 2).unwrap();
    let text = settings(&lab);
    let stage = Stage::on_text(lab, &text).unwrap();
    let kept = stage.client().run(|| {
        let mut connection = http::Connection::open(Family::V4.service(80))?;
        connection.get("/")?;
        Ok(connection)
    });
    let kept = kept.unwrap();
    fill(&stage, kept.local().unwrap()).unwrap();

    let load = Load::start(stage.client(), Family::V4.service(80), Pattern::default()).unwrap();
    load.proceed(50).unwrap();
    forget_most(&stage).unwrap();
    let before = resident(&stage, "VmRSS").unwrap();
    let mut command = stage.balancer.command(&["connections", "list", "--client", "100.64.0.0/10"]);
    command.arg("--socket").arg(stage.balancer.socket_path()).stdout(Stdio::piped());
    let mut listing = command.spawn().unwrap();
    let lines = BufReader::new(listing.stdout.take().unwrap()).lines();
    // All of them, each once, below the heads.
    let mut clients: Vec<String> = lines
        .skip(1)
        .map(|line| line.unwrap().split_whitespace().nth(2).unwrap().to_owned())
        .collect();
    assert!(listing.wait().unwrap().success());
    let most = resident(&stage, "VmHWM").unwrap();
    clients.sort();
    clients.dedup();
    assert_eq!(clients.len(), usize::try_from(MANY).unwrap());
    assert!(most < before + GROWTH, "the daemon grew from {before} kB to {most} kB");

    // The first ones of an order are exact, however many there are.
    let first = ["connections", "list", "--sort", "client", "--client", "100.64.0.0/10"];
    let first = stage.balancer.json(&[&first[..], &["--limit", "3"]].concat()).unwrap();
    let client = |n: usize| first["connections"][n]["client"].as_str().unwrap().to_owned();
    assert_eq!([0, 1, 2].map(client), [0, 1, 2].map(|n| format!("100.64.0.{n}:40000")));
    assert_eq!(first["matched"], MANY);

    stalled_readers_hold_nobody_up(&stage).unwrap();

    let count = ["connections", "count", "--by", "state", "--client", "100.64.0.0/10"];
    assert_eq!(stage.balancer.json(&count).unwrap()["total"], MANY);
    let flush = ["connections", "flush", "--client", "100.64.0.0/10"];
    let cut = stage.balancer.cli(&flush).unwrap().success().unwrap();
    assert_eq!(cut, format!("{MANY} connections cut\n"));
    assert_eq!(stage.balancer.json(&count).unwrap()["total"], 0);
    load.proceed(50).unwrap();
    load.stop().unwrap().flawless().unwrap();
    drop(kept);
}

/// Readers that ask for all and read nothing: further walks are refused before long, and everything else is
/// answered. They make room when they leave.
fn stalled_readers_hold_nobody_up(stage: &Stage) -> Result<()> {
    use std::io::Write as _;

    let stall = || -> Result<UnixStream> {
        let mut stream = UnixStream::connect(stage.balancer.socket_path())?;
        stream.write_all(b"GET /v1/connections HTTP/1.1\r\nHost: evenkeel\r\n\r\n")?;
        Ok(stream)
    };
    let stalled: Vec<_> = (0..4).map(|_| stall()).collect::<Result<_>>()?;
    for stream in &stalled {
        // It has begun: its turn is taken.
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        ensure!(line.starts_with("HTTP/1.1 200"), "{line}");
    }
    let refused = stage.balancer.cli(&["connections", "count"])?;
    ensure!(refused.code == 1 && refused.stderr.contains("try again"), "{refused:?}");
    stage.balancer.status()?;
    drop(stalled);
    stage.balancer.cli(&["connections", "count"])?.success().map(drop)
}
