//! `evenkeel explain`: which backend, and why.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Args;

use super::{Format, Output, output, query::Path};
use crate::{
    api::Client,
    explain::{Explanation, Outcome},
};

#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// The client's address, or its address and port, like 198.51.100.7 or 198.51.100.7:40000
    #[arg(value_name = "CLIENT[:PORT]")]
    client: String,
    /// Name of the service
    service: String,
    /// The port that the client connects to, of a service that has every port
    #[arg(long)]
    port: Option<u16>,
    #[command(flatten)]
    format: Format,
}

/// Asks and shows the answer.
pub async fn show(client: &Client, args: &ExplainArgs) -> Result<()> {
    let path = Path::new("/v1/explain")
        .with("client", Some(&args.client))
        .with("service", Some(&args.service))
        .with("port", args.port);
    let explained: Explanation = client.get(path.as_str()).await?;
    match args.format.output {
        Output::Json => output::json(&explained),
        format => output::print(&text(&explained, format == Output::Wide)?),
    }
}

fn text(explained: &Explanation, wide: bool) -> Result<String> {
    let Explanation { client, service, destination, protocol, .. } = explained;
    let mut text = format!("{client} to {service} ({destination}/{protocol}): ");
    match (&explained.backend, &explained.verdict) {
        (Some(backend), _) => write!(text, "{backend}")?,
        (None, Some(verdict)) => write!(text, "no backend ({verdict})")?,
        (None, None) => text.push_str("drawn when it comes"),
    }
    writeln!(text, "\n  {}", explained.why)?;
    for note in &explained.notes {
        writeln!(text, "  {note}")?;
    }
    if explained.outcome == Outcome::Drawn {
        let mut table = output::table(&["  BACKEND", ">SHARE", ">ESTABLISHED", ">MAX"]);
        for one in &explained.candidates {
            let most = one.max_connections.map_or_else(|| "-".to_owned(), |most| most.to_string());
            let (share, established) = (output::percent(one.share), output::count(one.established));
            table.add_row([format!("  {}", one.backend), share, established, most]);
        }
        text.push_str(&output::rendered(&table));
    }
    if wide {
        writeln!(text, "  ring of {} slots, {} turns taken", explained.slots, explained.cursor)?;
    }
    Ok(text)
}
