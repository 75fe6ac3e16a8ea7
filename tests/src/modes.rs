//! The ways of forwarding, and a stage for each: what the backends need in that way, a TCP and a
//! UDP service of either family, and servers behind them.

use std::fmt;

use anyhow::Result;
use tempfile::TempDir;

use crate::{
    decap::Decap,
    pages::follow_forwarding,
    servers::{PORT, UdpEcho},
    settings::{Service, Settings},
    stage::Stage,
    topology::{Family, Host, Lab, Wiring},
};

/// A way of forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Full NAT.
    Nat,
    /// NAT that keeps the client's address (`snat = false`).
    Transparent,
    /// Layer-2 forwarding; the backend answers the client itself.
    Dsr,
    /// IP in IP to backends of the given family.
    Ipip(Family),
    /// GUE to backends of the given family.
    Gue(Family),
}

impl Mode {
    /// The tunnels to backends of either family.
    pub const TUNNELS: [Self; 4] = [
        Self::Ipip(Family::V4),
        Self::Ipip(Family::V6),
        Self::Gue(Family::V4),
        Self::Gue(Family::V6),
    ];

    /// Adds to a service the lines of this way and every backend of the lab.
    #[must_use]
    pub fn service(self, service: Service, lab: &Lab) -> Service {
        match self {
            Self::Nat => service.backends(lab),
            Self::Transparent => service.line("snat = false").backends(lab),
            Self::Dsr => service.forwarding("dsr").backends(lab),
            Self::Ipip(family) => service.forwarding("ipip").backends_over(family, lab),
            Self::Gue(family) => service.forwarding("gue").backends_over(family, lab),
        }
    }

    /// `web` and `web6`, `dns` and `dns6`, all on the servers' own port.
    #[must_use]
    pub fn settings(self, lab: &Lab) -> Settings {
        let services = [
            Service::web("web", Family::V4),
            Service::web("web6", Family::V6),
            Service::datagrams("dns", Family::V4),
            Service::datagrams("dns6", Family::V6),
        ];
        let services = services.map(|service| self.service(service.at_port(PORT), lab));
        services.into_iter().fold(Settings::new(lab), Settings::with)
    }

    /// Whether the backends answer the clients themselves, from the virtual addresses.
    #[must_use]
    pub fn answers_directly(self) -> bool {
        !matches!(self, Self::Nat | Self::Transparent)
    }

    /// By how many bytes it makes a packet longer.
    #[must_use]
    pub fn overhead(self) -> u32 {
        match self {
            Self::Nat | Self::Transparent | Self::Dsr => 0,
            Self::Ipip(Family::V4) => 20,
            Self::Ipip(Family::V6) => 40,
            Self::Gue(Family::V4) => 20 + 8,
            Self::Gue(Family::V6) => 40 + 8,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nat => f.write_str("nat"),
            Self::Transparent => f.write_str("nat that keeps the client's address"),
            Self::Dsr => f.write_str("dsr"),
            Self::Ipip(family) => write!(f, "ipip over {family:?}"),
            Self::Gue(family) => write!(f, "gue over {family:?}"),
        }
    }
}

/// A stage in one way of forwarding, with a UDP echo on every backend beside its nginx.
#[derive(Debug)]
pub struct Ground {
    /// The tunnels' other ends, in the backends' order; none in other ways.
    pub decaps: Vec<Decap>,
    /// Lab, nginx and balancer.
    pub stage: Stage,
    _echoes: Vec<UdpEcho>,
    _directory: TempDir,
}

impl Ground {
    /// Builds the lab and starts everything.
    pub fn new(wiring: Wiring, backends: usize, mode: Mode) -> Result<Self> {
        let lab = Lab::new(wiring, backends)?;
        let directory = TempDir::new()?;
        lab.take_turned_frames()?;
        let mut decaps = Vec::new();
        if mode.answers_directly() {
            lab.answer_directly()?;
        }
        if matches!(mode, Mode::Ipip(_) | Mode::Gue(_)) {
            let block = if matches!(mode, Mode::Gue(_)) { "decap-gue" } else { "decap-ipip" };
            let start = |host| Decap::start(block, &lab, host, directory.path());
            decaps = lab.backends.iter().map(start).collect::<Result<_>>()?;
        }
        if mode == Mode::Transparent && wiring == Wiring::Switched {
            let follow = |host| follow_forwarding(host, "snat-false");
            lab.backends.iter().try_for_each(follow)?;
        }
        let mut echoes = Vec::new();
        for host in &lab.backends {
            echoes.extend(echo(host, mode)?);
        }
        let settings = mode.settings(&lab);
        let stage = Stage::on(lab, &settings)?;
        Ok(Self { decaps, stage, _echoes: echoes, _directory: directory })
    }

    /// Forgets what path-MTU discovery has taught client and backends.
    pub fn forget_mtus(&self) -> Result<()> {
        let lab = &self.stage.lab;
        lab.backends.iter().chain([&lab.client]).try_for_each(Host::forget_mtus)
    }
}

/// An answer comes from the address that its socket has, so where the backend answers the client
/// itself it has to be the virtual one.
fn echo(host: &Host, mode: Mode) -> Result<Vec<UdpEcho>> {
    if mode.answers_directly() {
        Family::BOTH.iter().map(|family| UdpEcho::at(host, family.service(PORT))).collect()
    } else {
        Ok(vec![UdpEcho::start(host)?])
    }
}
