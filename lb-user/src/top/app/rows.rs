//! The rows of the table: services with their backends below, filtered and sorted.

use std::cmp::Ordering;

use super::rates::{Key, Rate, Rates};
use crate::{
    admin::AdminState,
    api::model::{BackendStatus, ServiceStatus, Status, Window, WindowBackend},
    health::Health,
    overview::{self, Mood},
};

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The order of the configuration.
    #[default]
    Configured,
    /// The name.
    Name,
    /// Who is worst off first.
    Trouble,
    /// The share over the fair share.
    Share,
    /// New connections per second.
    Connections,
    /// Open connections.
    Open,
    /// Bytes per second.
    Bytes,
    /// Failed connections per second.
    Errors,
    /// The handshakes' time.
    Handshake,
}

impl Sort {
    /// Every one, in the order that `s` goes through, with its key and name.
    pub const ALL: [(Self, char, &str); 9] = [
        (Self::Configured, '0', "configured"),
        (Self::Name, 'N', "name"),
        (Self::Trouble, 'T', "trouble"),
        (Self::Share, 'S', "share/fair"),
        (Self::Connections, 'C', "conn/s"),
        (Self::Open, 'O', "open"),
        (Self::Bytes, 'B', "bytes/s"),
        (Self::Errors, 'E', "errors/s"),
        (Self::Handshake, 'L', "handshake"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL[self.index()].2
    }

    /// The one after it.
    pub fn next(self) -> Self {
        Self::ALL[(self.index() + 1) % Self::ALL.len()].0
    }

    fn index(self) -> usize {
        Self::ALL.iter().position(|(sort, ..)| *sort == self).unwrap_or_default()
    }
}

/// A service or a backend.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Which one.
    pub key: Key,
    /// What it does, in a few letters.
    pub state: String,
    /// How good that is.
    pub mood: Mood,
    /// What probes see, in a word; empty for a service.
    pub health: String,
    /// Its share of the window's connections, from 0 to 1.
    pub share: Option<f64>,
    /// The share that it should have.
    pub fair: Option<f64>,
    /// Of a service: the largest share over its fair share.
    pub index: Option<f64>,
    /// What passed in the last second.
    pub rate: Option<Rate>,
    /// Connections open now.
    pub open: u64,
    /// Half of the handshakes took no longer, in microseconds.
    pub p50: Option<u64>,
    /// All but one in a hundred.
    pub p99: Option<u64>,
}

/// A span of time in its largest unit: there is no room for two.
pub fn brief(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..5_400 => format!("{}m", (seconds + 30) / 60),
        5_400..172_800 => format!("{}h", (seconds + 1_800) / 3_600),
        _ => format!("{}d", (seconds + 43_200) / 86_400),
    }
}

/// Every row that the filter lets through, in order.
pub fn rows(
    status: &Status,
    rates: &Rates,
    seconds: u64,
    filter: &str,
    sort: Sort,
    reversed: bool,
) -> Vec<Row> {
    let order = |a: &Row, b: &Row| {
        let order = compare(sort, a, b);
        if reversed { order.reverse() } else { order }
    };
    let mut groups: Vec<(Row, Vec<Row>)> = Vec::new();
    for service in &status.services {
        let window = service.windows.iter().find(|window| window.seconds == seconds);
        let whole = service.name.contains(filter) || service.address.contains(filter);
        let backends = service.backends.iter().filter(|backend| {
            whole || backend.name.contains(filter) || backend.address.contains(filter)
        });
        let mut rows: Vec<_> =
            backends.map(|backend| of_backend(service, backend, window, rates)).collect();
        if rows.is_empty() && !whole {
            continue;
        }
        rows.sort_by(order);
        groups.push((of_service(service, window, rates), rows));
    }
    groups.sort_by(|(a, _), (b, _)| order(a, b));
    groups.into_iter().flat_map(|(service, rows)| std::iter::once(service).chain(rows)).collect()
}

/// Names rise, numbers fall; equals stay as configured.
fn compare(sort: Sort, a: &Row, b: &Row) -> Ordering {
    let falling = |number: fn(&Row) -> f64| number(b).total_cmp(&number(a));
    match sort {
        Sort::Configured => Ordering::Equal,
        Sort::Name => a.key.cmp(&b.key),
        Sort::Trouble => b.mood.cmp(&a.mood),
        Sort::Share => falling(over_fair),
        Sort::Connections => falling(|row| row.rate.unwrap_or_default().connections),
        Sort::Open => b.open.cmp(&a.open),
        Sort::Bytes => falling(|row| {
            let rate = row.rate.unwrap_or_default();
            rate.bytes_in + rate.bytes_out
        }),
        Sort::Errors => falling(|row| row.rate.unwrap_or_default().errors),
        Sort::Handshake => b.p99.cmp(&a.p99),
    }
}

/// The share over the fair share; of a service, the largest.
fn over_fair(row: &Row) -> f64 {
    match (row.share, row.fair) {
        (Some(share), Some(fair)) if fair > 0.0 => share / fair,
        _ => row.index.unwrap_or_default(),
    }
}

fn of_service(service: &ServiceStatus, window: Option<&Window>, rates: &Rates) -> Row {
    let active = overview::active(service);
    let key = (service.name.clone(), None);
    let slowest = |of: fn(&WindowBackend) -> Option<u64>| {
        window.and_then(|window| window.backends.iter().filter_map(of).max())
    };
    Row {
        state: format!("{active} of {}", service.backends.len()),
        mood: overview::of_service(service),
        index: window.and_then(|window| window.index),
        rate: rates.of(&key),
        open: service.backends.iter().map(|backend| backend.open).sum(),
        p50: slowest(|backend| backend.handshake_p50_us),
        p99: slowest(|backend| backend.handshake_p99_us),
        key,
        ..Row::default()
    }
}

fn of_backend(
    service: &ServiceStatus,
    backend: &BackendStatus,
    window: Option<&Window>,
    rates: &Rates,
) -> Row {
    let key = (service.name.clone(), Some(backend.name.clone()));
    let counted = window.filter(|window| window.connections > 0);
    let part =
        |window: &Window| window.backends.iter().find(|part| part.name == backend.name).cloned();
    let part = counted.and_then(part);
    Row {
        state: state(backend),
        mood: overview::of_backend(backend),
        health: backend.health.to_string(),
        share: part.as_ref().map(|part| part.share),
        fair: Some(part.as_ref().map_or(backend.share, |part| part.fair)),
        index: None,
        rate: rates.of(&key),
        open: backend.open,
        p50: part.as_ref().and_then(|part| part.handshake_p50_us),
        p99: part.as_ref().and_then(|part| part.handshake_p99_us),
        key,
    }
}

/// What a backend does; with `!` before it where that says nothing of its health, which is not good.
fn state(backend: &BackendStatus) -> String {
    let left = backend
        .exception
        .as_ref()
        .map(|exception| exception.seconds_left.map_or_else(|| "ever".to_owned(), brief));
    let left = left.unwrap_or_default();
    let text = match backend.admin {
        AdminState::Drain => format!("drain {left}"),
        AdminState::Maintenance => return format!("maint {left}"),
        AdminState::Ready if backend.state == "out" && backend.health != Health::Up => {
            return backend.health.to_string();
        }
        AdminState::Ready => backend.state.clone(),
    };
    if backend.health == Health::Up { text } else { format!("!{text}") }
}
