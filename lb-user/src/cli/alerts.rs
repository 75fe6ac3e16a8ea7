//! `evenkeel alerts`: what is wrong, the most severe first, and what was until lately.

use std::fmt::Write as _;

use anyhow::Result;
use comfy_table::{Cell, Color};

use super::{Output, output};
use crate::{
    alerts::Severity,
    api::{
        Client,
        model::{Alert, Alerts, Delivery},
    },
};

/// Prints the alerts.
pub async fn show(client: &Client, format: Output) -> Result<()> {
    let told: Alerts = client.get("/v1/alerts").await?;
    if format == Output::Json {
        return output::json(&told);
    }
    let mut text = String::new();
    if told.alerts.is_empty() {
        text.push_str("no alert\n");
    } else if format == Output::Wide {
        text.push_str(&table(&told.alerts));
    } else {
        let told: Vec<_> = told.alerts.iter().map(paragraph).collect();
        text.push_str(&told.join("\n"));
    }
    if format == Output::Wide {
        if !told.cleared.is_empty() {
            text.push_str("\ncleared within the last hour:\n");
            text.push_str(&table(&told.cleared));
        }
        for delivery in &told.deliveries {
            writeln!(text, "\n{}", delivered(delivery))?;
        }
    } else {
        if !told.cleared.is_empty() {
            let count = output::counted(told.cleared.len(), "alert");
            writeln!(text, "\n{count} cleared within the last hour; -o wide shows them")?;
        }
        for delivery in told.deliveries.iter().filter(|delivery| delivery.is_failing()) {
            writeln!(text, "\n{}", delivered(delivery))?;
        }
    }
    output::print(&text)
}

/// An alert in a few lines, which fit a terminal: a table of sentences would not.
fn paragraph(alert: &Alert) -> String {
    let mut head = output::table(&["SEVERITY", "ALERT", "SINCE"]);
    let lasts = output::span(alert.since_seconds);
    let since = format!("since {} ({lasts})", alert.since);
    head.add_row([severity(alert.severity), Cell::new(&alert.id), Cell::new(since)]);
    // Without the heads: each line says itself what it is.
    let head = output::rendered(&head);
    let head = head.split_once('\n').map_or("", |(_, row)| row);
    let (summary, page, evidence) = (&alert.summary, &alert.page, evidence(alert));
    format!("{head}  {summary}\n  {evidence}\n  {page}\n")
}

fn table(alerts: &[Alert]) -> String {
    let heads = ["SEVERITY", "ALERT", "SINCE", ">FOR", "SUMMARY", "EVIDENCE", "PAGE"];
    let mut table = output::table(&heads);
    for alert in alerts {
        table.add_row([
            severity(alert.severity),
            Cell::new(&alert.id),
            Cell::new(&alert.since),
            Cell::new(output::span(alert.since_seconds)),
            Cell::new(&alert.summary),
            Cell::new(evidence(alert)),
            Cell::new(&alert.page),
        ]);
    }
    output::rendered(&table)
}

fn evidence(alert: &Alert) -> String {
    let shown = alert.evidence.iter().map(|(name, value)| format!("{name}={value}"));
    shown.collect::<Vec<_>>().join(" ")
}

fn severity(severity: Severity) -> Cell {
    let cell = Cell::new(severity);
    if !output::coloured() {
        return cell;
    }
    cell.fg(match severity {
        Severity::Critical => Color::Red,
        Severity::Warning => Color::Yellow,
        Severity::Info => Color::Blue,
    })
}

fn delivered(delivery: &Delivery) -> String {
    let Delivery { target, delivered, failed, dropped, waiting, problem, .. } = delivery;
    let counts = format!(
        "{} delivered, {} attempts failed, {} dropped, {} wait",
        output::count(*delivered),
        output::count(*failed),
        output::count(*dropped),
        output::count(*waiting)
    );
    let problem = problem.as_ref().map_or_else(String::new, |problem| format!("; {problem}"));
    format!("to {target}: {counts}{problem}")
}
