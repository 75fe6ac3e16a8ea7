//! This node as one of several edges: `evenkeel node`, `evenkeel healthcheck` and `evenkeel exabgp`.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use hyper::Method;
use tokio::{
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{Format, Output, change, output};
use crate::{
    admin::Span,
    announce::exabgp::{EVERY, commands},
    api::{
        Client,
        model::{Announced, Counters, Fitness, NodeRequest, Status},
    },
    overview,
};

/// How long no packet of a client may have come before traffic counts as gone.
const QUIET: Duration = Duration::from_secs(3);
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Withdraw this node's addresses, and wait until traffic has left
    ///
    /// Open connections go on meanwhile: the data path stays at work. When the time is up the addresses are
    /// announced again by themselves, once all is well.
    Drain {
        /// For how long, like 30m or 2h; or `forever`, until somebody resumes it
        #[arg(long = "for", value_name = "TIME")]
        span: Span,
        /// Why, for whoever finds it
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Do not wait until traffic has left
        #[arg(long)]
        no_wait: bool,
        /// How long to wait at the most; exit code 1 when it is over
        #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Have this node take part again before its time is up
    Resume,
    /// Show whether this node is drained, and what it announces
    Status(Format),
}

#[derive(Args, Debug)]
pub struct HealthcheckArgs {
    /// Only this service
    service: Option<String>,
    /// How long the daemon may take to answer
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Does what `evenkeel node` is asked for.
pub async fn run(client: &Client, command: Command) -> Result<()> {
    match command {
        Command::Drain { span, reason, no_wait, timeout } => {
            let (span, reason) = (Some(span), Some(reason));
            put(client, NodeRequest { drain: true, span, reason }).await?;
            if no_wait { Ok(()) } else { wait(client, timeout).await }
        }
        Command::Resume => put(client, NodeRequest::default()).await,
        Command::Status(format) => {
            let status: Status = client.get("/v1/status").await?;
            show(&status, format.output)
        }
    }
}

async fn put(client: &Client, request: NodeRequest) -> Result<()> {
    change::send(client, Method::PUT, "/v1/node", Some(&request)).await
}

/// Waits until no client's packet comes any more, and says how far that is.
async fn wait(client: &Client, limit: Duration) -> Result<()> {
    let (began, mut progress) = (Instant::now(), Progress::default());
    let mut last = packets(client).await?.0;
    let mut quiet = Instant::now();
    loop {
        sleep(LOOK).await;
        let status: Status = client.get("/v1/status").await?;
        let (now, open) = packets(client).await?;
        let still: Vec<_> = status.announcements.iter().filter(|told| told.announced).collect();
        let came = now.saturating_sub(last);
        last = now;
        if came > 0 || !still.is_empty() {
            quiet = Instant::now();
        }
        if quiet.elapsed() >= QUIET {
            progress.end()?;
            let left = if open == 0 {
                String::new()
            } else {
                format!("; {} connections are open and silent", output::count(open))
            };
            return output::print(&format!("traffic has left this node{left}\n"));
        }
        let addresses: Vec<_> = still.iter().map(|told| told.address.as_str()).collect();
        let announced = if addresses.is_empty() {
            "withdrawn".to_owned()
        } else {
            format!("{} still announced", addresses.join(", "))
        };
        let line = format!(
            "{announced}; {} packets in the last second, {} connections open",
            output::count(came),
            output::count(open)
        );
        progress.show(&line)?;
        if began.elapsed() >= limit {
            progress.end()?;
            bail!(
                "traffic still comes after {}: {line}; the node stays drained (`evenkeel connections list` \
                 shows whose it is)",
                humantime::format_duration(limit)
            );
        }
    }
}

/// Packets of clients so far, and open connections.
async fn packets(client: &Client) -> Result<(u64, u64)> {
    let counters: Counters = client.get("/v1/counters").await?;
    let configured = counters.services.iter().flat_map(|service| &service.backends);
    let all = configured.chain(counters.removed.iter().map(|removed| &removed.backend));
    Ok(all.fold((0, 0), |(packets, open), backend| {
        (packets + backend.packets.inward, open + backend.connections.open)
    }))
}

/// A line that is written over on a terminal, and repeated only where it changes elsewhere.
#[derive(Default)]
struct Progress {
    last: String,
}

impl Progress {
    fn show(&mut self, line: &str) -> Result<()> {
        let mut out = io::stderr().lock();
        if io::stderr().is_terminal() {
            write!(out, "\r\x1b[K{line}")?;
        } else if self.last != line {
            writeln!(out, "{line}")?;
        }
        line.clone_into(&mut self.last);
        Ok(out.flush()?)
    }

    fn end(&self) -> Result<()> {
        if io::stderr().is_terminal() && !self.last.is_empty() {
            eprintln!();
        }
        Ok(io::stderr().flush()?)
    }
}

fn show(status: &Status, format: Output) -> Result<()> {
    if format == Output::Json {
        let told = serde_json::json!({
            "node": status.node, "announcements": status.announcements,
        });
        return output::json(&told);
    }
    let mut text = overview::of_node(status).join("\n");
    if status.node.drain.is_none() {
        text.insert_str(0, if text.is_empty() { "not drained" } else { "not drained\n" });
    }
    text.push('\n');
    for problem in &status.node.problems {
        let _ = writeln!(text, "{problem}");
    }
    for told in status.announcements.iter().filter(|told| told.announced && told.wanted) {
        let services = told.services.join(", ");
        let since = overview::span(told.seconds);
        let (address, by, why) = (&told.address, &told.by, &told.why);
        let _ = writeln!(text, "{address} ({services}) is announced by {by} for {since}: {why}");
    }
    if status.announcements.is_empty() {
        text.push_str("nothing is to be announced: the configuration has no [announce]\n");
    }
    output::print(&text)
}

/// Says whether traffic may come here.
pub async fn healthcheck(client: &Client, args: &HealthcheckArgs) -> Result<()> {
    let path = match &args.service {
        Some(service) => format!("/v1/fitness?service={}", change::segment(service)?),
        None => "/v1/fitness".to_owned(),
    };
    let span = humantime::format_duration(args.timeout);
    // Whatever is wrong is exit code 1: whoever asks wants a yes or a no.
    match timeout(args.timeout, client.get::<Fitness>(&path)).await {
        Ok(Ok(Fitness { well: true, why })) => output::print(&format!("well: {why}\n")),
        Ok(Ok(Fitness { why, .. })) => bail!("not well: {why}"),
        Ok(Err(error)) => bail!("not well: {error}"),
        Err(_) => bail!("not well: the daemon does not answer within {span}"),
    }
}

/// Tells ExaBGP what to announce, for as long as it listens. What was announced stays so while no daemon
/// answers, as the data path goes on; a daemon that stops in order withdraws before.
pub async fn exabgp(client: &Client) -> Result<()> {
    let mut told = BTreeSet::new();
    // It answers each command, which nobody waits for; that it is gone shows in the end of its answers.
    let mut gone = spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink()));
    loop {
        if let Ok(Announced { addresses }) = client.get("/v1/announced").await {
            let wanted: BTreeSet<_> = addresses.into_iter().collect();
            for command in commands(&told, &wanted) {
                output::print(&format!("{command}\n"))?;
            }
            told = wanted;
        }
        if timeout(EVERY, &mut gone).await.is_ok() {
            return Ok(());
        }
    }
}
