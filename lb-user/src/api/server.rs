//! The server: routes, and from bodies to commands.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt as _, net::UnixListener as StdListener},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use axum::{
    Json, Router,
    extract::{
        FromRequest, Path as UrlPath, Query, Request, State,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
    middleware,
    routing::{delete, get, post, put},
};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt::socket_peercred},
};
use serde::Deserialize;
use tokio::{
    net::UnixListener,
    sync::{mpsc, oneshot, watch},
};

use super::{
    Access, Peer, access, configuration, connections, events, explain, fleet, listing,
    model::{
        AdminRequest, Alerts, Changed, Counters, NewBackend, NewService, Patch, ServicePatch,
        Status,
    },
    node,
    problem::Problem,
};
use crate::{
    admin::AdminState,
    config::{Endpoint, edit::ServiceSpec},
    controller::{Administer, Change, Command, Connections, Refused, Wish},
    events::Events,
};

pub(super) type Commands = mpsc::Sender<Command>;

/// The API's socket: opened, not served yet.
pub struct Socket {
    listener: StdListener,
    access: Access,
}

/// Opens the socket at `path`, mode 0660, for the groups that [`Access`] names. A socket that no daemon
/// answers on is replaced.
///
/// # Errors
///
/// Where a daemon answers there, or the socket cannot be made.
pub fn bind(path: &Path) -> Result<Socket> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("make directory {}", directory.display()))?;
    }
    if let Some(process) = holder(path) {
        bail!(
            "a daemon ({process}) listens on {} already; stop it first, or choose another --socket",
            path.display()
        );
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", path.display()));
        }
        _ => {}
    }
    let listener =
        StdListener::bind(path).with_context(|| format!("listen on {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))
        .with_context(|| format!("set the mode of {}", path.display()))?;
    let access = Access::of_host();
    access.share(path)?;
    listener.set_nonblocking(true).with_context(|| format!("listen on {}", path.display()))?;
    Ok(Socket { listener, access })
}

/// Who listens on a socket, like `process 4711`; `None` where nobody does.
fn holder(path: &Path) -> Option<String> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let asking = rustix::net::socket_with(family, kind, flags, None).ok()?;
    match rustix::net::connect(&asking, &SocketAddrUnix::new(path).ok()?) {
        Ok(()) => {
            let process = socket_peercred(&asking).map(|peer| peer.pid.as_raw_pid());
            Some(process.map_or("process unknown".to_owned(), |id| format!("process {id}")))
        }
        // Its backlog is full.
        Err(Errno::AGAIN) => Some("process unknown".to_owned()),
        Err(_) => None,
    }
}

/// Serves the API until `stop` resolves; requests under way are finished. Those who follow the events have to
/// be told that these end.
///
/// # Errors
///
/// Where the socket fails.
pub async fn serve(
    socket: Socket,
    commands: Commands,
    events: Events,
    table: Arc<Connections>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let Socket { listener, access } = socket;
    let listener = UnixListener::from_std(listener).context("serve the API")?;
    let (stopping, stopped) = watch::channel(false);
    let stop = async move {
        stop.await;
        // Listings may have readers that take their time.
        let _ = stopping.send(true);
    };
    let answers = explain::routes(commands.clone(), Arc::clone(&table));
    let listings = listing::routes(commands.clone(), table, events.clone(), stopped);
    let router = router(commands, events)
        .merge(listings)
        .merge(answers)
        .layer(middleware::from_fn_with_state(access, access::guard));
    connections::serve_on(listener, router, stop).await.context("serve the API")
}

fn router(commands: Commands, events: Events) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/counters", get(counters))
        .route("/v1/alerts", get(alerts))
        .route("/v1/services", post(add_service))
        .route("/v1/admin", put(administer))
        .route("/v1/services/{service}", delete(remove_service).patch(patch_service))
        .route("/v1/services/{service}/backends", post(add_backend))
        .route(
            "/v1/services/{service}/backends/{backend}",
            delete(remove_backend).patch(patch_backend),
        )
        .merge(configuration::routes())
        .merge(fleet::routes())
        .merge(node::routes())
        .merge(events::routes(events))
        .fallback(async |request: Request| {
            let detail =
                format!("there is no {}; see the README for the API", request.uri().path());
            Problem::new(StatusCode::NOT_FOUND, detail)
        })
        .method_not_allowed_fallback(async |request: Request| {
            let detail = format!("{} does not go with {}", request.method(), request.uri().path());
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        })
        .with_state(commands)
}

/// A JSON body, with problems for errors.
#[derive(FromRequest)]
#[from_request(via(Json), rejection(Problem))]
pub(super) struct Body<T>(pub(super) T);

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let status = match refused {
            Refused::NotFound(_) | Refused::Absent(_) => StatusCode::NOT_FOUND,
            Refused::Conflict(_) | Refused::Guarded(_) | Refused::Behind(_) => StatusCode::CONFLICT,
            Refused::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Refused::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refused::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, refused.to_string())
    }
}

/// `?now=true` of a removal.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Removal {
    #[serde(default)]
    now: bool,
}

/// `?now=true&force=true` of a backend's removal.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackendRemoval {
    #[serde(default)]
    now: bool,
    #[serde(default)]
    force: bool,
}

pub(super) async fn ask<T>(
    commands: &Commands,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Result<T, Problem> {
    let (reply, answer) = oneshot::channel();
    let stopping =
        || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping; try again later");
    commands.send(command(reply)).await.map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())
}

async fn status(State(commands): State<Commands>) -> Result<Json<Status>, Problem> {
    ask(&commands, Command::Status).await?.map(Json).map_err(|error| Problem::internal(&error))
}

async fn counters(State(commands): State<Commands>) -> Result<Json<Counters>, Problem> {
    ask(&commands, Command::Counters).await?.map(Json).map_err(|error| Problem::internal(&error))
}

async fn alerts(State(commands): State<Commands>) -> Result<Json<Alerts>, Problem> {
    ask(&commands, Command::Alerts).await.map(Json)
}

async fn change(commands: &Commands, peer: Peer, change: Change) -> Result<Json<Changed>, Problem> {
    let command = |reply| Command::Change(Box::new(change.clone()), peer.clone(), reply);
    fleet::carry_out(commands, false, command).await.map(Json)
}

async fn add_service(
    State(commands): State<Commands>,
    peer: Peer,
    Body(new): Body<NewService>,
) -> Result<Json<Changed>, Problem> {
    let Endpoint(address) = new.address;
    let spec = ServiceSpec {
        name: new.name,
        address,
        protocol: new.protocol,
        scheduler: new.scheduler,
        table_size: new.table_size,
        forwarding: new.forwarding,
        snat: new.snat,
        gue_port: new.gue_port,
        sticky: new.sticky,
        overload: new.overload,
        health: new.health.into(),
    };
    change(&commands, peer, Change::AddService(spec)).await
}

async fn remove_service(
    State(commands): State<Commands>,
    peer: Peer,
    name: Result<UrlPath<String>, PathRejection>,
    removal: Result<Query<Removal>, QueryRejection>,
) -> Result<Json<Changed>, Problem> {
    let (UrlPath(name), Query(Removal { now })) = (name?, removal?);
    change(&commands, peer, Change::RemoveService { name, now }).await
}

async fn patch_service(
    State(commands): State<Commands>,
    peer: Peer,
    name: Result<UrlPath<String>, PathRejection>,
    Body(ServicePatch { scheduler, table_size }): Body<ServicePatch>,
) -> Result<Json<Changed>, Problem> {
    let UrlPath(service) = name?;
    change(&commands, peer, Change::SetScheduler { service, scheduler, table_size }).await
}

async fn add_backend(
    State(commands): State<Commands>,
    peer: Peer,
    service: Result<UrlPath<String>, PathRejection>,
    Body(backend): Body<NewBackend>,
) -> Result<Json<Changed>, Problem> {
    let UrlPath(service) = service?;
    change(&commands, peer, Change::AddBackend { service, backend }).await
}

async fn remove_backend(
    State(commands): State<Commands>,
    peer: Peer,
    names: Result<UrlPath<(String, String)>, PathRejection>,
    removal: Result<Query<BackendRemoval>, QueryRejection>,
) -> Result<Json<Changed>, Problem> {
    let (UrlPath((service, name)), Query(BackendRemoval { now, force })) = (names?, removal?);
    change(&commands, peer, Change::RemoveBackend { service, name, now, force }).await
}

async fn administer(
    State(commands): State<Commands>,
    by: Peer,
    Body(request): Body<AdminRequest>,
) -> Result<Json<Changed>, Problem> {
    let AdminRequest { service, backend, state, span, reason, force } = request;
    let wrong = |detail: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
    let wish = match (state, span, reason) {
        (AdminState::Ready, None, None) => Wish::Resume,
        (AdminState::Ready, ..) => {
            return Err(wrong("for and reason mean nothing to the state ready; leave them out"));
        }
        (AdminState::Drain, Some(span), Some(reason)) => Wish::Drain(span, reason),
        (AdminState::Maintenance, Some(span), Some(reason)) => Wish::Maintain(span, reason),
        _ => return Err(wrong("say for how long, like \"30m\" or \"forever\", and the reason")),
    };
    let asked = Administer { service, backend, wish, force, by };
    let command = |reply| Command::Administer(Box::new(asked.clone()), reply);
    fleet::carry_out(&commands, false, command).await.map(Json)
}

async fn patch_backend(
    State(commands): State<Commands>,
    peer: Peer,
    names: Result<UrlPath<(String, String)>, PathRejection>,
    Body(Patch { weight }): Body<Patch>,
) -> Result<Json<Changed>, Problem> {
    let UrlPath((service, name)) = names?;
    change(&commands, peer, Change::SetWeight { service, name, weight }).await
}
