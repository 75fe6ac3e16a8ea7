//! The reference of the configuration, in Markdown: made from the very tables that decode it, so that
//! it cannot leave a key out. What it says of defaults and of ranges is tried by the tests.

use std::fmt::Write as _;

use humantime::format_duration;

use super::decode::{Absent, Form, Key, ROOT, Shape, kinds_of};

const PREFACE: &str = "\
# Configuration reference

The daemon reads TOML from `/etc/evenkeel/evenkeel.toml` (`--config`). Unknown keys are errors that name the line and
the nearest known key. `evenkeel check` tells every error at once; [Changing the configuration](../configuration.md) says
how a change goes live.

**Units.** A duration is a number with its unit in quotes: `\"500ms\"`, `\"2s\"`, `\"10m\"`, `\"1h 30m\"`, `\"7d\"`. Sizes of tables count
entries, limits count connections, weights are relative to each other. A prefix is `\"192.0.2.0/24\"` or
`\"2001:db8::/32\"`, with no bit set after its length.

*required* has to be written where its table is. What has no default says in words what comes instead.
";

/// The page.
#[must_use]
pub fn reference() -> String {
    let mut page = PREFACE.to_owned();
    section(&mut page, &ROOT, "The whole file");
    page
}

/// A table of keys, and then those of the tables in it.
fn section(page: &mut String, shape: &Shape, title: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "\n## {title}\n");
    page.push_str("| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
    for key in shape.keys {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {}{} |",
            key.name,
            value(key.form),
            default(key.absent),
            kinds(shape, key),
            key.meaning,
        );
    }
    for key in shape.keys {
        if let Form::Table(shape) | Form::Tables(shape) = key.form {
            section(page, shape, &format!("`{}`", shape.header));
        }
    }
}

fn value(form: Form) -> String {
    match form {
        Form::Table(shape) => format!("table [`{}`](#{})", shape.header, anchor(shape.header)),
        Form::Tables(shape) => format!("tables [`{}`](#{})", shape.header, anchor(shape.header)),
        Form::Choice(names) => {
            let names: Vec<_> = names().iter().map(|name| format!("`\"{name}\"`")).collect();
            names.join(", ")
        }
        Form::Boolean => "`true` or `false`".to_owned(),
        Form::Integer(least, most) => format!("integer, {least} to {most}"),
        Form::Decimal(least, most) => format!("number, {least} to {most}"),
        Form::Duration(least, most) => {
            format!("duration, {} to {}", format_duration(least), format_duration(most))
        }
        Form::Words(words) => words.to_owned(),
    }
}

fn default(absent: Absent) -> String {
    match absent {
        Absent::Refused => "*required*".to_owned(),
        Absent::Is(value) => format!("`{value}`"),
        Absent::Means(words) => words.to_owned(),
    }
}

/// Which kinds of probe a key of `[service.health]` belongs to, where it is not all.
fn kinds(shape: &Shape, key: &Key) -> String {
    let kinds = if shape.header == "[service.health]" { kinds_of(key.name) } else { Vec::new() };
    if kinds.is_empty() {
        return String::new();
    }
    let kinds: Vec<_> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
    format!("{}: ", kinds.join(", "))
}

/// The anchor of a heading, as mdBook and GitHub make it.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    heading.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}
