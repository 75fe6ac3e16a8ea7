//! Edits as the tests look at them: from text to text.

use crate::config::{BackendSpec, EditError, Loaded, Scheduler, ServiceSpec, edit};

type Edited = Result<String, EditError>;

/// The text of a result, which is what it was parsed from.
fn text(edited: Result<Loaded, EditError>) -> Edited {
    edited.map(|loaded| loaded.text)
}

pub(super) fn add_service(before: &str, spec: &ServiceSpec) -> Edited {
    text(edit::add_service(before, spec))
}

pub(super) fn remove_service(before: &str, name: &str) -> Edited {
    text(edit::remove_service(before, name))
}

pub(super) fn add_backend(before: &str, service: &str, spec: &BackendSpec) -> Edited {
    text(edit::add_backend(before, service, spec))
}

pub(super) fn remove_backend(before: &str, service: &str, name: &str) -> Edited {
    text(edit::remove_backend(before, service, name))
}

pub(super) fn set_weight(before: &str, service: &str, backend: &str, weight: u16) -> Edited {
    text(edit::set_weight(before, service, backend, weight))
}

pub(super) fn set_scheduler(
    before: &str,
    service: &str,
    scheduler: Scheduler,
    table_size: Option<u32>,
) -> Edited {
    text(edit::set_scheduler(before, service, scheduler, table_size))
}
