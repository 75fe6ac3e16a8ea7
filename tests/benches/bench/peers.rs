//! Other balancers in the edge's place, real ones from Debian's packages, each configured as its
//! documentation advises for two cores and many connections.
//!
//! **`HAProxy` in TCP mode**: two threads, 4,096 connections, round-robin, no health checks (ours
//! has none here either), no logs; the rest is default.
//!
//! **nginx stream**: two workers with a listening socket each (`reuseport`), 8,192 connections
//! each, one round-robin for both (`zone`), no logs.
//!
//! **nftables NAT**: destination NAT by `numgen inc mod 2` and `masquerade`, so that the servers
//! need no route back, as with our own source NAT; connection tracking with the kernel's defaults,
//! no flowtable.
//!
//! For all three the edge's own ports range from 1024 to 65535, and a port in TIME-WAIT may be
//! used again for a new connection (`tcp_tw_reuse`), as a proxy's administrator would set them.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::{load, netns::succeeded, process::Process, wait::eventually};
use rustix::process::Signal;

use crate::contenders::{Site, front};

/// Where Debian and its children keep nginx's stream module.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

const START: Duration = Duration::from_secs(15);
const STOP: Duration = Duration::from_secs(5);

/// A balancer that runs on the edge of its own site.
pub struct Peer {
    name: &'static str,
    version: String,
    /// None if the kernel does it all.
    process: Option<Process>,
    site: Site,
}

impl Peer {
    /// Starts all of them.
    pub fn all() -> Result<[Self; 3]> {
        Ok([Self::haproxy()?, Self::nginx_stream()?, Self::nftables()?])
    }

    fn haproxy() -> Result<Self> {
        let site = Site::new()?;
        let file = site.write("haproxy.cfg", &haproxy(front(), site.servers()))?;
        let mut command = site.edge().command("haproxy");
        command.arg("-db").arg("-f").arg(file);
        let version = version("haproxy", "-v")?;
        let process = Process::start("haproxy", command, site.directory())?;
        Self { name: "HAProxy TCP", version, process: Some(process), site }.ready()
    }

    fn nginx_stream() -> Result<Self> {
        let site = Site::new()?;
        let text = nginx_stream(site.directory(), front(), site.servers());
        let file = site.write("stream.conf", &text)?;
        let mut command = site.edge().command("nginx");
        command.arg("-p").arg(site.directory()).arg("-c").arg(file);
        command.arg("-e").arg(site.directory().join("stream-error.log"));
        let version = version("nginx", "-v")?;
        let process = Process::start("nginx-stream", command, site.directory())?;
        Self { name: "nginx stream", version, process: Some(process), site }.ready()
    }

    fn nftables() -> Result<Self> {
        let site = Site::new()?;
        let file = site.write("nat.nft", &nftables(front(), site.servers()))?;
        let output = site.edge().command("nft").arg("-f").arg(file).output();
        succeeded("nft", output.context("run nft: is nftables installed?")?)?;
        let version = version("nft", "--version")?;
        Self { name: "nftables NAT", version, process: None, site }.ready()
    }

    /// Its name in reports.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What its program says of its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where it runs.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Waits until the client gets answers from both servers.
    fn ready(mut self) -> Result<Self> {
        let Self { name, process, site, .. } = &mut self;
        site.edge().sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
        site.edge().sysctl("net/ipv4/tcp_tw_reuse", "1")?;
        eventually(&format!("{name} balances"), START, || {
            if let Some(process) = process {
                ensure!(process.ended()?.is_none(), "it ended: {}", process.tail());
            }
            // Its processes may each take turns of their own.
            let report = load::requests(site.client(), front(), 8, 1)?;
            report.flawless()?;
            let answered = report.by_backend;
            ensure!(answered.len() == site.servers().len(), "only {answered:?} answered");
            Ok(())
        })?;
        Ok(self)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // A master that is killed leaves its workers; told to stop, it takes them along. What is
        // left after that, the namespace kills.
        if let Some(process) = &mut self.process {
            let _ = process.signal(Signal::TERM);
            let _ = process.wait(STOP);
        }
    }
}

fn haproxy(front: SocketAddr, [first, second]: [SocketAddr; 2]) -> String {
    format!(
        "global
    nbthread 2
    maxconn 4096
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen web
    bind {front} backlog 4096
    balance roundrobin
    server web-01 {first}
    server web-02 {second}
"
    )
}

fn nginx_stream(directory: &Path, front: SocketAddr, [first, second]: [SocketAddr; 2]) -> String {
    let directory = directory.display();
    format!(
        "load_module {STREAM_MODULE};
daemon off;
worker_processes 2;
worker_rlimit_nofile 16384;
pid {directory}/stream.pid;
error_log {directory}/stream-error.log warn;
events {{ worker_connections 8192; }}
stream {{
    access_log off;
    upstream web {{
        zone web 64k;
        server {first};
        server {second};
    }}
    server {{
        listen {front} reuseport backlog=4096;
        proxy_pass web;
    }}
}}
"
    )
}

fn nftables(front: SocketAddr, [first, second]: [SocketAddr; 2]) -> String {
    let [vip, one, two] = [front, first, second].map(|address| address.ip());
    let [port, port_one, port_two] = [front, first, second].map(|address| address.port());
    format!(
        "table ip balance {{
    chain prerouting {{
        type nat hook prerouting priority dstnat;
        ip daddr {vip} tcp dport {port} dnat ip to numgen inc mod 2 map {{ \
         0 : {one} . {port_one}, 1 : {two} . {port_two} }}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        ct status dnat masquerade
    }}
}}
"
    )
}

/// The first line that `program` prints when asked for its version.
fn version(program: &str, flag: &str) -> Result<String> {
    let output = Command::new(program)
        .arg(flag)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {program}: is it installed?"))?;
    // nginx writes it to the other stream.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let first = text.lines().next().unwrap_or_default();
    ensure!(output.status.success(), "{program} {flag} failed ({}): {first}", output.status);
    Ok(first.trim().to_owned())
}
