//! What happens to connections when several edges share an address and edges and backends come and go: the
//! rings, Maglev's table and the hash of flows are the balancer's own, the failures are simulated. Draws what
//! `docs/growing.md` shows.
//!
//! `cargo xtask simulate` starts it. It is a package of its own because `xtask` must build where no compiler for
//! the XDP program is yet, which the balancer's library needs.

mod changes;
mod fleet;
mod hour;
mod plots;
mod router;
mod scheme;
mod series;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser;

/// Simulates edges and backends that fail, and draws what it costs.
#[derive(Parser)]
#[command(name = "evenkeel-simulation")]
struct Arguments {
    /// Where the plots are written.
    directory: PathBuf,
    /// The same seed makes the same plots.
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// Print the numbers, too.
    #[arg(long)]
    numbers: bool,
}

/// What the plots of the documentation are made with.
const SEED: u64 = 6;

/// A plot's file name and its SVG.
type Plot = (&'static str, String);

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let directory = &arguments.directory;
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    for (name, svg) in simulate(arguments.seed, arguments.numbers)? {
        let path = directory.join(name);
        fs::write(&path, svg).with_context(|| format!("write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// All that is simulated, drawn.
fn simulate(seed: u64, numbers: bool) -> Result<Vec<Plot>> {
    let (edges, backends) = (changes::edges(seed), changes::backends(seed));
    let hour = hour::simulate(seed);
    if numbers {
        let all = edges.iter().chain(&backends).chain(&hour.broken).chain(&hour.imbalance);
        all.for_each(|panel| println!("{panel}"));
    }
    let plots = [
        ("edge-fails.svg", "One edge fails; a backend had been added before", &edges),
        (
            "backends-change.svg",
            "A backend fails or is added, where no edge knows a connection",
            &backends,
        ),
        ("hour-broken.svg", "An hour of 4 edges and 20 backends: what breaks", &hour.broken),
        ("hour-imbalance.svg", "An hour of 4 edges and 20 backends: imbalance", &hour.imbalance),
    ];
    plots.into_iter().map(|(name, title, panels)| Ok((name, plots::draw(title, panels)?))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_plots_of_the_documentation_are_those_that_are_drawn() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/simulation");
        for (name, svg) in simulate(SEED, false).unwrap() {
            let shown = fs::read_to_string(docs.join(name)).unwrap_or_default();
            assert!(shown == svg, "docs/simulation/{name} is stale: run `cargo xtask simulate`");
        }
        let [one, other] = [SEED, SEED + 1].map(changes::edges);
        let points = |panels: &[series::Panel]| panels[0].series[2].points.clone();
        assert_ne!(points(&one), points(&other), "the seed changes nothing");
    }
}
