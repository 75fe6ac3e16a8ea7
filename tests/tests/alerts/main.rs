//! Alerts rise by their real causes and clear with them, and reach whoever shall know.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

mod causes;
mod deliveries;
mod hook;
mod host;
mod loads;
mod restart;

use std::time::Duration;

use evenkeel_tests::{evenkeel::Balancer, stage::Stage, topology::Wiring, wait::eventually};
use serde_json::Value;

/// Alerts that need not last to rise, and clear at once. What is recent is so for seconds.
const FAST: &str = "\n[alerts]\nplaybook = \"https://wiki.example/lb\"\nraise_after = \"0s\"\n\
                    clear_after = \"0s\"\nrecent = \"5s\"\nflaps = 2\n";
/// What alerts wait for takes a while on a busy machine.
const LONG: Duration = Duration::from_mins(1);

fn alerts(balancer: &Balancer) -> anyhow::Result<Vec<Value>> {
    let told = balancer.json(&["alerts"])?;
    Ok(told["alerts"].as_array().cloned().unwrap_or_default())
}

/// Waits until the alert is raised, and answers with it.
fn raised(balancer: &Balancer, id: &str) -> Value {
    eventually(&format!("{id} is raised"), LONG, || {
        let alerts = alerts(balancer)?;
        let found = alerts.iter().find(|alert| alert["id"] == id).cloned();
        found.ok_or_else(|| anyhow::anyhow!("the alerts are {alerts:?}"))
    })
    .unwrap()
}

/// Waits until the alert is not raised any more.
fn cleared(balancer: &Balancer, id: &str) {
    eventually(&format!("{id} is cleared"), LONG, || {
        let alerts = alerts(balancer)?;
        let found = alerts.iter().find(|alert| alert["id"] == id);
        anyhow::ensure!(found.is_none(), "it is {found:?}");
        let told = balancer.json(&["alerts"])?;
        let cleared = told["cleared"].as_array().into_iter().flatten();
        let all: Vec<_> = cleared.map(|alert| alert["id"].clone()).collect();
        anyhow::ensure!(all.iter().any(|cleared| cleared == id), "cleared are {all:?}");
        Ok(())
    })
    .unwrap();
}

/// Two backends with nginx, and a configuration as text.
fn stage(text: impl FnOnce(&evenkeel_tests::topology::Lab) -> String) -> Stage {
    let lab = evenkeel_tests::topology::Lab::new(Wiring::Switched, 2).unwrap();
    let text = text(&lab);
    Stage::on_text(lab, &text).unwrap()
}
