//! Configurations for the balancer, as text: what a person would have written.

use std::{fmt, net::SocketAddr};

use crate::{
    servers::PORT,
    topology::{Family, Host, Lab},
};

/// Probes fast enough that a test need not wait for them.
pub const HTTP_PROBE: &str = "kind = \"http\"\npath = \"/healthz\"\ninterval = \"300ms\"\n\
                              timeout = \"300ms\"\nrise = 2\nfall = 3\n";

/// A `[[service]]` of the configuration.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its virtual address and port.
    pub address: SocketAddr,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Further lines of `[[service]]`, such as `forwarding = "dsr"`.
    pub lines: Vec<String>,
    /// The lines of `[service.health]`, if it is probed.
    pub health: Option<String>,
    /// Name, address and weight.
    pub backends: Vec<(String, SocketAddr, u32)>,
    /// Names of those that are backups.
    pub backups: Vec<String>,
}

impl Service {
    /// A TCP service on port 80 of the virtual address of `family`, without backends.
    #[must_use]
    pub fn web(name: &str, family: Family) -> Self {
        Self {
            name: name.to_owned(),
            address: family.service(80),
            protocol: "tcp",
            lines: Vec::new(),
            health: None,
            backends: Vec::new(),
            backups: Vec::new(),
        }
    }

    /// The same over UDP, on port 53.
    #[must_use]
    pub fn datagrams(name: &str, family: Family) -> Self {
        Self { address: family.service(53), protocol: "udp", ..Self::web(name, family) }
    }

    /// Moves it to another port; the servers listen on [`PORT`], which forwarding without
    /// rewriting needs.
    #[must_use]
    pub fn at_port(mut self, port: u16) -> Self {
        self.address.set_port(port);
        self
    }

    /// Adds a line of `[[service]]`.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Has it forward in another way than NAT: `dsr`, `ipip`, `gue`.
    #[must_use]
    pub fn forwarding(self, forwarding: &str) -> Self {
        self.line(format!("forwarding = \"{forwarding}\""))
    }

    /// Adds `host`'s server, with a weight.
    #[must_use]
    pub fn backend(self, host: &Host, weight: u32) -> Self {
        let family = if self.address.is_ipv4() { Family::V4 } else { Family::V6 };
        self.backend_over(family, host, weight)
    }

    /// Adds `host`'s server by its address of the given family, which need not be the service's.
    #[must_use]
    pub fn backend_over(mut self, family: Family, host: &Host, weight: u32) -> Self {
        self.backends.push((host.name.clone(), host.address(family, PORT), weight));
        self
    }

    /// Makes `host`'s server a backup.
    #[must_use]
    pub fn backup(mut self, host: &Host) -> Self {
        self.backups.push(host.name.clone());
        self
    }

    /// Adds every backend of the lab, all with weight 1.
    #[must_use]
    pub fn backends(self, lab: &Lab) -> Self {
        lab.backends.iter().fold(self, |service, host| service.backend(host, 1))
    }

    /// The same by their addresses of the given family.
    #[must_use]
    pub fn backends_over(self, family: Family, lab: &Lab) -> Self {
        let add = |service: Self, host| service.backend_over(family, host, 1);
        lab.backends.iter().fold(self, add)
    }

    /// Has it probed, with these lines of `[service.health]`.
    #[must_use]
    pub fn probed(mut self, health: &str) -> Self {
        self.health = Some(health.to_owned());
        self
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n[[service]]")?;
        writeln!(f, "name = \"{}\"", self.name)?;
        writeln!(f, "address = \"{}\"", self.address)?;
        writeln!(f, "protocol = \"{}\"", self.protocol)?;
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        if let Some(health) = &self.health {
            writeln!(f, "[service.health]\n{}", health.trim_end())?;
        }
        for (name, address, weight) in &self.backends {
            writeln!(f, "[[service.backend]]")?;
            writeln!(f, "name = \"{name}\"\naddress = \"{address}\"\nweight = {weight}")?;
            if self.backups.contains(name) {
                writeln!(f, "tier = \"backup\"")?;
            }
        }
        Ok(())
    }
}

/// A whole configuration file.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The edge's interfaces.
    pub interfaces: Vec<String>,
    /// The services, in order.
    pub services: Vec<Service>,
}

impl Settings {
    /// For the edge of `lab`, without services.
    #[must_use]
    pub fn new(lab: &Lab) -> Self {
        Self { interfaces: lab.interfaces(), services: Vec::new() }
    }

    /// Adds a service.
    #[must_use]
    pub fn with(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// `web` (IPv4) and `web6` (IPv6) with every backend of the lab at weight 1, not probed.
    #[must_use]
    pub fn web(lab: &Lab) -> Self {
        Self::new(lab)
            .with(Service::web("web", Family::V4).backends(lab))
            .with(Service::web("web6", Family::V6).backends(lab))
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interfaces: Vec<String> =
            self.interfaces.iter().map(|name| format!("\"{name}\"")).collect();
        writeln!(f, "[node]\ninterfaces = [{}]", interfaces.join(", "))?;
        self.services.iter().try_for_each(|service| service.fmt(f))
    }
}
