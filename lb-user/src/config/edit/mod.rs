//! Edits of a configuration's text: only the bytes that must change do, so that comments, order
//! and line endings survive. Pure: from text to text, and what that means.
//!
//! Every edit starts from a valid text; its result is parsed again and returned as that, without what is in
//! the files that it names.

mod health;
mod layout;
mod shared;
mod write;

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::shared::{services_of, why_not_services, with_services};
use self::{
    layout::{BackendForm, Layout, ServicePlace},
    write::Style,
};
use super::{
    Config, Invalid, Loaded,
    choices::{Forwarding, Overload, Protocol, Scheduler, Tier},
    decode::nearest,
    endpoint,
    model::HealthCheck,
};

/// A service to be added; its backends are added one by one afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name.
    pub name: String,
    /// Its virtual address; port 0 is every port.
    pub address: SocketAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its scheduler.
    pub scheduler: Scheduler,
    /// Slots of the scheduler's table; `None`: the default.
    pub table_size: Option<u32>,
    /// Its forwarding mode.
    pub forwarding: Forwarding,
    /// Whether NAT replaces the client's address.
    pub snat: bool,
    /// The backends' port for GUE; `None`: the default.
    pub gue_port: Option<u16>,
    /// For how long a client keeps its backend.
    pub sticky: Option<Duration>,
    /// What becomes of a new connection when no backend has room.
    pub overload: Overload,
    /// Its probe.
    pub health: HealthCheck,
}

/// A backend to be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendSpec {
    /// Its name.
    pub name: String,
    /// Its address; port 0, written `*`: the port that the client asked for.
    #[serde(with = "endpoint")]
    pub address: SocketAddr,
    /// Its weight, from 1.
    #[serde(default = "one")]
    pub weight: u16,
    /// When it takes part.
    #[serde(default)]
    pub tier: Tier,
    /// Open connections that it takes at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
}

impl ServiceSpec {
    /// A TCP service with every choice at its default, not probed.
    #[must_use]
    pub fn new(name: String, address: SocketAddr) -> Self {
        Self {
            name,
            address,
            protocol: Protocol::default(),
            scheduler: Scheduler::default(),
            table_size: None,
            forwarding: Forwarding::default(),
            snat: true,
            gue_port: None,
            sticky: None,
            overload: Overload::default(),
            health: HealthCheck::None,
        }
    }
}

/// Why a text cannot be edited so. Nothing has been changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// No service has this name.
    #[error("there is no service {name:?}{}", suggestion(.name, .known))]
    UnknownService {
        /// The name asked for.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// The service has no backend of this name.
    #[error("service {service:?} has no backend {name:?}{}", suggestion(.name, .known))]
    UnknownBackend {
        /// The service.
        service: String,
        /// The name asked for.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// There is a service or a backend of this name already.
    #[error("{what} {name:?} is there already; choose another name, or remove it first")]
    Exists {
        /// `service` or `backend`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The text is written in a form that this edit does not know.
    #[error(
        "cannot edit the configuration here: {what} written in brackets and braces; \
             write each as {instead}, or edit the file by hand"
    )]
    InlineTables {
        /// What is written so.
        what: String,
        /// The form that can be edited.
        instead: &'static str,
    },
    /// The text is invalid before the edit.
    #[error("the configuration is invalid already; correct it first:\n{0}")]
    InvalidBefore(Invalid),
    /// The text would be invalid after the edit; lines and columns are those of that text.
    #[error("the configuration would be invalid:\n{0}")]
    InvalidAfter(Invalid),
}

/// Adds a service after the last one.
///
/// # Errors
/// When the name is taken, or the result would not be valid.
pub fn add_service(text: &str, spec: &ServiceSpec) -> Result<Loaded, EditError> {
    let layout = Layout::of_tables(text)?;
    if layout.services.iter().any(|service| service.name == spec.name) {
        return Err(EditError::Exists { what: "service", name: spec.name.clone() });
    }
    let style = Style::of_services(&layout);
    let block = write::service(spec, &style);
    let at = layout.services.last().map_or(text.len(), |last| layout.end_of(last));
    checked(text, &layout.insert_block(at, &block, true))
}

/// Removes the service `name` with its backends and the comments that stand at them.
///
/// # Errors
/// When there is no such service.
pub fn remove_service(text: &str, name: &str) -> Result<Loaded, EditError> {
    let layout = Layout::of_tables(text)?;
    let service = layout.service(name)?;
    checked(text, &layout.without_tables(&service.tables))
}

/// Adds a backend after the last one of `service`, written like its siblings.
///
/// # Errors
/// When there is no such service, the name is taken, or the result would not be valid.
pub fn add_backend(text: &str, service: &str, spec: &BackendSpec) -> Result<Loaded, EditError> {
    let layout = Layout::of_tables(text)?;
    let place = layout.service(service)?;
    if place.backends.iter().any(|backend| backend.name == spec.name) {
        return Err(EditError::Exists { what: "backend", name: spec.name.clone() });
    }
    if place.inline_backends {
        return Err(inline_backends(service));
    }
    let style = Style::of_backends(&layout, place);
    let block = write::backend(spec, &style);
    // Before any table that follows the last backend, which can only be another of the service's.
    let last = place.backends.last().and_then(BackendForm::table);
    let at = last.map_or_else(|| layout.end_of(place), |table| layout.chunk(table).end);
    checked(text, &layout.insert_block(at, &block, style.spaced))
}

/// Removes the backend `name` of `service` and the comments that stand at it.
///
/// # Errors
/// When there is no such service or backend.
pub fn remove_backend(text: &str, service: &str, name: &str) -> Result<Loaded, EditError> {
    let layout = Layout::of_tables(text)?;
    let place = layout.service(service)?;
    match place.backend(name)?.table() {
        Some(table) => checked(text, &layout.without_tables(&[table])),
        None => Err(inline_backends(service)),
    }
}

/// Gives a backend another weight.
///
/// # Errors
/// When there is no such service or backend, or the weight is not valid.
pub fn set_weight(
    text: &str,
    service: &str,
    backend: &str,
    weight: u16,
) -> Result<Loaded, EditError> {
    let layout = Layout::of_tables(text)?;
    let backend = layout.service(service)?.backend(backend)?;
    let mut edited = text.to_owned();
    if let Some(span) = &backend.weight {
        edited.replace_range(span.clone(), &weight.to_string());
    } else {
        let (at, line) = write::weight_after(&layout, backend, weight);
        edited.insert_str(at, &line);
    }
    checked(text, &edited)
}

/// Gives a service another scheduler, and another size to the table of one that hashes.
///
/// A size that is written and means nothing to the new scheduler is removed with its line.
///
/// # Errors
/// When there is no such service, or the result would not be valid.
pub fn set_scheduler(
    text: &str,
    service: &str,
    scheduler: Scheduler,
    table_size: Option<u32>,
) -> Result<Loaded, EditError> {
    let layout = Layout::of_tables(text)?;
    let place = layout.service(service)?;
    let mut edits = vec![write::choice(&layout, place, "scheduler", scheduler.to_string())];
    match (table_size, place.key("table_size")) {
        (Some(size), _) => {
            let size = i64::from(size);
            edits.push(write::choice(&layout, place, "table_size", size));
        }
        (None, Some(span)) if !scheduler.hashes() => {
            edits.push((layout.lines_of(span), String::new()));
        }
        _ => {}
    }
    // From the end, so that the places before stay. What goes to the same place goes there in order.
    edits.sort_by_key(|(range, _)| range.start);
    let mut edited = text.to_owned();
    for (range, new) in edits.into_iter().rev() {
        edited.replace_range(range, &new);
    }
    checked(text, &edited)
}

/// The result of an edit, where it is valid. Where it is not, the fault may be that of the text before.
fn checked(before: &str, after: &str) -> Result<Loaded, EditError> {
    match Config::parse_text(after) {
        Ok(loaded) => Ok(loaded),
        Err(invalid) => Err(match Config::parse_text(before) {
            Ok(_) => EditError::InvalidAfter(invalid),
            Err(invalid) => EditError::InvalidBefore(invalid),
        }),
    }
}

fn inline_services() -> EditError {
    EditError::InlineTables { what: "the services are".to_owned(), instead: "[[service]]" }
}

fn inline_backends(service: &str) -> EditError {
    let what = format!("the backends of service {service:?} are");
    EditError::InlineTables { what, instead: "[[service.backend]]" }
}

impl<'t> Layout<'t> {
    fn of_tables(text: &'t str) -> Result<Self, EditError> {
        let layout = Layout::of(text);
        if !layout.is_whole {
            Config::parse_text(text).map_err(EditError::InvalidBefore)?;
        }
        if layout.inline_services { Err(inline_services()) } else { Ok(layout) }
    }

    fn service(&self, name: &str) -> Result<&ServicePlace, EditError> {
        self.services.iter().find(|service| service.name == name).ok_or_else(|| {
            let known = self.services.iter().map(|service| service.name.clone()).collect();
            EditError::UnknownService { name: name.to_owned(), known }
        })
    }
}

impl ServicePlace {
    fn backend(&self, name: &str) -> Result<&BackendForm, EditError> {
        self.backends.iter().find(|backend| backend.name == name).ok_or_else(|| {
            let known = self.backends.iter().map(|backend| backend.name.clone()).collect();
            let (service, name) = (self.name.clone(), name.to_owned());
            EditError::UnknownBackend { service, name, known }
        })
    }
}

fn suggestion(name: &str, known: &[String]) -> String {
    if known.is_empty() {
        return "; there is none yet".to_owned();
    }
    let listed = known.join(", ");
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("; did you mean {near:?}? Known: {listed}"),
        None => format!("; known: {listed}"),
    }
}

fn one() -> u16 {
    1
}
