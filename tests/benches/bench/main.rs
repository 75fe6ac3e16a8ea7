//! What the balancer costs: `cargo xtask bench`.
//!
//! `packets` runs the program itself on frames, `requests` runs it between a client and two web
//! servers, beside the other `contenders`, of which `peers` are other balancers; `scale` gives the
//! controller many services, `observers` has it looked at. `report` prints and records, for requests with `comparison`. Numbers are in
//! nanoseconds per packet, in requests per second, in microseconds per request, and in milliseconds and
//! megabytes of the controller.

mod comparison;
mod contenders;
mod datapath;
mod observers;
mod packets;
mod peers;
mod report;
mod requests;
mod scale;
mod scenarios;
mod services;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};

/// Measures the cost per packet, the requests per second and their times; needs root.
#[derive(Parser)]
struct Arguments {
    /// Fewer and shorter rounds, smaller tables: for a look, not for a record.
    #[arg(long)]
    quick: bool,
    /// Measure one part only.
    #[arg(long)]
    only: Option<Part>,
    /// Of the packets only those whose name contains this.
    #[arg(long)]
    filter: Option<String>,
    /// Measure requests through other balancers too.
    #[arg(long)]
    peers: bool,
    /// Where to write everything that was measured.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The object file of the wrapper program.
    #[arg(long)]
    wrapper: PathBuf,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Packets,
    Requests,
    Scale,
    Observers,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let wants = |part| arguments.only.is_none_or(|only| only == part);
    ensure!(
        !arguments.peers || wants(Part::Requests),
        "--peers measures requests, which --only leaves out here: give one of the two"
    );
    let machine = report::Machine::read()?;
    println!("{machine}");

    let mut report =
        report::Report { machine, packets: None, requests: None, scale: None, observers: None };
    if wants(Part::Packets) {
        let packets =
            packets::measure(&arguments.wrapper, arguments.quick, arguments.filter.as_deref())?;
        println!("\n{packets}");
        report.packets = Some(packets);
    }
    if wants(Part::Requests) {
        let requests = requests::measure(arguments.quick, arguments.peers)?;
        println!("\n{requests}");
        report.requests = Some(requests);
    }
    if wants(Part::Scale) {
        let scale = scale::measure(arguments.quick)?;
        println!("\n{scale}");
        report.scale = Some(scale);
    }
    if wants(Part::Observers) {
        let observers = observers::measure(arguments.quick)?;
        println!("\n{observers}");
        report.observers = Some(observers);
    }
    if let Some(path) = &arguments.json {
        let text = format!("{:#}\n", report.json());
        fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
        println!("\nall rounds: {}", path.display());
    }
    Ok(())
}
