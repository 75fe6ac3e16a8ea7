//! `evenkeel connections`: list, count and flush.

use std::{
    io::{self, Write as _},
    ops::ControlFlow,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use hyper::Method;

use super::{Format, Output, Usage, output, query::Path};
use crate::{
    api::{
        Client,
        listing::{Count, End, Flushed, GroupCount, Line, Row},
    },
    config::{Prefix, Protocol},
    connections::{By, Sort},
    dataplane::Stage,
};

/// Groups that a count shows in a table.
const GROUPS: usize = 50;

/// Lines that the columns of a table take their widths from; later lines may make them wider.
const PAGE: usize = 200;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List connections
    ///
    /// Without --sort they come as they are met, in no order, however many there are. With it the daemon holds
    /// the first --limit of them only, 1000 unless told otherwise.
    List {
        #[command(flatten)]
        filters: Filters,
        /// Sort by client, backend, state or idle (the longest first)
        #[arg(long, value_enum)]
        sort: Option<Sort>,
        /// The last first
        #[arg(long, requires = "sort")]
        reverse: bool,
        /// Show so many at the most
        #[arg(long, value_name = "COUNT")]
        limit: Option<usize>,
        #[command(flatten)]
        format: Format,
    },
    /// Count connections, the largest groups first
    Count {
        #[command(flatten)]
        filters: Filters,
        /// What to count by
        #[arg(long, value_enum, default_value = "backend")]
        by: By,
        /// Show so many groups at the most [default: 50; with -o json 1000]
        #[arg(long, value_name = "COUNT")]
        limit: Option<usize>,
        #[command(flatten)]
        format: Format,
    },
    /// Cut connections now; their clients have to connect anew
    ///
    /// Takes filters, or --all. Says how many were cut.
    Flush {
        #[command(flatten)]
        filters: Filters,
        /// Every connection of every service
        #[arg(long)]
        all: bool,
    },
}

/// Which connections.
#[derive(Args, Debug)]
pub struct Filters {
    /// Of this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Of this backend, in every service that has it; or of SERVICE/BACKEND
    #[arg(long, value_name = "[SERVICE/]BACKEND")]
    backend: Option<String>,
    /// From this address, or prefix of addresses
    #[arg(long, value_name = "PREFIX")]
    client: Option<Prefix>,
    /// In this state, or one of several: opening, established, closing, closed [default: all but closed]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STATE")]
    state: Vec<Stage>,
    /// tcp or udp
    #[arg(long)]
    protocol: Option<Protocol>,
}

impl Path {
    fn with_filters(self, filters: &Filters) -> Self {
        let Filters { service, backend, client, state, protocol } = filters;
        let states: Vec<_> = state.iter().filter_map(name_of).collect();
        self.with("service", service.as_ref())
            .with("backend", backend.as_ref())
            .with("client", client.as_ref())
            .with("state", (!states.is_empty()).then(|| states.join(",")))
            .with("protocol", protocol.as_ref())
    }
}

/// How the command line and the API call a choice.
fn name_of(choice: &impl clap::ValueEnum) -> Option<String> {
    Some(choice.to_possible_value()?.get_name().to_owned())
}

/// Does what the command says.
pub async fn run(client: &Client, command: Command) -> Result<()> {
    match command {
        Command::List { filters, sort, reverse, limit, format } => {
            let path = Path::new("/v1/connections")
                .with_filters(&filters)
                .with("sort", sort.as_ref().and_then(name_of))
                .with("reverse", reverse.then_some(true))
                .with("limit", limit);
            list(client, &path, format.output).await
        }
        Command::Count { filters, by, limit, format } => {
            let usual = (format.output != Output::Json).then_some(GROUPS);
            let path = Path::new("/v1/connections/count")
                .with_filters(&filters)
                .with("by", name_of(&by))
                .with("limit", limit.or(usual));
            count(&client.get(path.as_str()).await?, format.output)
        }
        Command::Flush { filters, all } => {
            let path = Path::new("/v1/connections")
                .with_filters(&filters)
                .with("all", all.then_some(true));
            if path.as_str().contains('?') {
                let done: Flushed = client.send(Method::DELETE, path.as_str(), None::<&()>).await?;
                return output::print(&format!("{}\n", done.message));
            }
            let problem = "say which connections to cut: by --service, --backend, --client, --state \
                           or --protocol, or --all of them";
            Err(Usage(problem.to_owned()).into())
        }
    }
}

/// Lists connections as they come.
async fn list(client: &Client, path: &Path, format: Output) -> Result<()> {
    let mut page = Page::new(format);
    let mut end = None;
    page.begin()?;
    let lines = client.lines(path.as_str(), |line| {
        match line {
            Line::Connection(row) => page.add(row)?,
            Line::End(whole) => end = Some(whole),
            Line::Error(error) => bail!("the listing is not whole: {error}"),
        }
        Ok(ControlFlow::Continue(()))
    });
    lines.await?;
    let Some(end) = end else {
        bail!("the listing is not whole: the daemon ended it; is it being stopped?")
    };
    page.end(end)
}

/// Connections on their way to standard output.
struct Page {
    format: Output,
    rows: Vec<Row>,
    /// The widths of the columns so far.
    widths: Vec<usize>,
    begun: bool,
    out: io::BufWriter<io::Stdout>,
}

impl Page {
    fn new(format: Output) -> Self {
        let out = io::BufWriter::new(io::stdout());
        Self { format, rows: Vec::new(), widths: Vec::new(), begun: false, out }
    }

    fn begin(&mut self) -> Result<()> {
        if self.format == Output::Json {
            write!(self.out, "{{\"connections\": [").context(WRITE)?;
        }
        Ok(())
    }

    fn add(&mut self, row: Row) -> Result<()> {
        if self.format == Output::Json {
            let head = if self.begun { ",\n" } else { "\n" };
            self.begun = true;
            write!(self.out, "{head}{}", serde_json::to_string(&row)?).context(WRITE)?;
            return Ok(());
        }
        self.rows.push(row);
        if self.rows.len() < PAGE { Ok(()) } else { self.turn() }
    }

    /// Prints the rows that are held.
    fn turn(&mut self) -> Result<()> {
        let mut lines: Vec<Vec<String>> = Vec::with_capacity(self.rows.len() + 1);
        let wide = self.format == Output::Wide;
        if !self.begun {
            self.begun = true;
            let mut heads = vec!["SERVICE", "BACKEND", "CLIENT", "SOURCE", "STATE", "IDLE"];
            if wide {
                heads.extend(["PROTOCOL", "DESTINATION", "SERVER", "FORWARDING"]);
            }
            self.widths = vec![0; heads.len()];
            lines.push(heads.into_iter().map(str::to_owned).collect());
        }
        lines.extend(self.rows.drain(..).map(|row| cells(row, wide)));
        for line in &lines {
            for (width, cell) in self.widths.iter_mut().zip(line) {
                *width = (*width).max(cell.len());
            }
        }
        for line in lines {
            let padded = line.iter().zip(&self.widths);
            let padded: Vec<_> = padded.map(|(cell, width)| format!("{cell:width$}")).collect();
            let text = padded.join("  ");
            writeln!(self.out, "{}", text.trim_end()).context(WRITE)?;
        }
        self.out.flush().context(WRITE)
    }

    fn end(mut self, end: End) -> Result<()> {
        if self.format == Output::Json {
            let matched = end.matched.map_or_else(|| "null".to_owned(), |count| count.to_string());
            let tail = if self.begun { "\n]" } else { "]" };
            writeln!(self.out, "{tail}, \"shown\": {}, \"matched\": {matched}}}", end.shown)
                .context(WRITE)?;
            return self.out.flush().context(WRITE);
        }
        self.turn()?;
        let shown = output::count(end.shown);
        match end.matched {
            None => eprintln!("{shown} shown, and there are more"),
            Some(matched) if matched > end.shown => {
                eprintln!("{shown} of {} shown; --limit shows more", output::count(matched));
            }
            Some(_) => {}
        }
        Ok(())
    }
}

const WRITE: &str = "write to standard output";

fn cells(row: Row, wide: bool) -> Vec<String> {
    let state = name_of(&row.state).unwrap_or_default();
    let source = row.source.unwrap_or_else(|| "-".to_owned());
    let mut cells =
        vec![row.service, row.backend, row.client, source, state, output::span(row.idle_seconds)];
    if wide {
        cells.extend([row.protocol.to_string(), row.destination, row.server]);
        cells.push(row.forwarding.to_string());
    }
    cells
}

fn count(count: &Count, format: Output) -> Result<()> {
    if format == Output::Json {
        return output::json(count);
    }
    let heads = match count.by {
        By::Backend => vec!["SERVICE", "BACKEND", ">CONNECTIONS", ">SHARE"],
        By::Client => vec!["CLIENT", ">CONNECTIONS", ">SHARE"],
        By::State => vec!["STATE", ">CONNECTIONS", ">SHARE"],
    };
    let mut table = output::table(&heads);
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let share = |part: u64| match count.total {
        0 => "-".to_owned(),
        total => output::percent(part as f64 / total as f64),
    };
    for GroupCount { service, backend, client, state, connections } in &count.counts {
        let state = state.as_ref().and_then(name_of);
        let names = [service.clone(), backend.clone(), client.map(|c| c.to_string()), state];
        let mut row: Vec<_> = names.into_iter().flatten().collect();
        row.extend([output::count(*connections), share(*connections)]);
        table.add_row(row);
    }
    if count.others > 0 {
        let mut row = vec![String::new(); heads.len() - 3];
        row.push("(others)".to_owned());
        row.extend([output::count(count.others), share(count.others)]);
        table.add_row(row);
    }
    let mut text = output::rendered(&table);
    text.extend([&*output::count(count.total), " in all\n"]);
    if !count.complete {
        text.push_str(
            "more clients than can be told apart at once; --client PREFIX counts a part\n",
        );
    }
    output::print(&text)
}
