//! A diff for people: services and backends with a sign before them, and the shares.

use std::fmt::Write as _;

use super::super::output;
use crate::plan::{
    Diff,
    diff::{BackendDiff, Fate, ServiceDiff, Setting, plain},
};

const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const PLAIN: &str = "\u{1b}[0m";

/// The diff, a line a thing; empty where nothing changes.
pub fn diff(diff: &Diff) -> String {
    let mut lines = Vec::new();
    for setting in &diff.settings {
        lines.push((Fate::Changed, format!("~ {}", change(setting))));
    }
    for service in &diff.services {
        self::service(service, &mut lines);
    }
    lines.into_iter().map(|(fate, line)| tinted(fate, &line)).collect()
}

/// A unified diff with its colours.
pub fn coloured(unified: &str) -> String {
    let fate = |line: &str| match line.chars().next() {
        Some('+') => Fate::Added,
        Some('-') => Fate::Removed,
        Some('@') => Fate::Changed,
        _ => Fate::Kept,
    };
    unified.lines().map(|line| tinted(fate(line), line)).collect()
}

fn service(service: &ServiceDiff, lines: &mut Vec<(Fate, String)>) {
    let value = |key: &str| {
        let setting = service.settings.iter().find(|setting| setting.key == key)?;
        let value = if service.fate == Fate::Removed { &setting.before } else { &setting.after };
        value.as_str().map(str::to_owned)
    };
    let mut head = format!("{} service {}", sign(service.fate), service.name);
    if matches!(service.fate, Fate::Added | Fate::Removed) {
        let of = |key| value(key).unwrap_or_default();
        let _ = write!(
            head,
            "  {}/{}  {}, {}, probe {}",
            of("address"),
            of("protocol"),
            of("scheduler"),
            of("forwarding"),
            of("health.kind")
        );
    }
    lines.push((service.fate, head));
    if service.fate == Fate::Changed {
        for setting in &service.settings {
            lines.push((Fate::Changed, format!("    {}", change(setting))));
        }
    }
    let width = service.backends.iter().map(|backend| backend.name.len()).max().unwrap_or(0);
    lines.extend(service.backends.iter().map(|found| (found.fate, backend(found, width))));
}

fn backend(backend: &BackendDiff, width: usize) -> String {
    let mut line = format!(
        "  {} {:width$}  {:>6} → {:>6}",
        sign(backend.fate),
        backend.name,
        output::percent(backend.share_before),
        output::percent(backend.share_after)
    );
    let address = backend.settings.iter().find(|setting| setting.key == "address");
    match backend.fate {
        Fate::Added | Fate::Removed => {
            let address = address.map(|setting| match backend.fate {
                Fate::Added => plain(&setting.after),
                _ => plain(&setting.before),
            });
            let _ = write!(line, "  {}", address.unwrap_or_default());
        }
        _ => {
            let changes: Vec<_> = backend.settings.iter().map(change).collect();
            if !changes.is_empty() {
                let _ = write!(line, "  {}", changes.join(", "));
            }
        }
    }
    line
}

fn sign(fate: Fate) -> char {
    match fate {
        Fate::Added => '+',
        Fate::Removed => '-',
        Fate::Changed => '~',
        Fate::Kept => ' ',
    }
}

fn change(setting: &Setting) -> String {
    format!("{}: {} → {}", setting.key, plain(&setting.before), plain(&setting.after))
}

fn tinted(fate: Fate, line: &str) -> String {
    let colour = match fate {
        Fate::Added => GREEN,
        Fate::Removed => RED,
        Fate::Changed => YELLOW,
        Fate::Kept => "",
    };
    if colour.is_empty() || !output::coloured() {
        format!("{line}\n")
    } else {
        format!("{colour}{line}{PLAIN}\n")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_diff_reads_at_a_glance() {
        let setting =
            |key: &str, before: Value, after: Value| Setting { key: key.to_owned(), before, after };
        let backend = |name: &str, fate, settings, share_before, share_after| BackendDiff {
            name: name.to_owned(),
            fate,
            settings,
            share_before,
            share_after,
        };
        let address = |before: Value, after: Value| vec![setting("address", before, after)];
        let found = Diff {
            settings: vec![setting("nat.source_ports", json!("1024-32767"), json!("1024-2000"))],
            services: vec![
                ServiceDiff {
                    name: "web".to_owned(),
                    fate: Fate::Changed,
                    settings: vec![setting("sticky", Value::Null, json!("10m"))],
                    backends: vec![
                        backend("web-01", Fate::Kept, Vec::new(), 0.5, 0.25),
                        backend(
                            "b",
                            Fate::Added,
                            address(Value::Null, json!("10.0.0.1:80")),
                            0.0,
                            0.75,
                        ),
                        backend(
                            "c",
                            Fate::Removed,
                            address(json!("10.0.0.2:80"), Value::Null),
                            0.5,
                            0.0,
                        ),
                    ],
                },
                ServiceDiff {
                    name: "dns".to_owned(),
                    fate: Fate::Removed,
                    settings: [
                        ("address", "192.0.2.1:53"),
                        ("protocol", "udp"),
                        ("scheduler", "maglev"),
                        ("forwarding", "nat"),
                        ("health.kind", "none"),
                    ]
                    .map(|(key, value)| setting(key, json!(value), Value::Null))
                    .into(),
                    backends: Vec::new(),
                },
            ],
        };
        let expected = "\
~ nat.source_ports: 1024-32767 → 1024-2000
~ service web
    sticky: not set → 10m
    web-01   50.0% →  25.0%
  + b         0.0% →  75.0%  10.0.0.1:80
  - c        50.0% →   0.0%  10.0.0.2:80
- service dns  192.0.2.1:53/udp  maglev, nat, probe none
";
        assert_eq!(diff(&found), expected);
    }
}
