//! Commands that change something: services, backends, the data path itself.

use std::fmt::Display;

use anyhow::Result;
use hyper::Method;
use serde::Serialize;

use super::{BackendCommand, ServiceCommand, TakeOut, Usage, lifecycle, output, store};
use crate::{
    admin::AdminState,
    api::{
        Client,
        model::{AdminRequest, Changed, NewBackend, NewService, Patch, ServicePatch},
    },
    daemon::{self, Paths},
};

/// A name as part of a path. Names of other letters are refused by the daemon, but must get there
/// whole.
pub(super) fn segment(name: &str) -> Result<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !name.is_empty() && name.bytes().all(plain) && !name.starts_with('.') {
        return Ok(name);
    }
    let problem = format!(
        "{name:?} is not a name; names have letters, digits, '-', '_' and '.', and begin with a \
         letter or digit"
    );
    Err(Usage(problem).into())
}

pub(super) async fn send<B: Serialize>(
    client: &Client,
    method: Method,
    path: impl Display,
    body: Option<&B>,
) -> Result<()> {
    let changed: Changed = client.send(method, &path.to_string(), body).await?;
    output::print(&format!("{}\n", changed.message))?;
    if changed.cut > 0 {
        output::print(&format!("{} connections cut\n", output::count(changed.cut)))?;
    }
    for warning in changed.warnings {
        eprintln!("warning: {warning}");
    }
    store::spread(changed.fleet.as_ref())
}

fn removal(now: bool) -> &'static str {
    if now { "?now=true" } else { "" }
}

/// Adds, sets or removes a service.
pub async fn service(client: &Client, command: ServiceCommand) -> Result<()> {
    match command {
        ServiceCommand::Add { service, address, traffic, probe } => {
            let new = NewService {
                name: service,
                address,
                protocol: traffic.protocol,
                scheduler: traffic.scheduler,
                table_size: traffic.table_size,
                forwarding: traffic.forwarding,
                snat: !traffic.no_snat,
                gue_port: traffic.gue_port,
                sticky: traffic.sticky,
                overload: traffic.overload,
                health: probe.health()?,
            };
            send(client, Method::POST, "/v1/services", Some(&new)).await
        }
        ServiceCommand::Set { service, scheduler, table_size } => {
            let path = format!("/v1/services/{}", segment(&service)?);
            let wanted = ServicePatch { scheduler, table_size };
            send(client, Method::PATCH, path, Some(&wanted)).await
        }
        ServiceCommand::Remove { service, now } => {
            let path = format!("/v1/services/{}{}", segment(&service)?, removal(now));
            send(client, Method::DELETE, path, None::<&()>).await
        }
        ServiceCommand::List(_) | ServiceCommand::Show { .. } => Ok(()),
    }
}

async fn take_out(client: &Client, state: AdminState, asked: TakeOut) -> Result<()> {
    let (service, backend) = lifecycle::split(&asked.backend)?;
    let request = AdminRequest {
        service,
        backend,
        state,
        span: Some(asked.span),
        reason: Some(asked.reason),
        force: asked.force,
    };
    send(client, Method::PUT, "/v1/admin", Some(&request)).await
}

/// Adds, removes or weighs a backend, takes one out or back.
pub async fn backend(client: &Client, command: BackendCommand) -> Result<()> {
    match command {
        BackendCommand::Add { service, backend, address, weight, tier, max_connections } => {
            let path = format!("/v1/services/{}/backends", segment(&service)?);
            let new =
                NewBackend { name: backend, address: address.0, weight, tier, max_connections };
            send(client, Method::POST, path, Some(&new)).await
        }
        BackendCommand::Remove { service, backend, now, force } => {
            let (service, backend) = (segment(&service)?, segment(&backend)?);
            let path = format!("/v1/services/{service}/backends/{backend}?now={now}&force={force}");
            send(client, Method::DELETE, path, None::<&()>).await
        }
        BackendCommand::Weight { service, backend, weight } => {
            let (service, backend) = (segment(&service)?, segment(&backend)?);
            let path = format!("/v1/services/{service}/backends/{backend}");
            send(client, Method::PATCH, path, Some(&Patch { weight })).await
        }
        BackendCommand::Drain(asked) => take_out(client, AdminState::Drain, asked).await,
        BackendCommand::Maintain(asked) => take_out(client, AdminState::Maintenance, asked).await,
        BackendCommand::Resume { backend } => {
            let (service, backend) = lifecycle::split(&backend)?;
            let request = AdminRequest {
                service,
                backend,
                state: AdminState::Ready,
                span: None,
                reason: None,
                force: false,
            };
            send(client, Method::PUT, "/v1/admin", Some(&request)).await
        }
        BackendCommand::Wait { backend, until, timeout } => {
            lifecycle::wait(client, &backend, until, timeout).await
        }
        BackendCommand::List { .. } => Ok(()),
    }
}

/// Removes the data path.
pub fn detach(paths: &Paths) -> Result<()> {
    let interfaces = daemon::detach(paths)?;
    let text = if interfaces.is_empty() {
        format!("nothing was attached by {}\n", paths.bpffs.display())
    } else {
        format!("detached from {}; connections and counters are gone\n", interfaces.join(", "))
    };
    output::print(&text)
}
