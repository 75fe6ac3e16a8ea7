//! Commands that read: services, backends, and the check of a file.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Result, anyhow};
use comfy_table::Cell;
use serde_json::json;

use super::{Output, output, status::indent};
use crate::{
    admin::store,
    api::{
        Client, ClientError, Problem,
        model::{BackendStatus, ServiceStatus, Status},
    },
    config::{Config, Diagnostic, Invalid, Severity},
    daemon::{self, Paths},
    health::Health,
};

async fn fetch(client: &Client) -> Result<Status> {
    Ok(client.get("/v1/status").await?)
}

/// A service in a line.
pub fn headline(service: &ServiceStatus) -> String {
    let active = service.backends.iter().filter(|backend| backend.active).count();
    format!(
        "{}  {}/{}  {}, {}, probe {}: {active} of {} active",
        service.name,
        service.address,
        service.protocol,
        service.scheduler,
        service.forwarding,
        service.probe,
        service.backends.len()
    )
}

/// The backends of services, one a line.
pub fn backend_table(services: &[ServiceStatus], format: Output, named: bool) -> String {
    let mut heads = vec!["BACKEND", "ADDRESS", ">WEIGHT", "STATE", "HEALTH", ">SHARE", ">OPEN"];
    if named {
        heads.insert(0, "SERVICE");
    }
    let agents = services.iter().flat_map(|s| &s.backends).any(|b| b.agent.is_some());
    if format == Output::Wide {
        heads.extend([">MAX", "TIER", ">SINCE", ">PROBE"]);
        heads.extend(agents.then_some("AGENT"));
    }
    let discovered = services.iter().any(|service| !service.sources.is_empty());
    heads.extend(discovered.then_some("ORIGIN"));
    let troubled = services.iter().flat_map(|s| &s.backends).any(|b| !b.reason.is_empty());
    if troubled {
        heads.push("REASON");
    }
    let mut table = output::table(&heads);
    for service in services {
        for backend in &service.backends {
            let mut row = backend_row(backend);
            if named {
                row.insert(0, Cell::new(&service.name));
            }
            if format == Output::Wide {
                let since = backend.health_seconds.map_or_else(|| "-".to_owned(), output::span);
                let probe = backend.probe_milliseconds;
                let probe = probe.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
                let most = backend.max_connections;
                let most = most.map_or_else(|| "-".to_owned(), |most| output::count(most.into()));
                row.extend([Cell::new(most), Cell::new(backend.tier)]);
                row.extend([Cell::new(since), Cell::new(probe)]);
                if agents {
                    row.push(Cell::new(backend.agent.as_deref().unwrap_or("-")));
                }
            }
            if discovered {
                row.push(Cell::new(&backend.origin));
            }
            if troubled {
                row.push(Cell::new(&backend.reason));
            }
            table.add_row(row);
        }
    }
    output::rendered(&table)
}

fn backend_row(backend: &BackendStatus) -> Vec<Cell> {
    vec![
        Cell::new(&backend.name),
        Cell::new(&backend.address),
        Cell::new(backend.weight),
        output::tinted(&backend.state, backend.active || backend.state == "standby"),
        output::tinted(backend.health, backend.health == Health::Up),
        Cell::new(output::percent(backend.share)),
        Cell::new(output::count(backend.open)),
    ]
}

/// The services, one a line.
pub async fn services(client: &Client, format: Output) -> Result<()> {
    let status = fetch(client).await?;
    if format == Output::Json {
        return output::json(&json!({ "services": status.services }));
    }
    let mut heads = vec!["SERVICE", "ADDRESS", "PROTOCOL", ">ACTIVE", ">BACKENDS", ">OPEN"];
    if format == Output::Wide {
        heads.extend(["SCHEDULER", "FORWARDING", "PROBE"]);
    }
    let mut table = output::table(&heads);
    for service in &status.services {
        let active = service.backends.iter().filter(|backend| backend.active).count();
        let open = service.backends.iter().map(|backend| backend.open).sum();
        let mut row = vec![
            Cell::new(&service.name),
            Cell::new(&service.address),
            Cell::new(service.protocol),
            output::tinted(active, active > 0),
            Cell::new(service.backends.len()),
            Cell::new(output::count(open)),
        ];
        if format == Output::Wide {
            row.extend([
                Cell::new(service.scheduler),
                Cell::new(service.forwarding),
                Cell::new(&service.probe),
            ]);
        }
        table.add_row(row);
    }
    output::print(&output::rendered(&table))
}

fn find(status: Status, name: &str) -> Result<ServiceStatus> {
    let known: Vec<_> = status.services.iter().map(|service| service.name.clone()).collect();
    let found = status.services.into_iter().find(|service| service.name == name);
    found.ok_or_else(|| {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let detail = format!("there is no service {name:?}; the services are: {known}");
        let status = axum::http::StatusCode::NOT_FOUND;
        ClientError::Problem(Problem::new(status, detail)).into()
    })
}

/// One service.
pub async fn service(client: &Client, name: &str, format: Output) -> Result<()> {
    let service = find(fetch(client).await?, name)?;
    if format == Output::Json {
        return output::json(&service);
    }
    let table = backend_table(std::slice::from_ref(&service), format, false);
    output::print(&format!("{}\n{}", headline(&service), indent(&table)))
}

/// The backends of all services or of one.
pub async fn backends(client: &Client, service: Option<&str>, format: Output) -> Result<()> {
    let status = fetch(client).await?;
    let services = match service {
        Some(name) => vec![find(status, name)?],
        None => status.services,
    };
    if format == Output::Json {
        let backends: Vec<_> = services
            .iter()
            .flat_map(|service| service.backends.iter().map(move |backend| (service, backend)))
            .map(|(service, backend)| {
                let mut value = serde_json::to_value(backend)?;
                value["service"] = json!(service.name);
                Ok(value)
            })
            .collect::<Result<_>>()?;
        return output::json(&json!({ "backends": backends }));
    }
    output::print(&backend_table(&services, format, true))
}

/// The backends that people took out long ago.
fn long_out(paths: &Paths, config: &Config) -> Vec<Diagnostic> {
    const LONG: Duration = Duration::from_hours(24);
    let finding = |message, remedy: &str| Diagnostic {
        severity: Severity::Warning,
        file: paths.config.clone(),
        position: None,
        message,
        remedy: remedy.to_owned(),
    };
    let exceptions = match store::read(&paths.state_dir) {
        Ok(exceptions) => exceptions,
        Err(error) => {
            let message = format!("cannot tell which backends are taken out: {error:#}");
            return vec![finding(message, "check as root, or name the daemon's --state-dir")];
        }
    };
    let now = SystemTime::now();
    let old = exceptions.older_than(LONG, now).filter(|exception| {
        let service = config.service(&exception.service);
        service.is_some_and(|service| {
            service.backend(&exception.backend).is_some()
                || (exception.discovered && !service.discover.is_empty())
        })
    });
    let told = old.map(|exception| {
        let since = now.duration_since(exception.since).unwrap_or_default().as_secs();
        let message = format!(
            "backend {}/{} has been out ({}) for {}, by {}: {}",
            exception.service,
            exception.backend,
            exception.state,
            output::span(since),
            exception.by,
            exception.reason
        );
        finding(message, "bring it back with `evenkeel backend resume`, or remove it")
    });
    told.collect()
}

/// Checks a configuration file and this host; of the daemon's own file, also what is taken out of it.
pub fn check(file: Option<&Path>, paths: &Paths, format: Output) -> Result<()> {
    let mut checked = daemon::check(file.unwrap_or(&paths.config));
    if let (None, Ok(loaded)) = (file, &mut checked) {
        loaded.warnings.extend(long_out(paths, &loaded.config));
    }
    let file = file.unwrap_or(&paths.config);
    if format == Output::Json {
        let diagnostics: Vec<Diagnostic> = match &checked {
            Ok(loaded) => loaded.warnings.clone(),
            Err(error) => match error.downcast_ref::<Invalid>() {
                Some(invalid) => invalid.diagnostics.clone(),
                None => return Err(anyhow!("{error:#}")),
            },
        };
        output::json(&json!({ "valid": checked.is_ok(), "diagnostics": diagnostics }))?;
        return checked.map(drop);
    }
    let loaded = checked?;
    for warning in &loaded.warnings {
        eprintln!("{warning}");
    }
    let services = &loaded.config.services;
    let backends: usize = services.iter().map(|service| service.backends.len()).sum();
    output::print(&format!(
        "{}: valid: {}, {}, {}\n",
        file.display(),
        output::counted(services.len(), "service"),
        output::counted(backends, "backend"),
        output::counted(loaded.warnings.len(), "warning")
    ))
}
