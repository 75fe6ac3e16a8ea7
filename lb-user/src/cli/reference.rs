//! The reference pages of the documentation, in Markdown, made from what the program works with: the
//! arguments, the tables that decode the configuration, the catalogues of metrics and of alerts. `evenkeel reference DIR` writes them; a test
//! fails while those in `docs/reference/` are others.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{Arg, ArgAction, Command, CommandFactory as _};
use humantime::format_duration;

use super::Cli;
use crate::{
    alerts::{Scope, catalogue},
    config,
    http::metrics::{Kind, METRICS, Metric},
};

const PREFACE: &str = "\
# Command line reference

`evenkeel COMMAND --help` and `man evenkeel-COMMAND` say the same. Readers take `-o table|wide|json`; JSON goes to standard
output alone, and its fields are only ever added to. Errors go to standard error. Colours are for terminals; `NO_COLOR`
turns them off.

| exit code | means |
| --- | --- |
| 0 | done |
| 1 | failed |
| 2 | the usage or the configuration is wrong |
| 3 | no daemon answers |
| 4 | verification failed: imbalance, or survivors that could not carry the load |
";

const ALERTS: &str = "\
# Alerts reference

Built in, and judged by the daemon once a second. An alert rises when its condition has held for the time in *after*, and
clears when it has been over for that in *clears after*; both can be set for each kind in `[alerts]`. `evenkeel alerts`
lists what is raised, the most severe first, with the numbers that it rests on.

| severity | means |
| --- | --- |
| critical | clients suffer, or will with the next failure: somebody has to act now |
| warning | somebody has to look today |
| info | worth knowing |
";
const METRICS_PREFACE: &str = "\
# Metrics reference

`GET /metrics` on the listener of `[http]`, in Prometheus' text format, or OpenMetrics where that is asked for. Counters are
since the data path was made, or the backend was added: they survive restarts and upgrades of the daemon. Times are in
seconds, shares from 0 to 1, bytes are those of IP packets. `direction` is `in` towards the backend and `out`
towards the client; a `window` is `10s`, `1m` or `10m`.
";

/// Where the pages go.
#[derive(clap::Args, Debug)]
pub struct ReferenceArgs {
    /// Directory to write them to
    directory: PathBuf,
}

/// Every page, with the name of its file.
fn pages() -> Vec<(&'static str, String)> {
    vec![
        ("alerts.md", alerts()),
        ("cli.md", command_line()),
        ("configuration.md", config::reference()),
        ("metrics.md", metrics()),
    ]
}

/// Writes every page into a directory.
pub fn write(args: &ReferenceArgs) -> Result<()> {
    fs::create_dir_all(&args.directory)?;
    for (name, page) in pages() {
        let path: &Path = &args.directory.join(name);
        fs::write(path, page).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn alerts() -> String {
    let mut page = ALERTS.to_owned();
    page.push_str(
        "\n| alert | severity | rises when | after | clears after | keys of `[alerts]` |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for entry in catalogue() {
        let keys: Vec<_> = entry.keys.iter().map(|key| format!("`{key}`")).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| [`{0}`](#{0}) | {1} | {2} | {3} | {4} | {5} |",
            entry.kind,
            entry.severity,
            entry.threshold,
            format_duration(entry.raise_after),
            format_duration(entry.clear_after),
            keys.join(", "),
        );
    }
    for entry in catalogue() {
        let id = match entry.scope {
            Scope::Node => "",
            Scope::Service => "/SERVICE",
            Scope::Backend => "/SERVICE/BACKEND",
        };
        let _ = writeln!(
            page,
            "\n## `{0}`\n\n{1} Its id is `{0}{id}`. [What to do](../playbook/{0}.md).",
            entry.kind, entry.meaning,
        );
    }
    page
}

fn metrics() -> String {
    let mut page = METRICS_PREFACE.to_owned();
    page.push_str("\n| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n");
    for metric in METRICS {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            metric.exported(),
            kind(metric),
            labels.join(", "),
            metric.help.replace('|', "\\|"),
        );
    }
    page
}

fn kind(metric: &Metric) -> &'static str {
    match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
        Kind::Info => "info",
    }
}

fn command_line() -> String {
    let mut root = Cli::command();
    root.build();
    let mut page = PREFACE.to_owned();
    page.push_str("\n| command | does |\n| --- | --- |\n");
    index(&mut page, &root);
    // Writing to a String cannot fail.
    let _ = writeln!(page, "\n## Options of every command\n");
    arguments(&mut page, root.get_arguments().filter(|arg| arg.is_global_set()));
    commands(&mut page, &root);
    page
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

fn name(command: &Command) -> String {
    command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned()
}

/// Whether it is more than the head of its subcommands.
fn does_something(command: &Command) -> bool {
    !command.has_subcommands() || !command.is_subcommand_required_set()
}

/// A line for each command that does something itself.
fn index(page: &mut String, command: &Command) {
    for command in visible(command) {
        if !does_something(command) {
            index(page, command);
            continue;
        }
        let (name, about) = (name(command), command.get_about().map(ToString::to_string));
        let _ = writeln!(
            page,
            "| [`{name}`](#{}) | {} |",
            name.replace(' ', "-"),
            about.unwrap_or_default()
        );
        index(page, command);
    }
}

fn commands(page: &mut String, command: &Command) {
    for command in visible(command) {
        if !does_something(command) {
            commands(page, command);
            continue;
        }
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage:").trim();
        let about = command.get_long_about().or_else(|| command.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(page, "\n## `{}`\n\n{about}\n\n```text\n{usage}\n```\n", name(command));
        arguments(page, command.get_arguments().filter(|arg| !arg.is_global_set()));
        commands(page, command);
    }
}

fn arguments<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let shown = |arg: &&Arg| {
        let action = arg.get_action();
        !arg.is_hide_set()
            && !matches!(action, ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong)
            && !matches!(action, ArgAction::Version)
    };
    let mut rows = arguments.filter(shown).peekable();
    if rows.peek().is_none() {
        return;
    }
    page.push_str("| argument | default | meaning |\n| --- | --- | --- |\n");
    for arg in rows {
        let values: Vec<_> = arg.get_default_values().iter().map(|v| v.to_string_lossy()).collect();
        let default = if arg.is_required_set() {
            "*required*".to_owned()
        } else if values.is_empty() || !arg.get_action().takes_values() {
            String::new()
        } else {
            format!("`{}`", values.join(" "))
        };
        let _ = writeln!(page, "| `{}` | {default} | {} |", written(arg), meaning(arg));
    }
}

/// An argument as it is written: `--for <TIME>`, `[SERVICE/]BACKEND`.
fn written(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default();
    let value = if arg.get_action().takes_values() { values.join(" ") } else { String::new() };
    let names = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, None) => return value,
    };
    if value.is_empty() { names } else { format!("{names} {value}") }
}

fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help());
    let mut text = help.map(ToString::to_string).unwrap_or_default().replace('\n', " ");
    let choices: Vec<_> = arg
        .get_possible_values()
        .iter()
        .filter(|value| arg.get_action().takes_values() && !value.is_hide_set())
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({help})", value.get_name()),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if !choices.is_empty() {
        let _ = write!(text, ": {}", choices.join(", "));
    }
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the pages stand in the tree.
    fn directory() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference")
    }

    #[test]
    fn the_reference_in_the_documentation_is_this_programs() {
        for (name, page) in pages() {
            let path = directory().join(name);
            let kept = fs::read_to_string(&path).unwrap_or_default();
            let differs = kept.lines().zip(page.lines()).find(|(kept, page)| kept != page);
            assert!(
                kept == page,
                "{} is stale: write it anew with `cargo xtask docs`; the first line that differs: \
                 {differs:#?}",
                path.display()
            );
        }
    }

    #[test]
    fn every_command_and_argument_is_on_the_page() {
        let page = command_line();
        for says in [
            "## `evenkeel backend drain`",
            "| `--for TIME` | *required* |",
            "| `-o, --output OUTPUT` | `table` |",
            "| `--config FILE` | `/etc/evenkeel/evenkeel.toml` |",
            "[`evenkeel verify`](#evenkeel-verify)",
            "## `evenkeel history`",
        ] {
            assert!(page.contains(says), "no {says:?} in {page}");
        }
        assert!(!page.contains("evenkeel reference"), "what is hidden stays hidden");
    }
}
