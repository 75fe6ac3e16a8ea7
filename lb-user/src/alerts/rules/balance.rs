//! Whether a service's connections are shared out as they should be.

use super::{
    super::{
        Kind,
        facts::{ServiceFacts, WindowFacts},
    },
    CERTAIN, Finding, LOWER,
};
use crate::{config::alerts::Alerts, statistics::at_least};

pub(super) fn judge(found: &mut Vec<Finding>, service: &ServiceFacts<'_>, config: &Alerts) {
    let threshold = config.imbalance.get();
    // It clears this much nearer to 1.
    let lower = 1.0 + (threshold - 1.0) * LOWER;
    let beyond =
        |window: &WindowFacts<'_>, bound: f64| window.index > bound && !is_chance(window, bound);
    let windows = service.windows.iter().flatten();
    let certain = windows.clone().find(|window| beyond(window, threshold));
    let Some(window) = certain.or_else(|| windows.clone().find(|window| beyond(window, lower)))
    else {
        return;
    };
    let summary = format!(
        "{} gets {:.2} times its fair share of service {}'s connections (last {} s)",
        window.most, window.index, service.name, window.seconds
    );
    let finding = Finding::of_service(Kind::Imbalance, service.name, certain.is_some(), summary);
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
/// (Poisson).
fn is_chance(window: &WindowFacts<'_>, bound: f64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "connections are far below 2^52")]
    let fair = window.fair * window.connections as f64;
    at_least(fair * window.index, fair * bound) >= CERTAIN
}
