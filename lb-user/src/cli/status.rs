//! `evenkeel status`: one screen, what is wrong first.
//!
//! The verdict, alerts, notices, who is taken out; then the services, the worst first. Where they have no room
//! with all their backends, those that are well are a line each.

use std::{fmt::Write as _, io::IsTerminal as _};

use anyhow::Result;
use comfy_table::Cell;
use ratatui::crossterm::terminal;

use super::{
    Output, output,
    read::{backend_table, headline},
};
use crate::{
    api::{
        Client,
        model::{Alert, BackendStatus, Removed, ServiceStatus, Status},
    },
    overview::{self, Mood},
};

/// Lines of a screen, where there is no terminal to ask.
const USUAL: usize = 24;
/// Backends of a service that is not well, up to which all of them are shown.
const FEW: usize = 4;

/// Shows how everything is.
pub async fn show(client: &Client, format: Output) -> Result<()> {
    let status: Status = client.get("/v1/status").await?;
    if format == Output::Json {
        return output::json(&status);
    }
    let on_terminal = std::io::stdout().is_terminal();
    let size = if on_terminal { terminal::size().ok() } else { None };
    // The prompt comes after it.
    let room = size.map_or(USUAL, |(_, height)| usize::from(height).saturating_sub(1));
    output::print(&screen(&status, format, room))
}

/// The text, in so many lines if that can be.
fn screen(status: &Status, format: Output, room: usize) -> String {
    let mut text = head(status, format);
    let mut services: Vec<_> = status.services.iter().collect();
    services.sort_by_key(|service| rank(service));
    let whole: String = services.iter().map(|service| full(service, format)).collect();
    let used = text.lines().count() + removed(status).lines().count();
    if services.is_empty() {
        text.push_str("\nno service yet; add one with `evenkeel service add NAME ADDRESS:PORT`\n");
    } else if format == Output::Wide || used + whole.lines().count() <= room {
        text.push_str(&whole);
    } else {
        let (well, troubled): (Vec<_>, Vec<_>) =
            services.into_iter().partition(|service| overview::of_service(service) <= Mood::Aside);
        text.extend(troubled.iter().map(|service| what_is_wrong(service, format)));
        text.push_str(&compact(&well));
    }
    text.push_str(&removed(status));
    text
}

/// Everything that comes before the services.
fn head(status: &Status, format: Output) -> String {
    let daemon = &status.daemon;
    let (mood, verdict) = overview::verdict(status);
    let interfaces = daemon.interfaces.iter();
    let interfaces: Vec<_> = interfaces.map(|i| format!("{} ({})", i.name, i.mode)).collect();
    let mut lines = vec![output::painted(&verdict, mood)];
    lines.push(format!(
        "evenkeel {}, up {}, on {}",
        daemon.version,
        output::span(daemon.uptime_seconds),
        interfaces.join(", ")
    ));
    let told = status.announcements.iter().filter(|told| told.announced && told.wanted);
    let told: Vec<_> =
        told.map(|told| format!("{} ({})", told.address, told.services.join(", "))).collect();
    if !told.is_empty() {
        lines.push(format!("announced: {}", told.join(", ")));
    }
    if format == Output::Wide {
        lines.push(format!(
            "configuration {}; data path layout {}; {} of {} connection entries in use",
            daemon.config,
            daemon.layout,
            output::count(daemon.connection_entries),
            output::count(u64::from(daemon.connection_capacity) * 2)
        ));
    }
    let mut wrong = alerts(status);
    wrong.extend(overview::notices(daemon).iter().map(|notice| format!("! {notice}")));
    if let Some(repair) = &daemon.last_repair {
        wrong.push(format!(
            "somebody else changed the kernel's tables ({} times, last {}); mended: {}",
            output::count(daemon.table_repairs),
            repair.at,
            repair.what
        ));
    }
    wrong.extend(overview::of_node(status));
    wrong.extend(taken_out(status));
    if !wrong.is_empty() {
        lines.push(String::new());
        lines.extend(wrong);
    }
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// A line for each alert: how bad, since when, what, and the page that says what to do.
fn alerts(status: &Status) -> Vec<String> {
    let line = |alert: &Alert| {
        let mood = overview::of_severity(alert.severity);
        let severity = output::painted(&format!("{:<8}", alert.severity), mood);
        let since = output::span(alert.since_seconds);
        format!("{severity} for {since:<7} {}  {}", alert.summary, alert.page)
    };
    status.alerts.iter().map(line).collect()
}

/// A line for each backend that people took out: nobody shall forget one.
fn taken_out(status: &Status) -> Vec<String> {
    let backends = status
        .services
        .iter()
        .flat_map(|service| service.backends.iter().map(move |backend| (&service.name, backend)));
    let line = |(service, backend): (&String, &BackendStatus)| {
        let exception = backend.exception.as_ref()?;
        let left = match (&exception.until, exception.seconds_left) {
            (Some(until), Some(left)) => format!("{} left, until {until}", output::span(left)),
            _ => "until somebody resumes it".to_owned(),
        };
        Some(format!(
            "{service}/{} is out ({}) for {}, {left}; by {}: {}",
            backend.name,
            backend.admin,
            output::span(exception.seconds),
            exception.by,
            exception.reason
        ))
    };
    backends.filter_map(line).collect()
}

/// The place of a service: nobody active, fewer than there shall be, somebody down, the rest.
fn rank(service: &ServiceStatus) -> u8 {
    let active = overview::active(service);
    let worst = service.backends.iter().map(overview::of_backend).max();
    match worst {
        _ if active == 0 => 0,
        _ if active < service.min_active as usize => 1,
        Some(Mood::Bad) => 2,
        Some(Mood::Uneasy) => 3,
        Some(Mood::Aside) => 4,
        _ => 5,
    }
}

/// A service with all its backends.
fn full(service: &ServiceStatus, format: Output) -> String {
    let table = backend_table(std::slice::from_ref(service), format, false);
    format!("\n{}\n{}{}", headline(service), imbalance(service), indent(&table))
}

/// A service with the backends that one has to know of.
fn what_is_wrong(service: &ServiceStatus, format: Output) -> String {
    if service.backends.len() <= FEW {
        return full(service, format);
    }
    let mut shown = service.clone();
    shown.backends.retain(|backend| overview::of_backend(backend) > Mood::Well);
    let rest = service.backends.len() - shown.backends.len();
    let table = backend_table(std::slice::from_ref(&shown), format, false);
    let mut text = format!("\n{}\n{}{}", headline(service), imbalance(service), indent(&table));
    if rest > 0 {
        let _ =
            writeln!(text, "  and {rest} that are well: `evenkeel service show {}`", service.name);
    }
    text
}

/// How far shares stray, where connections came.
fn imbalance(service: &ServiceStatus) -> String {
    let told = service.windows.iter().filter_map(|window| {
        let span = output::span(window.seconds);
        Some(format!("{:.2} in {span} ({})", window.index?, output::count(window.connections)))
    });
    let told: Vec<_> = told.collect();
    if told.is_empty() {
        return String::new();
    }
    format!("  largest share over fair (connections): {}\n", told.join(", "))
}

/// Services a line each.
fn compact(services: &[&ServiceStatus]) -> String {
    if services.is_empty() {
        return String::new();
    }
    let mut table = output::table(&["SERVICE", "ADDRESS", ">ACTIVE", ">OPEN", ">OVER FAIR", "OUT"]);
    for service in services {
        let minute = service.windows.iter().find(|window| window.seconds == 60);
        let index = minute.and_then(|window| window.index);
        let out = service.backends.iter().filter(|backend| backend.exception.is_some());
        let out: Vec<_> = out.map(|backend| backend.name.as_str()).collect();
        table.add_row([
            Cell::new(&service.name),
            Cell::new(format!("{}/{}", service.address, service.protocol)),
            Cell::new(format!("{} of {}", overview::active(service), service.backends.len())),
            Cell::new(output::count(service.backends.iter().map(|backend| backend.open).sum())),
            Cell::new(index.map_or_else(|| "-".to_owned(), |index| format!("{index:.2}"))),
            Cell::new(out.join(", ")),
        ]);
    }
    format!("\n{}", output::rendered(&table))
}

/// Backends that are no longer configured and still have connections.
fn removed(status: &Status) -> String {
    let line = |removed: &Removed| {
        format!(
            "\n{}/{} ({}) is removed; {} connections finish\n",
            removed.service,
            removed.name,
            removed.address,
            output::count(removed.open)
        )
    };
    status.removed.iter().map(line).collect()
}

/// A table below its service.
pub fn indent(table: &str) -> String {
    if table.lines().count() < 2 {
        return "  no backend yet: every connection is dropped\n".to_owned();
    }
    table.lines().flat_map(|line| ["  ", line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn backend(name: &str, health: &str) -> Value {
        let up = health == "up";
        json!({
            "name": name, "address": "10.0.0.11:8080", "weight": 1, "tier": "primary",
            "admin": "ready", "state": if up { "active" } else { "out" }, "health": health,
            "active": up, "share": f64::from(u8::from(up)), "open": 3, "reason": "",
        })
    }

    fn service(name: &str, min_active: u32, backends: &[Value]) -> Value {
        json!({
            "name": name, "address": "192.0.2.10:80", "protocol": "tcp", "forwarding": "nat",
            "scheduler": "round-robin", "probe": "http every 2s", "min_active": min_active,
            "backends": backends,
        })
    }

    fn told(services: &[Value], alerts: &Value) -> Status {
        serde_json::from_value(json!({
            "daemon": { "version": "0.1.0", "uptime_seconds": 5,
                "interfaces": [{ "name": "eth0", "mode": "native" }] },
            "services": services, "alerts": alerts,
        }))
        .unwrap()
    }

    fn place(screen: &str, what: &str) -> usize {
        screen.find(what).unwrap_or_else(|| panic!("no {what:?} in\n{screen}"))
    }

    #[test]
    fn what_is_wrong_comes_first() {
        let mut drained = backend("spare", "up");
        drained["admin"] = json!("drain");
        drained["active"] = json!(false);
        drained["exception"] = json!({
            "reason": "kernel upgrade", "by": { "uid": 0, "user": "root" }, "seconds": 60,
            "since": "2026-11-27T06:00:00Z", "until": "2026-11-27T06:30:00Z", "seconds_left": 1740,
        });
        let services = [
            service("fine", 1, &[backend("a", "up")]),
            service("aside", 1, &[backend("b", "up"), drained]),
            service("one-down", 1, &[backend("c", "up"), backend("d", "down")]),
            service("too-few", 2, &[backend("e", "up"), backend("f", "down")]),
            service("all-down", 1, &[backend("g", "down")]),
        ];
        let alert = json!([{
            "id": "all-down/all-down", "kind": "all-down", "severity": "critical",
            "service": "all-down", "since_seconds": 90, "since": "2026-11-27T06:00:00Z", "evidence": {}, "summary": "all-down has no active backend",
            "page": "docs/playbook/all-down.html",
        }]);
        let screen = screen(&told(&services, &alert), Output::Table, 100);
        assert!(screen.starts_with("1 critical alert, "), "{screen}");
        let order = [
            "critical for 1m 30s  all-down has no active backend  docs/playbook/all-down.html",
            "aside/spare is out (drain) for 1m, 29m left, until 2026-11-27T06:30:00Z; by root (uid 0)",
            "\nall-down ",
            "\ntoo-few ",
            "\none-down ",
            "\naside ",
            "\nfine ",
        ];
        let places: Vec<_> = order.iter().map(|what| place(&screen, what)).collect();
        assert!(places.is_sorted(), "{screen}");
    }

    #[test]
    fn twenty_services_fit_a_screen_and_few_are_told_in_full() {
        let names: Vec<_> = (1..=20).map(|number| format!("service-{number:02}")).collect();
        let pair = |name: &String| service(name, 1, &[backend("a", "up"), backend("b", "up")]);
        let mut services: Vec<_> = names.iter().map(pair).collect();
        let screen_of =
            |services: &[Value], room| screen(&told(services, &json!([])), Output::Table, room);
        let well = screen_of(&services, 24);
        assert!(well.starts_with("all well: 20 services, 40 of 40 backends active\n"), "{well}");
        assert_eq!(well.lines().count(), 24, "{well}");
        assert!(screen_of(&services, 200).contains("10.0.0.11"), "a tall terminal shows all");

        let many: Vec<_> = (0..40).map(|number| backend(&format!("b{number}"), "up")).collect();
        services[10] = service("service-11", 1, &[&many[..], &[backend("bad", "down")]].concat());
        let troubled = screen_of(&services, 30);
        assert!(troubled.lines().count() <= 30, "{troubled}");
        assert!(place(&troubled, "bad ") < place(&troubled, "service-01"), "{troubled}");
        place(&troubled, "and 40 that are well: `evenkeel service show service-11`");
        for line in troubled.lines() {
            assert!(line.len() <= 90, "{line}");
        }

        let two = screen_of(&services[..2], 24);
        assert!(two.lines().count() <= 24 && two.contains("10.0.0.11"), "{two}");
    }
}
