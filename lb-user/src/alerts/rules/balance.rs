//! Whether a service's connections are shared out as they should be.

use super::{
    super::{
        Kind,
        facts::{Drawn, ServiceFacts, WindowFacts},
    },
    CERTAIN, Finding, LOWER,
};
use crate::{config::alerts::Alerts, statistics::at_least};

pub(super) fn judge(found: &mut Vec<Finding>, service: &ServiceFacts<'_>, config: &Alerts) {
    let threshold = config.imbalance.get();
    // It clears this much nearer to 1.
    let lower = 1.0 + (threshold - 1.0) * LOWER;
    let beyond = |window: &WindowFacts<'_>, bound: f64| {
        window.index > bound && !is_chance(window, service.drawn, bound)
    };
    let windows = service.windows.iter().flatten();
    let certain = windows.clone().find(|window| beyond(window, threshold));
    let Some(window) = certain.or_else(|| windows.clone().find(|window| beyond(window, lower)))
    else {
        return;
    };
    let by_client = match service.drawn {
        Drawn::Connections => "",
        Drawn::Clients(_) => "; a client's go the same way",
    };
    let summary = format!(
        "{} gets {:.2} times its fair share of service {}'s connections (last {} s{by_client})",
        window.most, window.index, service.name, window.seconds
    );
    let finding = Finding::of_service(Kind::Imbalance, service.name, certain.is_some(), summary);
    let finding = match service.drawn {
        Drawn::Clients(Some(clients)) => finding.number("clients", clients.round()),
        _ => finding,
    };
    found.push(
        finding
            .text("most", window.most)
            .number("index", window.index)
            .number("threshold", threshold)
            .number("variation", window.variation)
            .count("connections", window.connections)
            .count("window_seconds", window.seconds),
    );
}

/// Whether a backend that had exactly `bound` times its fair share would show as many now and then
/// (Poisson). Where clients are drawn, it is they that are counted: a hundred connections of one client are
/// one draw. Those of the last minute stand for longer windows, too, which have more.
fn is_chance(window: &WindowFacts<'_>, what: Drawn, bound: f64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "connections are far below 2^52")]
    let connections = window.connections as f64;
    let draws = match what {
        Drawn::Connections => connections,
        Drawn::Clients(clients) => clients.unwrap_or_default().min(connections),
    };
    let fair = window.fair * draws;
    at_least(fair * window.index, fair * bound) >= CERTAIN
}
