//! Commands about the configuration as a whole: plan, apply, confirm, reload, history, rollback.

mod show;

use std::{
    fs,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use clap::Subcommand;
use comfy_table::Cell;
use hyper::Method;
use serde_json::json;
use similar::TextDiff;

use super::{Format, Output, Usage, output, store};
use crate::{
    api::{
        Client,
        configuration::{Applied, Apply, Candidate, HistoryEntry, HistoryList, Plan, Rollback},
        model::Changed,
    },
    config::{Backend, Config, Service},
    plan::{Diff, diff::Side},
};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what a configuration file would change, with the shares, changing nothing
    ///
    /// The running daemon compares the file with what is at work. Shares are by who is active now, and
    /// count new backends as up.
    Plan {
        /// File to look at instead of --config's
        file: Option<PathBuf>,
        /// Ask no daemon: compare with --config's file, as if every backend were up
        #[arg(long, requires = "file")]
        offline: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Make a file's text the configuration: the data path and --config's file, all or nothing
    Apply {
        /// File with the new configuration
        file: PathBuf,
        /// Roll back unless `evenkeel confirm` comes within this time, like `60s`
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        confirm: Option<Duration>,
        /// Even if fewer active backends of a service than its `min_active` stay
        #[arg(long)]
        force: bool,
        /// Without trying it on the real program first, as `evenkeel verify --quick` does
        #[arg(long)]
        no_verify: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Keep the change that waits for its confirmation
    Confirm,
    /// Take up the configuration file as it is now, like SIGHUP
    Reload {
        /// Even if fewer active backends of a service than its `min_active` stay
        #[arg(long)]
        force: bool,
        /// Without trying it on the real program first, as `evenkeel verify --quick` does
        #[arg(long)]
        no_verify: bool,
        #[command(flatten)]
        format: Format,
    },
    /// List the configurations that were at work, or show one
    #[command(args_conflicts_with_subcommands = true)]
    History {
        #[command(subcommand)]
        command: Option<HistoryCommand>,
        #[command(flatten)]
        format: Format,
    },
    /// Go back to an earlier configuration
    ///
    /// Without a number: to the one before the last change, so that a second `rollback` undoes the
    /// first. A change that waits for its confirmation is taken back at once.
    Rollback {
        /// Number in `evenkeel history`
        number: Option<u64>,
        /// Come back again unless `evenkeel confirm` comes within this time, like `60s`
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        confirm: Option<Duration>,
        /// Even if fewer active backends of a service than its `min_active` stay
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Debug, Subcommand)]
pub enum HistoryCommand {
    /// Show what a change did to the text, or the text itself
    Show {
        /// Number in the list
        number: u64,
        /// Print the whole text, byte for byte
        #[arg(long)]
        text: bool,
        #[command(flatten)]
        format: Format,
    },
}

/// Does what a command says; `config` is the configuration file.
pub async fn run(client: &Client, command: Command, config: &Path) -> Result<()> {
    match command {
        Command::Plan { file, offline, format } => {
            let file = file.as_deref().unwrap_or(config);
            let plan = if offline {
                offline_plan(file, config)?
            } else {
                let candidate = Candidate { text: read(file)?, file: file.to_owned() };
                client.send(Method::POST, "/v1/configuration/plan", Some(&candidate)).await?
            };
            print_plan(&plan, file, format.output)
        }
        Command::Apply { file, confirm, force, no_verify, format } => {
            let confirm_seconds = seconds(confirm)?;
            let text = read(&file)?;
            if !no_verify && std::io::stderr().is_terminal() {
                eprintln!("verifying {} on the real program …", file.display());
            }
            let apply = Apply { text, file, confirm_seconds, force, unverified: no_verify };
            let applied = client.send(Method::POST, "/v1/configuration", Some(&apply)).await?;
            print_applied(&applied, format.output)
        }
        Command::Confirm => {
            let path = "/v1/configuration/confirm";
            let changed: Changed = client.send(Method::POST, path, None::<&()>).await?;
            output::print(&format!("{}\n", changed.message))
        }
        Command::Reload { force, no_verify, format } => {
            let wish = format!("force={force}&unverified={no_verify}");
            let path = format!("/v1/configuration/reload?{wish}");
            let applied = client.send(Method::POST, &path, None::<&()>).await?;
            print_applied(&applied, format.output)
        }
        Command::History { command: None, format } => history(client, format.output).await,
        Command::History {
            command: Some(HistoryCommand::Show { number, text, format }), ..
        } => show_entry(client, number, text, format.output).await,
        Command::Rollback { number, confirm, force, format } => {
            let wish = Rollback { to: number, confirm_seconds: seconds(confirm)?, force };
            let path = "/v1/configuration/rollback";
            let applied = client.send(Method::POST, path, Some(&wish)).await?;
            print_applied(&applied, format.output)
        }
    }
}

fn read(file: &Path) -> Result<String> {
    let bytes = fs::read(file).map_err(|found| {
        Usage(format!("cannot read {}: {found}; name a configuration file", file.display()))
    })?;
    String::from_utf8(bytes).map_err(|_| {
        Usage(format!("{} is not UTF-8 text; save it as UTF-8", file.display())).into()
    })
}

/// Whole seconds, so that what is printed is what is meant.
fn seconds(time: Option<Duration>) -> Result<Option<u64>> {
    match time {
        Some(time) if time < Duration::from_secs(1) => {
            Err(Usage("--confirm needs a second at least, like 60s".to_owned()).into())
        }
        time => Ok(time.map(|time| time.as_secs())),
    }
}

/// What a file would change in another one.
fn offline_plan(file: &Path, config: &Path) -> Result<Plan> {
    let old = Config::load(config)?;
    let new = Config::parse_for(&read(file)?, file, config)?;
    let active = |_: &Service, _: &Backend| true;
    let side = |config| Side { config, active: &active };
    let warnings = new.warnings.iter().map(|found| format!("{}; {}", found.message, found.remedy));
    let diff = Diff::between(side(&old.config), side(&new.config));
    let refused = diff
        .needs_restart()
        .map(|setting| format!("{} changes, which a running daemon does not take up", setting.key));
    Ok(Plan {
        against: config.display().to_string(),
        refused: refused.collect(),
        warnings: warnings.collect(),
        diff,
    })
}

fn print_plan(plan: &Plan, file: &Path, format: Output) -> Result<()> {
    if format == Output::Json {
        return output::json(plan);
    }
    let against = if plan.against == "running" { "what is at work" } else { &plan.against };
    let text = if plan.diff.is_empty() {
        format!("{} changes nothing of {against}\n", file.display())
    } else {
        format!("{}{}\n", show::diff(&plan.diff), plan.diff.summary())
    };
    output::print(&text)?;
    warn(&plan.warnings);
    for refused in &plan.refused {
        eprintln!("`evenkeel apply` would refuse: {refused}");
    }
    Ok(())
}

fn print_applied(applied: &Applied, format: Output) -> Result<()> {
    if format == Output::Json {
        return output::json(applied);
    }
    output::print(&format!("{}{}\n", show::diff(&applied.diff), applied.message))?;
    warn(&applied.warnings);
    store::spread(applied.fleet.as_ref())?;
    if let Some(confirmation) = &applied.confirmation {
        output::print(&format!(
            "keep it with `evenkeel confirm` until {} ({}), or it is rolled back\n",
            confirmation.until,
            output::span(confirmation.seconds_left)
        ))?;
    }
    Ok(())
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}

async fn history(client: &Client, format: Output) -> Result<()> {
    let list: HistoryList = client.get("/v1/history").await?;
    if format == Output::Json {
        return output::json(&list);
    }
    let mut table = output::table(&[">NUMBER", "SINCE", "WHO", "WHAT"]);
    for entry in list.entries.iter().rev() {
        table.add_row([
            Cell::new(entry.number),
            Cell::new(&entry.time),
            Cell::new(&entry.who),
            Cell::new(&entry.what),
        ]);
    }
    output::print(&output::rendered(&table))
}

async fn show_entry(client: &Client, number: u64, text: bool, format: Output) -> Result<()> {
    let found: HistoryEntry = client.get(&format!("/v1/history/{number}")).await?;
    if format == Output::Json {
        return output::json(&json!(found));
    }
    if text {
        return output::print(&found.text);
    }
    let head =
        format!("{}, since {}, by {}\n", found.entry.what, found.entry.time, found.entry.who);
    let (Some(before), Some(previous)) = (found.previous_number, &found.previous_text) else {
        return output::print(&format!("{head}the oldest that is kept:\n{}", found.text));
    };
    let names = [before.to_string(), number.to_string()];
    let diff = TextDiff::from_lines(previous, &found.text);
    let unified = diff.unified_diff().header(&names[0], &names[1]).to_string();
    let body = if unified.is_empty() { "the text is the same\n" } else { &unified };
    output::print(&format!("{head}{}", show::coloured(body)))
}
