//! Backends that are discovered: by a real DNS server, from a file, and from Kubernetes' API as a server of ours plays
//! it back. Under load, where members come and go: no request fails.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

mod api;
mod dns;
mod file;
mod kubernetes;
mod mixed;
mod srv;

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use evenkeel_tests::{
    evenkeel::Balancer,
    settings::{HTTP_PROBE, Service, Settings},
    topology::{Family, Host, Lab},
    wait::{PATIENCE, eventually},
};
use serde_json::Value;

/// How many requests are "under load for a while".
const WHILE: u64 = 200;

/// A configuration with these lines before the services.
fn configuration(head: &str, settings: &Settings) -> String {
    let text = settings.to_string();
    let at = text.find("\n[[service]]").unwrap();
    // An alert is not waited for longer than it takes to see that it comes.
    let alerts = "[alerts]\nraise_after = \"1s\"\nclear_after = \"1s\"\n";
    format!("{}{alerts}{head}{}", &text[..=at], &text[at..])
}

/// A service that is probed and discovers from here; `sources` in TOML.
fn discovering(name: &str, family: Family, sources: &str) -> Service {
    Service::web(name, family).line(format!("discover = {sources}")).probed(HTTP_PROBE)
}

/// The addresses of these hosts' servers.
fn addresses(lab: &Lab, family: Family, hosts: &[usize]) -> Vec<String> {
    let port = evenkeel_tests::servers::PORT;
    let mut all: Vec<_> =
        hosts.iter().map(|host| lab.backends[*host].address(family, port).to_string()).collect();
    all.sort();
    all
}

/// A service as `status` tells it.
fn told(balancer: &Balancer, service: &str) -> anyhow::Result<Value> {
    let status = balancer.status()?;
    let mut services = status["services"].as_array().context("no services")?.iter();
    services.find(|found| found["name"] == service).cloned().context("no such service")
}

/// The backends of a service of which a field is this, by their addresses.
fn those(
    balancer: &Balancer,
    service: &str,
    field: &str,
    value: &Value,
) -> anyhow::Result<Vec<String>> {
    let service = told(balancer, service)?;
    let backends = service["backends"].as_array().context("no backends")?;
    let those = backends.iter().filter(|backend| backend[field] == *value);
    let mut all: Vec<String> =
        those.filter_map(|backend| Some(backend["address"].as_str()?.to_owned())).collect();
    all.sort();
    Ok(all)
}

/// Waits until just these get new connections.
fn await_active(balancer: &Balancer, service: &str, wanted: &[String]) {
    eventually("the right backends are active", PATIENCE, || {
        let active = those(balancer, service, "active", &true.into())?;
        ensure!(active == wanted, "active: {active:?}, wanted: {wanted:?}");
        Ok(())
    })
    .unwrap();
}

/// The addresses of all members, however they do.
fn members(balancer: &Balancer, service: &str) -> Vec<String> {
    let told = told(balancer, service).unwrap();
    let backends = told["backends"].as_array().unwrap().iter();
    let mut all: Vec<_> =
        backends.map(|backend| backend["address"].as_str().unwrap().to_owned()).collect();
    all.sort();
    all
}

/// The name of the backend at an address.
fn name_at(balancer: &Balancer, service: &str, address: &str) -> String {
    let told = told(balancer, service).unwrap();
    let mut backends = told["backends"].as_array().unwrap().iter();
    let found = backends.find(|backend| backend["address"] == address).unwrap();
    found["name"].as_str().unwrap().to_owned()
}

/// Waits until the alert `discovery-failed` of a service is raised, and what it says holds; or is gone.
fn await_alert(balancer: &Balancer, service: &str, says: Option<&str>) {
    let id = format!("discovery-failed/{service}");
    eventually("the alert is right", PATIENCE, || {
        let alerts = balancer.json(&["alerts"])?;
        let alerts = alerts["alerts"].as_array().context("no alerts")?.clone();
        let found = alerts.iter().find(|alert| alert["id"] == id.as_str());
        match (says, found) {
            (None, None) => Ok(()),
            (Some(says), Some(alert)) => {
                let summary = alert["summary"].as_str().unwrap_or_default();
                ensure!(summary.contains(says), "{summary}");
                ensure!(alert["evidence"]["known_backends"].as_u64() > Some(0), "{alert}");
                Ok(())
            }
            (_, found) => anyhow::bail!("{found:?}"),
        }
    })
    .unwrap();
}

/// What a source of the service says is wrong, as `status` tells it at once.
fn await_problem(balancer: &Balancer, service: &str, says: &str) {
    eventually("the source's problem is told", PATIENCE, || {
        let told = told(balancer, service)?;
        let sources = told["sources"].as_array().context("no sources")?;
        let said =
            |source: &Value| source["problem"].as_str().is_some_and(|why| why.contains(says));
        ensure!(sources.iter().any(said), "{sources:?}");
        Ok(())
    })
    .unwrap();
}

/// Waits until no source of the service has a problem.
fn await_well(balancer: &Balancer, service: &str) {
    eventually("the sources are well", PATIENCE, || {
        let told = told(balancer, service)?;
        let sources = told["sources"].as_array().context("no sources")?;
        ensure!(sources.iter().all(|source| source["problem"].is_null()), "{sources:?}");
        Ok(())
    })
    .unwrap();
}

/// An address record for each of these hosts.
fn records(name: &str, ttl: u32, hosts: &[&Host]) -> String {
    let mut records = String::new();
    for host in hosts {
        writeln!(records, "{name} {ttl} IN A {}", host.v4).unwrap();
        writeln!(records, "{name} {ttl} IN AAAA {}", host.v6).unwrap();
    }
    records
}
