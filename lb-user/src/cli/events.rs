//! `evenkeel events`: what changed, once or as it happens.

use std::{
    fmt::Write as _,
    future::pending,
    io,
    os::fd::AsFd as _,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};

use super::{Usage, output};
use crate::{
    api::{
        Client, ClientError, Problem,
        events::{Asked, Missed},
        stream::Message,
    },
    events::{Event, KEPT, Kind, Level, Page},
};

/// How often a daemon that went away is looked for.
const AGAIN: Duration = Duration::from_millis(200);

#[derive(Args, Debug)]
pub struct EventsArgs {
    /// Go on as things happen, also over a restart of the daemon, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// From then on: a time ago, like 10m or 2h, or RFC 3339, like 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,
    /// Only about this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only about a backend; or SERVICE/BACKEND
    #[arg(long, value_name = "[SERVICE/]NAME")]
    backend: Option<String>,
    /// Only of this kind, like health, admin or configuration
    #[arg(long, value_name = "KIND")]
    kind: Option<Kind>,
    /// The last so many, 0 to 4096 [default: 50; with --since all that the daemon has in memory]
    #[arg(short = 'n', long, value_name = "COUNT")]
    number: Option<usize>,
    /// How to print; with --follow JSON is one document a line
    #[arg(short, long, value_enum, default_value_t)]
    output: Printed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Printed {
    /// A line each
    #[default]
    Table,
    /// JSON
    Json,
}

/// A point in time, as people write it.
fn since(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH));
    }
    humantime::parse_rfc3339(text)
        .map_err(|_| format!("{text:?} is no time; write one like 10m, or 2026-01-31T12:00:00Z"))
}

impl EventsArgs {
    /// What is asked of the daemon.
    fn asked(&self) -> Result<Asked> {
        let usual = if self.since.is_some() { KEPT } else { 50 };
        let limit = self.number.unwrap_or(usual);
        if limit > KEPT {
            return Err(Usage(format!("-n takes 0 to {KEPT}")).into());
        }
        let (mut service, mut backend) = (self.service.clone(), self.backend.clone());
        if let Some(name) = &self.backend {
            let (of, name) = super::lifecycle::split(name)?;
            if service.is_some() && of.is_some() && of != service {
                return Err(Usage("--service and --backend name two services".to_owned()).into());
            }
            (service, backend) = (of.or(service), Some(name));
        }
        Ok(Asked {
            after: None,
            limit: Some(limit),
            service,
            backend,
            kind: self.kind.map(|kind| kind.to_string()),
            since: self.since.map(|since| humantime::format_rfc3339_millis(since).to_string()),
        })
    }
}

/// A path with what is asked.
fn path(base: &str, asked: &Asked) -> Result<String> {
    let value = serde_json::to_value(asked)?;
    let mut text = base.to_owned();
    for (index, (name, value)) in value.as_object().into_iter().flatten().enumerate() {
        let value = value.as_str().map_or_else(|| value.to_string(), escaped);
        write!(text, "{}{name}={value}", if index == 0 { '?' } else { '&' })?;
    }
    Ok(text)
}

/// Text as a query has it (RFC 3986).
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// Shows the events as asked.
pub async fn show(client: &Client, args: &EventsArgs) -> Result<()> {
    let asked = args.asked()?;
    // With none of the last ones asked for, still where to go on.
    let (none, least) = (asked.limit == Some(0), asked.limit.map(|limit| limit.max(1)));
    let first = Asked { limit: least, ..asked.clone() };
    let mut page: Page = client.get(&path("/v1/events", &first)?).await?;
    if none {
        page.events.clear();
    }
    if !args.follow && args.output == Printed::Json {
        return output::json(&page);
    }
    for event in &page.events {
        print(event, args.output)?;
    }
    if !args.follow {
        return Ok(());
    }
    let on = Asked { after: Some(page.next), limit: None, ..asked };
    tokio::select! {
        ended = follow(client, on, args.output) => ended,
        interrupted = tokio::signal::ctrl_c() => interrupted.context("listen for Ctrl-C"),
        () = reader_left() => Ok(()),
    }
}

/// Prints events as they come, from one daemon after the other.
async fn follow(client: &Client, mut on: Asked, printed: Printed) -> Result<()> {
    let mut said = false;
    loop {
        match client.stream(&path("/v1/events/stream", &on)?).await {
            Ok(mut stream) => {
                if std::mem::take(&mut said) {
                    eprintln!("evenkeel: the daemon is there again");
                }
                // One that breaks off is one whose daemon was killed.
                while let Ok(Some(message)) = stream.next().await {
                    if let Some(id) = take(&message, printed)? {
                        on.after = Some(id);
                    }
                }
            }
            Err(error) if !is_away(&error) => return Err(error.into()),
            Err(_) if said => {}
            Err(_) => {
                eprintln!("evenkeel: the daemon is away; waiting for it");
                said = true;
            }
        }
        sleep(AGAIN).await;
    }
}

/// Whether a daemon that starts would answer otherwise.
fn is_away(error: &ClientError) -> bool {
    match error {
        ClientError::NoDaemon { .. } | ClientError::Garbled(_) => true,
        ClientError::Problem(Problem { status, .. }) => *status == 503,
        ClientError::Denied { .. } => false,
    }
}

/// Prints what came; the id of an event.
fn take(message: &Message, printed: Printed) -> Result<Option<u64>> {
    match message.event.as_str() {
        "event" => {
            let event: Event = serde_json::from_str(&message.data)
                .map_err(|error| ClientError::Garbled(error.to_string()))?;
            if printed == Printed::Json {
                // As it came: a newer daemon may know more of it.
                output::print(&format!("{}\n", message.data))?;
            } else {
                print(&event, printed)?;
            }
            Ok(Some(event.id))
        }
        "missed" => {
            let missed: Missed = serde_json::from_str(&message.data)
                .map_err(|error| ClientError::Garbled(error.to_string()))?;
            let count = missed.count.map_or_else(|| "some".to_owned(), output::count);
            eprintln!("evenkeel: {count} events were forgotten before they could be shown");
            Ok(None)
        }
        _ => Ok(None),
    }
}

fn print(event: &Event, printed: Printed) -> Result<()> {
    match printed {
        Printed::Json => output::print(&format!("{}\n", serde_json::to_string(event)?)),
        Printed::Table => output::print(&line(event, output::coloured())),
    }
}

/// An event as people read it: when, what kind, about whom, what, by whom.
fn line(event: &Event, coloured: bool) -> String {
    let about = match (&event.service, &event.backend) {
        (Some(service), Some(backend)) => format!("{service}/{backend}"),
        (Some(name), None) | (None, Some(name)) => name.clone(),
        (None, None) => "-".to_owned(),
    };
    // What a probe's program said may have anything in it.
    let plain = |text: &str| -> String {
        text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
    };
    let by = event.who.as_ref().map_or_else(String::new, |who| format!(" (by {who})"));
    let (on, off) = match event.level {
        Level::Error if coloured => ("\x1b[31m", "\x1b[0m"),
        Level::Warning if coloured => ("\x1b[33m", "\x1b[0m"),
        _ => ("", ""),
    };
    let Event { at, kind, message, .. } = event;
    format!("{at}  {kind:13}  {:20}  {on}{}{off}{}\n", plain(&about), plain(message), plain(&by))
}

/// Resolves when whoever reads our output has hung up: before the next event, which may be days away.
async fn reader_left() {
    let left = async || -> io::Result<()> {
        let stdout = io::stdout();
        // SAFETY: standard output is never closed, so its descriptor stays the one that is registered.
        let stdout = unsafe { AsyncFd::register_with_interest(stdout.as_fd(), Interest::ERROR) };
        // A file cannot be waited for, and its reader does not leave.
        let stdout = stdout?;
        drop(stdout.ready(Interest::ERROR).await?);
        Ok(())
    };
    if left().await.is_err() {
        pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use axum::{extract::Query, http::Uri};

    use super::*;
    use crate::api::Peer;

    #[test]
    fn what_is_asked_arrives_as_it_was() {
        let asked = Asked {
            after: Some(7),
            service: Some("a b&c/ä".to_owned()),
            since: Some("2026-01-31T12:00:00.000Z".to_owned()),
            ..Asked::default()
        };
        let uri: Uri = path("/v1/events", &asked).unwrap().parse().unwrap();
        let Query(found) = Query::<Asked>::try_from_uri(&uri).unwrap();
        assert_eq!(found, asked);
        assert_eq!(path("/v1/events", &Asked::default()).unwrap(), "/v1/events");
    }

    #[test]
    fn times_are_ago_or_absolute() {
        let then = since("10m").unwrap();
        let ago = SystemTime::now().duration_since(then).unwrap().as_secs();
        assert!((600..660).contains(&ago));
        let at = since("2026-01-31T12:00:00Z").unwrap();
        assert_eq!(humantime::format_rfc3339_seconds(at).to_string(), "2026-01-31T12:00:00Z");
        assert!(since("yesterday").unwrap_err().contains("10m"));
    }

    #[test]
    fn a_line_says_it_all_and_moves_no_cursor() {
        let event = Event {
            id: 7,
            at: "2026-01-31T12:00:00.000Z".to_owned(),
            kind: Kind::Admin,
            level: Level::Warning,
            service: Some("web".to_owned()),
            backend: Some("web-01".to_owned()),
            who: Some(Peer::named("deploy")),
            why: None,
            message: "a\x1b[2J\nb".to_owned(),
        };
        assert_eq!(
            line(&event, false),
            "2026-01-31T12:00:00.000Z  admin          web/web-01            a [2J b (by deploy)\n"
        );
        assert!(line(&event, true).contains("\x1b[33ma"));
    }
}
