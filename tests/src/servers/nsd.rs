//! A real DNS server: NSD, authoritative for one zone that a test writes.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::{
    process::Process,
    topology::{Family, Host},
    wait::eventually,
};

const START: Duration = Duration::from_secs(10);

/// NSD on a host, at its IPv4 address and port 53.
#[derive(Debug)]
pub struct Nsd {
    process: Option<Process>,
    directory: PathBuf,
    address: SocketAddr,
    serial: u32,
}

/// The zone that it has.
pub const ZONE: &str = "internal";

impl Nsd {
    /// Starts it on `host` with these records, its files below `directory`.
    pub fn start(host: &Host, directory: &Path, records: &str) -> Result<Self> {
        let directory = directory.join(format!("nsd-{}", host.name));
        fs::create_dir_all(&directory)?;
        let address = host.address(Family::V4, 53);
        let inside = |name: &str| directory.join(name).display().to_string();
        let configuration = format!(
            "server:\n  ip-address: {}@53\n  server-count: 1\n  username: \"\"\n  zonesdir: \"{}\"\n  \
             pidfile: \"\"\n  xfrdfile: \"{}\"\n  zonelistfile: \"{}\"\n  database: \"\"\n\
             remote-control:\n  control-enable: no\n\
             zone:\n  name: {ZONE}\n  zonefile: zone\n",
            address.ip(),
            directory.display(),
            inside("xfrd"),
            inside("zones"),
        );
        fs::write(directory.join("nsd.conf"), configuration)?;
        let mut server = Self { process: None, directory, address, serial: 0 };
        server.write(records)?;
        server.launch(host)?;
        Ok(server)
    }

    /// Starts it (again) and waits until it answers.
    pub fn launch(&mut self, host: &Host) -> Result<()> {
        let mut command = host.namespace.command("nsd");
        command.arg("-d").arg("-c").arg(self.directory.join("nsd.conf"));
        let mut process = Process::start("nsd", command, &self.directory)?;
        eventually("the DNS server answers", START, || {
            ensure!(process.ended()?.is_none(), "it ended: {}", process.tail());
            host.namespace.run(|| ask(self.address))
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Writes these records, the zone's own beside them, and has them served.
    pub fn serve(&mut self, records: &str) -> Result<()> {
        self.write(records)?;
        self.process.as_ref().context("it does not run")?.signal(Signal::HUP)
    }

    /// Kills it.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("it does not run")?.kill()
    }

    /// Takes its zone away: started again, it answers SERVFAIL.
    pub fn lose_zone(&self) -> Result<()> {
        fs::remove_file(self.directory.join("zone")).context("remove the zone's file")
    }

    /// Writes these records for its next start.
    pub fn write(&mut self, records: &str) -> Result<()> {
        self.serial += 1;
        let zone = format!(
            "$ORIGIN {ZONE}.\n$TTL 1\n@ IN SOA ns root {} 3600 600 86400 3600\n@ IN NS ns\n\
             ns IN A {}\n{records}",
            self.serial,
            self.address.ip(),
        );
        // By renaming, so that it never reads half of one.
        let fresh = self.directory.join("zone.new");
        fs::write(&fresh, zone)?;
        fs::rename(fresh, self.directory.join("zone")).context("write the zone's file")
    }
}

/// Asks for the zone's SOA; any answer will do (RFC 1035, section 4).
fn ask(server: SocketAddr) -> Result<()> {
    let mut query = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.push(u8::try_from(ZONE.len())?);
    query.extend(ZONE.as_bytes());
    query.extend([0, 0, 6, 0, 1]);
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    socket.connect(server)?;
    socket.send(&query)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    ensure!(length > 12 && answer[..2] == query[..2], "no answer: {:?}", &answer[..length]);
    Ok(())
}
