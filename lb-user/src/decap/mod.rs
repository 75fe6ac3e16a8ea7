//! `evenkeel decap`: the backends' side of the tunnels, from its settings to the signal that ends it.
//!
//! It is no daemon: nothing is pinned, and when it ends, however it ends, the kernel takes the
//! program off the interfaces. It knows nothing of services, health or the balancer's tables.

mod attach;
mod program;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

pub use self::program::Decapsulator;
use crate::{
    config::{HostFacts, Prefix, XdpMode},
    loader,
};

/// What is unwrapped, where, and from whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Interfaces that the edges' packets come in by.
    pub interfaces: BTreeSet<String>,
    /// Addresses that packets are unwrapped for.
    pub addresses: BTreeSet<IpAddr>,
    /// Prefixes that the edges' outer source addresses are in.
    pub edges: BTreeSet<Prefix>,
    /// The UDP port of GUE.
    pub gue_port: u16,
    /// How the program is attached.
    pub mode: XdpMode,
}

/// What the decapsulator tells of itself.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The interfaces, each with how the program is attached there.
    pub interfaces: Vec<Interface>,
    /// Packets by what became of them, in [`lb_common::decap::ALL`]'s order.
    #[serde(serialize_with = "as_object")]
    pub packets: Vec<(&'static str, u64)>,
}

/// An interface that the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `native`, `generic`, or `none` where the interface has gone.
    pub mode: &'static str,
}

fn as_object<S: serde::Serializer>(
    packets: &[(&'static str, u64)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(packets.iter().copied())
}

/// Unwraps until SIGTERM or SIGINT. `tell` gets a report every `period`, where one is given, and
/// one at the end.
///
/// # Errors
///
/// Where an interface is unknown or refuses the program, or the kernel refuses a table.
pub async fn run(
    settings: &Settings,
    period: Option<Duration>,
    tell: impl Fn(&Report) -> Result<()>,
) -> Result<()> {
    check(settings)?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut decapsulator =
        Decapsulator::load(&settings.addresses, &settings.edges, settings.gue_port)?;
    let links = attach::attach(decapsulator.program_mut()?, &settings.interfaces, settings.mode)?;
    for Interface { name, mode } in report(settings, &decapsulator).await?.interfaces {
        info!(interface = name, mode, "attached");
    }
    info!(version = env!("CARGO_PKG_VERSION"), gue_port = settings.gue_port, "ready");

    // Where no period is given nobody listens to the ticks.
    let mut ticks = interval(period.unwrap_or(Duration::from_hours(24)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = ticks.tick(), if period.is_some() => {
                tell(&report(settings, &decapsulator).await?)?;
            }
        }
    }
    let mut last = report(settings, &decapsulator).await?;
    drop(links);
    // Read again: packets came until the links were gone.
    last.packets = decapsulator.packets()?;
    info!("stopped; the program is off the interfaces");
    tell(&last)
}

async fn report(settings: &Settings, decapsulator: &Decapsulator) -> Result<Report> {
    let mut interfaces = Vec::with_capacity(settings.interfaces.len());
    for name in &settings.interfaces {
        interfaces.push(Interface { name: name.clone(), mode: loader::mode(name).await? });
    }
    Ok(Report { interfaces, packets: decapsulator.packets()? })
}

/// Checks the settings against this host: what cannot work is an error, what may not is warned of.
fn check(settings: &Settings) -> Result<()> {
    let host = HostFacts::read().context("read this host's interfaces")?;
    for name in &settings.interfaces {
        if !host.interfaces.contains_key(name) {
            let known: Vec<_> = host.interfaces.keys().map(String::as_str).collect();
            bail!(
                "--interface {name}: this host has no such interface; it has {}",
                known.join(", ")
            );
        }
    }
    for address in unowned(&settings.addresses, &host.interfaces) {
        let length = Prefix::bits(address);
        warn!(
            "no interface of this host owns --address {address}, so that the host will not answer \
             for it; add it (`ip address add {address}/{length} dev lo`)"
        );
    }
    Ok(())
}

fn unowned(
    addresses: &BTreeSet<IpAddr>,
    interfaces: &BTreeMap<String, Vec<IpAddr>>,
) -> Vec<IpAddr> {
    let owned = |address: &IpAddr| interfaces.values().flatten().any(|own| own == address);
    addresses.iter().copied().filter(|address| !owned(address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_the_host_has_not_is_found() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let lo = vec![address("127.0.0.1"), address("192.0.2.10")];
        let host = [("lo".to_owned(), lo), ("eth0".to_owned(), vec![])].into();
        let told = [address("192.0.2.10"), address("2001:db8::10")].into();
        assert_eq!(unowned(&told, &host), [address("2001:db8::10")]);
    }

    #[test]
    fn a_report_is_one_object_with_a_number_for_each_fate() {
        let interfaces = vec![Interface { name: "eth0".to_owned(), mode: "native" }];
        let report =
            Report { interfaces, packets: vec![("unwrapped-ipip", 3), ("drop-congestion", 0)] };
        assert_eq!(
            serde_json::to_value(&report).unwrap(),
            serde_json::json!({
                "interfaces": [{"name": "eth0", "mode": "native"}],
                "packets": {"unwrapped-ipip": 3, "drop-congestion": 0},
            })
        );
    }
}
