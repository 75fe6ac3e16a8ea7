//! The program: run once for each alert that rises or clears, with as little as a probe's.

use std::sync::Arc;

use tokio::time::timeout;

use super::{
    Failure,
    webhook::{Told, status},
};
use crate::{
    api::model::Alert,
    config::alerts::Program,
    health::{Task, execute},
};

/// Runs it for every alert in turn. What it was told before a failure it is told again.
pub(super) async fn deliver(program: &Program, alerts: &[Arc<Alert>]) -> Result<(), Failure> {
    for alert in alerts {
        if program.send_resolved || alert.cleared.is_none() {
            tell(program, alert).await?;
        }
    }
    Ok(())
}

async fn tell(program: &Program, alert: &Alert) -> Result<(), Failure> {
    let input = serde_json::to_vec(&Told::from(alert));
    let input = input.map_err(|error| Failure::Never(error.to_string()))?;
    let environment = vec![
        ("EVENKEEL_ALERT", alert.id.clone()),
        ("EVENKEEL_KIND", alert.kind.clone()),
        ("EVENKEEL_SEVERITY", alert.severity.to_string()),
        ("EVENKEEL_STATUS", status(alert).to_owned()),
        ("EVENKEEL_SERVICE", alert.service.clone().unwrap_or_default()),
        ("EVENKEEL_BACKEND", alert.backend.clone().unwrap_or_default()),
    ];
    let task = Task {
        command: program.exec.command.clone(),
        user: program.exec.user.clone(),
        environment,
        input: Some(input),
    };
    let span = humantime::format_duration(program.timeout);
    // Dropped at the timeout, it is killed with all that it started.
    match timeout(program.timeout, execute(task)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failure)) => Err(Failure::Later(failure.to_string())),
        Err(_) => Err(Failure::Later(format!("it did not end within {span}, and was killed"))),
    }
}
